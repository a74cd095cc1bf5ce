#!/usr/bin/env python3
"""Measures the peak memory of reading a CSV of generated images.

    scripts/scale/csv_memory.py GRIMACE [IMAGES] [FOLDER]

Writes a CSV of IMAGES random images (300,000 by default: 2.5 GB) to FOLDER, runs `grimace data check`
and `grimace data pack` on it, and prints the peak of resident memory of each beside the bytes of the
pixels. Exits with 1 if `data check` takes more than these and 256 MiB. Removes its files.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
LIMIT = 256 * MIB


def write_csv(path: Path, images: int) -> None:
    """Random images are of rows from a pool, so that no two are likely to be the same."""
    rng = random.Random(42)
    pool = [" ".join(str(rng.randrange(256)) for _ in range(48)) for _ in range(4096)]
    with path.open("w", buffering=MIB) as file:
        file.write("emotion,pixels\n")
        for number in range(images):
            file.write(f"{number % 7},{' '.join(rng.choices(pool, k=48))}\n")


def run(arguments: list[str]) -> tuple[int, float]:
    """Peak of resident memory in KiB, as Linux counts it, and seconds."""
    start = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return usage.ru_maxrss, time.monotonic() - start


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    grimace = sys.argv[1]
    images = int(sys.argv[2]) if len(sys.argv) > 2 else 300_000
    parent = sys.argv[3] if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        csv = Path(folder) / "images.csv"
        write_csv(csv, images)
        pixels = images * 48 * 48
        print(f"{images:,} images: CSV {csv.stat().st_size / MIB:,.0f} MiB, pixels {pixels / MIB:,.0f} MiB")
        empty, _ = run([grimace, "--version"])
        print(f"grimace --version: peak {empty / 1024:,.0f} MiB")
        check, seconds = run([grimace, "data", "check", str(csv)])
        over = check * 1024 - pixels
        print(f"data check: peak {check / 1024:,.0f} MiB, pixels and {over / MIB:,.0f} MiB, {seconds:.1f} s")
        pack, seconds = run([grimace, "data", "pack", str(csv), str(Path(folder) / "images.faces")])
        print(f"data pack: peak {pack / 1024:,.0f} MiB, {seconds:.1f} s")
        if over > LIMIT:
            sys.exit(f"reading took {over / MIB:,.0f} MiB more than the pixels; expected at most 256")


if __name__ == "__main__":
    main()
