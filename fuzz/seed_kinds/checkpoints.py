"""Checkpoints, their weights alone, and forests."""

import json
import struct

from .configs import SMALL

TINY = SMALL + "filters = [2, 3]\ndense = [4]\n"

RECORD = {
    "epoch": 1,
    "lr": 1e-3,
    "loss": 1.5,
    "accuracy": 0.25,
    "val_loss": 5e-324,
    "val_accuracy": 0.5,
    "val_accuracy_dedup": 0.1,
    "seconds": 0.30000000000000004,
    "images_per_second": 1e11,
}

STATE = {
    "epoch": 1,
    "step": 5,
    "loss_sum": 0.30000000000000004,
    "correct": 7,
    "epoch_seconds": 0.5,
    "seconds": 12.25,
    "best": {"epoch": 1, "val_accuracy": 0.5, "val_accuracy_dedup": None},
    "monitor": [0.5, 1],
    "records": [RECORD],
    "rollbacks": 0,
    "data_hash": "aa",
    "split_hash": "bb",
    "threads": 2,
    "precision": "f32",
    "device": "cpu",
    "kernels": "none",
    "commands": ["grimace train x.toml"],
}

CONFIG_OF_WEIGHTS = (
    'name = "x"\n[data]\ntrain = "a.csv"\nclasses = ["b", "c"]\n[model]\nkind = "resnet"\n'
    "stem = 2\nwidths = [2, 3]\nblocks = [1, 1]\nsqueeze = 0\n[train]\nema = 0.5\n"
)


