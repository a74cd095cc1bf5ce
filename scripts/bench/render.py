"""Renders the page from the results."""
from __future__ import annotations

import statistics
import textwrap

from . import results as store

GRIMACE = ["Grimace f32", "Grimace bf16"]
TORCH_F32 = ["PyTorch fp32", "PyTorch fp32 channels_last", "PyTorch fp32 compiled"]
TORCH_BF16 = ["PyTorch bf16 channels_last", "PyTorch bf16 channels_last compiled"]
SPEEDUP, KERAS_SPEEDUP, START_S, PREDICT_S = 1.25, 2.5, 2.0, 3.0       # the project's targets
DISTURBED_CORES = 0.2           # a run counts as disturbed if other work kept more cores busy than this

Rows = list[list[str]]


# --- numbers and tables -----------------------------------------------------------------------------------------------

def table(head: list[str], rows: Rows, left: int = 1) -> str:
    """A Markdown table with aligned source; all but the first `left` columns are right-aligned."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]

    def line(row: list[str]) -> str:
        padded = (cell.ljust(width) if column < left else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths)))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def number(value: float, digits: int = 0) -> str:
    """A number with thousands separators."""
    return f"{value:,.{digits}f}"


def median(values, digits: int = 0) -> str:
    """The median, or a dash."""
    return number(statistics.median(values), digits) if values else "-"


def extent(values, digits: int = 0) -> str:
    """Min to max, or a dash for fewer than two values."""
    return f"{number(min(values), digits)}–{number(max(values), digits)}" if len(values) > 1 else "-"


def spread(values, digits: int = 0) -> str:
    """The median and, in parentheses, min to max."""
    return median(values, digits) + (f" ({extent(values, digits)})" if len(values) > 1 else "")


def megabytes(values) -> str:
    """The median of bytes, in MB."""
    return median([value / 1e6 for value in values]) if values else "-"


# --- comparisons ------------------------------------------------------------------------------------------------------

def programs(results: dict) -> list[str]:
    """The rows of the main table: all planned programs, in the order of the page."""
    planned = {program for record in results["jobs"].values() if record["stage"] == "main"
               for program in record["programs"]}
    return [name for name in [*GRIMACE, *TORCH_F32, *TORCH_BF16, "Keras"] if name in planned]


def ratio(results: dict, stage: str, ours: str | None, theirs: str | None) -> list[float]:
    """Ratios of images per second, round by round; empty if either is missing."""
    if not ours or not theirs:
        return []
    return store.ratios(store.series(results, stage, ours), store.series(results, stage, theirs))


def missing(results: dict, stage: str, program: str) -> str:
    """The placeholder for a missing metric; `failures` has the reasons."""
    return "failed" if store.error(results, stage, program) else "not measured"


def failures(results: dict, expected: list[tuple[str, str]]) -> str:
    """Why metrics are missing, a line per (stage, program); empty if none are."""
    lines = []
    for stage, program in expected:
        problem = store.error(results, stage, program)
        if problem and not store.series(results, stage, program):
            lines.append(f"- {program if program == stage else f'{stage}, {program}'}: failed: {problem}")
    return "\n".join(lines)


def rounds(count: int) -> str:
    """`1 round`, `2 rounds`, ..."""
    return "1 round" if count == 1 else f"{count} rounds"


def speed_table(results: dict, rows: list[str], ours: str | None) -> str:
    """Programs by images per second, with the ratio of `ours` to each."""
    cells = []
    for program in rows:
        speeds = list(store.series(results, "main", program).values())
        if not speeds:
            problem = store.error(results, "main", program)
            cells.append([program, f"failed: {problem}" if problem else "not measured", "-", "-", "-"])
            continue
        steps = list(store.series(results, "main", program, "ms_per_step").values())
        lost = results["settings"]["rounds"] - len(speeds)
        note = f" ({lost} of {rounds(results['settings']['rounds'])} missing)" if lost else ""
        same = "1" if program == ours else spread(ratio(results, "main", ours, program), 2)
        cells.append([program + note, median(speeds), extent(speeds), median(steps, 1), same])
    return table(["program", "images/s", "min–max", "ms per step", f"speedup of {ours or 'Grimace'}"], cells)


# --- sections ---------------------------------------------------------------------------------------------------------

def section(title: str, *paragraphs: str) -> str:
    """A heading and its paragraphs, without empty ones."""
    return "\n\n".join([f"## {title}", *(paragraph for paragraph in paragraphs if paragraph)])


def command(settings: dict) -> str:
    """The command that writes the page."""
    if settings["quick"]:
        return "python3 scripts/bench.py --quick"
    arguments = "" if settings["device"] == "cpu" else " ARGS='--device cuda --out docs/benchmarks-cuda.md'"
    return "make bench" + arguments


def opening(results: dict) -> str:
    """Title, introduction, warnings."""
    settings = results["settings"]
    lines = [
        "<!-- Generated by scripts/bench.py; edits are lost. -->",
        "# Benchmarks",
        f"Generated by `{command(settings)}`. The raw results are in the JSON file beside this page; "
        "`python3 scripts/bench.py --render docs/benchmarks.json` renders it again.",
    ]
    if settings["quick"]:
        lines.append("**A smoke test of the script: few rows, few steps, one round. "
                     "Do not quote these results.**")
    count, known = disturbed(results)
    if count:
        lines.append(f"**In {count} of {known} runs, other work used the machine; see Machine and versions.**")
    if not results["finished"]:
        lines.append("**The measurement is not finished.**")
    machine, versions = results["machine"], results["versions"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores"
    lines.append(f"Measured on {results['started'][:10]}, {where}: Grimace {versions.get('grimace', '')} "
                 f"({versions.get('commit', 'commit unknown')}) on libtorch {versions.get('libtorch', '')}. "
                 "Images per second are for training the notebook's CNN at batch 64; see Method.")
    lines.append("For a breakdown of a training step, see [profile.md](profile.md).")
    return "\n\n".join(lines)


def machine_section(results: dict) -> str:
    """The machine, its load, and versions."""
    machine, versions, settings = results["machine"], results["versions"], results["settings"]
    memory = f"{machine['memory_gib']} GiB" if machine["memory_gib"] else "unknown"
    virtual = ", virtual" if machine["virtual"] else ""
    facts = [
        ["date", results["started"] + (f" to {results['finished']}" if results["finished"] else "")],
        ["CPU", f"{machine['cpu']}, {machine['cores']} cores{virtual}"],
        ["instruction sets", ", ".join(machine["instructions"]) or "unknown"],
        *([["GPU", machine["gpu"]]] if "gpu" in machine else []),
        ["memory", memory],
        ["system", machine["system"]],
        ["threads", f"{settings['threads']} for Grimace and PyTorch; Keras takes its default"],
        ["load at start", ", ".join(f"{value:.2f}" for value in results["load_at_start"]) + " (1, 5, 15 minutes)"],
        *([name if name != "python" else "peers' Python", value] for name, value in versions.items()),
    ]
    return section("Machine and versions", table(["item", "value"], facts, left=2), load_note(results))


def disturbed(results: dict) -> tuple[int, int]:
    """The number of runs that other work disturbed, and of runs for which that is known."""
    known = [record["others"] for record in results["jobs"].values() if record.get("others") is not None]
    return sum(others > DISTURBED_CORES for others in known), len(known)


def load_note(results: dict) -> str:
    """The load by other work during the measurement."""
    count, known = disturbed(results)
    if not known:
        return "Programs ran one at a time. The load by other work is unknown on this system."
    return (f"Programs ran one at a time. In {count} of {known} runs, other work or the hypervisor used more than "
            f"{DISTURBED_CORES} cores.")


def method(results: dict) -> str:
    """What is measured, and where the programs differ."""
    settings = results["settings"]
    data = settings["data"]
    images = "synthetic images (`grimace data synth`)" if data["train"] == "synthetic" else f"`{data['train']}`"
    rows = store.series(results, "main", GRIMACE[0], "rows")
    trained = f"{int(max(rows.values())):,} training rows" if rows else "training rows"
    steps = settings["torch_steps"]
    lines = [
        f"The notebook's CNN and augmentation (`configs/notebook.toml`), Adam, batch 64, on {images}; {trained}.",
        "- **Grimace**: `grimace train configs/notebook.toml --set train.epochs=2 --set precision=...`, images per second "
        "of the second epoch from `metrics.jsonl`: training rows over training seconds. That includes everything a "
        "training step needs: gathering images, augmentation, the epoch schedule, accumulating and reading back the loss.",
        f"- **PyTorch**: `scripts/peers/torch_eager.py`, the median of {steps} steps after 15 warmup steps, on 4,096 "
        "random images in memory. It reads back no loss and counts no correct predictions, and a median ignores slow "
        "steps: both are in its favor. `compiled` is `torch.compile`, without the compilation time.",
        "- **Keras**: `scripts/peers/keras_notebook.py --speed`, the notebook's code with its `ImageDataGenerator`, the "
        "mean of 60 steps after 10 warmup steps. It accumulates loss and accuracy.",
        f"- **Rounds**: {settings['rounds']}, every second one in reverse order, so that drift of the machine affects all "
        "programs equally. Ratios are taken within each round; the tables show their median and, in parentheses, min to "
        "max over the rounds. A median of ratios is not exactly the ratio of the medians.",
    ]
    if not settings["peers"]:
        lines.append("- Without PyTorch and Keras (`--no-peers`).")
    elif not settings["compiled"]:
        lines.append("- Without `torch.compile` (`--no-compile`).")
    return section("Method", lines[0], "\n".join(lines[1:]))


def speed_section(results: dict) -> str:
    """The two main tables."""
    rows, fastest = programs(results), store.best(results, "main", GRIMACE)
    f32 = [name for name in rows if name in [GRIMACE[0], *TORCH_F32, "Keras"]]
    return section("Training speed", speed_table(results, rows, fastest),
                   "The same runs, float32 only:", speed_table(results, f32, GRIMACE[0]))


def pair(results: dict, stage: str, ours: str, theirs: list[str]) -> list[str]:
    """Three cells: our speed, their best, the ratio."""
    mine = list(store.series(results, stage, ours).values())
    other = store.best(results, stage, theirs)
    their = list(store.series(results, stage, other).values()) if other else []
    return [spread(mine) if mine else missing(results, stage, ours),
            spread(their) if their else missing(results, stage, theirs[0]),
            spread(ratio(results, stage, ours, other), 2)]


def scaling_table(results: dict, first: str, stages: list[tuple[str, str]]) -> str:
    """A row per stage: each precision of Grimace against PyTorch's best variant of that precision.
    A row per stage: each precision of Grimace against PyTorch's best variant of that precision."""
    bf16 = GRIMACE[1].split()[1] in results["settings"]["precisions"]
    head = [first, "Grimace f32", "PyTorch f32", "ratio"]
    head += ["Grimace bf16", "PyTorch bf16", "ratio"] if bf16 else []
    rows = [[label, *pair(results, stage, GRIMACE[0], TORCH_F32),
             *(pair(results, stage, GRIMACE[1], TORCH_BF16) if bf16 else [])] for label, stage in stages]
    return table(head, rows, left=0)


