#!/usr/bin/env python3
"""Renders the page from the results of scripts/gpu.sh.

    python3 scripts/gpu/report.py gpu-results/results.json > docs/performance.md
"""
from __future__ import annotations

import json
import statistics
import sys
import textwrap
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)      # scripts, with the package bench

from bench import render, results as store                         # noqa: E402

FORMAT = 1
EAGER_SPEEDUP, COMPILED_SPEEDUP = 5.0, 2.0                          # the project's targets
TARGET_ACCURACY, TARGET_SECONDS, RECORD_ACCURACY = 0.6324, 5.0, 0.73
GRIMACE = ["Grimace eager", "Grimace graph"]
PYTORCH = ["PyTorch eager", "PyTorch compiled", "PyTorch reduce-overhead"]


def load(path: Path) -> dict:
    """Reads results; raises ValueError for an invalid file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path.name}: expected results of this scripts/gpu.sh (format {FORMAT})")
    return found


# --- values -----------------------------------------------------------------------------------------------------------

def stage(results: dict, name: str) -> dict:
    """The record of a stage; an empty one if it did not run."""
    return results["stages"].get(name) or {"status": "not run", "rows": [], "problems": []}


def rows_of(results: dict, name: str) -> list[dict]:
    """What a stage measured."""
    return stage(results, name)["rows"]


def is_real(results: dict) -> bool:
    """Whether the results are those of a GPU, measured in full."""
    settings = results["settings"]
    return not settings["quick"] and not settings["simulated"] and settings["device"].startswith("cuda")


def series(rows: list[dict], program: str, batch: int) -> dict[int, float]:
    """Images per second of a program by round."""
    return {row["round"]: row["images_per_second"] for row in rows if (row["program"], row["batch"]) == (program, batch)}


def fastest(rows: list[dict], programs: list[str], batch: int) -> str | None:
    """The program with the highest median; None if none was measured. A graph that Grimace did not
    use is no program of its own."""
    medians = {name: statistics.median(values.values()) for name in programs
               if (values := series(rows, name, batch)) and not fallback(rows, name, batch)}
    return max(medians, key=medians.__getitem__) if medians else None


def fallback(rows: list[dict], program: str, batch: int) -> bool:
    """Whether Grimace used no CUDA graph although it was told to, in any round."""
    return any(row.get("fallback") is not None for row in rows if (row["program"], row["batch"]) == (program, batch))


def ratios(rows: list[dict], ours: str | None, theirs: str | None, batch: int) -> list[float]:
    """Ratios of images per second, round by round."""
    return store.ratios(series(rows, ours, batch), series(rows, theirs, batch)) if ours and theirs else []


def optional(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A number, or a dash."""
    return "-" if value is None else render.number(value, digits) + unit


# --- prose ------------------------------------------------------------------------------------------------------------

def paragraph(*sentences: str) -> str:
    """Prose, wrapped at 100 columns."""
    return textwrap.fill(" ".join(filter(None, sentences)), 100, break_long_words=False, break_on_hyphens=False)


def bullets(lines: list[str]) -> str:
    """A list, wrapped at 100 columns."""
    return "\n".join(textwrap.fill(line, 100, initial_indent="- ", subsequent_indent="  ", break_long_words=False,
                                   break_on_hyphens=False) for line in lines)


def section(title: str, *parts: str) -> str:
    """A heading and its parts, without empty ones; empty if there are none."""
    parts = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *parts]) if parts else ""


# --- targets ----------------------------------------------------------------------------------------------------------

def targets(results: dict) -> list[str]:
    """A sentence per target, with its verdict."""
    return [speedup_target(results, ["PyTorch eager"], "PyTorch eager", EAGER_SPEEDUP),
            speedup_target(results, PYTORCH[1:], "PyTorch compiled, the faster of its two modes,", COMPILED_SPEEDUP),
            time_target(results), record_target(results)]


def speedup_target(results: dict, theirs: list[str], name: str, target: float) -> str:
    """Grimace against PyTorch at batch 64."""
    rows = rows_of(results, "peers")
    ours, other = fastest(rows, GRIMACE, 64), fastest(rows, theirs, 64)
    values = ratios(rows, ours, other, 64)
    claim = f"At least {target:g} times as fast as {name} at batch 64"
    if not values or not is_real(results):
        return f"{claim}: not measured."
    verdict = "met" if statistics.median(values) >= target else "missed"
    return f"{claim}: {verdict}, {render.spread(values, 2)} times, {ours} to {other}."


