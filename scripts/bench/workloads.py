"""Metrics of the record network, of inference, and of a machine that is shared."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from . import measure
from .measure import Child, Failed, Setup

RECORD = "configs/best/cpu.toml"
RECORD_BATCH = 128            # that config's
RECORD_ROWS = 3200            # 2,560 for training: 20 steps
SWEEP_EPOCHS = 3
RECORD_STEPS = 12             # timed steps of the PyTorch peer
CONFIGS = {"notebook": "configs/notebook.toml", "record": RECORD}
RUNTIMES = ["Grimace", "PyTorch TorchScript", "ONNX Runtime"]


def record(setup: Setup, precision: str) -> tuple[list[dict], Child]:
    """Images per second of the record network at its full size of 48 pixels, in its second epoch."""
    few = measure.head(setup.train, RECORD_ROWS, setup.work / "record.csv")
    overrides = {"train.progressive.from": 48}
    return measure.grimace(setup, precision, batch=RECORD_BATCH, csv=few, config=RECORD, overrides=overrides)


def torch_record(setup: Setup) -> tuple[list[dict], Child]:
    """Images per second of the same network, augmentation and optimizer in PyTorch."""
    flags = ["--network", "record", "--batch", str(RECORD_BATCH), "--steps", str(RECORD_STEPS), "--warmup", "3"]
    return measure.torch_variants(setup, flags + ["--threads", str(setup.threads)], setup.compiled)


@contextmanager
def busy_core():
    """Another program that computes all the time."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def shared(run) -> tuple[list[dict], Child]:
    """The metrics of `run` beside one busy process."""
    with busy_core():
        metrics, child = run()
    child.others = None           # the busy process is no disturbance
    return metrics, child


def sweep(setup: Setup, processes: int) -> tuple[list[dict], Child]:
    """Seconds of a sweep over two seeds of the notebook's CNN in one process or two."""
    out = setup.work / "sweep"
    shutil.rmtree(out, ignore_errors=True)
    overrides = {"train.epochs": SWEEP_EPOCHS, "precision": setup.auto_precision, "data.train": str(setup.train),
                 "data.validation": str(setup.validation) if setup.validation else 0.2, "device": "cpu"}
    command: list[str | Path] = [setup.grimace, "sweep", measure.NOTEBOOK, "--seeds", "2", "--parallel", str(processes),
                                 "--out", out]
    for key, value in overrides.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    child = measure.run_child(command, setup.root)
    if child.code != 0:
        raise Failed(measure.reason(child))
    return [{"program": f"--parallel {processes}", "seconds": round(child.seconds, 2)}], child


def images_of(setup: Setup, images: int) -> Path:
    """The first `images` test images."""
    return measure.head(setup.test, images, setup.work / f"images-{images}.csv")


def trained(setup: Setup, network: str) -> Path:
    """A run of `network`, with exports beside it. Time does not depend on the weights, so a few images
    are enough; the schedule of the record network needs two epochs."""
    run = setup.work / f"inference-{network}"
    if (run / "model.onnx").exists():
        return run
    few = measure.head(setup.train, 640, setup.work / "few.csv")
    # What a failure has left is no run to add to.
    shutil.rmtree(run, ignore_errors=True)
    commands = [measure.train_command(setup, run, CONFIGS[network], {"train.epochs": 2}, few, [])]
    commands += [[setup.grimace, "export", run, "--out", run / name, "--force"] for name in ("model.pt", "model.onnx")]
    for command in commands:
        child = measure.run_child(command, setup.root)
        if child.code != 0:
            raise Failed(measure.reason(child))
    return run


def inference(setup: Setup, network: str, images: int, program: str) -> tuple[list[dict], Child]:
    """Seconds from the start of a process to its end, with the probabilities of `images` images in a
    CSV."""
    run, csv, out = trained(setup, network), images_of(setup, images), setup.work / "probabilities.csv"
    if program == "Grimace":
        child = measure.run_child([setup.grimace, "predict", run, "--data", csv, "--out", out, "--force",
                                   "--probabilities"], setup.root)
    else:
        model = run / ("model.pt" if "TorchScript" in program else "model.onnx")
        child = measure.peer(setup, "predict.py", model, csv, out, "--threads", str(setup.threads))
    if child.code != 0:
        raise Failed(measure.reason(child))
    return [{"program": program, "seconds": round(child.seconds, 3), "peak_bytes": child.peak_bytes}], child


def inference_stages(test_rows: int) -> list[tuple[str, str, int]]:
    """Stage, network and number of images."""
    return [(f"{network}, {images:,} {'image' if images == 1 else 'images'}", network, images)
            for network in CONFIGS for images in (test_rows, 1)]


def instruction_set(doctor: dict) -> str:
    """A name for the instruction set of the kernels, for files: `avx512-bf16`, `avx2`, `none`."""
    words = [word for word in doctor["custom_kernels"].split(", ") if not word.startswith("Winograd")]
    return "-".join(word.lower().replace("-", "") for word in words)
