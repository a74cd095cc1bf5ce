#!/usr/bin/env python3
"""Does grimace tune find better configs than random search, and than the notebook's?

    python scripts/tune_experiment.py --out DIR [--data FOLDER] [--repetitions 3] [--full-seeds 3]

FOLDER holds my_emotion_train.csv, my_emotion_test.csv and my_emotion_test_labels.csv of real images
(default: GRIMACE_FACES; without it, only synthetic images are used). Each repetition has its own
images, split and seed of the search. On these images it runs two searches around the notebook's
recipe:

- tpe: grimace tune as it is, TPE with successive halving;
- random: as many trials at random, each trained to the end, as cost the same number of epochs. Up to 10
  of them are also the first of the other search: both begin with the config itself and then have the
  same random trials of the seed.

Then it trains the best config of each search, and the notebook's, with fresh seeds for the same number
of epochs, and evaluates them on test images, which select nothing: neither values nor epochs. No key
of the space changes the size of the network, so an epoch of each costs about the same; the seconds are
in the results. Intervals are Student's, over repetitions, of paired differences.

With real images, the config of the first repetition is then trained on all of them, beside the
notebook's, with --full-seeds seeds.

A search or run that is finished is not repeated, so the script can be stopped and started. It writes
results.json and results.md into DIR. --only synthetic and --only real can run side by side into one
DIR, and write results-synthetic and results-real, .json and .md; without it, the script then writes the
results of both. --tiny checks the script in minutes; its result means nothing.
"""
import csv
import json
import math
import pathlib
import random
import statistics
import sys

from experiment import evaluate, interval, parser, run, sets, write_results

CONFIG = """name = "notebook"
seed = {seed}
threads = {threads}
device = "{device}"
precision = "f32"
[data]
train = "{train}"
[augment]
rotate = 10.0
shift = 0.1
zoom = 0.1
flip = true
[model]
kind = "cnn"
{model}
[train]
epochs = {epochs}
# Every trial that goes on costs all its epochs.
# A search selects epochs by its metric: the config itself must, too.
early_stop = {{ monitor = "val_accuracy", patience = 0 }}
"""

SPACE = """[train]
batch = { choice = [32, 64, 128] }
optimizer.lr = { log = [1e-4, 1e-2] }
label_smoothing = { uniform = [0.0, 0.2] }
ema = { choice = [0.0, 0.98, 0.995] }
[train.schedule]
hold = { int = [1, 40], log = true }
rate = { uniform = [0.0, 0.3] }
[model]
dropout = { uniform = [0.1, 0.7] }
[augment]
rotate = { uniform = [0, 20] }
shift = { uniform = [0.0, 0.2] }
zoom = { uniform = [0.0, 0.2] }
"""

ARMS = ("notebook", "random", "tpe")


def sample_rows(source, count, seed, target):
    """Writes about `count` rows of the CSV `source`, of each class its share and at least 5, the same for
    equal seeds; 0 stands for all."""
    csv.field_size_limit(1 << 24)
    with open(source, newline="") as file:
        header, *rows = csv.reader(file)
    label = header.index("emotion")
    classes, chosen, generator = {}, [], random.Random(seed)
    for index, row in enumerate(rows):
        classes.setdefault(row[label], []).append(index)
    for _, members in sorted(classes.items()):
        wanted = max(5, round((count or len(rows)) * len(members) / len(rows)))
        chosen += generator.sample(members, min(wanted, len(members)))
    temporary = target.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        csv.writer(file).writerows([header, *(rows[index] for index in sorted(chosen))])
    temporary.replace(target)


def prepare(options, kind, repetition):
    """The folder of a repetition with its training images; its test images and their labels."""
    folder = options.out / kind / f"repetition{repetition}"
    folder.mkdir(parents=True, exist_ok=True)
    train = folder / "train.csv"
    if kind == "real":
        if not train.exists():
            sample_rows(options.data / "my_emotion_train.csv", options.images, repetition, train)
        tests = options.data
    else:
        tests = folder / "synthetic"
        if not (tests / "done").exists():
            # Enough of every class for a small sample.
            counts = ["--train", max(options.images or 12000, 600), "--test", options.test]
            run(options, "data", "synth", "--out", tests, *counts, "--seed", repetition, "--force")
            (tests / "done").touch()
        if not train.exists():
            sample_rows(tests / "my_emotion_train.csv", options.images, repetition, train)
    return folder, [tests / name for name in ("my_emotion_test.csv", "my_emotion_test_labels.csv")]