def time_target(results: dict) -> str:
    """Seconds to the notebook's accuracy."""
    claim = f"Validation accuracy {TARGET_ACCURACY} in under {TARGET_SECONDS:g} s from process start"
    rows = rows_of(results, "notebook")
    if not rows or not is_real(results) or not results["settings"]["data"]["real"]:
        return f"{claim}: not measured."
    reached = [row["target_seconds"] for row in rows if row["target_seconds"] is not None]
    if not reached:
        best = max(row["best_val_accuracy"] for row in rows)
        return f"{claim}: missed; none of {len(rows)} runs reached it, the best has {best:.4f}."
    verdict = "met" if min(reached) < TARGET_SECONDS else "missed"
    return f"{claim}: {verdict}, {min(reached):.2f} s at best; {len(reached)} of {len(rows)} runs reached the accuracy."


def record_target(results: dict) -> str:
    """The accuracy of the record config."""
    claim = f"PublicTest accuracy {RECORD_ACCURACY} or better with configs/best/gpu.toml"
    rows = rows_of(results, "record")
    if not rows or not is_real(results) or not results["settings"]["data"]["public_test"]:
        return f"{claim}: not measured."
    row = rows[-1]
    verdict = "met" if row["best_val_accuracy"] >= RECORD_ACCURACY else "missed"
    return (f"{claim}: {verdict}, {row['best_val_accuracy']:.4f} after {row['epochs']} of 200 epochs; the best epoch was "
            f"selected on PublicTest, the last has {row['last_val_accuracy']:.4f}.")


# --- sections ---------------------------------------------------------------------------------------------------------

def opening(results: dict) -> str:
    """Title, machine, command, warnings."""
    settings, machine, runs = results["settings"], results["machine"], results["runs"]
    commands = list(dict.fromkeys(run["command"] for run in runs))
    # Backquoted commands may wrap like other words.
    written = " and ".join(f"`{command}`" for command in commands)
    parts = ["<!-- Generated by scripts/gpu.sh; edits are lost. -->", "# Performance on a GPU"]
    if settings["simulated"]:
        parts.append("**Measured on a simulated device, which computes on the CPU. These results say nothing about a "
                     "GPU.**")
    elif not is_real({"settings": {**settings, "quick": False}}):
        parts.append("**Measured on another device than a GPU. These results say nothing about a GPU.**")
    if settings["quick"]:
        parts.append("**A smoke test of the script: few images, few epochs, one round. Do not quote these results.**")
    if not any(rows_of(results, name) for name in results["stages"]):
        parts.append("No GPU figures yet.")
    doctor = device_of(results)
    gpu = machine.get("gpu") or doctor.get("name") or "unknown GPU"
    data = settings["data"]
    parts.append(f"Generated by {written}. Measured on {runs[-1]['started'][:10]} on {gpu}, with {machine['cpu']}, "
                 f"{machine['cores']} cores: Grimace {results['versions']['grimace']} on {data['name']}, "
                 f"{data['rows']:,} rows for training and validation. [benchmarks.md](benchmarks.md) has the speed on "
                 "a CPU.")
    return "\n\n".join([parts[0], parts[1], *map(paragraph, parts[2:])])


def device_of(results: dict) -> dict:
    """What `grimace doctor` reports of the device."""
    found = stage(results, "doctor").get("report") or {}
    devices = found.get("cuda_devices")
    devices = [device for device in devices if isinstance(device, dict)] if isinstance(devices, list) else []
    wanted = [device for device in devices if device.get("device") == results["settings"]["device"]]
    return (wanted or devices or [{}])[0]


def doctor_section(results: dict) -> str:
    """The comparison of `grimace doctor`."""
    rows = rows_of(results, "doctor")
    if not rows:
        return ""
    cells = [[row["precision"], f"{row['loss_difference']:.1e}", f"{row['weight_difference']:.1e}", 
              f"{row['tolerance']:.0e}", "yes" if row["ok"] else "no", optional(row.get("images_per_second"))] for row in rows]
    return section("Doctor",
                   paragraph("`grimace doctor --device` runs the same training steps on the CPU and on the device."),
                   render.table(["precision", "loss differs by", "weights differ by", "tolerance", "ok", "images/s"], cells))


def agree_section(results: dict) -> str:
    """CPU against CUDA."""
    rows = rows_of(results, "agree")
    if not rows:
        return ""
    cells = []
    for row in rows:
        for key, what in (("loss", "training loss"), ("val_loss", "validation loss")):
            values = row[key]
            cells.append([row["name"], what, f"{values['cpu']:.6f}", f"{values['device']:.6f}",
                          f"{values['difference']:.1e}", "yes" if values["difference"] <= stage(results, "agree")["tolerance"] else "no"])
    return section("The CPU against the device", paragraph(
        f"Losses of an epoch of {rows[0]['images']:,} images in batches of {rows[0]['batch']}, in f32, without dropout "
        "and stochastic depth. Differences of rounding grow with each step, so the steps are few, and the CPU computes "
        "without its custom kernels (`GRIMACE_KERNELS=none`). The tolerance is a relative difference of "
        f"{stage(results, 'agree')['tolerance']:g}."),
        render.table(["network", "metric", "CPU", "device", "difference", "ok"], cells, left=2))


