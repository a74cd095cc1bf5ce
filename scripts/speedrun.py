#!/usr/bin/env python3
"""How accurate is a config, and what does it cost? Trains it with several seeds, and writes a table.

    python scripts/speedrun.py configs/best/cpu.toml [MORE.toml ...] --data FOLDER --out DIR [--seeds 3]

FOLDER holds fer2013.csv (default: GRIMACE_FACES). The networks train on Training alone and keep their
last epoch (train.early_stop.monitor = "last_epoch"), so that PublicTest, on which every epoch is
validated, selects nothing. The best epoch is given beside it: it was selected on PublicTest. The last
epoch is also evaluated with --tta, and as an ensemble of all seeds.

Compute is in core-minutes: the seconds of all epochs with their validation, times threads; on a GPU,
in minutes. It is that of the machine, so compare configs of one table, measured in one session on an
idle machine; the seeds of several configs are trained in turn. Without duplicates means without the
images of PublicTest that are exact copies of training images.

A run that is finished is not repeated, so the script can be stopped and started; what a kill repeats is
not counted. DIR takes runs of one machine. It writes results.json and results.md into DIR. PrivateTest
is not read.
"""
import json
import math
import pathlib
import statistics
import sys

from bench import machine
from experiment import interval, parser, run, sets, write_results


def describe(options):
    """The machine as one line: its CPU, and its GPU if runs may use it."""
    found = machine.describe("cpu" if options.device == "cpu" else "cuda")
    cpu = f"{found['cpu']}, {found['cores']} cores ({', '.join(found['instructions'])})"
    return cpu if found.get("gpu", "unknown") == "unknown" else f"{found['gpu']}; {cpu}"


def check_machine(options):
    """Exits if the runs in DIR are another machine's: their compute cannot be compared."""
    path, here = options.out / "machine.txt", describe(options)
    before = path.read_text().strip() if path.exists() else here
    if before != here:
        sys.exit(f"{options.out}: its runs are of another machine: {before}. This one is {here}. Give another --out")
    path.write_text(here + "\n")
    return here


def train(options, config, seed):
    """Trains a run, or the rest of it; its metrics and its cost."""
    out = options.out / f"{config.stem}-seed{seed}"
    keys = {
        "data.train": options.data / "fer2013.csv",
        "data.validation": "PublicTest",
        "train.early_stop": '{ monitor = "last_epoch", patience = 0 }',
        "seed": seed,
        "threads": options.threads,
        "device": options.device,
    }
    if options.precision:
        keys["precision"] = options.precision
    if options.epochs:
        keys["train.epochs"] = options.epochs
    run(options, "train", config, *sets(keys), "--out", out, "--resume")
    epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    best, last = max(epochs, key=lambda epoch: epoch["val_accuracy"]), epochs[-1]
    return {
        "seed": seed,
        "last": last["val_accuracy"],
        "last_dedup": last.get("val_accuracy_dedup"),
        "best": best["val_accuracy"],
        "best_epoch": best["epoch"],
        "epochs": len(epochs),
        "tta": test(options, [out], options.tta)["accuracy"],
        "minutes": summary["seconds"] / 60,
        "core_minutes": summary["seconds"] * summary["threads"] / 60,
        "images_per_second": statistics.median(epoch["images_per_second"] for epoch in epochs),
        "parameters": summary["parameters"],
        "device": f"{summary['device']}, {summary['precision']}, {summary['threads']} threads",
        "run": str(out),
    }


def test(options, runs, tta):
    """The metrics of one run, or of the ensemble of several, on PublicTest."""
    command = ["evaluate", *runs] if len(runs) == 1 else ["ensemble", *runs]
    images = ["--data", options.data / "fer2013.csv", "--usage", "PublicTest"]
    found = json.loads(run(options, *command, *images, "--tta", tta, "--json"))
    return found if len(runs) == 1 else found["evaluation"]


def check_equal(options, results):
    """Exits if runs that are compared were trained differently: earlier ones in DIR, for example."""
    runs = [one for found in results.values() for one in found["runs"]]
    devices = {one["device"] for one in runs}
    if len(devices) > 1:
        sys.exit(f"{options.out}: its runs were trained on {' and '.join(sorted(devices))}; give another --out")


