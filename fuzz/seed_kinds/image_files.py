"""Packed files and pictures."""

import io
import json
import struct
import zlib

from PIL import Image


def packed() -> dict[str, bytes]:
    """The mode (0: the file; 1: the index, then a line for each section), then the content."""

    def built(*sections: str, **more: object) -> bytes:
        index = {"written_by": "seeds.py", "images": 2, "file_rows": 2, "classes": ["a", "b"]} | more
        return ("1" + "\n".join([json.dumps(index, separators=(",", ":")), *sections])).encode()

    images = ("pixels @1 @2", "hashes #1 #2")
    labels = "labels b0 b1"
    return {
        "complete": built(*images, labels, "ids U1 U3 abc", "usages U8 U8 Training", "groups U0 U1 x", group="age"),
        "labels": built(*images, labels),
        "test-images": built(*images, "ids U1 U2 ab", classes=[]),
        "rows": built(*images, labels, "rows u1 u5", file_rows=6),
        "rows-backwards": built(*images, labels, "rows u5 u1", file_rows=6),
        "rows-after-the-last": built(*images, labels, "rows u0 u2"),
        "votes": built(*images, labels, "votes f0.25 f0.75 f0 f0"),
        "votes-alone": built(*images, "votes f0.25 f0.75 f0 f1"),
        "votes-negative": built(*images, "votes f-1 f2 f0 fnan"),
        "unknown-label": built(*images, "labels b0 b9"),
        "wrong-hash": built("pixels @1 @2", "hashes #1 #3", labels),
        "wrong-checksum": built(*images, "!labels b0 b1"),
        "no-hashes": built("pixels @1 @2", labels),
        "no-pixels": built("hashes #1 #2", labels),
        "too-few-pixels": built("pixels @1", "hashes #1 #2"),
        "section-twice": built(*images, labels, labels),
        "unknown-section": built(*images, "faces b0 b1"),
        "ids-backwards": built(*images, "ids U3 U1 abc"),
        "ids-too-long": built(*images, "ids U1 U18446744073709551615 abc"),
        "ids-not-utf-8": built(*images, "ids U1 U2 b255 b254"),
        "no-images": built("pixels ", "hashes ", images=0, file_rows=0),
        "one-class": built(*images, labels, classes=["a"]),
        "odd-classes": built(*images, labels, classes=["a,b", ""]),
        "group-without-name": built(*images, "groups U0 U1 x"),
        "name-without-groups": built(*images, group="age"),
        "own-sections": built(*images, sections=[{"kind": "pixels", "start": 0, "length": 4608}]),
        "far-sections": built(sections=[{"kind": "pixels", "start": (1 << 64) - 1, "length": 4608}]),
        "not-an-index": b"1[]",
        "empty": b"0",
        "magic": b"0\x89FACES\r\n",
        "zeros": b"0" + bytes(100),
        "newer": b"0\x89FACES\r\n\x02" + bytes(60),
        "truncated": b"0\x89FACES\r\n\x01" + bytes(20),
        "csv": b"0emotion,pixels\n",
    }


def picture() -> dict[str, bytes]:
    """Files of 20 x 12 pixels or fewer, written by Pillow."""
    gray = Image.linear_gradient("L").resize((20, 12))
    color = Image.merge("RGB", [gray, gray.transpose(Image.Transpose.FLIP_LEFT_RIGHT), gray])
    alpha = Image.merge("RGBA", [*color.split(), gray])

    def saved(image: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    files = {
        "jpeg": saved(color, "JPEG"),
        "jpeg-gray": saved(gray, "JPEG"),
        "jpeg-turned": saved(color, "JPEG", exif=turned),
        "jpeg-progressive": saved(color, "JPEG", progressive=True),
        "jpeg-cmyk": saved(color.convert("CMYK"), "JPEG"),
        "png": saved(color, "PNG"),
        "png-gray": saved(gray, "PNG"),
        "png-alpha": saved(alpha, "PNG"),
        "png-palette": saved(color.quantize(4), "PNG"),
        "png-bits": saved(gray.convert("1"), "PNG"),
        "png-16-bit": saved(gray.convert("I;16"), "PNG"),
        "bmp": saved(color, "BMP"),
        "bmp-gray": saved(gray, "BMP"),
        "webp": saved(color, "WEBP", quality=20),
        "webp-lossless": saved(alpha, "WEBP", lossless=True),
        "tiff": saved(gray, "TIFF"),
        "tiff-lzw": saved(color, "TIFF", compression="tiff_lzw"),
        "pgm": saved(gray, "PPM"),
        "ppm": saved(color, "PPM"),
        "pgm-text": b"P2 3 2 255\n0 1 2\n3 4 255\n",
        "text": b"not a picture\n",
        "gif": saved(gray, "GIF"),
        "empty": b"",
    }
    files["png-truncated"] = files["png"][:-20]
    files["jpeg-truncated"] = files["jpeg"][:-40]
    # A header of 30,000 x 30,000 pixels.
    files["png-large"] = files["png-gray"][:16] + struct.pack(">II", 30000, 30000) + files["png-gray"][24:]
    # A color profile that inflates to 4 MiB, after the header.
    profile = b"iCCPx\0\0" + zlib.compress(bytes(4 << 20), 9)
    profile = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    files["png-profile"] = files["png-gray"][:33] + profile + files["png-gray"][33:]
    # EXIF data that claims to have 4 GiB, at the end of an extended file.
    extended = b"VP8X" + struct.pack("<IBxxxHxHx", 10, 0x18, 19, 11) + files["webp-lossless"][12:]
    extended = b"WEBP" + extended + b"EXIF" + struct.pack("<I", 0xFFFFFFF0) + b"MM\0*"
    files["webp-long-exif"] = b"RIFF" + struct.pack("<I", len(extended)) + extended
    return files
