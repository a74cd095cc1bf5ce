"""A network in PyTorch: milliseconds per training step, augmentation included, in several variants.

    python scripts/peers/torch_eager.py [--network record] [--device cuda] [--batch 64] [--steps 60]
                                        [--warmup 15] [--threads 2] [--compile]
                                        [--precisions f32 bf16]

Random images: speed does not depend on the pixels. Each variant does the same work per step:
augment a batch with one affine_grid + grid_sample, forward, cross-entropy, backward, and Adam for the
notebook's CNN. The record network (configs/best/cpu.toml) has brightness and contrast, label
smoothing, SGD with Nesterov momentum, and an EMA of the weights.
"""
import argparse
import json
import math
import time

import torch
import torch.nn.functional as F

import networks


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


def jitter(x):
    """Random brightness and contrast of each image of x, float [N, 1, 48, 48] in 0..1."""
    factors = 1 + 0.3 * (torch.rand(2, len(x), 1, 1, 1, device=x.device) * 2 - 1)
    mean = x.mean((1, 2, 3), keepdim=True)
    return (((x - mean) * factors[0] + mean) * factors[1]).clamp_(0, 1)


class Recipe:
    """Network, loss and optimizer."""

    def __init__(self, name, device, channels_last, compiled):
        self.is_record = name == "record"
        self.net = (networks.Record() if self.is_record else networks.notebook()).to(device)
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.net) if compiled else self.net
        weights = list(self.net.parameters())
        if self.is_record:
            self.optimizer = torch.optim.SGD(weights, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
            self.average = [weight.detach().clone() for weight in weights]
        else:
            self.optimizer = torch.optim.Adam(weights, 1e-3, fused=True)

    def augment(self, pixels):
        """The images of a step from uint8 pixels."""
        x = augment(pixels.float() / 255)
        return jitter(x) if self.is_record else x

    def update(self, logits, labels):
        """Loss, gradients, weights and their average."""
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1 if self.is_record else 0.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.is_record:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, list(self.net.parameters()), 1 - 0.998)


def time_steps(args, channels_last, bf16, compiled):
    """The median milliseconds of args.steps training steps, after args.warmup."""
    device = torch.device(args.device)
    recipe = Recipe(args.network, device, channels_last, compiled)
    images = torch.randint(0, 256, (4096, 1, 48, 48), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 7, (4096,), device=device)

    def sync():
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = []
    for step in range(args.steps + args.warmup):
        sync()
        start = time.perf_counter()
        pick = torch.randint(0, 4096, (args.batch,), device=device)
        x = recipe.augment(images[pick])
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = recipe.forward(x)
        recipe.update(logits, labels[pick])
        sync()
        times.append(time.perf_counter() - start)
    times = sorted(times[args.warmup:])
    return 1e3 * times[len(times) // 2]


args = argparse.ArgumentParser()
args.add_argument("--network", choices=["notebook", "record"], default="notebook")
args.add_argument("--device", default="cpu")
args.add_argument("--batch", type=int, default=64)
args.add_argument("--steps", type=int, default=60)
args.add_argument("--warmup", type=int, default=15)
args.add_argument("--threads", type=int, default=None)
args.add_argument("--compile", action="store_true", help="also time torch.compile (needs a C++ compiler)")
args.add_argument("--precisions", nargs="+", choices=["f32", "bf16"], default=["f32", "bf16"])
args = args.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
variants = [("fp32", False, False, False), ("fp32 channels_last", True, False, False),
            ("bf16 channels_last", True, True, False)]
if args.compile:
    variants += [("fp32 compiled", False, False, True), ("fp32 channels_last compiled", True, False, True),
                 ("bf16 channels_last compiled", True, True, True)]
for name, *flags in variants:
    if ("bf16" if flags[1] else "f32") not in args.precisions:
        continue
    ms = time_steps(args, *flags)
    print(json.dumps({"peer": f"torch {torch.__version__} {name}", "device": args.device, "batch": args.batch,
                      "ms_per_step": round(ms, 3), "images_per_second": round(1e3 * args.batch / ms, 1)}), flush=True)
