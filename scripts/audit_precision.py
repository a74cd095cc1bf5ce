#!/usr/bin/env python3
"""Precision and recall of the probable label errors of `grimace data audit`, on planted ones.

Takes a random part of a labeled CSV, gives a fraction of its rows a wrong label (uniformly one of the
other classes), cross-validates with `grimace train --folds`, audits, and compares the list with the rows
that were changed. Labels that were wrong before count as false alarms, so the precision is a lower bound.

    scripts/audit_precision.py --data my_emotion_train.csv --work work --rows 6000 --folds 4
"""

import argparse
import csv
import json
import random
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="labeled CSV: emotion,pixels")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, runs and results")
    parser.add_argument("--program", default=str(ROOT / "target/release/grimace"))
    parser.add_argument("--config", default=str(ROOT / "configs/notebook.toml"))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--wrong", type=float, default=0.05, help="fraction of wrong labels")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def plant(args, out):
    """Writes the rows with wrong labels, and returns the indices of these."""
    csv.field_size_limit(1 << 30)
    with args.data.open() as file:
        rows = [(int(row["emotion"]), row["pixels"]) for row in csv.DictReader(file)]
    chance = random.Random(args.seed)
    rows = chance.sample(rows, args.rows)
    planted = set(chance.sample(range(len(rows)), round(args.wrong * len(rows))))
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels"])
        for index, (label, pixels) in enumerate(rows):
            others = [other for other in range(len(CLASSES)) if other != label]
            writer.writerow([chance.choice(others) if index in planted else label, pixels])
    return planted, [label for label, _ in rows]


def grimace(args, *words):
    done = subprocess.run([args.program, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    data, folds, audit = args.work / "planted.csv", args.work / "folds", args.work / "audit"
    planted, labels = plant(args, data)
    start = time.time()
    # The notebook's protocol ignores classes and duplicates.
    options = [f"data.train={data}", f"train.epochs={args.epochs}", "data.split=stratified", "data.group_duplicates=true"]
    sets = [word for option in options for word in ("--set", option)]
    resume = ["--resume"] if folds.exists() else []
    summary = grimace(args, "train", args.config, *sets, "--folds", args.folds, "--out", folds, "--json", *resume)
    trained = time.time() - start
    grimace(args, "data", "audit", data, "--folds", folds, "--out", audit, "--force", "--json")
    with (audit / "review.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if "label error" in row["reason"]]
    rows.sort(key=lambda row: -float(row["score"]))
    listed = [int(row["row"]) for row in rows]
    hits = [row in planted for row in listed]
    right = sum(CLASSES[labels[row]] == found["suggested"] for row, found in zip(listed, rows) if row in planted)
    top = hits[: len(planted)]
    result = {
        "rows": args.rows,
        "planted": len(planted),
        "folds": args.folds,
        "epochs": args.epochs,
        "accuracy_on_given_labels": summary["accuracy"],
        "listed": len(listed),
        "precision": sum(hits) / max(len(hits), 1),
        "recall": sum(hits) / len(planted),
        "precision_of_first_100": sum(hits[:100]) / max(len(hits[:100]), 1),
        "precision_and_recall_of_as_many_as_planted": sum(top) / len(planted),
        "suggested_the_true_label": right / max(sum(hits), 1),
        "precision_by_chance": len(planted) / args.rows,
        "training_seconds": round(trained),
    }
    text = json.dumps(result, indent=1)
    (args.work / "precision.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