def rows_table(results: dict) -> str:
    """One epoch of the training rows, and of ten times as many."""
    program = f"Grimace {results['settings']['precisions'][-1]}"
    cells = []
    for stage in ("rows 1x", "rows 10x"):
        values = {name: list(store.series(results, stage, program, name).values())
                for name in ("rows", "images_per_second", "seconds", "peak_bytes")}
        if values["rows"]:
            cells.append([median(values["rows"]), spread(values["images_per_second"]), spread(values["seconds"], 1),
                          megabytes(values["peak_bytes"])])
        else:
            cells.append([stage.removeprefix("rows "), missing(results, stage, program), "-", "-"])
    return table(["rows", f"{program}, images/s", "whole run, s", "peak memory, MB"], cells, left=0)


def scaling_section(results: dict) -> str:
    """Scaling with batch size, threads and rows."""
    settings = results["settings"]
    at = {count: "batch 64" if count == settings["threads"] else f"threads {count}"
          for count in settings["thread_counts"]}
    intro = (f"Images per second, median of {rounds(settings['scaling_rounds'])} and min to max. PyTorch's is its best "
             "variant of that precision without `torch.compile`, which would recompile for each row.")
    batches = scaling_table(results, "batch", [(f"{size:,}", f"batch {size}") for size in settings["batches"]])
    threads = scaling_table(results, "threads", [(str(count), stage) for count, stage in at.items()]) if at else ""
    rows = ("One epoch of the training rows, and of the same rows repeated ten times. It is the first epoch and includes "
            "warmup, which weighs more on fewer rows. The whole run includes startup, loading, training, validation and "
            "saving.")
    stages = [f"batch {size}" for size in settings["batches"]] + [stage for stage in at.values() if "threads" in stage]
    expected = [(stage, program) for stage in stages + ["rows 1x", "rows 10x"]
                for program in GRIMACE + TORCH_F32 + TORCH_BF16]
    return section("Scaling", intro, "### Batch size", batches, "### Threads" if at else "", threads,
                   "### Rows", rows, rows_table(results), failures(results, expected))


