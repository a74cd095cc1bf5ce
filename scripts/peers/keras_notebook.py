"""The notebook's CNN in Keras, as it was run: the reference for accuracy and speed.

    python scripts/peers/keras_notebook.py my_emotion_train.csv --runs 5          # the notebook's five runs
    python scripts/peers/keras_notebook.py my_emotion_train.csv --speed           # mean ms of 60 training steps
    python scripts/peers/keras_notebook.py my_emotion_train.csv --no-augment      # the notebook's ablation
"""
import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
from tensorflow.keras.callbacks import EarlyStopping, LearningRateScheduler
from tensorflow.keras.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from tensorflow.keras.models import Sequential
from tensorflow.keras.optimizers import Adam
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from notebook_data import load, split


def model():
    """The notebook's network, compiled with its optimizer and loss."""
    layers = [Input((48, 48, 1))]
    for filters in (32, 64, 128):
        layers += [Conv2D(filters, 3, activation="relu"), MaxPooling2D(2), BatchNormalization()]
    layers += [Flatten(), Dense(256, activation="relu"), Dropout(0.5), Dense(7, activation="softmax")]
    net = Sequential(layers)
    net.compile(optimizer=Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"])
    return net


def main():
    args = argparse.ArgumentParser()
    args.add_argument("csv")
    args.add_argument("--runs", type=int, default=1)
    args.add_argument("--epochs", type=int, default=50)
    args.add_argument("--batch", type=int, default=64)
    args.add_argument("--no-augment", action="store_true")
    args.add_argument("--speed", action="store_true")
    args = args.parse_args()

    images, labels, seconds = load(args.csv)
    print(json.dumps({"peer": "pandas", "load_seconds": round(seconds, 2), "rows": len(labels)}), flush=True)
    x, x_val, y, y_val = split(images, np.eye(7)[labels])
    augment = {} if args.no_augment else dict(
        rotation_range=10, width_shift_range=0.1, height_shift_range=0.1, zoom_range=0.1,
        horizontal_flip=True, fill_mode="nearest")
    generator = ImageDataGenerator(**augment)

    if args.speed:
        # Keras ends an epoch at the end of the data: steps beyond it would be counted but not run.
        net, steps = model(), min(60, len(generator.flow(x, y, batch_size=args.batch)))
        net.fit(generator.flow(x, y, batch_size=args.batch), steps_per_epoch=10, epochs=1, verbose=0)
        start = time.time()
        net.fit(generator.flow(x, y, batch_size=args.batch), steps_per_epoch=steps, epochs=1, verbose=0)
        per_step = (time.time() - start) / steps
        print(json.dumps({"peer": "keras", "batch": args.batch, "ms_per_step": round(1e3 * per_step, 2),
                          "images_per_second": round(args.batch / per_step, 1)}))
        return

    for run in range(args.runs):
        net, start = model(), time.time()
        history = net.fit(
            generator.flow(x, y, batch_size=args.batch), epochs=args.epochs, validation_data=(x_val, y_val),
            callbacks=[EarlyStopping(monitor="val_accuracy", patience=5),
                       LearningRateScheduler(lambda epoch, lr: lr if epoch < 10 else float(lr * np.exp(-0.1)))],
            verbose=0).history["val_accuracy"]
        seconds = time.time() - start
        print(json.dumps({"peer": "keras", "run": run, "epochs": len(history), "best_val_accuracy": max(history),
                          "last_val_accuracy": history[-1], "seconds": round(seconds, 1),
                          "seconds_per_epoch": round(seconds / len(history), 1)}), flush=True)


main()
