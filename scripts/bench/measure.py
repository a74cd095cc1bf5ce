"""Runs one program at a time and reads its metrics: images per second, milliseconds per step,
seconds, bytes."""
from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import machine

LIMIT_S = 3600       # a program that takes longer hangs
BATCH = 64           # the notebook's
NOTEBOOK = "configs/notebook.toml"


@dataclass(frozen=True)
class Setup:
    """Settings shared by all measurements. Paths never reach the results."""
    root: Path
    grimace: Path
    peers_python: Path | None
    peers_error: str | None
    device: str                  # "cpu" or "cuda"
    threads: int
    torch_steps: int             # timed steps of the PyTorch peer at batch 64
    compiled: bool               # whether torch.compile is timed too
    precisions: list[str]        # "f32", "bf16"
    auto_precision: str          # what `precision = "auto"` selects, for stages that run in one only
    train: Path
    validation: Path | None
    test: Path
    work: Path                   # a temporary folder


@dataclass
class Child:
    """How a program exited."""
    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int
    others: float | None         # cores that other work or the hypervisor kept busy meanwhile


class Failed(Exception):
    """A program reported no metrics, or not all of them; `metrics` are those it reported."""

    def __init__(self, reason: str, metrics: list[dict] | None = None) -> None:
        super().__init__(reason)
        self.metrics = metrics or []


def clean(text: str) -> str:
    """A message on one line, without folders and host name: results are published."""
    text = re.sub(r"(?<![\w<.])~?/(?:[^\s:'\",;()/]+/)*([^\s:'\",;()/]+)", r"\1", text)
    if len(socket.gethostname()) > 3:
        text = text.replace(socket.gethostname(), "this machine")
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."


def reason(child: Child) -> str:
    """Why a program failed: its last error line, or else its last line."""
    if child.code < 0:
        return f"killed by {signal.Signals(-child.code).name}"
    lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"error\b|[\w.]*(Error|Exception|Cpp\w+)\b", line)]
    return clean((errors or lines or [f"exit code {child.code}"])[-1])


def run_child(command: list[str | Path], cwd: Path) -> Child:
    """Runs a program until it exits. Peak memory is the kernel's count for the process and the
    children it waited for."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before, start = machine.ticks(), time.monotonic()
        arguments = [str(part) for part in command]
        # A session of its own, so that its children, such as those of a sweep, end with it.
        child = subprocess.Popen(arguments, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                 start_new_session=True)
        timer = threading.Timer(LIMIT_S, os.killpg, (child.pid, signal.SIGKILL))
        timer.start()
        try:
            # wait4, not wait: only it returns the resource usage of this one child.
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise
        finally:
            timer.cancel()
        seconds, after = time.monotonic() - start, machine.ticks()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        stdout, stderr = (file.read().decode(errors="replace") for file in (out, err))
    others = None
    if before and after:
        others = round(max(0.0, after[0] - before[0] - usage.ru_utime - usage.ru_stime) / max(seconds, 1e-9), 2)
    unit = 1 if os.uname().sysname == "Darwin" else 1024     # macOS counts bytes, Linux KiB
    return Child(child.returncode, stdout, stderr, seconds, usage.ru_maxrss * unit, others)


def head(csv: Path, rows: int, out: Path) -> Path:
    """The header and the first `rows` rows of a CSV."""
    with csv.open("rb") as source, out.open("wb") as target:
        for _, line in zip(range(rows + 1), source):
            target.write(line)
    return out


def repeated(csv: Path, times: int, out: Path) -> Path:
    """The rows of a CSV, repeated `times` times."""
    with out.open("wb") as target:
        for time_ in range(times):
            with csv.open("rb") as source:
                header = source.readline()
                if time_ == 0:
                    target.write(header)
                shutil.copyfileobj(source, target, 1 << 20)
                if not ends_with_newline(csv):
                    target.write(b"\n")
    return out


def ends_with_newline(path: Path) -> bool:
    """Whether a file ends with a newline."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def doctor(grimace: Path, root: Path) -> dict:
    """The output of `grimace doctor --json`."""
    child = run_child([grimace, "doctor", "--json"], root)
    if child.code != 0:
        raise Failed(reason(child))
    return json.loads(child.stdout)


def precisions(doctor: dict, device: str) -> list[str]:
    """f32, and bf16 if the device supports it natively."""
    has_bf16 = doctor["cpu_bf16"] if device == "cpu" else doctor["auto_precision"] == "bf16"
    return ["f32", "bf16"] if has_bf16 else ["f32"]


def train_command(setup: Setup, out: Path, config: str, overrides: dict[str, object], csv: Path,
                  extra: list[str]) -> list[str | Path]:
    """`grimace train` on the setup's device, with overridden keys."""
    overrides = {"data.train": str(csv), "data.validation": 0.2,
                 "device": "cuda:0" if setup.device == "cuda" else "cpu", **overrides}
    if setup.validation:
        overrides["data.validation"] = str(setup.validation)
    command: list[str | Path] = [setup.grimace, "train", config, "--out", out, *extra]
    for key, value in overrides.items():
        command += ["--set", f"{key}={json.dumps(value)}"]        # JSON strings and numbers are valid TOML
    return command


