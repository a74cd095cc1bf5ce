"""Golden values of Keras' random affine transform, for fixed parameters.

    pip install -r scripts/golden/requirements.txt
    python scripts/golden/keras_affine.py tests/golden        # makes keras_affine.json

Made with keras 3.15.1 on tensorflow 2.21.0, scipy 1.17.1, torch 2.11.0, numpy 2.4.6.

Each record is `ImageDataGenerator(fill_mode="nearest", interpolation_order=1)
.apply_transform(image, parameters)` on a float32 [48, 48, 1] image with the values of
`image(n)` in formulas.py. `result_x100` holds the 2304 results in row-major order,
multiplied by 100 and rounded to integers, separated by spaces: a value is exact to
0.005 gray levels.

The formula, in centered pixels (x = column - 23.5, y = row - 23.5): an output pixel
p_out is sampled bilinearly, with positions clamped to the image, at

    p_in = R(a) (Z F p_out + t)
    R = [[cos a, -sin a], [sin a, cos a]],  Z = diag(zoom_x, zoom_y),
    F = diag(-1, 1) when flipped, else diag(1, 1),  t = (shift_x, shift_y)

with Keras' parameters unchanged:

    a = theta (degrees, same sign),  zoom_x = zx,  zoom_y = zy,
    shift_x = tx,  shift_y = ty,  flip = flip_horizontal

for the default channels_last layout. Keras multiplies rotation, shift and zoom in
that order as if rows were x, but then swaps the two axes of the matrix, so its "x" is
the column in the end. Hence tx, which get_random_transform samples from
height_shift_range (a fraction of the rows), shifts columns; ty, sampled from
width_shift_range, shifts rows; zx scales columns and zy scales rows. The transform maps
output to input: a positive tx alone shifts the image left by tx, and a zoom below 1
magnifies it.

As a matrix for torch's affine_grid (square image of side 48, align_corners=False):
theta = [R Z F | (2/48) R t].
"""
import math
import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
import keras
import numpy as np
import scipy
import scipy.ndimage
import tensorflow as tf
import torch
import torch.nn.functional as F
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from formulas import SIDE, image, probe, write

warnings.filterwarnings("ignore", category=DeprecationWarning)

SETS = {  # name: theta, tx, ty, zx, zy, flip
    "identity": (0.0, 0.0, 0.0, 1.0, 1.0, False),
    "rotation_plus": (7.5, 0.0, 0.0, 1.0, 1.0, False),
    "rotation_minus": (-4.25, 0.0, 0.0, 1.0, 1.0, False),
    "shift": (0.0, 2.3, -3.7, 1.0, 1.0, False),
    "zoom": (0.0, 0.0, 0.0, 0.93, 1.07, False),
    "all": (6.0, -1.9, 3.1, 1.06, 0.94, False),
    "all_flip": (-8.0, 3.4, -0.8, 0.95, 1.04, True),
    "extreme": (10.0, 4.8, 4.8, 0.9, 1.1, False),
    "extreme_flip": (-10.0, -4.8, 4.8, 1.1, 0.9, True),
}
ON_IMAGE_1 = ("all", "extreme_flip")  # the other sets are applied to image 0


def by_keras(pixels, theta, tx, ty, zx, zy, flip):
    generator = ImageDataGenerator(fill_mode="nearest", interpolation_order=1)
    parameters = {"theta": theta, "tx": tx, "ty": ty, "zx": zx, "zy": zy, "shear": 0, "flip_horizontal": flip}
    return generator.apply_transform(pixels[:, :, None].copy(), parameters)[:, :, 0]


def affine_matrix(theta, tx, ty, zx, zy, flip):
    """The 2x2 matrix R Z F and the offset R t of the formula above."""
    a = math.radians(theta)
    r = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    return r @ np.diag([zx, zy]) @ np.diag([-1.0 if flip else 1.0, 1.0]), r @ np.array([tx, ty])


