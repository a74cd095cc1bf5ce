"""Checks an exported ONNX file with onnx and onnxruntime.

    python check_onnx.py float32|int8 model.onnx images.csv best.safetensors predicted.csv [best2.safetensors predicted2.csv ...]

images.csv has a column pixels; predicted.csv is the output of `grimace predict --probabilities` for
it, with the weights of best.safetensors. Several pairs are the models of an ensemble, in order.
"""
import csv
import json
import struct
import sys

import numpy
import onnx
import onnxruntime

kind, model_path, images_path, *pairs = sys.argv[1:]
checkpoint_paths, predicted_paths = pairs[::2], pairs[1::2]
passed = 0


def check(condition, what):
    global passed
    if not condition:
        sys.exit(f"failed: {what}")
    passed += 1


def probabilities(path):
    with open(path, newline="") as file:
        return numpy.array([[float(v) for v in list(row.values())[2:]] for row in csv.DictReader(file)])


def tensors(path, prefix):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        body = file.read()
    header.pop("__metadata__", None)
    read = lambda entry: numpy.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
    return {prefix + name: read(entry) for name, entry in header.items()}


csv.field_size_limit(1 << 24)
with open(images_path, newline="") as file:
    images = numpy.array([row["pixels"].split() for row in csv.DictReader(file)], numpy.float32)
images = images.reshape(-1, 1, 48, 48)
expected = numpy.mean([probabilities(path) for path in predicted_paths], axis=0)
classes = expected.shape[1]

model = onnx.load(model_path)
onnx.checker.check_model(model, full_check=True)
onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
passed += 2


def shape(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


inputs, outputs = list(model.graph.input), list(model.graph.output)
check([(v.name, shape(v)) for v in inputs] == [("pixels", ["N", 1, 48, 48])], f"input: {inputs}")
check([(v.name, shape(v)) for v in outputs] == [("probabilities", ["N", classes])], f"output: {outputs}")
check(all(v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for v in inputs + outputs), "float32")
check([o.version for o in model.opset_import if o.domain == ""][0] >= 17, f"opset: {model.opset_import}")
check(all(node.name for node in model.graph.node), "nodes have names")
metadata = {entry.key: entry.value for entry in model.metadata_props}
description = json.loads(metadata["model.json"])
check(description["labels"][:2] == ["angry", "disgust"] and len(description["labels"]) == classes, "embedded labels")

prefixes = [""] if len(checkpoint_paths) == 1 else [f"model{number}." for number in range(1, len(checkpoint_paths) + 1)]
own = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
if kind == "float32":
    for path, prefix in zip(checkpoint_paths, prefixes):
        for name, tensor in tensors(path, prefix).items():
            if not (name in own and numpy.array_equal(own[name], tensor)):
                sys.exit(f"failed: {name} is not the checkpoint's")
    passed += 1
else:
    quantized = [name for name, tensor in own.items() if tensor.dtype == numpy.int8 and name.endswith(".weight")]
    check(quantized and set(quantized) <= set(tensors(checkpoint_paths[0], "")), f"int8 weights: {quantized}")

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
run = lambda pixels: session.run(["probabilities"], {"pixels": pixels})[0]
order = numpy.arange(300) % len(images)
for batch in (1, 7, 300):
    got = run(images[order[:batch]])
    check(got.dtype == numpy.float32 and got.shape == (batch, classes), "probabilities are float32 [N, classes]")
    if kind == "float32":
        difference = numpy.abs(got - expected[order[:batch]]).max()
        check(difference < 1e-5, f"agrees with predict on {batch} images: {difference}")
    else:
        check(numpy.abs(got.sum(1) - 1).max() < 1e-5, "probabilities sum to 1")
if kind == "int8":
    agreement = (run(images).argmax(1) == expected.argmax(1)).mean()
    check(agreement > 0.9, f"predicts the classes of predict: {agreement}")
print(f"{passed} checks passed")
