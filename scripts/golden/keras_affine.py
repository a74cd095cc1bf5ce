"""Golden values of Keras' random affine transform, for fixed parameters.

    pip install -r scripts/golden/requirements.txt
    python scripts/golden/keras_affine.py tests/golden        # makes keras_affine.json

Made with keras 3.15.1 on tensorflow 2.21.0, scipy 1.17.1, torch 2.11.0, numpy 2.4.6.

What is recorded is `ImageDataGenerator(fill_mode="nearest", interpolation_order=1)
.apply_transform(image, parameters)` on a 48x48x1 float32 image whose values are the
bytes of `face(n)` (formulas.py gives the formula). `result_x100` holds the 2304
results, row by row, each multiplied by 100 and rounded to an integer, joined by
spaces: a value is exact to 0.005 of a grey level.

The formula that the results obey, in centred pixels (x = column - 23.5,
y = row - 23.5): an output pixel p_out takes the bilinear value, with positions
held within the edges, at

    p_in = R(a) (Z F p_out + t)
    R = [[cos a, -sin a], [sin a, cos a]],  Z = diag(zoom_x, zoom_y),
    F = diag(-1, 1) when flipped, else diag(1, 1),  t = (shift_x, shift_y)

with Keras' parameters taken as they are:

    a = theta (degrees, same sign),  zoom_x = zx,  zoom_y = zy,
    shift_x = tx,  shift_y = ty,  flip = flip_horizontal

for the default channels_last layout. Keras multiplies rotation, shift and zoom in
that order as if rows were x, but then exchanges the two axes of the matrix, so its
"x" is the column in the end. Hence what get_random_transform draws from
height_shift_range (tx, as a fraction of the rows) moves columns, what it draws from
width_shift_range (ty) moves rows, zx scales columns and zy scales rows. All of it is
a map from output to input: a positive tx makes the picture move to the left by
tx (when nothing else is set), and a zoom below 1 makes it larger.

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

from formulas import SIDE, face, probe, write

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
SECOND_FACE = ("all", "extreme_flip")  # the other sets are applied to face 0


def by_keras(image, theta, tx, ty, zx, zy, flip):
    generator = ImageDataGenerator(fill_mode="nearest", interpolation_order=1)
    parameters = {"theta": theta, "tx": tx, "ty": ty, "zx": zx, "zy": zy, "shear": 0, "flip_horizontal": flip}
    return generator.apply_transform(image[:, :, None].copy(), parameters)[:, :, 0]


def map_of(theta, tx, ty, zx, zy, flip):
    """The 2x2 part R Z F and the offset R t of the formula above."""
    a = math.radians(theta)
    r = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    return r @ np.diag([zx, zy]) @ np.diag([-1.0 if flip else 1.0, 1.0]), r @ np.array([tx, ty])


def positions(matrix, offset):
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return (matrix[0, 0] * x + matrix[0, 1] * y + offset[0] + (SIDE - 1) / 2,
            matrix[1, 0] * x + matrix[1, 1] * y + offset[1] + (SIDE - 1) / 2)


def by_hand(image, matrix, offset):
    """Bilinear with clamped positions, in plain numpy, f64."""
    column, row = (np.clip(p, 0, SIDE - 1) for p in positions(matrix, offset))
    c0, r0 = np.floor(column).astype(int), np.floor(row).astype(int)
    c1, r1 = np.minimum(c0 + 1, SIDE - 1), np.minimum(r0 + 1, SIDE - 1)
    fc, fr = column - c0, row - r0
    v = image.astype(np.float64)
    top = v[r0, c0] * (1 - fc) + v[r0, c1] * fc
    bottom = v[r1, c0] * (1 - fc) + v[r1, c1] * fc
    return top * (1 - fr) + bottom * fr


def by_scipy(image, matrix, offset):
    column, row = positions(matrix, offset)
    return scipy.ndimage.map_coordinates(image.astype(np.float64), [row, column], order=1, mode="nearest")


def by_torch(image, matrix, offset, kind):
    theta = torch.tensor(np.column_stack([matrix, offset * 2 / SIDE]), dtype=kind)[None]
    grid = F.affine_grid(theta, (1, 1, SIDE, SIDE), align_corners=False)
    out = F.grid_sample(torch.tensor(image, dtype=kind)[None, None], grid, mode="bilinear",
                        padding_mode="border", align_corners=False)
    return out[0, 0].double().numpy()


def main(folder):
    records, worst = [], {}
    for name, parameters in SETS.items():
        theta, tx, ty, zx, zy, flip = parameters
        n = int(name in SECOND_FACE)
        image = face(n).astype(np.float32)
        golden = by_keras(image, *parameters)
        matrix, offset = map_of(*parameters)
        for way, other in (
            ("numpy f64", by_hand(image, matrix, offset)),
            ("scipy f64", by_scipy(image, matrix, offset)),
            ("torch grid_sample f32", by_torch(image, matrix, offset, torch.float32)),
            ("torch grid_sample f64", by_torch(image, matrix, offset, torch.float64)),
            ("f64 Keras", by_keras(image.astype(np.float64), *parameters)),
        ):
            gap = float(np.abs(other - golden).max())
            worst[way] = max(worst.get(way, 0.0), gap)
            print(f"{name:15} face {n}  {way:22} greatest difference {gap:.3g} grey levels")
        values = [int(round(float(v) * 100)) for v in golden.reshape(-1)]
        records.append({
            "name": name, "face": n,
            "keras": {"theta": theta, "tx": tx, "ty": ty, "zx": zx, "zy": zy, "flip_horizontal": flip},
            "mapped": {"a_degrees": theta, "zoom_x": zx, "zoom_y": zy, "shift_x_px": tx, "shift_y_px": ty,
                       "flip": flip},
            "result_x100": " ".join(map(str, values)),
        })
    print("greatest difference to Keras over all records, in grey levels (1/255 of the range):", worst)
    assert worst["numpy f64"] < 1e-6 * 255 and worst["scipy f64"] < 1e-6 * 255
    assert worst["torch grid_sample f64"] < 1e-6 * 255
    assert worst["torch grid_sample f32"] < 1e-5 * 255
    write(os.path.join(folder, "keras_affine.json"), {
        "made_by": f"scripts/golden/keras_affine.py, keras {keras.__version__}, tensorflow {tf.__version__}, "
                   f"scipy {scipy.__version__}, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}",
        "probe": probe(),
        "greatest_difference_grey_levels": {way: float(f"{gap:.3g}") for way, gap in worst.items()},
        "records": records,
    })


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