def grimace(setup: Setup, precision: str, *, batch: int = BATCH, threads: int | None = None, csv: Path | None = None,
            epochs: int = 2, config: str = NOTEBOOK, overrides: dict[str, object] | None = None,
            ) -> tuple[list[dict], Child]:
    """Metrics of the last epoch of a real training run, which include everything that a step needs."""
    out = setup.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    overrides = {"train.epochs": epochs, "train.batch": batch, "precision": precision,
                 "threads": threads or setup.threads, **(overrides or {})}
    child = run_child(train_command(setup, out, config, overrides, csv or setup.train, []), setup.root)
    if child.code != 0:
        raise Failed(reason(child))
    epoch = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    rows = json.loads((out / "summary.json").read_text())["train_rows"]
    speed = epoch["images_per_second"]
    return [{"program": f"Grimace {precision}", "images_per_second": speed,
             "ms_per_step": round(1e3 * rows / speed / math.ceil(rows / batch), 3), "rows": rows,
             "seconds": round(child.seconds, 2), "peak_bytes": child.peak_bytes}], child


def torch_programs(setup: Setup, compiled: bool) -> list[str]:
    """The variants that scripts/peers/torch_eager.py times, by their names in the results."""
    names = ["fp32", "fp32 channels_last", "bf16 channels_last"]
    if compiled:
        names += ["fp32 compiled", "fp32 channels_last compiled", "bf16 channels_last compiled"]
    return [f"PyTorch {name}" for name in names if "bf16" in setup.precisions or "bf16" not in name]


def json_lines(text: str) -> list[dict]:
    """The JSON objects among the lines of a peer's output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def peer(setup: Setup, script: str, *arguments: str | Path) -> Child:
    """Runs a script of scripts/peers with the peers' Python."""
    if setup.peers_python is None:
        raise Failed(setup.peers_error or "no Python with the peers")
    return run_child([setup.peers_python, setup.root / "scripts/peers" / script, *arguments], setup.root)


def torch(setup: Setup, *, batch: int = BATCH, threads: int | None = None,
          compiled: bool = False) -> tuple[list[dict], Child]:
    """Metrics of the PyTorch peer, all variants in one process. Large batches take fewer steps, at
    least 15."""
    steps = min(setup.torch_steps, max(15, setup.torch_steps * BATCH // batch))
    flags = ["--batch", str(batch), "--steps", str(steps), "--threads", str(threads or setup.threads)]
    return torch_variants(setup, flags, compiled)


def torch_variants(setup: Setup, flags: list[str], compiled: bool) -> tuple[list[dict], Child]:
    """Metrics of scripts/peers/torch_eager.py with these flags."""
    flags = flags + (["--compile"] if compiled else [])
    child = peer(setup, "torch_eager.py", "--device", setup.device, "--precisions", *setup.precisions, *flags)
    metrics = [{"program": re.sub(r"^torch \S+", "PyTorch", line["peer"]),
                "images_per_second": line["images_per_second"], "ms_per_step": line["ms_per_step"]}
               for line in json_lines(child.stdout)]
    if child.code != 0:
        raise Failed(reason(child), metrics)
    return metrics, child


def keras(setup: Setup) -> tuple[list[dict], Child]:
    """Metrics of the notebook's own code."""
    child = peer(setup, "keras_notebook.py", setup.train, "--speed")
    metrics = [{"program": "Keras", "images_per_second": line["images_per_second"], "ms_per_step": line["ms_per_step"]}
               for line in json_lines(child.stdout) if line["peer"] == "keras"]
    if child.code != 0 or not metrics:
        raise Failed(reason(child), metrics)
    return metrics, child


def predict(setup: Setup) -> tuple[list[dict], Child]:
    """Wall-clock seconds of `grimace predict` on the test images."""
    run = setup.work / "predict-run"
    if not (run / "summary.json").exists():
        # Inference time does not depend on the weights, so a few images are enough to train.
        few = head(setup.train, 640, setup.work / "few.csv")
        child = run_child(train_command(setup, run, NOTEBOOK, {"train.epochs": 1}, few, []), setup.root)
        if child.code != 0:
            shutil.rmtree(run, ignore_errors=True)
            raise Failed(reason(child))
    device = "cuda:0" if setup.device == "cuda" else "cpu"
    child = run_child([setup.grimace, "predict", run, "--data", setup.test, "--out", setup.work / "submission.csv", "--force",
                       "--device", device], setup.root)
    if child.code != 0:
        raise Failed(reason(child))
    return [{"program": "predict", "seconds": round(child.seconds, 3), "peak_bytes": child.peak_bytes}], child


def start_to_first_step(setup: Setup) -> tuple[float | None, Child]:
    """Seconds from the start of `grimace train` to its first finished step; None if it prints
    none."""
    out = setup.work / "run"
    shutil.rmtree(out, ignore_errors=True)
    child = run_child(train_command(setup, out, NOTEBOOK, {"train.epochs": 1}, setup.train, ["--profile"]), setup.root)
    found = re.search(r"start to first step: ([0-9.]+) s", child.stderr)
    return (float(found.group(1)) if found else None), child


def start(setup: Setup) -> tuple[list[dict], Child]:
    """`start_to_first_step` as a metric."""
    seconds, child = start_to_first_step(setup)
    if seconds is None:
        raise Failed("`grimace train --profile` printed no start to first step" +
                     (f": {reason(child)}" if child.code else ""))
    return [{"program": "start", "seconds": seconds, "peak_bytes": child.peak_bytes}], child
