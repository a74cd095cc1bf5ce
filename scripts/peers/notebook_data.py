"""The notebook's loading and 80/20 split, shared by the peer scripts.

    python scripts/peers/notebook_data.py my_emotion_train.csv OUT

writes OUT/train.csv and OUT/validation.csv, so that every program trains on the same rows.
"""
import pathlib
import sys
import time

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split


def load(csv_path):
    """Images float64 [N, 48, 48, 1] in 0..1, labels int64 [N], and the loading time in seconds."""
    start = time.time()
    frame = pd.read_csv(csv_path)
    images = np.array([np.array([int(p) for p in s.split()]).reshape(48, 48, 1) for s in frame["pixels"]]) / 255.0
    labels = frame["emotion"].to_numpy()
    return images, labels, time.time() - start


def split(images, labels):
    """The notebook's split: train_test_split(test_size=0.2, random_state=42)."""
    return train_test_split(images, labels, test_size=0.2, random_state=42)


if __name__ == "__main__":
    rows, out = pd.read_csv(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    train, validation = train_test_split(rows, test_size=0.2, random_state=42)
    train.to_csv(out / "train.csv", index=False)
    validation.to_csv(out / "validation.csv", index=False)
    print(f"{len(train)} training and {len(validation)} validation rows in {out}")