def notebook_section(results: dict) -> str:
    """The notebook's recipe to its early stop."""
    rows = rows_of(results, "notebook")
    if not rows:
        return ""
    cells = [[row["precision"], str(row["seed"]), render.spread(row["speeds"]), str(row["epochs"]),
              f"{row['best_val_accuracy']:.4f}", optional(row["target_seconds"], 2, " s"),
              optional(row["first_epoch_seconds"], 2, " s"), f"{row['seconds']:.2f} s",
              optional(row.get("peak_mib"), 0, " MiB"), optional(row.get("utilization"), 0, "%")] for row in rows]
    target = f"to {TARGET_ACCURACY}"
    note = "" if results["settings"]["data"]["real"] else \
        f"The images are synthetic, so the time to {TARGET_ACCURACY} is not reported as a target."
    return section("The notebook's recipe", paragraph(
        "`configs/notebook.toml` to its early stop. Seconds count from process start;", f'"{target}" ends with the first',
        "epoch of that validation accuracy. Busy is the mean GPU utilization from the first epoch to the last, by",
        "nvidia-smi: the fraction of time in which a kernel ran. Peak memory is that of the whole GPU.", note),
        render.table(["precision", "seed", "images/s", "epochs", "best accuracy", target, "first epoch", "whole process",
                      "peak memory", "busy"], cells))


def graph_section(results: dict) -> str:
    """CUDA graphs against eager steps."""
    rows = rows_of(results, "graph")
    if not rows:
        return ""
    cells = [[name, render.spread(list(series(rows, name, 64).values())), str(len(series(rows, name, 64)))]
             for name in GRIMACE if series(rows, name, 64)]
    values = ratios(rows, "Grimace graph", "Grimace eager", 64)
    reasons = sorted({row["fallback"] or "no reason given" for row in rows if row["fallback"] is not None})
    result = f"A graph is {render.spread(values, 2)} times as fast, round by round." if values and not reasons else ""
    if reasons:
        count = sum(row["fallback"] is not None for row in rows)
        result = f"**CUDA graphs were not used** in {count} runs: {'; '.join(reasons)}."
    return section("CUDA graphs", paragraph("The notebook's recipe at batch 64 in bf16, with `train.cuda_graph` true and "
                                            "false in turn.", result),
                   render.table(["program", "images/s", "rounds"], cells))


def peers_section(results: dict) -> str:
    """Grimace against PyTorch, by batch size."""
    rows = rows_of(results, "peers")
    if not rows:
        return ""
    batches = sorted({row["batch"] for row in rows})
    names = [name for name in GRIMACE + PYTORCH if any(row["program"] == name for row in rows)]
    cells, ratio_cells = [], []
    for batch in batches:
        values = {name: list(series(rows, name, batch).values()) for name in names}
        rounds = max(len(value) for value in values.values())
        cells.append([f"{batch:,}", *(render.spread(values[name]) for name in names), str(rounds)])
        ours, compiled = fastest(rows, GRIMACE, batch), fastest(rows, PYTORCH[1:], batch)
        ratio_cells.append([f"{batch:,}", ours or "-", *(render.spread(ratios(rows, ours, other, batch), 2)
                                                         for other in (PYTORCH[0], compiled))])
    parts = [paragraph("Images per second of training the notebook's CNN in bf16: the median and, in parentheses, min to max "
                       "of the rounds."), render.table(["batch", *names, "rounds"], cells, left=0)]
    unused = [f"{row['batch']:,}" for row in rows if row.get("fallback") is not None]
    if unused:
        parts.append(paragraph(f"**CUDA graphs were not used** at batch {', '.join(dict.fromkeys(unused))}."))
    if any(name in PYTORCH for name in names):
        parts += [paragraph("Speedup of the faster Grimace program, round by round. Compiled is the faster of "
                            "`torch.compile` and its mode `reduce-overhead`, which uses CUDA graphs."),
                  render.table(["batch", "Grimace program", "to PyTorch eager", "to PyTorch compiled"], ratio_cells,
                               left=2)]
        memory = memory_table(rows, batches)
        if memory:
            parts += [paragraph("PyTorch's peak memory, by its allocator, in MB:"), memory]
    parts.append(paragraph(stage(results, "peers").get("note", "") and stage(results, "peers")["note"] + "."))
    return section("Batch size, against PyTorch", *parts)


