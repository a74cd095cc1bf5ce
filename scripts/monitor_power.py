#!/usr/bin/env python3
"""False alarms and power of `grimace monitor`: how often it raises an alarm on draws from the same
images, and on darker, blurred and other ones.

    python3 scripts/monitor_power.py RUN --data my_emotion_test.csv --labels my_emotion_test_labels.csv \\
        --draws 200 --images 100 300 1000

Half of the images are the reference, and draws without replacement come from the other half. Prints
the fraction of draws with an alarm, and with drift in each signal. Standard library only.
"""
import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

GRIMACE = Path(__file__).resolve().parent.parent / "target/release/grimace"
SIDE = 48


def darker(pixels: list[int]) -> list[int]:
    """Brightness minus 20%."""
    return [int(pixel * 0.8) for pixel in pixels]


def blurred(pixels: list[int]) -> list[int]:
    """The mean of 3x3 pixels; the border stays as it is."""
    out = list(pixels)
    for y in range(1, SIDE - 1):
        for x in range(1, SIDE - 1):
            at = y * SIDE + x
            out[at] = sum(sum(pixels[at + row * SIDE - 1:at + row * SIDE + 2]) for row in (-1, 0, 1)) // 9
    return out


def half_of_one_class(rows: list[dict], rng: random.Random, count: int) -> list[dict]:
    """A sample in which half of the images are of the most frequent class."""
    top = Counter(row["emotion"] for row in rows).most_common(1)[0][0]
    same, others = [row for row in rows if row["emotion"] == top], [row for row in rows if row["emotion"] != top]
    return rng.sample(same, min(count // 2, len(same))) + rng.sample(others, count - min(count // 2, len(same)))


def sample(case: str, rows: list[dict], rng: random.Random, count: int) -> list[dict]:
    """`count` rows of a case."""
    if case == "class shift":
        return half_of_one_class(rows, rng, count)
    change = {"same": None, "brightness -20%": darker, "blur 3x3": blurred}[case]
    chosen = rng.sample(rows, count)
    if change is None:
        return chosen
    return [{**row, "pixels": " ".join(map(str, change([int(p) for p in row["pixels"].split()])))} for row in chosen]


def write(path: Path, rows: list[dict]) -> None:
    """A CSV of images with labels."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["emotion", "pixels"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def monitor(run: Path, data: Path, reference: Path, more: list[str]) -> list[str]:
    """The signals that drift."""
    command = [GRIMACE, "monitor", run, "--data", data, "--reference", reference, "--json", *more]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(done.stderr)
    return [signal["signal"] for signal in json.loads(done.stdout)["signals"] if signal["is_drift"]]


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description="False alarms and power of grimace monitor.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="CSV of images")
    parser.add_argument("--labels", type=Path, help="CSV id,emotion, if the images have no column emotion")
    parser.add_argument("--draws", type=int, default=200, help="draws from the same images")
    parser.add_argument("--power-draws", type=int, default=40, help="draws of each change")
    parser.add_argument("--images", type=int, nargs="+", default=[300], help="images in a draw")
    parser.add_argument("--monitor", default="", help="more options of grimace monitor")
    args = parser.parse_args()
    csv.field_size_limit(1 << 30)
    with args.data.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if args.labels:
        with args.labels.open(newline="") as file:
            labels = {row["id"]: row["emotion"] for row in csv.DictReader(file)}
        rows = [{**row, "emotion": labels[row["id"]]} for row in rows]
    rng = random.Random(1)
    rng.shuffle(rows)
    half = len(rows) // 2
    with tempfile.TemporaryDirectory() as folder:
        data, reference = Path(folder) / "new.csv", Path(folder) / "reference.csv"
        write(reference, rows[:half])
        print(f"{half} reference images, draws from {len(rows) - half} others")
        for count in args.images:
            for case in ("same", "brightness -20%", "blur 3x3", "class shift"):
                draws, alarms, signals = (args.draws if case == "same" else args.power_draws), 0, Counter()
                for _ in range(draws):
                    write(data, sample(case, rows[half:], rng, count))
                    drifting = monitor(args.run, data, reference, args.monitor.split())
                    alarms += bool(drifting)
                    signals.update(drifting)
                shown = ", ".join(f"{name} {found}" for name, found in signals.most_common())
                print(f"{count:5} images, {case:16} alarms in {alarms} of {draws} draws ({alarms / draws:.1%}); {shown}",
                      flush=True)


if __name__ == "__main__":
    main()
