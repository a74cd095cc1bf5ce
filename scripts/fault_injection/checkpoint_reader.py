"""Reads checkpoints without Grimace: the code under test must not judge its own files."""
from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
LENGTH_BYTES = 8             # a safetensors file begins with the length of its header, little-endian


class Corrupt(ValueError):
    """The file is not a complete safetensors file."""


@dataclass(frozen=True)
class Tensor:
    """A tensor; equal means bit for bit."""
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, order=True)
class Best:
    """A best model, ordered by accuracy, which the configs of fault injection monitor; of equally
    accurate ones the later is greater."""
    accuracy: float
    epoch: int


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file."""
    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    def best(self) -> Best:
        """The accuracy and epoch of best.safetensors, from its metadata."""
        return Best(float(self.metadata["best_val_accuracy"]), int(self.metadata["epoch"]))

    def recorded_best(self) -> Best | None:
        """The best model recorded in the state of last.safetensors; best.safetensors must be this
        one or a later one."""
        best = json.loads(self.metadata["state"]).get("best")
        return best and Best(best["val_accuracy"], best["epoch"])


def header_end(data: bytes) -> int:
    """The offset at which the header ends and the tensors begin."""
    if len(data) < LENGTH_BYTES:
        raise Corrupt(f"{len(data)} bytes, too few for a header")
    end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    if end > len(data):
        raise Corrupt(f"the header should end at byte {end}, the file has {len(data)}")
    return end


def parse_tensor(name: str, entry: dict, begin: int, body: memoryview) -> tuple[Tensor, int]:
    """The tensor that must begin at `begin`, and the offset of its end."""
    found, end = entry["data_offsets"]
    if found != begin:
        raise Corrupt(f"tensor {name} begins at {found}, the previous one ends at {begin}")
    size = math.prod(entry["shape"]) * BYTES[entry["dtype"]]
    if end - begin != size or end > len(body):
        raise Corrupt(f"tensor {name} has {end - begin} bytes of {len(body)}, its shape needs {size}")
    return Tensor(entry["dtype"], tuple(entry["shape"]), bytes(body[begin:end])), end


def parse(data: bytes) -> Checkpoint:
    """Parses a checkpoint. The tensors must be contiguous and fill the file."""
    start = header_end(data)
    try:
        header = json.loads(data[LENGTH_BYTES:start])
        metadata = header.pop("__metadata__")
        body, end, tensors = memoryview(data)[start:], 0, {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            tensors[name], end = parse_tensor(name, entry, end, body)
    except Corrupt:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"unreadable header: {type(error).__name__}: {error}") from error
    if end != len(body):
        raise Corrupt(f"the tensors end at byte {start + end}, the file has {len(data)}")
    return Checkpoint(metadata, tensors)


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint file; raises `Corrupt` or `OSError`."""
    try:
        return parse(path.read_bytes())
    except Corrupt as error:
        raise Corrupt(f"{path.name}: {error}") from error
