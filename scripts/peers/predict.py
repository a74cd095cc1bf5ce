"""Classifies the images of a CSV with an exported model, from the start of Python to a CSV of
probabilities: the peer of `grimace predict`.

    python scripts/peers/predict.py model.pt images.csv out.csv [--threads 2]     TorchScript
    python scripts/peers/predict.py model.onnx images.csv out.csv [--threads 2]   ONNX Runtime

Imports only what it needs, reads pixels with NumPy, and computes batches of 256.
"""
import argparse
import csv

import numpy as np

BATCH = 256


def read(path: str) -> np.ndarray:
    """The pixels, uint8 [N, 1, 48, 48]."""
    with open(path, newline="") as file:
        rows = csv.reader(file)
        column = next(rows).index("pixels")
        pixels = [np.fromstring(row[column], dtype=np.uint8, sep=" ") for row in rows]
    return np.stack(pixels).reshape(-1, 1, 48, 48)


def torchscript(model: str, threads: int):
    """A function from pixels to probabilities."""
    import torch

    torch.set_num_threads(threads)
    network = torch.jit.load(model).eval()

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)).numpy()
    return run


def onnx(model: str, threads: int):
    """A function from pixels to probabilities."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels.astype(np.float32)})[0]


parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("images")
parser.add_argument("out")
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
images = read(args.images)
run = (onnx if args.model.endswith(".onnx") else torchscript)(args.model, args.threads)
found = np.concatenate([run(images[start:start + BATCH]) for start in range(0, len(images), BATCH)])
np.savetxt(args.out, found, fmt="%.6g", delimiter=",")