def sample_positions(matrix, offset):
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return (matrix[0, 0] * x + matrix[0, 1] * y + offset[0] + (SIDE - 1) / 2,
            matrix[1, 0] * x + matrix[1, 1] * y + offset[1] + (SIDE - 1) / 2)


def by_numpy(pixels, matrix, offset):
    """Bilinear sampling with clamped positions, f64."""
    column, row = (np.clip(p, 0, SIDE - 1) for p in sample_positions(matrix, offset))
    c0, r0 = np.floor(column).astype(int), np.floor(row).astype(int)
    c1, r1 = np.minimum(c0 + 1, SIDE - 1), np.minimum(r0 + 1, SIDE - 1)
    fc, fr = column - c0, row - r0
    v = pixels.astype(np.float64)
    top = v[r0, c0] * (1 - fc) + v[r0, c1] * fc
    bottom = v[r1, c0] * (1 - fc) + v[r1, c1] * fc
    return top * (1 - fr) + bottom * fr


def by_scipy(pixels, matrix, offset):
    column, row = sample_positions(matrix, offset)
    return scipy.ndimage.map_coordinates(pixels.astype(np.float64), [row, column], order=1, mode="nearest")


def by_torch(pixels, matrix, offset, dtype):
    theta = torch.tensor(np.column_stack([matrix, offset * 2 / SIDE]), dtype=dtype)[None]
    grid = F.affine_grid(theta, (1, 1, SIDE, SIDE), align_corners=False)
    out = F.grid_sample(torch.tensor(pixels, dtype=dtype)[None, None], grid, mode="bilinear",
                        padding_mode="border", align_corners=False)
    return out[0, 0].double().numpy()


def main(folder):
    records, worst = [], {}
    for name, parameters in SETS.items():
        theta, tx, ty, zx, zy, flip = parameters
        n = int(name in ON_IMAGE_1)
        pixels = image(n).astype(np.float32)
        golden = by_keras(pixels, *parameters)
        matrix, offset = affine_matrix(*parameters)
        for method, other in (
            ("numpy f64", by_numpy(pixels, matrix, offset)),
            ("scipy f64", by_scipy(pixels, matrix, offset)),
            ("torch grid_sample f32", by_torch(pixels, matrix, offset, torch.float32)),
            ("torch grid_sample f64", by_torch(pixels, matrix, offset, torch.float64)),
            ("f64 Keras", by_keras(pixels.astype(np.float64), *parameters)),
        ):
            gap = float(np.abs(other - golden).max())
            worst[method] = max(worst.get(method, 0.0), gap)
            print(f"{name:15} image {n}  {method:22} max difference {gap:.3g} gray levels")
        values = [int(round(float(v) * 100)) for v in golden.reshape(-1)]
        records.append({
            "name": name, "image": n,
            "keras": {"theta": theta, "tx": tx, "ty": ty, "zx": zx, "zy": zy, "flip_horizontal": flip},
            "mapped": {"a_degrees": theta, "zoom_x": zx, "zoom_y": zy, "shift_x_px": tx, "shift_y_px": ty,
                       "flip": flip},
            "result_x100": " ".join(map(str, values)),
        })
    print("max difference from Keras over all records, in gray levels (1/255 of the range):", worst)
    assert worst["numpy f64"] < 1e-6 * 255 and worst["scipy f64"] < 1e-6 * 255
    assert worst["torch grid_sample f64"] < 1e-6 * 255
    assert worst["torch grid_sample f32"] < 1e-5 * 255
    write(os.path.join(folder, "keras_affine.json"), {
        "made_by": f"scripts/golden/keras_affine.py, keras {keras.__version__}, tensorflow {tf.__version__}, "
                   f"scipy {scipy.__version__}, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}",
        "probe": probe(),
        "max_difference_gray_levels": {method: float(f"{gap:.3g}") for method, gap in worst.items()},
        "records": records,
    })


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
