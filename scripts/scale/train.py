#!/usr/bin/env python3
"""Measures training on a packed file that need not fit into memory.

    scripts/scale/train.py GRIMACE [IMAGES] [FOLDER]

Generates IMAGES synthetic images (2,000,000 by default: 4.6 GB) as a packed file in FOLDER, unless it
is there already, and trains a small network on it: with the images on the host, and with them on the
device. Prints the time to open the data, the time of each epoch, images per second, and the peak of
resident memory, of which the pages of files are listed apart. Both runs must have equal metrics.

Environment: EPOCHS (2), BATCH (256), SETS (more --set arguments, separated by spaces).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """name = "scale"
device = "auto"
[data]
train = "{data}"
validation = 0.05
[model]
kind = "cnn"
filters = [8, 16]
dense = [16]
[train]
epochs = {epochs}
batch = {batch}
early_stop = {{ patience = 0 }}
"""


def memory(pid: int) -> dict[str, int]:
    """Resident memory of a process in MiB: anonymous, and pages of files."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "RssAnon", "RssFile", "RssShmem"):
            fields[name] = int(value.split()[0]) // 1024
    return fields


def train(grimace: str, folder: Path, resident: str) -> dict:
    """Trains once; the metrics, and the peaks of memory."""
    out = folder / f"run-{resident}"
    subprocess.run(["rm", "-rf", str(out)], check=True)
    sets = [f"data.resident={resident}", *os.environ.get("SETS", "").split()]
    arguments = [grimace, "train", str(folder / "scale.toml"), "--out", str(out)]
    start = time.monotonic()
    with (folder / f"{resident}.log").open("w") as log:
        process = subprocess.Popen(
            arguments + [part for setting in sets for part in ("--set", setting)], stdout=log, stderr=log
        )
        peaks: dict[str, int] = {}
        first_step = None
        while process.poll() is None:
            try:
                for name, value in memory(process.pid).items():
                    peaks[name] = max(peaks.get(name, 0), value)
            except (FileNotFoundError, ProcessLookupError):
                break
            if first_step is None and (out / "last.safetensors").exists():
                first_step = time.monotonic() - start
            time.sleep(0.05)
        if process.wait() != 0:
            sys.exit(f"{' '.join(arguments)} failed, see {log.name}")
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {"records": records, "peaks": peaks, "start": first_step or 0.0}


def timeless(records: list[dict]) -> list[dict]:
    return [{k: v for k, v in record.items() if k not in ("seconds", "images_per_second")} for record in records]


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    grimace = str(Path(sys.argv[1]).resolve())
    images = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(tempfile.mkdtemp(prefix="scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "my_emotion_train.faces"
    if not data.exists():
        start = time.monotonic()
        synth = ["data", "synth", "--packed", "--out", str(folder), "--train", str(images), "--test", "1", "--force"]
        subprocess.run([grimace, *synth], check=True, stdout=subprocess.DEVNULL)
        print(f"generated {images:,} images in {time.monotonic() - start:.0f} s")
    epochs, batch = int(os.environ.get("EPOCHS", "2")), int(os.environ.get("BATCH", "256"))
    (folder / "scale.toml").write_text(CONFIG.format(data=data, epochs=epochs, batch=batch))
    print(f"{data}: {data.stat().st_size / (1 << 20):,.0f} MiB")
    print(f"{'resident':9} {'start':>7} {'epochs':>24} {'images/s':>9} {'peak':>6} {'anon':>6} {'file':>6}  (s, MiB)")
    results = {}
    for resident in ("host", "device"):
        result = results[resident] = train(grimace, folder, resident)
        seconds = " ".join(f"{record['seconds']:.1f}" for record in result["records"])
        speed = max(record["images_per_second"] for record in result["records"])
        peaks = result["peaks"]
        row = (peaks.get("VmHWM", 0), peaks.get("RssAnon", 0), peaks.get("RssFile", 0))
        print(f"{resident:9} {result['start']:7.1f} {seconds:>24} {speed:9,.0f} {row[0]:6,} {row[1]:6,} {row[2]:6,}")
    speeds = [max(r["images_per_second"] for r in results[place]["records"]) for place in ("host", "device")]
    print(f"streamed at {100 * speeds[0] / speeds[1]:.1f}% of the resident speed")
    if timeless(results["host"]["records"]) != timeless(results["device"]["records"]):
        sys.exit("the metrics differ")
    print("metrics are equal")


if __name__ == "__main__":
    main()