def write_config(options, path, train, seed, epochs):
    path.write_text(
        CONFIG.format(
            seed=seed,
            threads=options.threads,
            device=options.device,
            train=train,
            epochs=epochs,
            model="filters = [8, 16]\ndense = [32]" if options.tiny else "",
        )
    )


def search(options, folder, name, seed, more):
    """Runs a search, or the rest of it; its result."""
    out = folder / name
    common = ["--space", folder / "space.toml", "--seed", seed, "--out", out, "--json"]
    again = ["--resume"] if (out / "study.jsonl").exists() else []
    return json.loads(run(options, "tune", folder / "base.toml", *common, *more, *again))


def train_and_test(options, config, out, tests, keys):
    """Trains a run, or the rest of it; its test accuracy and seconds."""
    run(options, "train", config, *sets(keys), "--out", out, "--resume")
    summary = json.loads((out / "summary.json").read_text())
    return evaluate(options, out, *tests) | {"seconds": summary["seconds"]}


def fresh_runs(options, folder, tests, configs, seeds, prefix, keys):
    """For each config the results of every seed, trained in turn with `keys`: the same split for all."""
    results = {name: [] for name in configs}
    for seed in seeds:
        for name, config in configs.items():
            out = folder / f"{prefix}-{name}-seed{seed}"
            results[name].append(train_and_test(options, config, out, tests, {"seed": seed} | keys))
            print(f"{out}: {results[name][-1]}", file=sys.stderr)
    return results


def repeat(options, kind, repetition):
    """Both searches of a repetition and the fresh runs of their best configs."""
    folder, tests = prepare(options, kind, repetition)
    write_config(options, folder / "base.toml", folder / "train.csv", repetition, options.epochs)
    (folder / "space.toml").write_text(SPACE)
    tpe = search(options, folder, "tpe", repetition, ["--trials", options.trials])
    # At least as many epochs as the other search had.
    count = math.ceil(tpe["epochs"] / options.epochs)
    full = ["--sampler", "random", "--min-epochs", options.epochs, "--trials", count]
    found = {"tpe": tpe, "random": search(options, folder, "random", repetition, full)}
    configs = {"notebook": folder / "base.toml", **{name: folder / name / "best.toml" for name in found}}
    # The base seed is the repetition's, and the searches have used it.
    seeds = [1000 * (number + 1) + repetition for number in range(options.fresh)]
    return {
        "search": {name: {key: study[key] for key in ("score", "epochs", "best")} for name, study in found.items()},
        "fresh": fresh_runs(options, folder, tests, configs, seeds, "fresh", {"data.split_seed": repetition}),
    }


def train_on_all(options):
    """The config that the first repetition found, and the notebook's, on all real images."""
    folder, tests = prepare(options, "real", 1)
    configs = {"notebook": folder / "base.toml", "tpe": folder / "tpe" / "best.toml"}
    train = folder / "train.csv" if options.tiny else options.data / "my_emotion_train.csv"
    keys = {"data.split_seed": 1, "data.train": train}
    seeds = [9000 + number for number in range(options.full_seeds)]
    return fresh_runs(options, options.out / "real", tests, configs, seeds, "all", keys)


def signed(values):
    """Such as +0.0123 ± 0.0034: mean and half the width of its 95% interval."""
    mean, half = interval(values)
    return f"{mean:+.4f}" if math.isnan(half) else f"{mean:+.4f} ± {half:.4f}"


def mean_of(runs, key):
    return statistics.mean(run[key] for run in runs)


