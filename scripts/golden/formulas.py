"""Deterministic inputs, shared by the golden-value scripts in this folder.

Nothing here calls a math library: only wrapping u32 arithmetic, and f64 `+ - * /`,
`sqrt` and `floor`, which IEEE 754 rounds exactly. Another language gets the same bits
if it keeps the order of operations and does not fuse multiply-adds. src/testing.rs
implements the same formulas.

The hash, on u32 with every operation wrapping (modulo 2^32):

    hash(i, k):
        x = i + k * 0x9E3779B9
        x ^= x >> 16;  x *= 0x7FEB352D
        x ^= x >> 15;  x *= 0x846CA68B
        x ^= x >> 16
        return x

    unit(i, k)   = hash(i, k) as f64 / 4294967296.0        in [0, 1)
    signed(i, k) = 2.0 * unit(i, k) - 1.0                  in [-1, 1)

Image n (0, 1, 2, ...), pixel at row r and column c, 48x48, u8:

    x = c as f64 - 23.5,  y = r as f64 - 23.5
    dx = ((5 * n) % 7) as f64 - 3.0
    dy = ((3 * n) % 5) as f64 - 2.0
    wide = 5.0 + (n % 4) as f64
    blob(cx, cy, sx, sy):
        u = (x - cx) / sx;  w = (y - cy) / sy
        return 1.0 / (1.0 + u * u + w * w)                 left to right
    v = 30.0
    v = v + 190.0 * blob(dx, dy, 17.0, 21.0)               the head
    v = v - 80.0 * blob(dx - 8.0, dy - 6.0, 4.0, 2.5)      the left eye
    v = v - 80.0 * blob(dx + 8.0, dy - 6.0, 4.0, 2.5)      the right eye
    v = v + 35.0 * blob(dx, dy + 1.0, 2.0, 6.0)            the nose
    v = v - 70.0 * blob(dx, dy + 11.0, wide, 2.0)          the mouth
    v = v + 36.0 * (unit(48 * r + c, 1000 + n) - 0.5)      the texture
    pixel = floor(v), clamped to 0..255

Label of image n: (3 * n) % 7.
"""
import json
import pathlib

import numpy as np

SIDE = 48


def hashed(count, k, start=0):
    """hash(start), hash(start + 1), ... as a u32 array."""
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(start, start + count, dtype=np.uint64) + np.uint64(k * 0x9E3779B9 & 0xFFFFFFFF)) & mask
    x ^= x >> np.uint64(16)
    x = x * np.uint64(0x7FEB352D) & mask
    x ^= x >> np.uint64(15)
    x = x * np.uint64(0x846CA68B) & mask
    return x ^ (x >> np.uint64(16))


def unit(count, k, start=0):
    return hashed(count, k, start).astype(np.float64) / 4294967296.0


def signed(count, k, start=0):
    return 2.0 * unit(count, k, start) - 1.0


def image(n):
    """Image n, u8 [48, 48]."""
    column = np.arange(SIDE, dtype=np.float64)[None, :]
    row = np.arange(SIDE, dtype=np.float64)[:, None]
    x, y = column - 23.5, row - 23.5
    dx, dy, wide = float(5 * n % 7) - 3.0, float(3 * n % 5) - 2.0, 5.0 + float(n % 4)

    def blob(cx, cy, sx, sy):
        u, w = (x - cx) / sx, (y - cy) / sy
        return 1.0 / (1.0 + u * u + w * w)

    v = 30.0
    v = v + 190.0 * blob(dx, dy, 17.0, 21.0)
    v = v - 80.0 * blob(dx - 8.0, dy - 6.0, 4.0, 2.5)
    v = v - 80.0 * blob(dx + 8.0, dy - 6.0, 4.0, 2.5)
    v = v + 35.0 * blob(dx, dy + 1.0, 2.0, 6.0)
    v = v - 70.0 * blob(dx, dy + 11.0, wide, 2.0)
    v = v + 36.0 * (unit(SIDE * SIDE, 1000 + n).reshape(SIDE, SIDE) - 0.5)
    return np.clip(np.floor(v), 0, 255).astype(np.uint8)


def label(n):
    return 3 * n % 7


def probe():
    """A few values of each formula, stored in the golden files to check a port."""
    return {
        "hash_0_0": int(hashed(1, 0)[0]), "hash_1_0": int(hashed(1, 0, 1)[0]),
        "hash_524287_18": int(hashed(1, 18, 524287)[0]),
        "image_sums": [int(image(n).astype(int).sum()) for n in range(8)],
        "image_0_row_20": image(0)[20].tolist(),
    }


def digits(values, count=9):
    """A flat list of floats, rounded to `count` significant digits."""
    return [float(f"{float(v):.{count}g}") for v in np.asarray(values, dtype=np.float64).reshape(-1)]


def write(path, content):
    """Writes JSON with one line per field, and one line per record in a list of records."""
    lines = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            body = "[\n" + ",\n".join("    " + json.dumps(v) for v in value) + "\n  ]"
        else:
            body = json.dumps(value)
        lines.append(f"  {json.dumps(key)}: {body}")
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {path} ({path.stat().st_size} bytes)")
