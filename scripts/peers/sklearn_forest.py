"""The notebook's baseline in scikit-learn: a random forest of 100 trees, 5-fold cross-validation
and validation accuracy.

    python scripts/peers/sklearn_forest.py my_emotion_train.csv [--jobs -1] [--fit-only]
"""
import argparse
import json
import time

from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from notebook_data import load, split


def main():
    args = argparse.ArgumentParser()
    args.add_argument("csv")
    args.add_argument("--jobs", type=int, help="n_jobs: cores to use, -1 for all; the notebook leaves it unset: one")
    args.add_argument("--fit-only", action="store_true", help="skip cross-validation")
    args = args.parse_args()

    images, labels, _ = load(args.csv)
    x, x_val, y, y_val = split(images.reshape(len(images), -1), labels)
    forest = RandomForestClassifier(n_estimators=100, random_state=42, n_jobs=args.jobs)
    start = time.time()
    forest.fit(x, y)
    found = {"fit_seconds": round(time.time() - start, 2), "val_accuracy": forest.score(x_val, y_val)}
    if not args.fit_only:
        start = time.time()
        scores = cross_val_score(forest, x, y, cv=5)
        found |= {"cv_seconds": round(time.time() - start, 1), "cv_mean": scores.mean(), "cv_std": scores.std()}
    print(json.dumps({"peer": "scikit-learn", **found}))


if __name__ == "__main__":
    main()
