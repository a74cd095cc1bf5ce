#!/usr/bin/env python3
"""Writes the seed inputs in fuzz/corpus: `python3 fuzz/seeds.py`.

fuzz/README.md describes the formats. Inputs found by a fuzzer are beside the seeds, named found-*.
No image is a photograph: each is one digit, 2304 times.
"""

import gzip
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

from PIL import Image

CORPUS = Path(__file__).parent / "corpus"

IMAGE = " ".join(["0"] * 2304)


def csv() -> dict[str, bytes]:
    """The mode (0, 1, 2: labels required, optional, ignored, and `@7` is an image of sevens; 3,
    4, 5: the same, verbatim), then the file."""
    texts = {
        "notebook": "0emotion,pixels\n3,@0\n6,@7\n",
        "kaggle-test": "1id,pixels\n17,@0\nx9,@1\n",
        "fer2013": "0emotion,pixels,Usage\n0,@0,Training\n1,@1,PublicTest\n",
        "icml": "0emotion, Usage, pixels\n0,Training,@1\n2,PrivateTest,@2\n",
        "all-columns": "0id,emotion,pixels,Usage\na,1,@1,Training\nb,2,@2,Training\nc,3,@3,PublicTest\n",
        "byte-order-mark": "0\ufeffemotion,pixels\r\n0,\"@0\"\r\n2,\"@1\"\r\n",
        "no-last-line-break": "2pixels\r\n\"@0\"\r\n\"@1\"",
        "quoted": "1id,pixels,Usage\n\"1,7\",@0,\"Training\"\n\"x\"\"9\",\"@1\",\"Public\nTest\"\n",
        "quote-closed-early": "1pixels,Usage,id\n@0,\"a\"b\"c\",1\n@1,\"a\"b\"c,d\"\n",
        "quotes-within": "1pixels,Usage,note\n@0,5\" screen,x\"\"y\n@1,a,b\"\n",
        "ignored-columns": "2note,pixels,emotion,who\n,@0,0,\n\"a\nb\",@1,9,\"c,d\"\n",
        "blank-lines": "0emotion,pixels\n\n0,@0\n\r\n\n1,@1\n\n",
        "spaces": "0 emotion ,pixels\n 3 , @0 1\n4,@1 \n5,  @2  \n",
        "other-numbers": "3pixels\n" + " ".join(["007", "42", "0255"] * 768) + "\n",
        "plain-image": f"3emotion,pixels\n0,{IMAGE}\n",
        "bad-rows": "0emotion,pixels\n0,@0\n7,@0\nhappy,@0\n,@0\n1,1 2 3\n1,@0 1\n2,@0,5\n3\n4,@0\n",
        "bad-pixels": "3emotion,pixels\n0,300\n0,-1\n0,3.5\n0,1;2\n0,99999999999999999999\n0,x\n0,\n",
        "bad-first-row": "0emotion,pixels,Usage\n0,1 2 3,Training\n1,@1,Training\n",
        "open-quote": "0emotion,pixels\n0,\"@0\n1,@1\n",
        "open-quote-in-header": "2\"pixels\n@0\n@1\n",
        "blank-id": "1id,pixels\n ,@0\n\"\",@1\n\t,@2\n",
        "two-columns-named-pixels": "0emotion,pixels,pixels\n0,@0,@0\n",
        "semicolons": "0emotion;pixels\n0;@0\n",
        "header-only": "0emotion,pixels\n",
        "header-without-line-break": "0emotion,pixels",
        "old-mac": "2pixels\r@0\r@1\r",
        "lone-carriage-return": "1pixels,id\n@0,a\rb\n@1,c\r\r\n",
        "header-too-long": "0pixels,\"" + "@1" * 20 + "\"\n",
        "many-short-rows": "0emotion,pixels\n" + "1,2\n" * 300,
        "null": "0emotion,pixels\0\n0,@0\0\n\0\n",
        "empty": "0",
    }
    texts |= {
        "tabs": "0Emotion\tPIXELS\tusage\n3.0\t@0\tTraining\nhappy\t@1\ttraining\n",
        "semicolons-and-quotes": "1id;pixels;note\n\"a;b\";@0;\"x\ny\"\nc;@1;d\n",
        "similar-names": "1label,pixels,image_id,split\n3,@0,a,train\n",
        "words": "0emotion,pixels\nHappiness,@0\n neutral ,@1\nSAD,@2\n",
        "array": "3pixels\n\"[" + IMAGE.replace(" ", ",\n ") + "]\"\n",
        "map-table": "0map joy=happy,7=neutral,sad=skip\nemotion,pixels\njoy,@0\n7,@1\n4,@2\n",
        "map-list": "0map neutral,happy,skip\nemotion,pixels\n0,@0\n1,@1\n2,@2\n",
        "map-of-unknown": "0map joy=joyful\nemotion,pixels\n0,@0\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b"0emotion,pixels,note\n0,@0,\xff\n1,\xfe@1,a\n\xc3,@2,b\n"
    files["header-not-utf8"] = b"0emotion,pixels,\xff\n0,@0,a\n"
    return files


def archive() -> dict[str, bytes]:
    """How the file is stored (0 verbatim; 1 gzip, 2 zip, 3 UTF-16 of the text), then it."""
    text = "emotion,pixels\n3,@0\n6,@7\n"
    wrapped = {f"{name}-{what}": f"{mode}{body}".encode()
               for mode, name in [("1", "gzip"), ("2", "zip"), ("3", "utf16")]
               for what, body in [("text", text), ("bad-row", text + "9,@1\n"), ("old-mac", text.replace("\n", "\r")),
                                  ("tabs", text.replace(",", "\t")), ("nothing", "")]}
    plain = text.encode()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ["a/x.csv", "__MACOSX/._x.csv", "README"]:
            file.writestr(zipfile.ZipInfo(name), plain)
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as file:
        file.writestr(zipfile.ZipInfo("a.csv"), plain)
        file.writestr(zipfile.ZipInfo("b.tsv"), plain)
    packed = gzip.compress(plain, mtime=0)
    raw = {
        "plain": plain, "gz": packed, "gz-truncated": packed[:-9], "gz-twice": gzip.compress(packed, mtime=0),
        "gz-members": packed + packed, "zip-one": zipped.getvalue(), "zip-two": two.getvalue(),
        "zip-truncated": zipped.getvalue()[:-30], "png": b"\x89PNG\r\n\x1a\n", "tar": b"x" * 257 + b"ustar\0" + b"0" * 300,
        "utf16-no-mark": text.encode("utf-16-be"), "utf16-odd": text.encode("utf-16")[:-1], "json": b"[{\"emotion\": 1}]",
        "html": b"<!DOCTYPE html><p>", "lfs": b"version https://git-lfs.github.com/spec/v1\n", "zip-bomb-like": gzip.compress(b"7" * 3_000_000, mtime=0),
    }
    return wrapped | {name: b"0" + data for name, data in raw.items()}


SMALL = 'name = "x"\n[data]\ntrain = "a.csv"\n[model]\nkind = "cnn"\n'

EVERYTHING = """name = "every-key_1.0+\u00e4"
seed = 9223372036854775807
device = "cuda:3"
precision = "bf16"
threads = 1024
[data]
train = "a/b.csv"
test = "t.csv"
validation = "PublicTest"
split = "random"
group_duplicates = false
on_bad_row = "skip"
classes = ["no", "yes \u4e00", "x\\ty"]
[augment]
rotate = 180.0
shift = 1
zoom = 0.999
flip = false
[model]
kind = "cnn"
filters = [8, 16, 32]
convolutions = 2
kernel = 5
padding = "same"
pooling = "average"
normalization = false
dense = []
dropout = 0.0
activation = "leaky_relu"
[train]
epochs = 100000
batch = 65536
optimizer = { kind = "adamw", lr = 1e2, beta1 = 0.0, beta2 = 0.9999, eps = 1, weight_decay = 10 }
schedule = { kind = "hold_then_decay", hold = 4294967295, rate = 100 }
early_stop = { monitor = "val_loss", patience = 0 }
checkpoint_every = { epochs = 1, steps = 9223372036854775807, seconds = 1e9 }
max_rollbacks = 100
"""


def config() -> dict[str, bytes]:
    """A config; each line from the first `--set ` on is an override."""
    deep = "x" + ".x" * 78
    nested = f"{deep} = 1"
    for _ in range(70):
        nested = f"{deep} = {{ {nested} }}"
    texts = {
        "small": SMALL,
        "forest": 'name = "x"\n[data]\ntrain = "a.csv"\n[forest]\ntrees = 7\nmax_features = "sqrt"\nfinder = "linfa"\nfolds = 0\n',
        "forest-sets": 'name = "x"\n[data]\ntrain = "a.csv"\n[forest]\n'
        + "\n--set forest.max_features=5\n--set forest={trees=9}\n--set threads=3",
        "everything": EVERYTHING,
        "sgd": SMALL + '[train]\noptimizer = { kind = "sgd", lr = 0.1, momentum = 0.0, nesterov = false }\nschedule = { kind = "constant" }\n',
        "dotted": 'name = "x"\ndata.train = "a.csv"\nmodel.kind = "cnn"\ntrain.optimizer.lr = 0.5\ntrain.checkpoint_every.seconds = 0.1\n',
        "inline": 'name = "x"\ndata = { train = "a.csv", validation = 0.5 }\nmodel = { kind = "cnn", filters = [4096] }\n',
        "comments": '# first\nname = \'x\' # "y"\n[ data ]\n"train" = """\na.csv"""\n[model] # = [\nkind = "cnn"\nkernel = 0x3\n',
        "sets": SMALL + '\n--set train.batch=128\n--set name=big-one\n--set device=cuda:1\n--set data.validation=val/x.csv',
        "sets-of-tables": SMALL
        + '\n--set train.optimizer={beta1=0.8}\n--set train.optimizer={kind="sgd",lr=0.1}\n--set train.optimizer.momentum=0.5'
        + '\n--set train.schedule={kind="constant"}\n--set train.checkpoint_every={seconds=5}\n--set model={kind="cnn",dense=[]}',
        "sets-that-fail": SMALL + "\n--set augment.zoom=1.5",
        "sets-without-key": SMALL + "\n--set =1\n--set train\n--set a..b=1",
        "sets-into-values": SMALL + "\n--set name.x=1",
        "sets-of-lines": SMALL + "\n--set name=1\nseed = 2\n--set seed=\n[x]",
        "sets-deep": SMALL + "\n--set " + "a." * 20 + "b=1\n--set name={" + deep + "=1}",
        "unknown-key": SMALL + "[train]\nbacth = 3\n",
        "unknown-kind": SMALL.replace("cnn", "rnn"),
        "wrong-type": SMALL + '[train]\nbatch = "many"\nepochs = 1.5\noptimizer = 3\n',
        "out-of-range": SMALL + "[augment]\nrotate = nan\nshift = -0.0\nzoom = inf\n",
        "no-pixel-left": SMALL + "filters = [8, 8, 8, 8, 8, 8]\n",
        "too-large": SMALL + "filters = [4096, 4096]\nkernel = 15\ndense = [65536, 65536]\n",
        "missing-table": 'name = "x"\n',
        "two-tables": SMALL + "[data]\n[[model]]\n",
        "dates": 'name = 1979-05-27T07:32:00Z\nseed = 07:32:00\n[data]\ntrain = 1979-05-27\nvalidation = 1979-05-27 07:32:00\n',
        "open": 'name = "x\n[data',
        "nested-arrays": "name = " + "[" * 100 + "]" * 100,
        "nested-tables": nested,
        "escapes": 'name = "\\u00e4\\U0001F600"\n[data]\ntrain = "\\x00\\e"\nclasses = ["\\"", "\\n", " "]\n[model]\nkind = "cnn"\n',
        "empty": "",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b'name = "\xff"\n'
    return files


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


def labels() -> dict[str, bytes]:
    """The number of classes (a digit), the requested ids, each followed by `|`, a newline, the
    file."""
    texts = {
        "plain": "7a|b|\nid,emotion\na,3\nb,6\n",
        "numbers": "70|1|2|\nid,emotion\n0,0\n1,1\n2,2\n3,6\n",
        "byte-order-mark": "7b|a|\n\ufeffid, emotion\r\na,3\r\nb,6\r\n",
        "probabilities": "3a|\nid,emotion,sad,happy,neutral\na,1,0.25,0.5,0.25\n",
        "other-columns": "7a|\nnote,emotion,id\n\"x\ny\",3,a\n",
        "quoted": "7a,b|x\"y|c\nd|\nid,emotion\n\"a,b\",1\n\"x\"\"y\",2\n\"c\nd\",3\n",
        "spaces": "7a b| c |\nid,emotion\n a b , 3 \n c, 1\n",
        "requested-twice": "7a|a|\nid,emotion\na,3\n",
        "listed-twice": "7a|\nid,emotion\na,1\na,2\n",
        "missing": "7a|z|\nid,emotion\na,1\n",
        "unknown-label": "7a|\nid,emotion\na,7\n",
        "no-label": "7a|\nid,emotion\na,\n",
        "no-number": "7a|\nid,emotion\na,happy\n",
        "two-classes": "2x|y|\nid,emotion\nx,0\ny,1\n",
        "label-map": "7a|b|\nmap joy=class 2,9=skip\nid,emotion\na,joy\nb,9\n",
        "class-names": "7id|emotion|\nid,emotion,id,emotion\nid,1,0,1\nemotion,0,1,0\n",
        "no-column": "7a|\nid,label\na,1\n",
        "too-few-fields": "7a|\nid,emotion\na\n",
        "too-many-fields": "7a|\nid,emotion\na,1,2\n",
        "open-quote": "7a|\nid,emotion\na,\"1\nb,2\n",
        "blank-lines": "7a|\nid,emotion\n\n\r\na,1\n\n",
        "blank-id": "7|\nid,emotion\n,1\n",
        "carriage-returns": "7a|b\r|\nid,emotion\ra,1\r\"b\r\",2\r",
        "unicode": "7\u00e4\U0001f600|\u3000|\nid,emotion\n\u00e4\U0001f600,1\n\u3000,2\n",
        "header-only": "7a|\nid,emotion\n",
        "nothing": "7a|\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b"7a\xff|\nid,emotion\na\xff,1\n"
    return files


def soft_labels() -> dict[str, bytes]:
    """The number of classes (a digit; the classes are a, b, ...), the requested ids, each
    followed by `|`, a newline, the file."""
    texts = {
        "votes": "30|2|\nid,a,b,c\n0,1,2,7\n1,0,0,10\n2,10,0,0\n",
        "probabilities": "2x|y|\nid,emotion,a,b\nx,0,0.75,0.25\ny,1,1e-3,0.999\n",
        "byte-order-mark": "2x|\n\ufeffid, a, b\r\nx, .5 ,5.\r\n",
        "other-columns": "2x|\nb,note,unknown,a,id\n1,\"p\nq\",3,2,x\n",
        "quoted": "2x,y|\nid,a,b\n\"x,y\",\"1\",2\n",
        "tiny-and-huge": "2x|y|\nid,a,b\nx,5e-324,0\ny,1e9,1e9\n",
        "extra-rows": "2x|\nid,a,b\ny,1,0\ny,1,0\nx,1,0\n",
        "no-votes": "2x|\nid,a,b\nx,0,-0\n",
        "negative": "2x|\nid,a,b\nx,-1,2\n",
        "not-a-number": "2x|\nid,a,b\nx,nan,1\n",
        "infinite": "2x|\nid,a,b\nx,inf,1\n",
        "too-large": "2x|\nid,a,b\nx,1e10,1\n",
        "a-word": "2x|\nid,a,b\nx,many,1\n",
        "empty-cell": "2x|\nid,a,b\nx,,1\n",
        "listed-twice": "2x|\nid,a,b\nx,1,0\nx,1,0\n",
        "requested-twice": "2x|x|\nid,a,b\nx,1,0\n",
        "missing": "2z|\nid,a,b\nx,1,0\n",
        "no-column": "3x|\nid,a,b\nx,1,0\n",
        "two-columns": "2x|\nid,a,b,a\nx,1,0,1\n",
        "too-few-fields": "2x|\nid,a,b\nx,1\n",
        "open-quote": "2x|\nid,a,b\nx,\"1,0\n",
        "blank-lines": "2x|\nid,a,b\n\n\r\nx,1,0\n\n",
        "header-only": "2x|\nid,a,b\n",
        "nothing": "2x|\n",
        "label-map": "2x|y|\nmap good=a,bad=b\nid,good,bad\nx,1,0\ny,0,2\n",
        "usages": "2x@Training|y@Training|\nUsage,Image name,b,a\nTraining,f0,1,3\nTraining,f1,0,1\nPrivateTest,f2,1,1\n",
        "by-position": "2x|y|\nUsage,Image name,b,a,unknown\nTraining,f0.png,1,3,9\nTraining,,0,0,10\n",
        "too-few-rows": "2x|y|\na,b\n1,2\n",
        "decimal-commas": "2x|y|\nID;A;B\nx;0,5;0,5\ny;1;0\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b"2x\xff|\nid,a,b\nx\xff,1,0\n"
    return files


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


def packed() -> dict[str, bytes]:
    """The mode (0: the file; 1: the index, then a line for each section), then the content."""

    def built(*sections: str, **more: object) -> bytes:
        index = {"written_by": "seeds.py", "images": 2, "file_rows": 2, "classes": ["a", "b"]} | more
        return ("1" + "\n".join([json.dumps(index, separators=(",", ":")), *sections])).encode()

    images = ("pixels @1 @2", "hashes #1 #2")
    labels = "labels b0 b1"
    return {
        "complete": built(*images, labels, "ids U1 U3 abc", "usages U8 U8 Training", "groups U0 U1 x", group="age"),
        "labels": built(*images, labels),
        "test-images": built(*images, "ids U1 U2 ab", classes=[]),
        "rows": built(*images, labels, "rows u1 u5", file_rows=6),
        "rows-backwards": built(*images, labels, "rows u5 u1", file_rows=6),
        "rows-after-the-last": built(*images, labels, "rows u0 u2"),
        "votes": built(*images, labels, "votes f0.25 f0.75 f0 f0"),
        "votes-alone": built(*images, "votes f0.25 f0.75 f0 f1"),
        "votes-negative": built(*images, "votes f-1 f2 f0 fnan"),
        "unknown-label": built(*images, "labels b0 b9"),
        "wrong-hash": built("pixels @1 @2", "hashes #1 #3", labels),
        "wrong-checksum": built(*images, "!labels b0 b1"),
        "no-hashes": built("pixels @1 @2", labels),
        "no-pixels": built("hashes #1 #2", labels),
        "too-few-pixels": built("pixels @1", "hashes #1 #2"),
        "section-twice": built(*images, labels, labels),
        "unknown-section": built(*images, "faces b0 b1"),
        "ids-backwards": built(*images, "ids U3 U1 abc"),
        "ids-too-long": built(*images, "ids U1 U18446744073709551615 abc"),
        "ids-not-utf-8": built(*images, "ids U1 U2 b255 b254"),
        "no-images": built("pixels ", "hashes ", images=0, file_rows=0),
        "one-class": built(*images, labels, classes=["a"]),
        "odd-classes": built(*images, labels, classes=["a,b", ""]),
        "group-without-name": built(*images, "groups U0 U1 x"),
        "name-without-groups": built(*images, group="age"),
        "own-sections": built(*images, sections=[{"kind": "pixels", "start": 0, "length": 4608}]),
        "far-sections": built(sections=[{"kind": "pixels", "start": (1 << 64) - 1, "length": 4608}]),
        "not-an-index": b"1[]",
        "empty": b"0",
        "magic": b"0\x89FACES\r\n",
        "zeros": b"0" + bytes(100),
        "newer": b"0\x89FACES\r\n\x02" + bytes(60),
        "truncated": b"0\x89FACES\r\n\x01" + bytes(20),
        "csv": b"0emotion,pixels\n",
    }


def picture() -> dict[str, bytes]:
    """Files of 20 x 12 pixels or fewer, written by Pillow."""
    gray = Image.linear_gradient("L").resize((20, 12))
    color = Image.merge("RGB", [gray, gray.transpose(Image.Transpose.FLIP_LEFT_RIGHT), gray])
    alpha = Image.merge("RGBA", [*color.split(), gray])

    def saved(image: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    files = {
        "jpeg": saved(color, "JPEG"),
        "jpeg-gray": saved(gray, "JPEG"),
        "jpeg-turned": saved(color, "JPEG", exif=turned),
        "jpeg-progressive": saved(color, "JPEG", progressive=True),
        "jpeg-cmyk": saved(color.convert("CMYK"), "JPEG"),
        "png": saved(color, "PNG"),
        "png-gray": saved(gray, "PNG"),
        "png-alpha": saved(alpha, "PNG"),
        "png-palette": saved(color.quantize(4), "PNG"),
        "png-bits": saved(gray.convert("1"), "PNG"),
        "png-16-bit": saved(gray.convert("I;16"), "PNG"),
        "bmp": saved(color, "BMP"),
        "bmp-gray": saved(gray, "BMP"),
        "webp": saved(color, "WEBP", quality=20),
        "webp-lossless": saved(alpha, "WEBP", lossless=True),
        "tiff": saved(gray, "TIFF"),
        "tiff-lzw": saved(color, "TIFF", compression="tiff_lzw"),
        "pgm": saved(gray, "PPM"),
        "ppm": saved(color, "PPM"),
        "pgm-text": b"P2 3 2 255\n0 1 2\n3 4 255\n",
        "text": b"not a picture\n",
        "gif": saved(gray, "GIF"),
        "empty": b"",
    }
    files["png-truncated"] = files["png"][:-20]
    files["jpeg-truncated"] = files["jpeg"][:-40]
    # A header of 30,000 x 30,000 pixels.
    files["png-large"] = files["png-gray"][:16] + struct.pack(">II", 30000, 30000) + files["png-gray"][24:]
    # A color profile that inflates to 4 MiB, after the header.
    profile = b"iCCPx\0\0" + zlib.compress(bytes(4 << 20), 9)
    profile = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    files["png-profile"] = files["png-gray"][:33] + profile + files["png-gray"][33:]
    # EXIF data that claims to have 4 GiB, at the end of an extended file.
    extended = b"VP8X" + struct.pack("<IBxxxHxHx", 10, 0x18, 19, 11) + files["webp-lossless"][12:]
    extended = b"WEBP" + extended + b"EXIF" + struct.pack("<I", 0xFFFFFFF0) + b"MM\0*"
    files["webp-long-exif"] = b"RIFF" + struct.pack("<I", len(extended)) + extended
    return files


def main() -> None:
    for seeds in (csv, archive, config, checkpoint, forest, labels, soft_labels, packed, picture, weights):
        folder = CORPUS / seeds.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds().items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
