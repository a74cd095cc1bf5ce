"""Golden values of Pillow's conversion to gray and resizing.

    pip install -r scripts/golden/requirements.txt
    python scripts/golden/pillow_resize.py tests/golden        # makes pillow_resize.json

Made with Pillow 13.0.0.

Each case is a picture of `width` x `height` pixels and `channels` channels, whose values are
`floor(256 * unit(i, key))` in the order of rows, columns, channels (`unit` of formulas.py), smoothed
over its neighbors in the row: the mean of 4 values, rounded down. `face` holds the 2304 values of
`Image.convert("L").resize((48, 48), Image.Resampling.BILINEAR)`, row-major, separated by spaces.
"""
import os
import sys

import numpy as np
from PIL import Image

from formulas import unit, write

CASES = [(48, 48, 3), (96, 96, 1), (224, 224, 3), (100, 73, 1), (31, 57, 3), (48, 200, 1), (7, 5, 1)]


def picture(width, height, channels, key):
    """The picture of a case, uint8 [height, width, channels]."""
    values = np.floor(256 * unit(width * height * channels, key)).reshape(height, width, channels).astype(np.int64)
    padded = np.pad(values, ((0, 0), (0, 3), (0, 0)), mode="wrap")
    return (sum(padded[:, shift:shift + width] for shift in range(4)) // 4).astype(np.uint8)


def main(folder):
    cases = []
    for key, (width, height, channels) in enumerate(CASES, start=1):
        pixels = picture(width, height, channels, key)
        image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
        face = np.asarray(image.convert("L").resize((48, 48), Image.Resampling.BILINEAR))
        cases.append({"width": width, "height": height, "channels": channels, "key": key,
                      "face": " ".join(map(str, face.ravel().tolist()))})
    write(os.path.join(folder, "pillow_resize.json"), {"cases": cases})


if __name__ == "__main__":
    main(sys.argv[1])
