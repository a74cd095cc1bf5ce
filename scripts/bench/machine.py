"""The machine that the results were measured on, and its load. No host names and no paths."""
from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path

# Instruction sets that decide which kernels libtorch, TensorFlow and Grimace select.
INSTRUCTIONS = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve"]

# Environment variables with which libtorch, oneDNN (also TensorFlow's), MKL, XLA and Grimace leave out everything that
# is newer. ONNX Runtime has none: it goes on using what the CPU has.
LIMITS = {"avx2": {"GRIMACE_KERNELS": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
                   "MKL_ENABLE_INSTRUCTIONS": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}}

PEER_VERSIONS = """
import importlib.metadata as m, json, platform
found = {"python": platform.python_version()}
for name in ("torch", "tensorflow-cpu", "keras", "onnxruntime", "numpy"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def output_of(*command: str | Path, cwd: Path | None = None) -> str | None:
    """The stripped output of a command; None if it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def read(path: str) -> str:
    """The text of a file in /proc; empty if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def field(text: str, name: str) -> str:
    """The value of the first line `name : value`."""
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def describe(device: str) -> dict:
    """The machine: CPU, cores, instruction sets, memory in GiB, system; with `cuda`, the GPU."""
    cpu = read("/proc/cpuinfo")
    flags = (field(cpu, "flags") or field(cpu, "Features")).split()
    kib = field(read("/proc/meminfo"), "MemTotal").removesuffix("kB").strip()
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    found = {
        "cpu": field(cpu, "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "virtual": "hypervisor" in flags,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "memory_gib": round(int(kib) / 2**20, 1) if kib.isdigit() else None,
        "system": f"{system}, {platform.system()} {platform.release().split('-')[0]}",
    }
    if device == "cuda":
        names = output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
        found["gpu"] = (names or "unknown").splitlines()[0]
    return found


def versions(root: Path, doctor: dict, peers_python: Path | None) -> dict:
    """Versions of everything that is compared, without what is missing."""
    commit = output_of("git", "rev-parse", "--short=10", "HEAD", cwd=root)
    changed = output_of("git", "status", "--porcelain", "--untracked-files=no", cwd=root)
    rustc = output_of("rustc", "--version", cwd=root)
    peers = output_of(peers_python, "-c", PEER_VERSIONS) if peers_python else None
    found = {
        "grimace": doctor.get("version"),
        "commit": commit and commit + (" with changes" if changed else ""),
        "libtorch": doctor.get("libtorch"),
        "libtorch kernels": doctor.get("cpu_kernels"),
        "custom kernels": doctor["custom_kernels"],
        "rustc": rustc and rustc.removeprefix("rustc "),
        **(json.loads(peers) if peers else {}),
    }
    return {name: value for name, value in found.items() if value}


def ticks() -> tuple[float, float] | None:
    """Busy and total CPU seconds since boot, over all cores; None if /proc/stat is missing.

    Time stolen by the hypervisor counts as busy: it was not available to the measured program
    either.
    """
    words = read("/proc/stat").split("\n", 1)[0].split()
    if len(words) < 9:
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = (
        int(word) / os.sysconf("SC_CLK_TCK") for word in words[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def busy_cores(seconds: float = 0.5) -> float:
    """The number of busy cores right now.

    The load average includes this script's own last run for minutes, so it is only the fallback.
    """
    before = ticks()
    time.sleep(seconds)
    after = ticks()
    if before is None or after is None:
        return os.getloadavg()[0]
    fraction = (after[0] - before[0]) / max(after[1] - before[1], 1e-9)
    return fraction * (os.cpu_count() or 1)


def wait_until_idle(limit_s: float, log) -> float:
    """Waits until less than 0.2 cores are busy, at most `limit_s` seconds; returns the busy cores
    at the end."""
    end, logged = time.monotonic() + limit_s, False
    while (busy := busy_cores()) > 0.2:
        if time.monotonic() >= end:
            log(f"warning: {busy:.1f} cores are still busy with other work; measuring anyway")
            break
        if not logged:
            log(f"waiting up to {limit_s:.0f} s: other work keeps {busy:.1f} cores busy")
            logged = True
        time.sleep(1.0)
    return round(busy, 2)
