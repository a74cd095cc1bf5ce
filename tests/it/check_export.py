"""Checks an exported TorchScript file with torch alone.

    python check_export.py model.pt best.safetensors faces.csv predicted.csv

faces.csv has a column pixels; predicted.csv is what `grimace predict --probabilities` wrote for it.
"""
import csv
import json
import struct
import sys

import torch

model_path, checkpoint_path, faces_path, predicted_path = sys.argv[1:]
extra = {"model.json": ""}
model = torch.jit.load(model_path, _extra_files=extra)
model.eval()
passed = 0


def check(holds, what):
    global passed
    if not holds:
        sys.exit(f"failed: {what}")
    passed += 1


csv.field_size_limit(1 << 24)
with open(faces_path, newline="") as file:
    faces = torch.tensor([[int(v) for v in row["pixels"].split()] for row in csv.DictReader(file)], dtype=torch.uint8)
faces = faces.view(-1, 1, 48, 48)
with open(predicted_path, newline="") as file:
    wanted = torch.tensor([[float(v) for v in list(row.values())[2:]] for row in csv.DictReader(file)])

description = json.loads(extra["model.json"])
check(description["labels"][:2] == ["angry", "disgust"] and len(description["labels"]) == wanted.shape[1], "labels inside")
with torch.no_grad():
    from_bytes = model(faces)
    check(from_bytes.dtype == torch.float32 and from_bytes.shape == wanted.shape, "probabilities are float32 [N, classes]")
    check((from_bytes - wanted).abs().max() < 1e-5, f"same numbers as predict: {(from_bytes - wanted).abs().max()}")
    check(torch.equal(from_bytes, model(faces.float())), "same numbers for uint8 and float32")
    check((model(faces[:1]) - wanted[:1]).abs().max() < 1e-5, "a batch of one")

with open(checkpoint_path, "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
names = {name for name in header if name != "__metadata__"}
state = model.state_dict()
check(set(state) == names, f"state_dict has every checkpoint name: {set(state) ^ names}")
check(len(list(model.parameters())) > 0 and all(not n.endswith("running_mean") for n, _ in model.named_parameters()), "parameters")

doubled = torch.jit.load(model_path).to(torch.float64)
check(all(t.dtype == torch.float64 for t in doubled.state_dict().values()), ".to(float64) changes every tensor")

check(model.training is False and model.train().training is True, "it knows training from inference mode")
model.eval()

code = model.code + "".join(module.code for module in model.modules() if hasattr(module, "code"))
check("CONSTANTS" not in code and "device" not in code, f"no constant weights and no device in the code: {code}")
print(f"{passed} checks passed")