def checkpoint() -> dict[str, bytes]:
    """The mode (0: the file; 1: its header and tensors; 2: config, state, tensors, fill bytes),
    then the content."""
    state = json.dumps(STATE)
    fuller = json.dumps(STATE | {"epoch": 2, "records": [RECORD, RECORD | {"epoch": 2}], "best": None, "monitor": None})
    extremes = {"step": (1 << 64) - 1, "correct": (1 << 40) - 1, "loss_sum": -9e29, "seconds": -0.0, "threads": (1 << 64) - 1, "rollbacks": 100}
    metadata = {"format": "grimace-checkpoint", "format_version": "3", "config": TINY, "state": state, "checksum": "CHECKSUM"}
    tensor = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}

    def container(more: bytes = b"\0" * 24, metadata: dict | None = metadata, **tensors: dict) -> bytes:
        header = ({"__metadata__": metadata} if metadata is not None else {}) | tensors
        return b"1" + json.dumps(header).encode() + b"\n" + more

    def assembled(config: str, state: str, tensors: str, fill: str) -> bytes:
        return "\n---\n".join(["2" + config, state, tensors, fill]).encode()

    def raw(length: int, header: bytes) -> bytes:
        return b"0" + struct.pack("<Q", length) + header

    without = {key: text for key, text in metadata.items() if key != "state"}
    one = '{"__metadata__":{"format":"grimace-checkpoint"}}'.encode()
    huge = {"dtype": "F32", "shape": [0, 1 << 62, 4], "data_offsets": [0, 0]}
    scalar = {"dtype": "F32", "shape": [], "data_offsets": [24, 28]}
    return {
        "complete": assembled(TINY, state, "*", "0000"),
        "complete-with-optimizer": assembled(TINY, fuller, "*\noptimizer.m.output.weight F32 7 4", "\0\0\x7f"),
        "tensor-missing": assembled(TINY, state, "*\n-output.bias", "ab"),
        "tensor-too-many": assembled(TINY, state, "*\nblock3.conv.weight F32 1", "1"),
        "tensor-of-other-shape": assembled(TINY, state, "*\noutput.weight F32 4 7", "1"),
        "tensor-of-other-type": assembled(TINY, state, "*\noutput.bias BF16 7", "1"),
        "tensors-not-finite": assembled(TINY, state, "*", "a\u0080\x7f"),
        "tensors-odd": assembled(TINY, state, "a F32\nb F32 0 9\nc F32 1 1 1 1 1 1 1 1 1\nd F4 2\ne F32 0 4611686018427387904\n F32 1", "\x01"),
        "other-network": assembled(
            TINY.replace("[2, 3]", "[4, 4, 4]") + 'padding = "same"\nconvolutions = 2\nactivation = "gelu"\npooling = "average"\n', state, "*", "9"
        ),
        "kernels-network": assembled(TINY.replace("[2, 3]", "[32, 32]").replace("[4]", "[]"), state, "*", "=>"),
        "bad-config": assembled(TINY.replace("cnn", "rnn"), state, "*", "1"),
        "large-config": assembled(TINY.replace("[2, 3]", "[4096]"), state, "*", "1"),
        "bad-state": assembled(TINY, state.replace("1", '"1"', 1), "*", "1"),
        "state-extreme-values": assembled(TINY, json.dumps(STATE | extremes), "*", "1"),
        "state-out-of-range": assembled(TINY, json.dumps(STATE | {"epoch": 4294967295, "correct": -(1 << 63), "loss_sum": 1e308}), "*", "1"),
        "state-nested": assembled(TINY, "[" * 200, "*", "1"),
        "container": container(a=tensor),
        "container-two": container(b"abcdefgh" * 4, b=tensor, a={"dtype": "F32", "shape": [2, 1], "data_offsets": [24, 32]}),
        "container-without-tensors": container(b""),
        "container-huge-shape": container(a=tensor, b=huge | {"data_offsets": [24, 24]}),
        "container-scalar": container(b"\0" * 28, a=tensor, b=scalar),
        "container-overlapping": container(a=tensor, b=tensor),
        "container-gap": container(b"\0" * 40, a=tensor, b={"dtype": "F32", "shape": [1], "data_offsets": [32, 36]}),
        "container-other-type": container(b"\0" * 6, a={"dtype": "U8", "shape": [2, 3], "data_offsets": [0, 6]}),
        "container-other-format": container(metadata=metadata | {"format": "pt"}, a=tensor),
        "container-other-version": container(metadata=metadata | {"format_version": "2"}, a=tensor),
        "container-without-state": container(metadata=without, a=tensor),
        "container-without-metadata": container(metadata=None, a=tensor),
        "raw-length-too-large": raw((1 << 64) - 1, one),
        "raw-length-too-small": raw(4, one),
        "raw-no-checksum": raw(len(one), one),
        "raw-short": b"0\x01\x02",
    }