def ensemble(options, runs):
    """Accuracy of the mean of all networks, without and with TTA."""
    folders = [found["run"] for found in runs]
    return {tta: test(options, folders, tta)["accuracy"] for tta in ("none", options.tta)}


def spread(values, digits=4):
    """Mean and standard deviation over seeds."""
    if None in values:
        return "-"
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if math.isnan(deviation) else f"{mean} ± {deviation:.{digits}f}"


def report(options, results):
    """The table of all configs, and a row for each seed."""
    runs = [one for found in results["configs"].values() for one in found["runs"]]
    cost = "core_minutes" if all(one["device"].startswith("cpu") for one in runs) else "minutes"
    lines = [f"PublicTest; {results['machine']}; mean ± standard deviation over {options.seeds} seeds.", ""]
    head = ["config", "parameters", "epochs", "last epoch", "without duplicates", "best epoch (selected)"]
    head += [f"last, {options.tta}", "ensemble", f"ensemble, {options.tta}", cost.replace("_", "-"), "images/s"]
    lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for name, found in results["configs"].items():
        column = {key: [run[key] for run in found["runs"]] for key in found["runs"][0]}
        together = [f"{value:.4f}" for value in found["ensemble"].values()] if found["ensemble"] else ["-", "-"]
        cells = [name, f"{column['parameters'][0]:,}", str(column["epochs"][0])]
        cells += [spread(column[key]) for key in ("last", "last_dedup", "best", "tta")] + together
        cells += [spread(column[cost], 1), spread(column["images_per_second"], 0)]
        lines.append(f"| {' | '.join(cells)} |")
    for name, found in results["configs"].items():
        if len(found["runs"]) > 1:
            mean, half = interval([run["last"] for run in found["runs"]])
            lines += ["", f"{name}: last epoch {mean:.4f}, 95% interval over seeds ± {half:.4f}."]
    lines += ["", f"| config, seed | last epoch | best epoch | {cost.replace('_', '-')} |", "| --- " * 4 + "|"]
    for name, found in results["configs"].items():
        for one in found["runs"]:
            best = f"{one['best']:.4f} ({one['best_epoch']} of {one['epochs']})"
            lines.append(f"| {name}, {one['seed']} | {one['last']:.4f} | {best} | {one[cost]:.1f} |")
    return "\n".join(lines) + "\n"


def main():
    found = parser(__doc__)
    found.add_argument("configs", nargs="+", metavar="CONFIG", help="configs of networks")
    found.add_argument("--seeds", type=int, default=3, help="seeds of each config, from 42 on")
    found.add_argument("--precision", help="auto, f32, tf32 or bf16, instead of the configs' own")
    found.add_argument("--tta", choices=["flip", "ten_crop"], default="ten_crop", help="test-time augmentation")
    found.add_argument("--epochs", type=int, default=0, help="other than the configs', to check the script")
    options = found.parse_args()
    if options.seeds < 1:
        found.error("--seeds must be 1 or more")
    if options.data is None:
        sys.exit("speedrun needs fer2013.csv: give its folder with --data or GRIMACE_FACES")
    options.data, options.out = options.data.resolve(), options.out.resolve()
    options.configs = [pathlib.Path(config) for config in options.configs]
    if len({config.stem for config in options.configs}) < len(options.configs):
        sys.exit("speedrun needs configs with different file names: they name the runs")
    options.out.mkdir(parents=True, exist_ok=True)
    here = check_machine(options)
    results = {config.stem: {"runs": []} for config in options.configs}
    for seed in range(42, 42 + options.seeds):
        for config in options.configs:
            one = train(options, config, seed)
            results[config.stem]["runs"].append(one)
            print(f"{config.stem}, seed {seed}: last {one['last']:.4f}, {one['minutes']:.1f} minutes", file=sys.stderr)
            check_equal(options, results)
    for found in results.values():
        found["ensemble"] = ensemble(options, found["runs"]) if options.seeds > 1 else None
    results = {"machine": here, "configs": results}
    write_results(options, results, report(options, results))


if __name__ == "__main__":
    main()
