"""Inspects run directories: what is there after a crash, and whether a finished run equals an
uninterrupted one."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from . import checkpoint_reader
from .checkpoint_reader import Best, Checkpoint

CHECKPOINTS = ("last.safetensors", "previous.safetensors", "best.safetensors")
NOT_COMPARED = ("previous.safetensors",)                                # it depends on when a run was stopped
TIMES = ("seconds", "images_per_second", "train_images_per_second")     # keys that depend on the clock
COMMANDS = ("command", "resumed")                                       # keys that depend on how a run was resumed


@dataclass
class Snapshot:
    """The contents of a run directory at one moment."""
    readable: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)      # with the reason
    best: Best | None = None                                 # of best.safetensors
    recorded_best: Best | None = None                        # of the state in last.safetensors
    lines: list[bytes] = field(default_factory=list)         # complete lines of metrics.jsonl
    temporary: list[str] = field(default_factory=list)


def inspect(folder: Path) -> Snapshot:
    """Inspects a run directory that no process uses; empty if there is none."""
    snapshot = Snapshot(lines=metrics_lines(folder), temporary=temporary_files(folder))
    for name in CHECKPOINTS:
        if not (folder / name).exists():
            continue
        try:
            found = checkpoint_reader.read(folder / name)
            if name == "best.safetensors":
                snapshot.best = found.best()
            elif name == "last.safetensors":
                snapshot.recorded_best = found.recorded_best()
            snapshot.readable.append(name)
        except (OSError, ValueError, KeyError) as error:
            snapshot.unreadable.append(f"{name} cannot be read: {error}")
    return snapshot


def read_best(folder: Path) -> Best | None:
    """The contents of best.safetensors while a process may be replacing it; `inspect` later checks
    that it is complete."""
    try:
        return checkpoint_reader.read(folder / "best.safetensors").best()
    except (OSError, ValueError, KeyError):
        return None


def metrics_lines(folder: Path) -> list[bytes]:
    """The complete lines of metrics.jsonl, without a truncated last one."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def temporary_files(folder: Path) -> list[str]:
    """Files that a finished run must not leave: every hidden file except the lock."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock")


def best_problems(known: Best | None, snapshot: Snapshot) -> list[str]:
    """Problems of best.safetensors, given that `known` was saved at some time."""
    expected = max((best for best in (known, snapshot.recorded_best) if best), default=None)
    if expected and (snapshot.best is None or snapshot.best < expected):
        text = f"accuracy {expected.accuracy:.4f} of epoch {expected.epoch}"
        found = snapshot.best and f"accuracy {snapshot.best.accuracy:.4f} of epoch {snapshot.best.epoch}"
        return [f"best.safetensors should hold {text}, and holds {found or 'nothing readable'}"]
    return []


# --- finished runs ----------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Final:
    """Everything in a finished run that must not depend on how often it was interrupted."""
    checkpoints: dict[str, Checkpoint]
    metrics: list[dict]
    summary: dict
    texts: dict[str, bytes]


def without_times(record: dict) -> dict:
    """A record without the keys that depend on the clock."""
    return {key: value for key, value in record.items() if key not in TIMES}


def read_final(folder: Path) -> Final:
    """Reads a finished run; raises `ValueError`, `KeyError` or `OSError` if it is incomplete."""
    summary = without_times(json.loads((folder / "summary.json").read_text()))
    summary["provenance"] = {key: value for key, value in summary["provenance"].items() if key not in COMMANDS}
    metrics = (folder / "metrics.jsonl").read_text().splitlines()
    names = [name for name in CHECKPOINTS if name not in NOT_COMPARED]
    return Final(checkpoints={name: checkpoint_reader.read(folder / name) for name in names},
                 metrics=[without_times(json.loads(line)) for line in metrics], summary=summary,
                 texts={name: (folder / name).read_bytes() for name in ("config.toml", "split.csv")})


def final_problems(folder: Path, expected: Final) -> list[str]:
    """Differences between the finished run in `folder` and the uninterrupted one."""
    try:
        found = read_final(folder)
    except (OSError, ValueError, KeyError) as error:
        return [f"the finished run is incomplete: {type(error).__name__}: {error}"]
    problems = inspect(folder).unreadable
    for name, theirs in expected.checkpoints.items():
        problems += tensor_problems(name, found.checkpoints[name], theirs)
    problems += record_problems("metrics.jsonl", found.metrics, expected.metrics)
    problems += record_problems("summary.json", [found.summary], [expected.summary])
    problems += [f"{name} differs from the uninterrupted run's" for name in expected.texts
                 if found.texts[name] != expected.texts[name]]
    return problems


def tensor_problems(name: str, found: Checkpoint, expected: Checkpoint) -> list[str]:
    """Tensors that differ, by name. The metadata may differ: it holds times."""
    if found.tensors.keys() != expected.tensors.keys():
        odd = sorted(found.tensors.keys() ^ expected.tensors.keys())
        return [f"{name}: {len(odd)} tensors are in only one of the two runs, the first is {odd[0]}"]
    differ = [key for key in expected.tensors if found.tensors[key] != expected.tensors[key]]
    if not differ:
        return []
    return [f"{name}: {len(differ)} of {len(expected.tensors)} tensors differ, the first is {differ[0]}"]


def record_problems(name: str, found: list[dict], expected: list[dict]) -> list[str]:
    """Keys that differ between two lists of records."""
    if len(found) != len(expected):
        return [f"{name}: {len(found)} lines, the uninterrupted run has {len(expected)}"]
    problems = []
    for number, (ours, theirs) in enumerate(zip(found, expected), 1):
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                problems.append(f"{name}, line {number}: {key} is {ours.get(key)!r}, the uninterrupted run has "
                                f"{theirs.get(key)!r}")
    return problems[:3]


def missing_lines(folder: Path, seen: list[bytes]) -> list[str]:
    """Lines that metrics.jsonl once had and no longer has, byte for byte."""
    present = set(metrics_lines(folder))
    return [f"metrics.jsonl lost the line {line.decode(errors='replace').strip()}" for line in dict.fromkeys(seen)
            if line not in present]
