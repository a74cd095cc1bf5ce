"""Reads safetensors files without Grimace: a checkpoint is judged by other code than that which wrote it."""
from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
PREFIX = 8                   # the header's length, little-endian, stands before the header


class Damaged(ValueError):
    """The file is no whole safetensors file."""


@dataclass(frozen=True)
class Tensor:
    """A tensor as it stands in the file. Two are equal when every bit is."""
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, order=True)
class Best:
    """A best model: better is greater, and of two equally good ones the later."""
    accuracy: float
    epoch: int


@dataclass(frozen=True)
class Checkpoint:
    """A file as read."""
    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    def best(self) -> Best:
        """What best.safetensors says of itself."""
        return Best(float(self.metadata["best_val_accuracy"]), int(self.metadata["epoch"]))

    def promised(self) -> Best | None:
        """The best model that last.safetensors knows of: best.safetensors must be that one or a later one."""
        best = json.loads(self.metadata["state"]).get("best")
        return best and Best(best["val_accuracy"], best["epoch"])


def header_end(data: bytes) -> int:
    """Where the header ends and the tensors begin."""
    if len(data) < PREFIX:
        raise Damaged(f"{len(data)} bytes, too few for a header")
    end = PREFIX + int.from_bytes(data[:PREFIX], "little")
    if end > len(data):
        raise Damaged(f"its header should end at byte {end}, the file has {len(data)}")
    return end


def one_tensor(name: str, entry: dict, begin: int, body: memoryview) -> tuple[Tensor, int]:
    """The tensor that must begin at `begin`, and where it ends."""
    found, end = entry["data_offsets"]
    if found != begin:
        raise Damaged(f"tensor {name} begins at {found}, the one before it ends at {begin}")
    size = math.prod(entry["shape"]) * BYTES[entry["dtype"]]
    if end - begin != size or end > len(body):
        raise Damaged(f"tensor {name} has {end - begin} bytes of {len(body)}, its shape needs {size}")
    return Tensor(entry["dtype"], tuple(entry["shape"]), bytes(body[begin:end])), end


def parse(data: bytes) -> Checkpoint:
    """A checkpoint from its bytes; tensors must follow one another without gaps and fill the file."""
    start = header_end(data)
    try:
        header = json.loads(data[PREFIX:start])
        metadata = header.pop("__metadata__")
        body, end, tensors = memoryview(data)[start:], 0, {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            tensors[name], end = one_tensor(name, entry, end, body)
    except Damaged:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"its header cannot be read: {type(error).__name__}: {error}") from error
    if end != len(body):
        raise Damaged(f"its tensors end at byte {start + end}, the file has {len(data)}")
    return Checkpoint(metadata, tensors)


def read(path: Path) -> Checkpoint:
    """A checkpoint file; `Damaged` or `OSError` where it cannot be read."""
    try:
        return parse(path.read_bytes())
    except Damaged as error:
        raise Damaged(f"{path.name}: {error}") from error
