"""Checks an exported TorchScript file with torch alone.

    python check_export.py model.pt images.csv best.safetensors predicted.csv [best2.safetensors predicted2.csv ...]

images.csv has a column pixels; predicted.csv is the output of `grimace predict --probabilities` for
it, with the weights of best.safetensors. Several pairs are the models of an ensemble, in order.
"""
import csv
import json
import struct
import sys

import torch

model_path, images_path, *pairs = sys.argv[1:]
checkpoint_paths, predicted_paths = pairs[::2], pairs[1::2]
extra = {"model.json": ""}
model = torch.jit.load(model_path, _extra_files=extra)
model.eval()
passed = 0


def check(condition, what):
    global passed
    if not condition:
        sys.exit(f"failed: {what}")
    passed += 1


def probabilities(path):
    with open(path, newline="") as file:
        return torch.tensor([[float(v) for v in list(row.values())[2:]] for row in csv.DictReader(file)])


def names(path, prefix):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return {prefix + name for name in header if name != "__metadata__"}


csv.field_size_limit(1 << 24)
with open(images_path, newline="") as file:
    images = torch.tensor([[int(v) for v in row["pixels"].split()] for row in csv.DictReader(file)], dtype=torch.uint8)
images = images.view(-1, 1, 48, 48)
expected = torch.stack([probabilities(path) for path in predicted_paths]).mean(0)

description = json.loads(extra["model.json"])
check(description["labels"][:2] == ["angry", "disgust"] and len(description["labels"]) == expected.shape[1], "embedded labels")
with torch.no_grad():
    from_bytes = model(images)
    check(from_bytes.dtype == torch.float32 and from_bytes.shape == expected.shape, "probabilities are float32 [N, classes]")
    check((from_bytes - expected).abs().max() < 1e-5, f"agrees with predict: {(from_bytes - expected).abs().max()}")
    check(torch.equal(from_bytes, model(images.float())), "uint8 and float32 agree")
    check((model(images[:1]) - expected[:1]).abs().max() < 1e-5, "a batch of one")

prefixes = [""] if len(checkpoint_paths) == 1 else [f"model{number}." for number in range(1, len(checkpoint_paths) + 1)]
expected_names = set().union(*(names(path, prefix) for path, prefix in zip(checkpoint_paths, prefixes)))
state = model.state_dict()
check(set(state) == expected_names, f"state_dict has all names of the checkpoints: {set(state) ^ expected_names}")
check(len(list(model.parameters())) > 0 and all(not n.endswith("running_mean") for n, _ in model.named_parameters()), "parameters")

doubled = torch.jit.load(model_path).to(torch.float64)
check(all(t.dtype == torch.float64 for t in doubled.state_dict().values()), ".to(float64) changes every tensor")
with torch.no_grad():
    check((doubled(images) - expected).abs().max() < 1e-5, "agrees in float64")

check(model.training is False and model.train().training is True, "train() and eval() switch the mode")
model.eval()

code = model.code + "".join(module.code for module in model.modules() if hasattr(module, "code"))
check("CONSTANTS" not in code and "device" not in code, f"no constant weights and no device in the code: {code}")
if torch.cuda.is_available():
    moved = torch.jit.load(model_path).to("cuda")
    with torch.no_grad():
        difference = (moved(images.to("cuda")).cpu() - expected).abs().max()
    check(difference < 1e-3, f".to('cuda') moves it: {difference}")
else:
    print("skipped .to('cuda'): torch sees no GPU")
print(f"{passed} checks passed")
