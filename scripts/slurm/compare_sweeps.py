"""Compares two sweeps bit for bit, times and commands aside."""
from __future__ import annotations

import csv
import io
import json
from pathlib import Path

TIMES = {"seconds", "images_per_second", "Seconds", "Images Per Second"}
TENSORS = ("best.safetensors", "last.safetensors")


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    """Type, shape and bytes of each tensor of a checkpoint; its metadata holds times."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        found[name] = (f"{entry['dtype']} {entry['shape']}", content[start + first:start + last])
    return found


def without_times(value):
    """A JSON value without the keys of times."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def table(path: Path) -> list[dict[str, str]]:
    """A comparison.csv without the columns of times."""
    return [without_times(row) for row in csv.DictReader(io.StringIO(path.read_text()))]


def markdown(path: Path) -> list[str]:
    """A comparison.md without the last two columns of its table, which are times."""
    lines = path.read_text().splitlines()
    return ["|".join(line.split("|")[:-3]) if line.startswith("|") else line for line in lines]


def metrics(path: Path) -> list[object]:
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()]


def differences(one: Path, two: Path, runs: list[str]) -> list[str]:
    """The files of two sweeps that differ."""
    readers = {
        "comparison.csv": table,
        "comparison.md": markdown,
        "summary.json": lambda path: without_times(json.loads(path.read_text())["comparison"]),
        "submission.csv": Path.read_bytes,
    }
    for run in runs:
        readers[f"{run}/metrics.jsonl"] = metrics
        readers[f"{run}/validation.csv"] = Path.read_bytes
        readers[f"{run}/split.csv"] = Path.read_bytes
        readers |= {f"{run}/{name}": tensors for name in TENSORS}
    return [name for name, read in readers.items() if read(one / name) != read(two / name)]
