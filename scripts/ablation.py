#!/usr/bin/env python3
"""Measures the recipe's parts one at a time: trains a short schedule with each, several seeds, and writes a table.

    python3 scripts/ablation.py --data data/fer2013.csv --out runs/ablation --seeds 2 --parallel 2

A run that is finished is not trained again; one that was stopped goes on. Each training has one thread, so that two of them share two cores
without waiting for one another. Needs only Python's standard library and target/release/grimace.
"""

import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Name, and what is set differently from the base.
PARTS = [
    ("base", []),
    ("AdamW instead of SGD with Nesterov momentum", ['train.optimizer={kind="adamw",lr=2e-3,eps=1e-8,weight_decay=0.05}']),
    ("no weight decay", ["train.optimizer.weight_decay=0"]),
    ("no Nesterov momentum", ["train.optimizer.nesterov=false"]),
    ("no warm-up", ["train.schedule.warmup=0"]),
    ("constant learning rate instead of cosine", ['train.schedule={kind="constant"}']),
    ("plateau instead of cosine", ['train.schedule={kind="plateau",factor=0.3,patience=0}']),
    ("label smoothing 0.1", ["train.label_smoothing=0.1"]),
    ("mixup 0.2", ["augment.mixup=0.2"]),
    ("CutMix 1.0", ["augment.cutmix=1.0"]),
    ("random erasing 0.25", ["augment.erase=0.25"]),
    ("random crop 0.2", ["augment.crop=0.2"]),
    ("brightness and contrast 0.3", ["augment.brightness=0.3", "augment.contrast=0.3"]),
    ("gamma 0.3", ["augment.gamma=0.3"]),
    ("average of weights 0.998", ["train.ema=0.998"]),
    ("clipping at norm 1", ["train.clip_norm=1.0"]),
    ("class weights", ["train.class_weights=balanced"]),
    ("balanced sampling", ["train.sampling=balanced"]),
    ("no squeeze-and-excitation", ["model.squeeze=0"]),
    ("stochastic depth 0.1", ["model.stochastic_depth=0.1"]),
    ("dropout 0.2", ["model.dropout=0.2"]),
    ("progressive resizing from 32", ["train.progressive={from=32,until=0.5}"]),
    ("weaker affine maps (10 degrees, 10%, 10%)", ["augment.rotate=10", "augment.shift=0.1", "augment.zoom=0.1"]),
    ("no augmentation", ["augment.rotate=0", "augment.shift=0", "augment.zoom=0", "augment.flip=false"]),
]


def slug(name):
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")


class Bench:
    def __init__(self, args):
        self.grimace = ROOT / "target/release/grimace"
        self.config = args.config
        self.data = args.data
        self.out = args.out
        self.sets = args.set

    def run(self, *command):
        done = subprocess.run([self.grimace, *command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"grimace {' '.join(map(str, command))}\n{done.stderr}")
        return done.stdout

    def train(self, name, seed, sets):
        """The summary of a run, which is trained unless it was."""
        out = self.out / f"{slug(name)}-seed{seed}"
        summary = out / "summary.json"
        if not (summary.exists() and json.loads(summary.read_text())["stopped"] == "epochs"):
            values = [f"data.train={self.data}", f"seed={seed}", "threads=1", *self.sets, *sets]
            flags = [flag for value in values for flag in ("--set", value)]
            self.run("train", self.config, *flags, "--out", out, "--resume")
        return json.loads(summary.read_text())

    def evaluate(self, run, views):
        """Accuracy on PublicTest with these views."""
        found = self.run("evaluate", run, "--data", self.data, "--usage", "PublicTest", "--views", views, "--json")
        return json.loads(found)["accuracy"]

    def ensemble(self, runs):
        found = self.run("ensemble", *runs, "--data", self.data, "--usage", "PublicTest", "--json")
        return json.loads(found)["evaluation"]["accuracy"]

    def soft_labels(self, seed):
        """Predictions of the base's run for the training faces."""
        path = self.out / f"soft-seed{seed}.csv"
        if not path.exists():
            teacher = self.out / f"base-seed{seed}"
            self.run("predict", teacher, "--data", self.data, "--usage", "Training", "--out", path, "--probabilities")
        return path


def line(name, values, base):
    """A row; the difference is over the seeds that both have."""
    mean = statistics.mean(values)
    spread = f"{100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    common = min(len(values), len(base))
    difference = 100 * (statistics.mean(values[:common]) - statistics.mean(base[:common]))
    each = " ".join(f"{value:.4f}" for value in values)
    return f"| {name} | {each} | {mean:.4f} | {spread} | {difference:+.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "configs/record/short.toml")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="fer2013.csv with Training and PublicTest")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the runs and table.md")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each part, from 42 on")
    parser.add_argument("--base-seeds", type=int, help="seeds of the base (default: as --seeds)")
    parser.add_argument("--parallel", type=int, default=2, help="trainings at a time")
    parser.add_argument("--only", action="append", default=[], help="parts whose name contains this; may be given again")
    parser.add_argument("--set", action="append", default=[], help="key=value for every training")
    args = parser.parse_args()
    if args.seeds < 1 or (args.base_seeds or 1) < 1:
        parser.error("--seeds and --base-seeds: 1 or more")
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    parts = [(n, s) for n, s in PARTS if n == "base" or not args.only or any(o.lower() in n.lower() for o in args.only)]
    seeds = {n: range(42, 42 + ((args.base_seeds or args.seeds) if n == "base" else args.seeds)) for n, _ in parts}
    jobs = [(name, seed, sets) for name, sets in parts for seed in seeds[name]]
    accuracy = {}
    with concurrent.futures.ThreadPoolExecutor(args.parallel) as pool:
        for (name, seed, _), summary in zip(jobs, pool.map(lambda job: bench.train(*job), jobs)):
            accuracy.setdefault(name, []).append(summary["last_val_accuracy"])
            print(f"{name}, seed {seed}: {summary['last_val_accuracy']:.4f}", file=sys.stderr, flush=True)
        if not args.only:
            students = [(seed, [f"data.soft_labels={bench.soft_labels(seed)}", "train.soft_share=0.5"]) for seed in seeds["base"]]
            name = "half of the target from the base's own predictions"
            done = pool.map(lambda student: bench.train(name, *student), students)
            accuracy[name] = [summary["last_val_accuracy"] for summary in done]
    def write(table):
        text = "\n".join(table) + "\n"
        (args.out / "table.md").write_text(text)
        return text

    base = accuracy["base"]
    head = ["| part | each seed | mean | standard deviation, points | against base, points |", "| --- | --- | --- | --- | --- |"]
    table = [*head, *(line(name, values, base) for name, values in accuracy.items())]
    write(table)
    if not args.only:
        runs = [args.out / f"base-seed{seed}" for seed in seeds["base"]]
        best = [bench.evaluate(run, "one") for run in runs]
        views = {v: [bench.evaluate(run, v) for run in runs] for v in ("flip", "ten_crops")}
        together = bench.ensemble(runs) if len(runs) > 1 else None
        table += ["", "At the best epoch of each run of the base, which test-time augmentation and ensembles use:", "", *head]
        table += [line("one view", best, best), line("flip", views["flip"], best), line("ten crops", views["ten_crops"], best)]
        if together is not None:
            table.append(line(f"{len(runs)} seeds averaged", [together], best))
    print(write(table), end="")


if __name__ == "__main__":
    main()
