#!/usr/bin/env python3
"""Is TPE with successive halving better than random search at equal cost? And is the tuned config better
than the one it started from?

    python scripts/tune_experiment.py --config CONFIG --space SPACE --data CSV --out DIR
        [--epochs 9] [--trials 30] [--repetitions 3] [--confirm 5] [--images 0]

Each repetition has its own seed of the search and of the training, for both searches. The cost is the
number of epochs in all trials: first TPE with halving runs, then random search without halving trains
cost / EPOCHS trials to the end, rounded up. Both searches confirm their best config and the base config
with fresh seeds to the end. CSV is synthetic (`grimace data synth`) or real; --images takes a random
subset of its rows, the same in every repetition.

All values are on the validation images of the config. The intervals over repetitions are Student's.
Finished studies are not run again, so the script can be stopped and started. It writes results.json and
results.md into DIR. --tiny checks the script in a minute or two; its result means nothing.
"""
import argparse
import csv
import json
import math
import pathlib
import random
import statistics
import subprocess
import sys

# 97.5% quantiles of Student's t by degrees of freedom.
T = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]


def tune(options, out, seed, arguments):
    """Runs or resumes a study, and returns its result."""
    result = out.with_suffix(".json")
    if result.exists():
        return json.loads(result.read_text())
    command = [options.program, "tune", options.config, "--space", options.space, "--out", out, "--json", "--resume"]
    command += ["--set", f"data.train={options.data}", "--set", f"seed={1000 * seed}", "--seed", seed]
    command += ["--max-epochs", options.epochs, "--confirm", options.confirm, *arguments]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    found = json.loads(done.stdout)
    result.write_text(done.stdout)
    return found


def subset(source, count, target):
    """Writes a random subset of a CSV's rows: of each class its share, and at least 5."""
    with open(source, newline="") as file:
        head, *rows = csv.reader(file)
    label = head.index("emotion")
    classes, chosen, generator = {}, [], random.Random(0)
    for row in rows:
        classes.setdefault(row[label], []).append(row)
    for _, members in sorted(classes.items()):
        wanted = max(5, round(count * len(members) / len(rows)))
        chosen += generator.sample(members, min(wanted, len(members)))
    generator.shuffle(chosen)
    with open(target, "w", newline="") as file:
        csv.writer(file).writerows([head, *chosen])


def mean(values):
    """Such as `0.5012 +- 0.0034`."""
    text = f"{statistics.mean(values):.4f}"
    if len(values) < 2:
        return text
    return f"{text} +- {T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def repeat(options, seed):
    """Both searches with one seed."""
    tpe = tune(options, options.out / f"tpe-{seed}", seed, ["--trials", options.trials])
    trials = math.ceil(tpe["epochs"] / options.epochs)
    full = ["--sampler", "random", "--min-epochs", options.epochs, "--trials", trials]
    return {"tpe": tpe, "random": tune(options, options.out / f"random-{seed}", seed, full)}


def describe(found):
    """results.md"""
    def values(search, value):
        return [value(repetition[search]) for repetition in found]
    lines = ["| search | epochs | own score | confirmed | optimism | minus the base config |", "| --- " * 6 + "|"]
    for search in ["tpe", "random"]:
        cells = [
            f"{statistics.mean(values(search, lambda r: r['epochs'])):.0f}",
            mean(values(search, lambda r: r["score"])),
            mean(values(search, lambda r: r["confirmation"]["best"]["mean"])),
            mean(values(search, lambda r: r["confirmation"]["optimism"])),
            mean(values(search, lambda r: r["confirmation"]["difference"]["mean"])),
        ]
        lines.append(f"| {search} | " + " | ".join(cells) + " |")
    gain = [r["tpe"]["confirmation"]["best"]["mean"] - r["random"]["confirmation"]["best"]["mean"] for r in found]
    lines += ["", f"TPE with halving minus random search, confirmed: {mean(gain)}, over {len(gain)} repetitions."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/grimace")
    parser.add_argument("--config", default="configs/notebook.toml")
    parser.add_argument("--space", default="configs/spaces/notebook.toml")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--images", type=int, default=0, help="rows of the subset; 0 for all")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--repetitions", type=int, default=3, choices=range(1, 11))
    parser.add_argument("--confirm", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.tiny:
        options.images, options.epochs, options.trials, options.repetitions, options.confirm = 120, 2, 3, 2, 2
    options.out.mkdir(parents=True, exist_ok=True)
    if options.images:
        target = options.out / "subset.csv"
        subset(options.data, options.images, target)
        options.data = target
    found = [repeat(options, seed) for seed in range(1, options.repetitions + 1)]
    (options.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "results.md").write_text(describe(found))
    print(describe(found), end="")


if __name__ == "__main__":
    main()
