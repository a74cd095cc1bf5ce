#!/usr/bin/env python3
"""A model on paper of data-parallel training on NVIDIA H100s: the tables of docs/scale.md.

    scripts/scale/model.py                               # all tables
    scripts/scale/model.py --set dollars=2.1 --set nic=25e9 epochs
    scripts/scale/model.py --write docs/scale.md         # put the tables into the page
    scripts/scale/model.py --check docs/scale.md         # exit code 1 if they differ

Nothing here runs on a GPU. Every input is a field of Inputs and can be set; docs/scale.md says which
of them were measured.
"""
from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks import Network, networks  # noqa: E402

PIXELS = 48 * 48
PER_NODE = 8
MACHINES = {"1 GPU": 1, "8 GPUs": 8, "100 nodes": 800}
SIZES = {"1 M": 10**6, "100 M": 10**8, "1 B": 10**9}
MAX_BATCH = 65536                   # the largest value of train.batch


@dataclass(frozen=True)
class Inputs:
    """Rates in operations or bytes per second, times in seconds, sizes in bytes."""

    bf16: float = 989e12            # dense bf16 of an H100 SXM, data sheet
    f32: float = 67e12              # float32 of an H100 SXM, data sheet
    memory_rate: float = 3.35e12    # memory of an H100 SXM, data sheet
    memory: float = 80e9            # the same
    used_arithmetic: float = 0.25   # fraction of bf16 and f32 that convolutions reach: assumed
    used_memory: float = 0.5        # fraction of memory_rate that a step reaches: assumed
    passes: float = 14              # a convolution's output through memory in a step: counted by hand
    host_launch: float = 7.9e-6     # host time of a launch without a driver: measured, docs/gpu.md
    driver_launch: float = 3e-6     # what the driver adds: assumed
    nvlink: float = 450e9           # NVLink 4 per GPU and direction, data sheet
    nic: float = 50e9               # InfiniBand 400 Gb/s per GPU
    used_link: float = 0.8          # fraction of them that NCCL reaches: assumed
    collective: float = 5e-6        # start of a collective: assumed
    nvlink_hop: float = 1e-6        # latency of a step within a node: assumed
    nic_hop: float = 5e-6           # latency of a step between nodes: assumed
    schedule: float = 0.11e-6       # epoch schedule per image on a host: measured, docs/profile.md
    host_image: float = 170         # host memory per image in each process: estimate, docs/data.md
    verified_read: float = 0.4e6    # images a thread copies and hashes per second: measured
    cold_read: float = 6e9          # local NVMe of a node, large reads: assumed
    page: float = 4096              # size of a page of the page cache
    validation: float = 0.01        # validation images per training image
    dollars: float = 3.0            # price of a GPU hour: assumed


# --- time of a step ---------------------------------------------------------------------------------------------------

def gpu_seconds(inputs: Inputs, network: Network, images: float) -> float:
    """Kernels of a training step: the arithmetic of convolutions, then the traffic of the rest."""
    arithmetic = network.training_flops / (inputs.bf16 * inputs.used_arithmetic)
    traffic = network.traffic(inputs.passes) / (inputs.memory_rate * inputs.used_memory)
    return images * (arithmetic + traffic)


def host_seconds(inputs: Inputs, network: Network) -> float:
    """Launches of a training step, which run ahead of the GPU: the slower of the two counts."""
    return network.launches * (inputs.host_launch + inputs.driver_launch)


def latency(inputs: Inputs, gpus: int) -> float:
    """Latency of an all-reduce: a chain in each node and a tree between nodes, up and down."""
    if gpus == 1:
        return 0.0
    nodes = math.ceil(gpus / PER_NODE)
    within, between = min(gpus, PER_NODE) - 1, math.ceil(math.log2(nodes))
    return inputs.collective + 2 * within * inputs.nvlink_hop + 2 * between * inputs.nic_hop


def all_reduce(inputs: Inputs, gpus: int, size: float) -> float:
    """All-reduce of `size` bytes: 2(n-1)/n of them over each GPU's link (Patarasuk and Yuan 2009).
    Between nodes each of 8 rings leaves a node through a network card of its own, so that a node
    sends 8 times its rate."""
    if gpus == 1:
        return 0.0
    rate = inputs.nvlink if gpus <= PER_NODE else min(inputs.nvlink, PER_NODE * inputs.nic)
    return latency(inputs, gpus) + 2 * (gpus - 1) / gpus * size / (rate * inputs.used_link)


