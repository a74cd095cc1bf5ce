#!/usr/bin/env python3
"""Launches and host time of a training step on the simulated device B, of Grimace and PyTorch in turn.

    scripts/gpu/launches.py [--rounds 5] [--program target/release/grimace]

The notebook's CNN at batch 64 in float32 and bf16: Grimace step by step and as a CUDA graph, and the
eager step of PyTorch with the same work: augmentation on the device, channels_last, fused Adam. The
device computes nothing and has no driver, so the time is what libtorch and the program spend on the
host. Prints a Markdown table: launches of a typical step, median and range over the rounds of the
best step's milliseconds.

Build the device's launcher first: cargo build --release -p cuda-sim
"""
import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS = 60


def peer(precision):
    """Trains in PyTorch on the simulated device; the counts are in its report."""
    # Programs that torch starts would load the simulated libraries too, and overwrite the report.
    os.environ.pop("LD_PRELOAD", None)
    import torch
    import torch.nn.functional as F
    from torch_peer import augment, network

    begin_step = ctypes.CDLL("libcudart.so.13", mode=ctypes.RTLD_GLOBAL).sim_step
    device = torch.device("cuda")
    net = network().to(device).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    faces = torch.randint(0, 256, (4096, 1, 48, 48), dtype=torch.uint8).to(device)
    labels = torch.randint(0, 7, (4096,)).to(device)

    for _ in range(STEPS):
        begin_step()
        pick = torch.randint(0, 4096, (64,), device=device)
        x = augment(faces[pick].float() / 255).to(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(x)
        loss = F.cross_entropy(logits.float(), labels[pick])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
    begin_step()


def shown(value):
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def run(command, folder):
    report = Path(folder) / "report.json"
    simulated = [ROOT / "target/release/cuda-sim", "b", *command]
    subprocess.run(simulated, check=True, cwd=folder, env={**os.environ, "CUDA_SIM_REPORT": str(report)},
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    segments = json.loads(report.read_text())["segments"]
    # Steps without a wait, after the warmup: of an epoch's last step the rest is its end.
    steps = [segment for segment in segments[10:-1] if segment["syncs"] == 0]
    counts = sorted(segment["launches"] for segment in steps)
    return counts[len(counts) // 2], 1e3 * min(segment["seconds"] for segment in steps)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--program", type=Path, default=ROOT / "target/release/grimace")
    arguments.add_argument("--peer", choices=["f32", "bf16"], help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.peer:
        return peer(args.peer)
    program = args.program.resolve()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "data", "synth", "--out", "faces", "--train", "4000", "--test", "10"], check=True,
                       cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        number = 0

        def grimace(precision, graph):
            nonlocal number
            number += 1
            sets = ["data.train=faces/my_emotion_train.csv", "device=cuda:0", f"precision={precision}",
                    f"train.cuda_graph={graph}", "train.epochs=2", "train.early_stop.patience=0"]
            options = [word for text in sets for word in ("--set", text)]
            return [program, "train", ROOT / "configs/notebook.toml", *options, "--out", f"run{number}"]

        # Python's libtorch is not visible to the library that marks Grimace's steps.
        shell = 'LD_PRELOAD=${LD_PRELOAD#*:} exec "$@"'
        programs = {"PyTorch eager": lambda precision: ["sh", "-c", shell, "peer", sys.executable, __file__, "--peer",
                                                       precision],
                    "Grimace": lambda precision: grimace(precision, "false"),
                    "Grimace, CUDA graph": lambda precision: grimace(precision, "true")}
        results = {}
        for _ in range(args.rounds):
            for precision in ["f32", "bf16"]:
                for name, command in programs.items():
                    results.setdefault((precision, name), []).append(run(command(precision), folder))
    print("| precision | program | launches a step | host ms a step | PyTorch's time over it |")
    print("| --- | --- | --: | --: | --: |")
    for (precision, name), measured in results.items():
        times = sorted(milliseconds for _, milliseconds in measured)
        ratios = sorted(other / own for (_, other), (_, own) in zip(results[precision, "PyTorch eager"], measured))
        middle = len(times) // 2
        print(f"| {precision} | {name} | {measured[0][0]} | {times[middle]:.3g} ({times[0]:.3g}–{times[-1]:.3g}) | "
              f"{shown(ratios[middle])} ({shown(ratios[0])}–{shown(ratios[-1])}) |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
