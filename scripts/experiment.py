"""What the scripts that measure an experiment share: running Grimace, and means with intervals."""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys

# 97.5% quantiles of Student's t by degrees of freedom.
T = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]


def parser(description):
    """A parser with the options of every experiment."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", type=pathlib.Path, default=os.environ.get("GRIMACE_FACES"))
    found.add_argument("--out", type=pathlib.Path, required=True)
    found.add_argument("--program", default="target/release/grimace")
    found.add_argument("--threads", type=int, default=0)
    found.add_argument("--device", default="auto")
    return found


def run(options, *args):
    """Runs Grimace and returns its output; its log goes to stderr."""
    done = subprocess.run([options.program, *map(str, args)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{options.program} {' '.join(map(str, args))}: exit code {done.returncode}")
    return done.stdout


def sets(values):
    """The arguments that set these keys of the config."""
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def evaluate(options, out, images, labels):
    """The metrics of a run on test images."""
    found = json.loads(run(options, "evaluate", out, "--data", images, "--labels", labels, "--json"))
    return {key: found[key] for key in ("accuracy", "accuracy_dedup", "macro_f1")}


def interval(values):
    """Mean and half the width of its 95% interval (Student's t); NaN for one value."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan
    quantile = T[len(values) - 1] if len(values) <= len(T) else 1.96
    return mean, quantile * statistics.stdev(values) / math.sqrt(len(values))


def write_results(options, results, table, name="results"):
    """Writes NAME.json and NAME.md, and prints the table."""
    settings = {key: str(value) for key, value in vars(options).items()}
    text = json.dumps({"settings": settings, "results": results}, indent=2)
    (options.out / f"{name}.json").write_text(text + "\n")
    (options.out / f"{name}.md").write_text(table)
    print(table, end="")