def weights() -> dict[str, bytes]:
    """The mode (0: the file; 1: its header and tensors; 2: config, state, tensors, fill bytes),
    then the content. The network has a stem of 2 filters, stages of 2 and 3, and classes a and b."""

    def file(shapes: dict[str, list[int]], fill: bytes = b"\0\0\x80\x3f", dtype: str = "F32", metadata: dict | None = None) -> bytes:
        size = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I64": 8}[dtype]
        header, body = {"__metadata__": metadata or {"format": "pt"}}, b""
        for name, shape in shapes.items():
            count = size
            for side in shape:
                count *= side
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + count]}
            body += (fill * (count // len(fill) + 1))[:count]
        return b"1" + json.dumps(header).encode() + b"\n" + body

    norm = {key: [2] for key in ("weight", "bias", "running_mean", "running_var")}
    torchvision = {"conv1.weight": [2, 3, 3, 3], "layer1.0.conv1.weight": [2, 2, 3, 3], "fc.weight": [2, 3], "fc.bias": [2]}
    torchvision |= {f"bn1.{key}": shape for key, shape in norm.items()}
    own = {"stem.conv.weight": [2, 1, 3, 3], "output.weight": [2, 3], "output.bias": [2]}
    config = CONFIG_OF_WEIGHTS
    parts = lambda tensors, fill: "\n---\n".join(["2" + config, json.dumps(STATE), tensors, fill]).encode()
    return {
        "torchvision": file(torchvision),
        "torchvision-mean-of-other-shape": file(torchvision | {"bn1.running_mean": [3]}),
        "torchvision-counters": file(torchvision | {"bn1.num_batches_tracked": []}, b"\1" * 8, "I64"),
        "own": file(own),
        "own-half": file(own, b"\0\x3c", "F16"),
        "own-double": file(own, b"\0" * 6 + b"\xf0\x3f", "F64"),
        "own-not-finite": file(own, b"\0\0\x80\x7f"),
        "own-colors-of-other-shape": file({"stem.conv.weight": [2, 3]}),
        "head-of-other-shape": file(own | {"output.weight": [2, 3, 1], "output.bias": [2, 1]}),
        "head-only": file({"output.weight": [2, 3], "output.bias": [2]}),
        "unknown": file({"a": [1], "b": []}),
        "empty": file({}),
        "other-format": file(own, metadata={"format": "grimace-forest"}),
        "checkpoint": parts("*", "0000"),
        "checkpoint-without-head": parts("*\n-output.weight", "0000"),
        "checkpoint-head-of-other-shape": parts("*\noutput.weight F32 1 3\noutput.bias F32 1", "0000"),
        "raw": b"0\x02\0\0\0\0\0\0\0{}",
    }

FOREST = 'name = "x"\n[data]\ntrain = "a.csv"\nclasses = ["a", "b"]\n[forest]\n'

ORIGIN = '{"data_hash":"d","split_hash":"s"}'


def forest() -> dict[str, bytes]:
    """The mode (0: the file; 1: its header, a newline, tensors; 2: config, origin, trees:
    `F<T:N` is a split, `*N` a leaf, then `|` and counts), then the content."""
    pure = "| 1 0 0 1"
    trees = {
        "one-leaf": f"*0 {pure}",
        "stump": f"0<10:1 *0 *1 {pure}",
        "mixed-leaf": f"5<0:1 *2 *1 {pure} 3 4",
        "two-trees": f"0<10:1 *0 *1 {pure}\n2303<255:1 7<7:3 *1 *0 *1 {pure}",
        "cycle": f"0<10:0 *0 *1 {pure}",
        "backwards": f"0<10:1 1<1:3 *1 2<2:1 *0 {pure}",
        "no-such-child": f"0<10:2 *0 *1 {pure}",
        "far-child": f"0<10:4294967295 *0 *1 {pure}",
        "no-such-leaf": f"*2 {pure}",
        "no-such-pixel": f"2304<10:1 *0 *1 {pure}",
        "empty-leaf": "0<10:1 *0 *1 | 1 0 0 0",
        "heavy-leaf": "0<10:1 *0 *1 | 4294967295 4294967295 0 1",
        "no-nodes": pure,
        "no-leaves": "*0 |",
        "no-trees": "",
    }
    texts = {name: f"2{FOREST}\n---\n{ORIGIN}\n---\n{text}" for name, text in trees.items()}
    texts["no-origin"] = f"2{FOREST}\n---\n{{}}\n---\n*0 {pure}"
    texts["network-config"] = f"2{SMALL}\n---\n{ORIGIN}\n---\n*0 {pure}"
    three = FOREST.replace('"b"]', '"b", "c"]')
    texts["three-classes"] = f"2{three}\n---\n{ORIGIN}\n---\n*2 | 1 0 0 0 1 0 0 0 1"
    meta = {"format": "grimace-forest", "format_version": "2", "checksum": "CHECKSUM", "config": FOREST, "origin": ORIGIN}
    texts["no-tensors"] = "1" + json.dumps({"__metadata__": meta}) + "\n"
    texts["other-format"] = "1" + json.dumps({"__metadata__": {**meta, "format": "grimace-checkpoint"}}) + "\n"
    texts["other-version"] = "1" + json.dumps({"__metadata__": {**meta, "format_version": "1"}}) + "\n"
    texts["not-a-file"] = "0not a forest"
    return {name: text.encode() for name, text in texts.items()}
