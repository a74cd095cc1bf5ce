#!/usr/bin/env python3
"""Draws docs/img/predictions-{light,dark}.svg, the picture of README.md: a network's predictions for
the first eight synthetic test images.

    python3 scripts/readme_images.py       # after make build; trains for a minute on 2 cores
"""
from __future__ import annotations

import base64
import csv
import struct
import subprocess
import sys
import tempfile
import zlib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GRIMACE = ROOT / "target/release/grimace"
SIDE, ZOOM = 48, 104                             # pixels of an image, and its size in the picture
FACES, COLUMNS = 8, 4
CELL_WIDTH, CELL_HEIGHT = 232, 128
FONT = "font-family=\"-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""
COLORS = {                                       # text, faint text, bar of the prediction, other bars
    "light": ("#1f2328", "#59636e", "#0969da", "#c8ced6"),
    "dark": ("#f0f6fc", "#9198a1", "#4493f8", "#444c56"),
}


def run(*args: str | Path) -> None:
    """Runs Grimace in the repository."""
    subprocess.run([GRIMACE, *args], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def png(pixels: list[int]) -> bytes:
    """A grayscale PNG of SIDE x SIDE pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(pixels[row * SIDE:(row + 1) * SIDE]) for row in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9))
            + chunk(b"IEND", b""))


def read(path: Path) -> list[dict[str, str]]:
    """The first rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row, _ in zip(csv.DictReader(file), range(FACES))]


def cell(x: int, y: int, pixels: list[int], label: str, probabilities: dict[str, float], theme: str) -> list[str]:
    """One image with its label and a bar per class."""
    text, faint, ours, others = COLORS[theme]
    predicted = max(probabilities, key=probabilities.get)
    image = base64.b64encode(png(pixels)).decode()
    parts = [f'<image x="{x}" y="{y}" width="{ZOOM}" height="{ZOOM}" preserveAspectRatio="none" '
             f'href="data:image/png;base64,{image}"><title>{escape(label)}</title></image>']
    for index, (name, probability) in enumerate(probabilities.items()):
        top = y + index * 15
        color, weight = (ours, ' font-weight="600"') if name == predicted else (others, "")
        fill = text if name == predicted else faint
        parts += [f'<text x="{x + ZOOM + 60}" y="{top + 11}" text-anchor="end" fill="{fill}"{weight}>{escape(name)}</text>',
                  f'<rect x="{x + ZOOM + 64}" y="{top + 3}" width="{max(1.0, probability * 50):.1f}" height="9" rx="1.5" '
                  f'fill="{color}"/>']
    return parts


def picture(images: list[list[int]], labels: list[str], predictions: list[dict[str, float]], theme: str) -> str:
    """The SVG."""
    rows = -(-len(images) // COLUMNS)
    width, height = COLUMNS * CELL_WIDTH, rows * CELL_HEIGHT - (CELL_HEIGHT - ZOOM)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
             f'role="img" {FONT} font-size="11">',
             "<title>Predicted probabilities for eight synthetic faces</title>"]
    for index, (pixels, label, probabilities) in enumerate(zip(images, labels, predictions)):
        x, y = index % COLUMNS * CELL_WIDTH, index // COLUMNS * CELL_HEIGHT
        parts += cell(x, y, pixels, label, probabilities, theme)
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    if not GRIMACE.exists():
        print("readme_images: build first: make build", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as work:
        data, out, table = Path(work) / "data", Path(work) / "run", Path(work) / "predictions.csv"
        run("data", "synth", "--out", data)
        run("train", "configs/notebook.toml", "--set", f"data.train={data}/my_emotion_train.csv", "--set",
            "train.epochs=15", "--out", out)
        run("predict", out, "--data", data / "my_emotion_test.csv", "--probabilities", "--out", table)
        predictions = read(table)
        classes = [name for name in predictions[0] if name not in ("id", "emotion")]
        images = [[int(pixel) for pixel in row["pixels"].split()] for row in read(data / "my_emotion_test.csv")]
        labels = [classes[int(row["emotion"])] for row in read(data / "my_emotion_test_labels.csv")]
    probabilities = [{name: float(row[name]) for name in classes} for row in predictions]
    for theme in COLORS:
        path = ROOT / f"docs/img/predictions-{theme}.svg"
        path.write_text(picture(images, labels, probabilities, theme), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
