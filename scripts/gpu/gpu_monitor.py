"""Utilization and memory of the GPU while a program runs, polled with nvidia-smi."""
from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import threading
import time

QUERY = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"]


def is_available() -> bool:
    """Whether there is an nvidia-smi that sees the measured device: a simulated one it does not."""
    return bool(shutil.which("nvidia-smi")) and not os.environ.get("GRIMACE_CUDA_LIBRARY")


def nvidia_index(device: str) -> str:
    """The name that nvidia-smi has for `cuda:N`, with CUDA_VISIBLE_DEVICES taken into account."""
    index = int(device.partition(":")[2] or 0)
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[index] if index < len(visible) else str(index)


def parse(line: str) -> tuple[float, float] | None:
    """Percent and MiB of a line `37, 1024`; None for another line, such as `[N/A], 1024`."""
    parts = line.split(",")
    try:
        return float(parts[0]), float(parts[1])
    except (ValueError, IndexError):
        return None


class Monitor:
    """Polls nvidia-smi every 200 ms from `__enter__` to `__exit__`, if `wanted` and available."""

    def __init__(self, device: str, wanted: bool) -> None:
        self.device = device
        self.wanted = wanted and is_available()
        self.samples: list[tuple[float, float, float]] = []        # monotonic time, percent, MiB
        self.process: subprocess.Popen | None = None
        self.thread: threading.Thread | None = None

    def __enter__(self) -> Monitor:
        if self.wanted:
            try:
                self.process = subprocess.Popen(["nvidia-smi", "-i", nvidia_index(self.device), *QUERY], text=True,
                                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            except OSError:
                return self
            self.thread = threading.Thread(target=self._read, daemon=True)
            self.thread.start()
        return self

    def _read(self) -> None:
        for line in self.process.stdout:
            if sample := parse(line):
                self.samples.append((time.monotonic(), *sample))

    def __exit__(self, *_) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.thread.join(timeout=5)

    def summary(self, begin: float, end: float) -> dict:
        """Mean utilization in percent between two monotonic times, and the max memory in MiB of all
        samples; None where nothing was sampled."""
        busy = [percent for at, percent, _ in self.samples if begin <= at <= end]
        return {"utilization": round(statistics.mean(busy), 1) if busy else None, "utilization_samples": len(busy),
                "peak_mib": max((mib for *_, mib in self.samples), default=None)}