def report(options, results):
    lines = [
        f"{options.repetitions} repetitions, {options.images or 'all'} training images each, {options.epochs} epochs; "
        f"test accuracy over {options.fresh} fresh seeds of each config. Intervals: 95%, over repetitions.",
        "",
    ]
    head = "| images | config | test accuracy | minus notebook (paired) | search's own score | optimism | epochs of the search | seconds of a run |"
    lines += [head, "| --- " * 8 + "|"]
    for kind, repetitions in results["repetitions"].items():
        accuracies = {arm: [mean_of(found["fresh"][arm], "accuracy") for found in repetitions] for arm in ARMS}
        for arm in ARMS:
            scores = [found["search"][arm]["score"] for found in repetitions if arm != "notebook"]
            epochs = [found["search"][arm]["epochs"] for found in repetitions if arm != "notebook"]
            seconds = statistics.mean(mean_of(found["fresh"][arm], "seconds") for found in repetitions)
            pairs = zip(accuracies[arm], accuracies["notebook"])
            own = [
                "-" if arm == "notebook" else signed([one - other for one, other in pairs]),
                f"{statistics.mean(scores):.4f}" if scores else "-",
                signed([score - test for score, test in zip(scores, accuracies[arm])]) if scores else "-",
                f"{statistics.mean(epochs):.0f}" if epochs else "-",
            ]
            lines.append(f"| {kind} | {arm} | {statistics.mean(accuracies[arm]):.4f} | {' | '.join(own)} | {seconds:.0f} |")
        pairs = zip(accuracies["tpe"], accuracies["random"])
        lines.append(f"| {kind} | tpe minus random (paired) | {signed([a - b for a, b in pairs])} |" + " |" * 5)
    if found := results.get("all"):
        pairs = zip(found["tpe"], found["notebook"])
        differences = [tuned["accuracy"] - notebook["accuracy"] for tuned, notebook in pairs]
        lines += ["", f"All real images, {options.full_seeds} fresh seeds, 95% interval over seeds:", ""]
        lines += ["| config | test accuracy | without duplicates | macro F1 | seconds |", "| --- " * 5 + "|"]
        for arm, runs in found.items():
            cells = [f"{mean_of(runs, key):.4f}" for key in ("accuracy", "accuracy_dedup", "macro_f1")]
            lines.append(f"| {arm} | {' | '.join(cells)} | {mean_of(runs, 'seconds'):.0f} |")
        lines.append(f"| tpe minus notebook (paired) | {signed(differences)} |" + " |" * 3)
    lines += ["", "Optimism is the search's own score minus the test accuracy of its best config over fresh seeds."]
    return "\n".join(lines) + "\n"


def main():
    found = parser(__doc__)
    found.add_argument("--repetitions", type=int, default=3)
    found.add_argument("--images", type=int, default=4000, help="training images of a repetition; 0 for all, with 12,000 synthetic ones")
    found.add_argument("--test", type=int, default=3000, help="synthetic test images")
    found.add_argument("--trials", type=int, default=24, help="trials of TPE with successive halving")
    found.add_argument("--epochs", type=int, default=30, help="epochs of a full training")
    found.add_argument("--fresh", type=int, default=2, help="fresh seeds of each config and repetition")
    found.add_argument("--full-seeds", type=int, default=3, help="seeds on all real images; 0 for none")
    found.add_argument("--only", choices=["synthetic", "real"], help="one kind of images")
    found.add_argument("--tiny", action="store_true", help="few images, trials and epochs, small networks")
    options = found.parse_args()
    if options.only == "real" and options.data is None:
        sys.exit("--only real needs real images: give their folder with --data or GRIMACE_FACES")
    options.out = options.out.resolve()
    if options.data is not None:
        options.data = pathlib.Path(options.data).resolve()
    if options.tiny:
        options.repetitions, options.images, options.test, options.trials = 2, 120, 60, 4
        options.epochs, options.fresh, options.full_seeds = 3, 1, 2
    kinds = [options.only] if options.only else ["synthetic"] if options.data is None else ["synthetic", "real"]
    numbers = range(1, options.repetitions + 1)
    results = {"repetitions": {kind: [repeat(options, kind, number) for number in numbers] for kind in kinds}}
    if "real" in kinds and options.full_seeds > 0:
        results["all"] = train_on_all(options)
    name = f"results-{options.only}" if options.only else "results"
    write_results(options, results, report(options, results), name)


if __name__ == "__main__":
    main()
