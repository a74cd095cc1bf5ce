"""The notebook's CNN in PyTorch: milliseconds per training step, augmentation included, in five
variants.

    python scripts/peers/torch_eager.py [--device cuda] [--batch 64] [--steps 60] [--threads 2] [--compile]

Random images: speed does not depend on the pixels. Each variant does the same work per step:
augment a batch with one affine_grid + grid_sample, forward, cross-entropy, backward, Adam.
"""
import argparse
import json
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def model():
    """The notebook's network; it returns logits."""
    def block(i, o):
        return [nn.Conv2d(i, o, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(o)]
    return nn.Sequential(*block(1, 32), *block(32, 64), *block(64, 128), nn.Flatten(),
                         nn.Linear(2048, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 7))


def augment(x):
    """Random rotation, shift, zoom and flip of each image of x, float [N, 1, 48, 48], within the
    notebook's ranges."""
    n, device = len(x), x.device
    u = torch.rand(n, 6, device=device) * 2 - 1
    angle, zoom_x, zoom_y = u[:, 0] * math.pi / 18, 1 + 0.1 * u[:, 1], 1 + 0.1 * u[:, 2]
    flip = torch.where(u[:, 5] < 0, -1.0, 1.0)
    theta = torch.stack([
        torch.stack([flip * zoom_x * torch.cos(angle), -zoom_y * torch.sin(angle), 0.2 * u[:, 3]], 1),
        torch.stack([flip * zoom_x * torch.sin(angle), zoom_y * torch.cos(angle), 0.2 * u[:, 4]], 1)], 1)
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def time_steps(args, channels_last, bf16, compiled):
    """The median milliseconds of args.steps training steps, after 15 warm-up steps."""
    device = torch.device(args.device)
    net = model().to(device)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    forward = torch.compile(net) if compiled else net
    adam = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    images = torch.randint(0, 256, (4096, 1, 48, 48), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 7, (4096,), device=device)

    def sync():
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = []
    for step in range(args.steps + 15):
        sync()
        start = time.perf_counter()
        pick = torch.randint(0, 4096, (args.batch,), device=device)
        x = augment(images[pick].float() / 255)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = forward(x)
        loss = F.cross_entropy(logits.float(), labels[pick])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        sync()
        times.append(time.perf_counter() - start)
    times = sorted(times[15:])
    return 1e3 * times[len(times) // 2]


args = argparse.ArgumentParser()
args.add_argument("--device", default="cpu")
args.add_argument("--batch", type=int, default=64)
args.add_argument("--steps", type=int, default=60)
args.add_argument("--threads", type=int, default=None)
args.add_argument("--compile", action="store_true", help="also time torch.compile (needs a C++ compiler)")
args = args.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
variants = [("fp32", False, False, False), ("fp32 channels_last", True, False, False),
            ("bf16 channels_last", True, True, False)]
if args.compile:
    variants += [("fp32 compiled", False, False, True), ("bf16 channels_last compiled", True, True, True)]
for name, *flags in variants:
    ms = time_steps(args, *flags)
    print(json.dumps({"peer": f"torch {torch.__version__} {name}", "device": args.device, "batch": args.batch,
                      "ms_per_step": round(ms, 3), "images_per_second": round(1e3 * args.batch / ms, 1)}), flush=True)
