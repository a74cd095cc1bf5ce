"""Looks into run directories: what is there after a death, and whether an end is that of an unbroken run."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from . import checkpoint
from .checkpoint import Best, Checkpoint

CHECKPOINTS = ("last.safetensors", "previous.safetensors", "best.safetensors")
VARYING = ("previous.safetensors",)                                      # it depends on when a run was stopped
TIMES = ("seconds", "images_per_second", "train_images_per_second")     # what the clock decides
COMMANDS = ("command", "resumed")                                        # how a run came to its end may differ


@dataclass
class Snapshot:
    """What a run directory holds at one moment."""
    readable: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)      # with the reason
    best: Best | None = None                                 # what best.safetensors holds
    promised: Best | None = None                             # what last.safetensors says of it
    lines: list[bytes] = field(default_factory=list)         # whole lines of metrics.jsonl
    hidden: list[str] = field(default_factory=list)          # temporary files


def look(folder: Path) -> Snapshot:
    """The state of a run directory in which nobody works any more; empty where there is none."""
    snapshot = Snapshot(lines=metrics_lines(folder), hidden=hidden_files(folder))
    for name in CHECKPOINTS:
        if not (folder / name).exists():
            continue
        try:
            found = checkpoint.read(folder / name)
            if name == "best.safetensors":
                snapshot.best = found.best()
            elif name == "last.safetensors":
                snapshot.promised = found.promised()
            snapshot.readable.append(name)
        except (OSError, ValueError, KeyError) as error:
            snapshot.unreadable.append(f"{name} cannot be read: {error}")
    return snapshot


def best_now(folder: Path) -> Best | None:
    """What best.safetensors holds while a process may be replacing it; whether it is whole is judged later."""
    try:
        return checkpoint.read(folder / "best.safetensors").best()
    except (OSError, ValueError, KeyError):
        return None


def metrics_lines(folder: Path) -> list[bytes]:
    """The whole lines of metrics.jsonl; one that a death has torn is none."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def hidden_files(folder: Path) -> list[str]:
    """What a user does not see and a finished run must not leave: every hidden file but the lock."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock")


def lost_best(known: Best | None, snapshot: Snapshot) -> list[str]:
    """What is wrong with best.safetensors, of which `known` has been seen."""
    wanted = max((best for best in (known, snapshot.promised) if best), default=None)
    if wanted and (snapshot.best is None or snapshot.best < wanted):
        had = f"accuracy {wanted.accuracy:.4f} of epoch {wanted.epoch}"
        has = snapshot.best and f"accuracy {snapshot.best.accuracy:.4f} of epoch {snapshot.best.epoch}"
        return [f"best.safetensors should hold {had}, and holds {has or 'nothing that can be read'}"]
    return []


# --- the end of a run -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Final:
    """All of a finished run that must not depend on how often it died."""
    checkpoints: dict[str, Checkpoint]
    metrics: list[dict]
    summary: dict
    texts: dict[str, bytes]


def timeless(record: dict) -> dict:
    """A record without what the clock decides."""
    return {key: value for key, value in record.items() if key not in TIMES}


def final(folder: Path) -> Final:
    """A finished run; `ValueError`, `KeyError` or `OSError` where it is not whole."""
    summary = timeless(json.loads((folder / "summary.json").read_text()))
    summary["provenance"] = {key: value for key, value in summary["provenance"].items() if key not in COMMANDS}
    metrics = (folder / "metrics.jsonl").read_text().splitlines()
    return Final(checkpoints={name: checkpoint.read(folder / name) for name in CHECKPOINTS if name not in VARYING},
                 metrics=[timeless(json.loads(line)) for line in metrics], summary=summary,
                 texts={name: (folder / name).read_bytes() for name in ("config.toml", "split.csv")})


def end_problems(folder: Path, wanted: Final) -> list[str]:
    """In what the run in `folder` ended otherwise than the unbroken one."""
    try:
        found = final(folder)
    except (OSError, ValueError, KeyError) as error:
        return [f"the end is not whole: {type(error).__name__}: {error}"]
    problems = look(folder).unreadable
    for name, theirs in wanted.checkpoints.items():
        problems += tensor_problems(name, found.checkpoints[name], theirs)
    problems += record_problems("metrics.jsonl", found.metrics, wanted.metrics)
    problems += record_problems("summary.json", [found.summary], [wanted.summary])
    problems += [f"{name} differs from the unbroken run's" for name in wanted.texts
                 if found.texts[name] != wanted.texts[name]]
    return problems


def tensor_problems(name: str, found: Checkpoint, wanted: Checkpoint) -> list[str]:
    """Which tensors differ, by name; files may differ in the times that their metadata holds."""
    if found.tensors.keys() != wanted.tensors.keys():
        odd = sorted(found.tensors.keys() ^ wanted.tensors.keys())
        return [f"{name}: {len(odd)} tensors are in one of the two runs only, the first is {odd[0]}"]
    differ = [key for key in wanted.tensors if found.tensors[key] != wanted.tensors[key]]
    if not differ:
        return []
    return [f"{name}: {len(differ)} of {len(wanted.tensors)} tensors differ, the first is {differ[0]}"]


def record_problems(name: str, found: list[dict], wanted: list[dict]) -> list[str]:
    """In which keys records differ."""
    if len(found) != len(wanted):
        return [f"{name}: {len(found)} lines, the unbroken run has {len(wanted)}"]
    problems = []
    for number, (ours, theirs) in enumerate(zip(found, wanted), 1):
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                problems.append(f"{name}, line {number}: {key} is {ours.get(key)!r}, the unbroken run has "
                                f"{theirs.get(key)!r}")
    return problems[:3]


def missing_lines(folder: Path, seen: list[bytes]) -> list[str]:
    """Which lines of metrics.jsonl that were there once are not there any more, byte for byte."""
    there = set(metrics_lines(folder))
    return [f"metrics.jsonl lost the line {line.decode(errors='replace').strip()}" for line in dict.fromkeys(seen)
            if line not in there]
