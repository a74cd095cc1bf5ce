#!/usr/bin/env python3
"""Writes the pages that examples/measure.rs scores: real FER2013 faces pasted into larger pictures.

  pip install numpy pillow scikit-image
  python scripts/pages.py FER2013.csv OUT [--pages 4] [--split fit|test] [--photos FILE...]

Each page is OUT/NAME.pgm (or .ppm) and OUT/NAME.txt, one pasted square per line: x y side.
NAME is BACKGROUND-SIZE-NUMBER. A page holds 48 faces (fewer above 192 pixels, so that a page
stays below 2400 x 2400). Faces come from the PublicTest rows: `fit` takes every even row, `test` every odd one,
so the margin is never measured on the faces that chose it. `test` also writes turned faces, scikit-image's
astronaut in several copies, its pictures without faces (none-NAME), and --photos as shot-NAME.
"""
import argparse
import csv
import os

import numpy as np
import skimage
from PIL import Image

SIZES = [32, 48, 64, 96, 128, 192, 384]
PHOTOS = ["coffee.png", "chelsea.png", "rocket.jpg", "grass.png", "gravel.png", "brick.png", "ihc.png",
          "hubble_deep_field.jpg", "motorcycle_left.png", "coins.png", "page.png", "text.png", "moon.png"]


def data(name):
    """A picture that ships inside scikit-image, or None in releases that leave it out."""
    path = os.path.join(os.path.dirname(skimage.__file__), "data", name)
    return Image.open(path) if os.path.exists(path) else None


def faces(path, parity):
    with open(path, newline="") as f:
        rows = [r["pixels"] for r in csv.DictReader(f) if r["Usage"] == "PublicTest"]
    return [np.array(p.split(), np.uint8).reshape(48, 48) for p in rows[parity::2]]


def background(kind, w, h, rng):
    if kind == "plain":
        return np.full((h, w), int(rng.integers(60, 200)), np.uint8)
    if kind == "noise":  # smooth noise: four octaves of random grids, enlarged
        total = np.zeros((h, w))
        for octave in range(4):
            n = 4 * 2**octave * 2
            grid = Image.fromarray(rng.uniform(0, 255, (n, n)).astype(np.float32))
            total += np.asarray(grid.resize((w, h), Image.BICUBIC)) / 2**octave
        return np.clip(total / 1.875, 0, 255).astype(np.uint8)
    photos = [p for p in PHOTOS if data(p) is not None]
    picture = data(photos[int(rng.integers(len(photos)))]).convert("L")
    scale = max(w / picture.width, h / picture.height)
    big = picture.resize((int(np.ceil(picture.width * scale)), int(np.ceil(picture.height * scale))), Image.BICUBIC)
    return np.asarray(big)[:h, :w].copy()


def page(kind, size, pool, rng, angle=0):
    columns, rows = (8, 6) if size <= 192 else (4, 3)
    gap = max(8, size // 4)
    cell = size + gap
    w, h = columns * cell + gap, rows * cell + gap
    canvas, truth = background(kind, w, h, rng), []
    for i in range(columns * rows):
        face = Image.fromarray(pool.pop()).resize((size, size), Image.BICUBIC)
        x = gap + (i % columns) * cell + int(rng.integers(-gap // 4, gap // 4 + 1))
        y = gap + (i // columns) * cell + int(rng.integers(-gap // 4, gap // 4 + 1))
        if angle:
            mask = Image.new("L", (size, size), 255).rotate(angle, Image.BICUBIC)
            under = Image.fromarray(canvas[y:y + size, x:x + size])
            under.paste(face.rotate(angle, Image.BICUBIC), (0, 0), mask)
            face = under
        canvas[y:y + size, x:x + size] = np.asarray(face)
        truth.append((x, y, size))
    return canvas, truth


def write(out, name, picture, truth):
    Image.fromarray(picture).save(os.path.join(out, name + (".pgm" if picture.ndim == 2 else ".ppm")))
    with open(os.path.join(out, name + ".txt"), "w") as f:
        f.writelines(f"{x} {y} {s}\n" for x, y, s in truth)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("csv")
    args.add_argument("out")
    args.add_argument("--pages", type=int, default=4, help="pages for each background and size")
    args.add_argument("--split", choices=["fit", "test"], default="test")
    args.add_argument("--photos", nargs="*", default=[], help="pictures to convert, such as those of npm's face-api")
    args = args.parse_args()
    os.makedirs(args.out, exist_ok=True)
    rng = np.random.default_rng(7 if args.split == "fit" else 8)
    known = faces(args.csv, 0 if args.split == "fit" else 1)
    pool = []

    def make(name, kind, size, angle=0):
        if len(pool) < 48:  # every face is used once before any is used again
            pool[:0] = [known[i] for i in rng.permutation(len(known))]
        write(args.out, name, *page(kind, size, pool, rng, angle))

    for kind in ["plain", "noise", "photo"]:
        for size in SIZES:
            for n in range(args.pages):
                make(f"{kind}-{size}-{n}", kind, size)
    if args.split == "test":
        for angle in [10, 20, 30]:
            for n in range(args.pages):
                make(f"rotated{angle}-96-{n}", "noise", 96, angle if n % 2 else -angle)
        for path in args.photos:
            write(args.out, "shot-" + os.path.splitext(os.path.basename(path))[0], np.asarray(Image.open(path).convert("RGB")), [])
        write(args.out, "shot-camera", np.asarray(data("camera.png")), [])  # a man from the side
        for name in PHOTOS + ["horse.png", "retina.jpg", "cell.png", "color.png", "motorcycle_right.png"]:
            picture = data(name)
            if picture is not None:
                write(args.out, "none-" + name.split(".")[0], np.asarray(picture.convert("RGB")), [])
        astronaut = data("astronaut.png").convert("RGB")
        for name, copy in [("plain", astronaut), ("mirrored", astronaut.transpose(Image.FLIP_LEFT_RIGHT)),
                           ("double", astronaut.resize((1024, 1024), Image.BICUBIC)),
                           ("half", astronaut.resize((256, 256), Image.BICUBIC)),
                           ("gray", astronaut.convert("L")),
                           *[(f"turned{a}", astronaut.rotate(a, Image.BICUBIC)) for a in (-30, -20, -10, 10, 20, 30)]]:
            write(args.out, f"astronaut-{name}", np.asarray(copy), [])


if __name__ == "__main__":
    main()