def sync_norms(inputs: Inputs, network: Network, gpus: int) -> float:
    """Synchronized batch norm: for each norm one small all-reduce forward and one backward."""
    sizes = [4 * (2 * channels + 1) for channels in network.norms]
    return 2 * sum(all_reduce(inputs, gpus, size) for size in sizes)


def step_seconds(inputs: Inputs, network: Network, gpus: int, batch: int) -> float:
    """A step of a global batch. Nothing overlaps: the flat gradient is complete after the backward
    pass, and the forward pass waits for the statistics of each norm."""
    compute = max(gpu_seconds(inputs, network, batch / gpus), host_seconds(inputs, network))
    return compute + sync_norms(inputs, network, gpus) + all_reduce(inputs, gpus, network.gradient_bytes)


def validation_seconds(inputs: Inputs, network: Network, gpus: int, images: float) -> float:
    """Validation of an epoch in float32, divided among the GPUs."""
    flops = 2 * network.macs / (inputs.f32 * inputs.used_arithmetic)
    traffic = 2 * network.traffic(5) / (inputs.memory_rate * inputs.used_memory)
    return images * inputs.validation / gpus * (flops + traffic)


# --- tables -----------------------------------------------------------------------------------------------------------

def number(value: float, digits: int = 3) -> str:
    """`value` with that many significant digits, and commas."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits - 1 - math.floor(math.log10(abs(value)))):,.{places}f}"


def size(value: float) -> str:
    """Bytes in a decimal unit."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= unit:
            return f"{number(value / unit, 2)} {name}"
    return f"{number(value / 1e3, 2)} KB"


def duration(seconds: float) -> str:
    """A time in a unit that a reader can picture."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= 0.995 * unit:
            return f"{number(seconds / unit, 2)} {name}"
    return f"{number(seconds * 1e6, 2)} µs"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the columns after the first are numbers."""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def steps_table(inputs: Inputs) -> str:
    """Networks, and their step on one GPU."""
    rows = []
    for network in networks().values():
        host = host_seconds(inputs, network)
        step = [step_seconds(inputs, network, 1, batch) for batch in (128, 1024)]
        per_image = gpu_seconds(inputs, network, 1)
        rows.append([f"`{network.name}`", f"{network.parameters:,}", size(network.gradient_bytes),
                     number(network.training_flops / 1e9, 2), size(network.traffic(inputs.passes)),
                     duration(host), duration(128 * per_image), duration(1024 * per_image),
                     number(128 / step[0], 2), number(1024 / step[1], 2)])
    return table(["network", "parameters", "gradient", "GFLOP per image", "traffic per image", "host", "GPU, batch 128",
                  "GPU, batch 1,024", "images/s at 128", "images/s at 1,024"], rows)


def collectives_table(inputs: Inputs) -> str:
    """Communication of a step."""
    rows = []
    for network in networks().values():
        for machine, gpus in list(MACHINES.items())[1:]:
            ring = all_reduce(inputs, gpus, network.gradient_bytes) - latency(inputs, gpus)
            norms = sync_norms(inputs, network, gpus)
            total = norms + ring + latency(inputs, gpus)
            rows.append([f"`{network.name}`", machine, size(2 * (gpus - 1) / gpus * network.gradient_bytes),
                         duration(ring), duration(latency(inputs, gpus)), str(2 * len(network.norms)), duration(norms),
                         duration(total), f"{total / gpu_seconds(inputs, network, 1):,.0f}"])
    return table(["network", "machine", "bytes per GPU", "transfer", "latency", "norms' collectives", "their time",
                  "communication", "in images"], rows)


def scaling_table(inputs: Inputs) -> str:
    """Step, throughput and efficiency by global batch."""
    rows = []
    for network in networks().values():
        for machine, gpus in MACHINES.items():
            for batch in (1024, 8192, MAX_BATCH):
                if not 1024 >= batch / gpus >= 8:
                    continue
                step = step_seconds(inputs, network, gpus, batch)
                ideal = gpus * 1024 / step_seconds(inputs, network, 1, 1024)
                rows.append([f"`{network.name}`", machine, f"{batch:,}", f"{batch / gpus:,.0f}", duration(step),
                             number(batch / step, 2), f"{100 * batch / step / ideal:.0f}%"])
    return table(["network", "machine", "global batch", "per GPU", "step", "images/s", "efficiency"], rows)


