#!/usr/bin/env python3
"""Writes the seed inputs in fuzz/corpus: `python3 fuzz/seeds.py`.

fuzz/README.md describes the formats. Inputs found by a fuzzer are beside the seeds, named found-*.
No image is a photograph: each is one digit, 2304 times.
"""

from pathlib import Path

from seed_kinds.checkpoints import checkpoint, forest, weights
from seed_kinds.configs import config
from seed_kinds.image_files import packed, picture
from seed_kinds.tables import archive, csv, labels, soft_labels

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    for seeds in (csv, archive, config, checkpoint, forest, labels, soft_labels, packed, picture, weights):
        folder = CORPUS / seeds.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds().items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
