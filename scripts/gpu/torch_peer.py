#!/usr/bin/env python3
"""The notebook's CNN in PyTorch: images per second of training in bf16, channels_last.

    python torch_peer.py --device cuda:0 --batch 64 --variant compiled --rounds 3

Images are random and stay on the device: speed does not depend on the pixels. A step samples a
batch, augments it with one affine_grid and grid_sample, runs forward, cross entropy and backward, and
updates with fused Adam. Nothing within the timed steps waits for the device.

Variants: `eager`; `compiled` is torch.compile of everything from pixels to loss; `reduce-overhead` is
the same with mode="reduce-overhead", that is, CUDA graphs.

Prints a JSON object when it has warmed up, and one per round. With --wait, each round waits for a
line on stdin, and the end of stdin ends the program.
"""
import argparse
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

IMAGES = 22967                  # the notebook's training rows
WARMUP_STEPS = 20


def network() -> nn.Sequential:
    """The notebook's CNN: 619,463 parameters."""
    layers: list[nn.Module] = []
    for channels, filters in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(filters)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 7))


def augment(images: torch.Tensor) -> torch.Tensor:
    """Rotates by 10 degrees, shifts and zooms by 10%, at most, and flips half of [N, 1, 48, 48]."""
    sample = torch.rand(len(images), 6, device=images.device) * 2 - 1
    angle, zoom_x, zoom_y = sample[:, 0] * (math.pi / 18), 1 + 0.1 * sample[:, 1], 1 + 0.1 * sample[:, 2]
    shift_x, shift_y = 0.2 * sample[:, 3], 0.2 * sample[:, 4]        # the image is 2 wide in affine_grid
    flip = torch.where(sample[:, 5] < 0, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack([flip * zoom_x * cos, -zoom_y * sin, shift_x, flip * zoom_x * sin, zoom_y * cos, shift_y], 1)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class PixelsToLoss(nn.Module):
    """Everything from the pixels of a batch to its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of uint8 pixels [N, 1, 48, 48], augmented."""
        images = augment(pixels.float() / 255).to(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = self.net(images)
        return F.cross_entropy(logits.float(), labels)


class Trainer:
    """Network, optimizer and images on the device."""

    def __init__(self, device: torch.device, batch: int, variant: str) -> None:
        self.device, self.batch, self.variant = device, batch, variant
        loss_of = PixelsToLoss().to(device).to(memory_format=torch.channels_last)
        self.adam = torch.optim.Adam(loss_of.parameters(), 1e-3, fused=True)
        self.images = torch.randint(0, 256, (IMAGES, 1, 48, 48), dtype=torch.uint8, device=device)
        self.labels = torch.randint(0, 7, (IMAGES,), device=device)
        self.loss_of = loss_of
        if variant != "eager":
            mode = "reduce-overhead" if variant == "reduce-overhead" else "default"
            self.loss_of = torch.compile(loss_of, mode=mode, dynamic=False)

    def step(self) -> None:
        """One training step. The images are gathered outside the compiled part: a CUDA graph would
        copy all of them at every step."""
        if self.variant == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        rows = torch.randint(0, IMAGES, (self.batch,), device=self.device)
        loss = self.loss_of(self.images[rows], self.labels[rows])
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()

    def seconds(self, steps: int) -> float:
        """The time of some steps; waits for the device only before and after."""
        self.synchronize()
        begin = time.perf_counter()
        for _ in range(steps):
            self.step()
        self.synchronize()
        return time.perf_counter() - begin

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def cudagraph_skips(variant: str) -> int:
    """How many graphs torch.compile did not record although it should; 0 if PyTorch does not say."""
    if variant != "reduce-overhead":
        return 0
    from torch._dynamo.utils import counters
    return counters["inductor"]["cudagraph_skips"]


def report(**values) -> None:
    """Prints a JSON object."""
    print(json.dumps(values), flush=True)


def main() -> None:
    """Warms up, then measures rounds."""
    parser = argparse.ArgumentParser(description="Images per second of the notebook's CNN in PyTorch, bf16 channels_last.")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--variant", choices=["eager", "compiled", "reduce-overhead"], default="eager")
    parser.add_argument("--rounds", type=int, default=1, help="rounds without --wait; default 1")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round, about; default 1")
    parser.add_argument("--wait", action="store_true", help="wait for a line on stdin before each round")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    trainer = Trainer(device, args.batch, args.variant)
    # Twice: after the first steps everything is compiled and recorded, and the second time is steady.
    trainer.seconds(WARMUP_STEPS)
    per_step = trainer.seconds(WARMUP_STEPS) / WARMUP_STEPS
    steps = max(10, math.ceil(args.seconds / max(per_step, 1e-6)))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    common = {"torch": torch.__version__, "device_name": name, "variant": args.variant, "batch": args.batch}
    report(**common, ready=True, cudagraph_skips=cudagraph_skips(args.variant))
    for _ in iter(sys.stdin.readline, "") if args.wait else range(args.rounds):
        took = trainer.seconds(steps)
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        report(**common, steps=steps, seconds=round(took, 4), images_per_second=round(args.batch * steps / took, 1),
               peak_bytes=peak)


if __name__ == "__main__":
    main()