def process_section(results: dict) -> str:
    """Start-up, prediction and memory of whole processes."""
    test_rows = results["settings"]["data"]["test_rows"]
    rows = []
    for label, stage, program in [("`grimace train`, start to first step", "start", "start"),
                                  (f"`grimace predict`, {test_rows:,} images, whole process", "predict", "predict")]:
        seconds = list(store.series(results, stage, program, "seconds").values())
        cells = [median(seconds, 2), extent(seconds, 2)] if seconds else ["not measured", "-"]
        rows.append([label, *cells, "s"])
    for program in GRIMACE:
        peaks = [value / 1e6 for value in store.series(results, "main", program, "peak_bytes").values()]
        if peaks:
            rows.append([f"peak memory of training, {program}", median(peaks), extent(peaks), "MB"])
    note = ("Files are in the page cache. Peak memory is the max resident set of the process, including libtorch; "
            "PyTorch's and Keras' are not shown because their scripts load other data.")
    return section("Whole process", table(["metric", "median", "min–max", "unit"], rows),
                   failures(results, [("start", "start"), ("predict", "predict")]), note)


def verdict(met: list[bool], median_met: bool) -> str:
    """Whether the median meets a target, and whether every round agrees."""
    if not met:
        return "not measured"
    if median_met:
        return "yes" if all(met) else "yes, but not in every round"
    return "no" if not any(met) else "no, though in some rounds"