def memory_table(rows: list[dict], batches: list[int]) -> str:
    """Peak memory of the PyTorch programs; empty if none reports it."""
    names = [name for name in PYTORCH if any(row["program"] == name and row.get("peak_bytes") for row in rows)]
    cells = [[f"{batch:,}", *(render.megabytes([row["peak_bytes"] for row in rows if row.get("peak_bytes") and
                                                (row["program"], row["batch"]) == (name, batch)]) for name in names)]
             for batch in batches]
    return render.table(["batch", *names], cells, left=0) if names else ""


def record_section(results: dict) -> str:
    """The record config."""
    rows = rows_of(results, "record")
    if not rows:
        return ""
    cells = [[str(row["epochs"]), f"{row['best_val_accuracy']:.4f}", optional(row["best_val_accuracy_dedup"], 4),
              f"{row['last_val_accuracy']:.4f}", f"{row['seconds']:.1f} s", render.spread(row["speeds"]),
              optional(row.get("peak_mib"), 0, " MiB"), optional(row.get("utilization"), 0, "%")] for row in rows]
    split = "PublicTest" if results["settings"]["data"]["public_test"] and not results["settings"]["quick"] else \
        "a fifth of the training rows"
    return section("The record config", paragraph(
        f"`configs/best/gpu.toml` in {rows[-1]['precision']}, for as many of its 200 epochs as there was time for: "
        f"{rows[-1]['epochs']}, at {stage(results, 'record')['epoch_seconds']:.2f} s per epoch in a run of two. Validated on "
        f"{split}; the best epoch was selected on it."),
        render.table(["epochs", "best accuracy", "deduplicated", "last accuracy", "whole process", "images/s", "peak memory",
                      "busy"], cells, left=0))


def problems_section(results: dict) -> str:
    """Stages that failed, were cut short or skipped, and why."""
    lines = []
    for name, record in results["stages"].items():
        lines += [f"{name}: failed: {problem}" for problem in record["problems"]]
        if record["status"] in ("skipped", "cut short"):
            lines.append(f"{name}: {record.get('note') or record['status'] + ' for lack of time'}")
    return section("Not measured", bullets(lines)) if lines else ""


def method_section(results: dict) -> str:
    """How everything was measured."""
    lines = ["**Grimace**: images per second by `metrics.jsonl`, training images over training seconds, the median of all "
             "epochs but the first. That includes gathering and augmenting images, the epoch schedule and reading back the "
             "loss."]
    if any(row["program"] in PYTORCH for row in rows_of(results, "peers")):
        lines += ["**PyTorch**: `scripts/gpu/torch_peer.py`, the same network and augmentation on the device, bf16 autocast, "
                  "channels_last, fused Adam, about a second of steps per round. It waits for the device only before and "
                  "after them, reads back no loss and counts no correct predictions, in its favor. Compilation is not timed.",
                  "**Rounds**: the programs run in turn, every second round in reverse order. The PyTorch processes of a batch "
                  "size start together, and wait while another program runs. Ratios are taken within each round; the tables "
                  "show their median and, in parentheses, min to max."]
    return section("Method", bullets(lines))


def machine_section(results: dict) -> str:
    """The machine and the versions."""
    machine, device, runs = results["machine"], device_of(results), results["runs"]
    doctor = stage(results, "doctor").get("report") or {}
    torch = results["versions"].get("torch")
    items = {
        "date": f"{runs[0]['started']} to {runs[-1]['finished'] or '-'}",
        "GPU": machine.get("gpu") or device.get("name"), "GPU memory": machine.get("gpu_memory"),
        "compute capability": device.get("capability"), "driver": machine.get("driver") or doctor.get("driver"),
        "CUDA runtime": doctor.get("runtime"), "CPU": machine["cpu"], "cores": machine["cores"],
        "memory": machine.get("memory_gib") and f"{machine['memory_gib']} GiB", "system": machine.get("system"),
        "grimace": results["versions"]["grimace"], "SHA-256 of the program": results["versions"]["sha256"] + "...",
        "torch": torch,
    }
    return section("Machine and versions",
                   render.table(["item", "value"], [[name, str(value)] for name, value in items.items() if value], left=2))


def page(results: dict) -> str:
    """The page."""
    sections = [opening(results), section("Targets", bullets(targets(results))), doctor_section(results),
                agree_section(results), notebook_section(results), graph_section(results), peers_section(results),
                record_section(results), problems_section(results), method_section(results), machine_section(results)]
    return "\n\n".join(filter(None, sections)) + "\n"


if __name__ == "__main__":
    print(page(load(Path(sys.argv[1]))), end="")
