#!/usr/bin/env python3
"""Does starting from weights help? Networks trained on synthetic images and fine-tuned on a few real
ones, against networks trained on the same real images from scratch.

    python scripts/finetune_experiment.py --data FOLDER --out DIR [--seeds 5] [--images 300]

FOLDER holds my_emotion_train.csv, my_emotion_test.csv and my_emotion_test_labels.csv (default:
GRIMACE_FACES). Each seed is independent of the others: its own synthetic images, its own network
trained on them, its own sample of real images, its own order and augmentation. Both kinds of training
have the same config, real images, split and number of epochs; `scratch-long` has three times as many.

Accuracy is that on the test images, none of which selects anything: the best epoch is selected on a
fifth of the sampled images. The interval of a difference is Student's, over the differences of pairs
of equal seed. A run that is finished is not trained again, so the script can be stopped and started.
It writes results.json and results.md into DIR.

--tiny checks the script in a minute; its result means nothing.
"""
import csv
import json
import pathlib
import random
import sys

from experiment import evaluate, interval, parser, run, write_results

CONFIG = """name = "{name}"
seed = {seed}
threads = {threads}
device = "{device}"
precision = "f32"
[data]
train = "{train}"
[augment]
rotate = 15.0
shift = 0.15
zoom = 0.15
flip = true
brightness = 0.3
contrast = 0.3
[model]
kind = "resnet"
stem = 16
widths = {widths}
blocks = {blocks}
squeeze = 16
[train]
epochs = {epochs}
batch = {batch}
optimizer = {{ kind = "adamw", lr = {lr}, weight_decay = 0.05 }}
schedule = {{ kind = "cosine", warmup = 1.0 }}
label_smoothing = 0.1
early_stop = {{ patience = 0 }}
"""

# Name, how many times the epochs, keys of [train]. {init} is the run on synthetic images.
ARMS = [
    ("scratch", 1, ""),
    ("scratch-long", 3, ""),
    ("finetune", 1, 'init = "{init}"\n'),
    ("finetune-decay", 1, 'init = "{init}"\nlayer_decay = 0.75\n'),
    ("head-only", 1, 'init = "{init}"\nfreeze = {frozen}\n'),
]


def sample_rows(source, count, seed, target):
    """Writes `count` rows of the CSV `source`, the same for equal seeds."""
    csv.field_size_limit(1 << 24)
    with open(source, newline="") as file:
        header, *rows = csv.reader(file)
    if count > len(rows):
        sys.exit(f"{source}: has {len(rows)} rows, and --images is {count}")
    chosen = sorted(random.Random(seed).sample(range(len(rows)), count))
    temporary = target.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        csv.writer(file).writerows([header, *(rows[index] for index in chosen)])
    temporary.replace(target)


def train(options, folder, name, seed, data, epochs, more):
    """Trains a run, or the rest of it, and returns its directory."""
    out = folder / name
    config = folder / f"{name}.toml"
    text = CONFIG.format(
        name=name,
        seed=seed,
        threads=options.threads,
        device=options.device,
        train=data,
        epochs=epochs,
        widths=options.widths,
        blocks=[1] * len(options.widths),
        batch=options.batch,
        lr=options.lr,
    )
    config.write_text(text + more)
    run(options, "train", config, "--out", out, "--resume")
    return out


def run_seed(options, seed):
    """The metrics of each arm for one seed."""
    tests = [options.data / name for name in ("my_emotion_test.csv", "my_emotion_test_labels.csv")]
    folder = options.out / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    synthetic = folder / "synthetic"
    if not (synthetic / "done").exists():
        run(options, "data", "synth", "--out", synthetic, "--train", options.synthetic, "--test", 60, "--seed", seed, "--force")
        (synthetic / "done").touch()
    real = folder / "real.csv"
    if not real.exists():
        sample_rows(options.data / "my_emotion_train.csv", options.images, seed, real)
    source = train(options, folder, "source", seed, synthetic / "my_emotion_train.csv", options.source_epochs, "")
    frozen = json.dumps(["stem", *(f"stage{stage + 1}" for stage in range(len(options.widths)))])
    results = {}
    for name, factor, more in ARMS:
        out = train(options, folder, name, seed, real, factor * options.epochs, more.format(init=source, frozen=frozen))
        results[name] = evaluate(options, out, *tests)
        print(f"seed {seed}, {name}: {results[name]}", file=sys.stderr)
    # What the network knows of real images before it has seen any.
    results["source"] = evaluate(options, source, *tests)
    return results


def report(options, results):
    """A Markdown table: accuracy of each arm, and its paired difference from `scratch`."""
    seeds = sorted(results)
    lines = [
        f"{options.images} real images, {options.synthetic} synthetic ones, seeds {', '.join(map(str, seeds))}; "
        f"test accuracy, mean and 95% interval over seeds.",
        "",
        "| training | accuracy | without duplicates | macro F1 | accuracy minus scratch (paired) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm in ["source", *(name for name, _, _ in ARMS)]:
        cells = []
        for key in ("accuracy", "accuracy_dedup", "macro_f1"):
            mean, half = interval([results[seed][arm][key] for seed in seeds])
            cells.append(f"{mean:.4f} ± {half:.4f}")
        difference = "-"
        if arm != "scratch":
            mean, half = interval([results[s][arm]["accuracy"] - results[s]["scratch"]["accuracy"] for s in seeds])
            difference = f"{mean:+.4f} ± {half:.4f}"
        lines.append(f"| {arm} | {' | '.join(cells)} | {difference} |")
    return "\n".join(lines) + "\n"


def main():
    found = parser(__doc__)
    found.add_argument("--seeds", type=int, default=5)
    found.add_argument("--images", type=int, default=300, help="real images of a seed")
    found.add_argument("--synthetic", type=int, default=20000, help="synthetic training images of a seed")
    found.add_argument("--source-epochs", type=int, default=8)
    found.add_argument("--epochs", type=int, default=60, help="epochs on real images")
    found.add_argument("--batch", type=int, default=32)
    found.add_argument("--lr", type=float, default=1e-3)
    found.add_argument("--tiny", action="store_true", help="two seeds, few images, small networks")
    options = found.parse_args()
    if options.data is None:
        found.error("--data FOLDER is required, or GRIMACE_FACES")
    options.data, options.out = pathlib.Path(options.data).resolve(), options.out.resolve()
    options.widths = [32, 64, 128]
    if options.tiny:
        options.seeds, options.images, options.synthetic = 2, 60, 200
        options.source_epochs, options.epochs, options.widths = 2, 2, [16, 16]
    options.out.mkdir(parents=True, exist_ok=True)
    results = {seed: run_seed(options, seed) for seed in range(1, options.seeds + 1)}
    write_results(options, results, report(options, results))


if __name__ == "__main__":
    main()
