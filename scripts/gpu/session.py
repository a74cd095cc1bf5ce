"""Runs programs one at a time until a deadline, and keeps their logs."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from bench import measure
from gpu.gpu_monitor import Monitor

ROOT = Path(__file__).resolve().parent.parent.parent
FALLBACK = "CUDA graphs are not used"                              # a warning of `grimace train`
EPOCH = re.compile(r"^epoch +(\d+)/\d+ ")


class OutOfTime(Exception):
    """The deadline came before a measurement was finished."""


class Failed(Exception):
    """A program failed, or reported nothing that can be used."""


def log(text: str) -> None:
    """Progress goes to stderr."""
    print(f"gpu: {text}", file=sys.stderr, flush=True)


@dataclass
class Child:
    """How a program exited, and when it wrote each line to stderr."""
    code: int
    stdout: str
    begin: float                                                   # monotonic
    seconds: float
    lines: list[tuple[float, str]]                                 # monotonic time, line of stderr

    def reason(self) -> str:
        """Why the program failed, on one line."""
        stderr = "\n".join(line for _, line in self.lines)
        return measure.reason(measure.Child(self.code, self.stdout, stderr, self.seconds, 0, None))


@dataclass
class Training:
    """A finished `grimace train`."""
    metrics: list[dict]                                            # the lines of metrics.jsonl
    summary: dict
    seconds: float                                                 # of the whole process
    shown_at: dict[int, float]                                     # epoch: seconds from process start to its line
    fallback: str | None                                           # why CUDA graphs are not used
    gpu: dict = field(default_factory=dict)                        # of Monitor.summary

    def speeds(self) -> list[float]:
        """Images per second of all epochs but the first, which includes warmup; of a run with one
        epoch, that one."""
        return [epoch["images_per_second"] for epoch in self.metrics[1:] or self.metrics]


@dataclass
class Data:
    """The images to train on."""
    path: Path
    few: Path                                                      # the first of them, without Usage
    name: str                                                      # without folders: it is published
    real: bool                                                     # not synthetic
    public_test: bool                                              # has rows with Usage PublicTest


@dataclass
class Session:
    """Everything that the stages share."""
    grimace: Path
    torch_lib: Path | None                                         # the folder lib of PYTHON's torch
    out: Path
    work: Path                                                     # a temporary folder
    device: str
    quick: bool
    simulated: bool                                                # GRIMACE_CUDA_LIBRARY is set
    seeds: int
    deadline: float                                                # monotonic
    reserve_s: float = 0.0                                         # that the peers leave for the record config
    data: Data | None = None
    runs: int = 0
    children: list[subprocess.Popen] = field(default_factory=list)

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def timeout(self, limit_s: float) -> float:
        """Seconds to wait for what takes at most `limit_s` on a GPU. A simulated device computes on
        the CPU, in bf16 slowly on one with AVX2 only."""
        return max(0.1, min(limit_s * (6 if self.simulated else 1), self.left()))

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        """The environment of Grimace, in which it finds libtorch."""
        found = {**os.environ, **(extra or {})}
        if self.torch_lib:
            found["LD_LIBRARY_PATH"] = ":".join(
                [str(self.torch_lib), *filter(None, [found.get("LD_LIBRARY_PATH")])])
        return found

    def start(self, command: list[str | Path], **options) -> subprocess.Popen:
        """Starts a program in a process group of its own, which `kill_all` ends."""
        child = subprocess.Popen([str(part) for part in command], cwd=ROOT, text=True, errors="replace",
                                 start_new_session=True, **options)
        self.children.append(child)
        return child

    def kill(self, child: subprocess.Popen) -> None:
        """Ends a program and its workers."""
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
        if child in self.children:
            self.children.remove(child)

    def kill_all(self) -> None:
        """Ends all programs that still run."""
        for child in list(self.children):
            self.kill(child)

    def run(self, command: list[str | Path], name: str, limit_s: float,
            extra: dict[str, str] | None = None) -> Child:
        """Runs Grimace until it exits. Raises OutOfTime at the deadline, and Failed after `limit_s`, so
        that a program that hangs leaves time for the others."""
        if self.left() <= 0:
            raise OutOfTime
        begin, lines = time.monotonic(), []
        stdout_path = self.work / "stdout"
        with stdout_path.open("w") as stdout:
            child = self.start(command, env=self.environment(extra), stdin=subprocess.DEVNULL, stdout=stdout,
                               stderr=subprocess.PIPE)

        def read() -> None:
            for line in child.stderr:
                lines.append((time.monotonic(), line.rstrip("\n")))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            child.wait(timeout=self.timeout(limit_s))
        except subprocess.TimeoutExpired:
            raise (OutOfTime() if self.left() <= 0 else Failed(f"no result after {limit_s:.0f} s")) from None
        finally:
            seconds = time.monotonic() - begin
            self.kill(child)
            reader.join(timeout=10)
            found = Child(child.returncode, stdout_path.read_text(errors="replace"), begin, seconds, lines)
            self.write_log(name, command, found)
        return found

    def write_log(self, name: str, command: list[str | Path], child: Child) -> None:
        """Writes what a program printed, with seconds since its start, to logs/NAME.log."""
        text = [shlex.join(str(part) for part in command)]
        text += [f"{at - child.begin:8.3f}  {line}" for at, line in child.lines]
        text += [child.stdout.rstrip("\n"), f"exit code {child.code} after {child.seconds:.3f} s", ""]
        (self.out / "logs" / f"{name}.log").write_text("\n".join(text), encoding="utf-8")

    def train(self, config: str, overrides: dict[str, object], name: str, limit_s: float,
              monitor: bool = False, extra: dict[str, str] | None = None) -> Training:
        """`grimace train` with overridden keys and variables `extra`: its results. Raises Failed or
        OutOfTime."""
        self.runs += 1
        folder = self.work / f"run-{self.runs}"
        overrides = {"data.train": str(self.data.path), "device": self.device, **overrides}
        command: list[str | Path] = [self.grimace, "train", f"configs/{config}", "--out", folder]
        for key, value in overrides.items():
            command += ["--set", f"{key}={json.dumps(value)}"]     # JSON strings, numbers and lists are valid TOML
        try:
            with Monitor(self.device, monitor) as gpu:
                child = self.run(command, name, limit_s, extra)
            if child.code != 0:
                raise Failed(child.reason())
            return self._training(folder, child, gpu, name)
        finally:
            if (folder / "metrics.jsonl").exists():                # of a run that was cut short, too
                shutil.copyfile(folder / "metrics.jsonl", self.out / "logs" / f"{name}.jsonl")
            shutil.rmtree(folder, ignore_errors=True)              # up to half a gigabyte of weights

    def _training(self, folder: Path, child: Child, gpu: Monitor, name: str) -> Training:
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
        metrics = [json.loads(line) for line in text.splitlines()]
        if not metrics:
            raise Failed("metrics.jsonl is empty")
        shown = {int(found[1]): at for at, line in child.lines if (found := EPOCH.match(line))}
        fallback = next((line.partition(FALLBACK)[2].strip(": ") for _, line in child.lines if FALLBACK in line), None)
        usage = {}
        if shown:
            usage = gpu.summary(min(shown.values()) - metrics[0]["seconds"], max(shown.values()))
        return Training(metrics, json.loads((folder / "summary.json").read_text(encoding="utf-8")), child.seconds,
                        {epoch: at - child.begin for epoch, at in shown.items()}, fallback, usage)


def attempt(record: dict, what: str, measure: Callable[[], None]) -> bool:
    """Runs a measurement; a failure becomes a line in the record, and the next one runs. Returns
    whether it succeeded."""
    try:
        measure()
        return True
    except (Failed, OSError, ValueError, KeyError, TypeError) as error:
        problem = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        record["problems"].append(f"{what}: {problem}")
        log(f"{what} failed: {problem}")
        return False