def epochs_table(inputs: Inputs) -> str:
    """Time and price of an epoch."""
    rows = []
    for name in ("notebook", "best/gpu"):
        network = networks()[name]
        for label, images in SIZES.items():
            for machine, gpus in MACHINES.items():
                batch = min(1024 * gpus, MAX_BATCH)
                train = images / batch * step_seconds(inputs, network, gpus, batch)
                validation = validation_seconds(inputs, network, gpus, images)
                schedule = images * inputs.schedule
                total = train + validation + schedule
                rows.append([f"`{name}`", label, machine, number(images / batch), duration(train),
                             duration(validation), duration(schedule), duration(total),
                             f"{gpus * total / 3600 * inputs.dollars:,.2f}"])
    return table(["network", "images", "machine", "steps", "training", "validation", "schedule", "epoch", "dollars"], rows)


def memory_table(inputs: Inputs) -> str:
    """What the images take, and where they fit."""
    rows = []
    for label, images in SIZES.items():
        for machine, gpus in MACHINES.items():
            all_pixels, metadata = images * PIXELS, images * inputs.host_image
            sharded = all_pixels / gpus
            fits = "all" if all_pixels < inputs.memory / 2 else "its part" if sharded < inputs.memory / 2 else "no"
            rows.append([label, machine, size(all_pixels), size(sharded), fits, size(metadata * min(gpus, PER_NODE)),
                         size(metadata / max(1, gpus // PER_NODE))])
    return table(["images", "machine", "pixels", "per GPU", "fits on a GPU", "metadata per node", "if sharded"], rows)


def input_table(inputs: Inputs) -> str:
    """Images that a node of 8 GPUs reads at the speed of its GPUs."""
    rows = []
    for network in networks().values():
        rate = 8192 / step_seconds(inputs, network, PER_NODE, 8192)
        pages = inputs.page * (1 + (PIXELS - 1) / inputs.page)
        cold = inputs.cold_read / pages
        rows.append([f"`{network.name}`", number(rate, 2), size(rate * PIXELS) + "/s", size(rate * pages) + "/s",
                     number(rate / inputs.verified_read, 2), f"{min(100, 100 * cold / rate):.0f}%"])
    return table(["network", "images/s", "pixels", "pages, read at random", "threads", "speed from cold storage"], rows)


TABLES = {"steps": steps_table, "collectives": collectives_table, "scaling": scaling_table, "epochs": epochs_table,
          "memory": memory_table, "input": input_table}


# --- the page ---------------------------------------------------------------------------------------------------------

def updated(text: str, inputs: Inputs) -> str:
    """The page with each table between its comments replaced."""
    for name, make in TABLES.items():
        pattern = re.compile(f"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match: f"{match[1]}\n{make(inputs)}\n\n{match[2]}", text)
        if count != 1:
            raise SystemExit(f"error: the page has the table {name} {count} times; expected '<!-- table {name} -->', "
                             "the table, and '<!-- end -->' once")
    return text


def with_settings(settings: list[str]) -> Inputs:
    """The inputs with `KEY=VALUE` replaced."""
    known = [field.name for field in fields(Inputs)]
    inputs = Inputs()
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            parsed = float(value)
        except ValueError:
            parsed = math.nan
        if name not in known or not (math.isfinite(parsed) and parsed > 0):
            raise SystemExit(f"error: --set {setting}: expected KEY=VALUE with a positive number; keys: {', '.join(known)}")
        inputs = replace(inputs, **{name: parsed})
    return inputs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"tables to print: {', '.join(TABLES)} (default: all)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of an input")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace the tables of a page")
    parser.add_argument("--check", type=Path, metavar="PAGE", help="compare the tables of a page")
    args = parser.parse_args()
    inputs = with_settings(args.set)
    page = args.write or args.check
    if page is None:
        for name in args.tables or TABLES:
            if name not in TABLES:
                parser.error(f"no table {name!r}; tables: {', '.join(TABLES)}")
            print(f"{name}\n\n{TABLES[name](inputs)}\n")
        return 0
    found = page.read_text(encoding="utf-8")
    expected = updated(found, inputs)
    if args.write:
        page.write_text(expected, encoding="utf-8")
        return 0
    if found != expected:
        print(*difflib.unified_diff(found.splitlines(), expected.splitlines(), "page", "model", lineterm="", n=0), sep="\n")
        print(f"{page}: its tables are not those of the model; run scripts/scale/model.py --write {page}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