def check_min(values: list[float], target: float) -> list[str]:
    """The measured ratio and the verdict."""
    return [spread(values, 2), verdict([value >= target for value in values],
                                       bool(values) and statistics.median(values) >= target)]


def check_max(values: list[float], target: float) -> list[str]:
    """The measured seconds and the verdict."""
    return [spread(values, 2) + (" s" if values else ""), verdict([value < target for value in values],
                                                                bool(values) and statistics.median(values) < target)]


def targets_section(results: dict) -> str:
    """The project's targets and whether the results meet them."""
    ours = store.best(results, "main", GRIMACE)
    torch = store.best(results, "main", TORCH_F32 + TORCH_BF16)
    torch_f32 = store.best(results, "main", TORCH_F32)
    seconds = {name: list(store.series(results, name, name, "seconds").values()) for name in ("start", "predict")}
    targets = [(f"{ours or 'Grimace'} to {torch or 'PyTorch'}, best of each", f"{SPEEDUP} or more",
                check_min(ratio(results, "main", ours, torch), SPEEDUP)),
               (f"{ours or 'Grimace'} to Keras", f"{KERAS_SPEEDUP} or more",
                check_min(ratio(results, "main", ours, "Keras"), KERAS_SPEEDUP)),
               (f"Grimace f32 to {torch_f32 or 'PyTorch float32'}, best of float32", f"{SPEEDUP} or more",
                check_min(ratio(results, "main", GRIMACE[0], torch_f32), SPEEDUP)),
               ("start to first step", f"under {START_S:g} s", check_max(seconds["start"], START_S)),
               (f"predict {results['settings']['data']['test_rows']:,} images", f"under {PREDICT_S:g} s",
                check_max(seconds["predict"], PREDICT_S))]
    rows = [[label, target, measured, met] for label, target, (measured, met) in targets]
    count, known = disturbed(results)
    reason = "a smoke test" if results["settings"]["quick"] else "disturbed runs"
    warning = f"**From {reason}: these verdicts are unreliable.**"
    return section("Targets", table(["metric", "target", "measured", "met"], rows, left=4),
                   warning if results["settings"]["quick"] or count > known / 10 else "")


def cuda_section(results: dict) -> str:
    """The results on a GPU, or that there are none."""
    if results["settings"]["device"] == "cuda":
        return section(
            "CUDA", "All results above were measured on the GPU named above. Keras is left out: its wheel here is "
            "`tensorflow-cpu`. `torch_eager.py` synchronizes with the GPU before and after every step and so loses the "
            "overlap of host and GPU that Grimace has, which matters more for shorter steps.")
    return section("CUDA", "Not measured: all results above are from the CPU. "
                   "`python3 scripts/bench.py --device cuda --out docs/benchmarks-cuda.md` measures the GPU.")


def wrap(text: str) -> str:
    """Wraps prose and list items at 100 columns; tables, headings and comments stay as they are."""
    def lines(line: str) -> list[str]:
        if line.startswith(("|", "#", "<")):
            return [line]
        indent = "  " if line.startswith("- ") else ""
        return textwrap.wrap(line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]

    return "\n".join(part for line in text.split("\n") for part in lines(line))


def page(results: dict) -> str:
    """The page in Markdown."""
    parts = [opening, speed_section, targets_section, process_section, scaling_section, cuda_section, method,
             machine_section]
    return wrap("\n\n".join(part(results) for part in parts)) + "\n"
