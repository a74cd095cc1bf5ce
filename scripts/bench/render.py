"""Writes the page from the results; nothing here measures."""
from __future__ import annotations

import statistics

from . import results as store

GRIMACE = ["Grimace f32", "Grimace bf16"]
TORCH_F32 = ["PyTorch fp32", "PyTorch fp32 channels_last", "PyTorch fp32 compiled"]
TORCH_BF16 = ["PyTorch bf16 channels_last", "PyTorch bf16 channels_last compiled"]
FOLD, KERAS_FOLD, START_S, PREDICT_S = 1.25, 2.5, 2.0, 3.0       # the project's targets
DISTURBED_CORES = 0.2           # a run during which others kept more cores busy than this is counted as disturbed

Rows = list[list[str]]


# --- numbers and tables -----------------------------------------------------------------------------------------------

def table(head: list[str], rows: Rows, left: int = 1) -> str:
    """A Markdown table whose columns line up in the source too; all but the first `left` are numbers."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]

    def line(row: list[str]) -> str:
        padded = (cell.ljust(width) if column < left else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths)))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def number(value: float, digits: int = 0) -> str:
    """A number with thousands apart."""
    return f"{value:,.{digits}f}"


def median(values, digits: int = 0) -> str:
    """The median, or a dash."""
    return number(statistics.median(values), digits) if values else "-"


def extent(values, digits: int = 0) -> str:
    """Lowest to highest, or a dash where there are not two."""
    return f"{number(min(values), digits)}–{number(max(values), digits)}" if len(values) > 1 else "-"


def spread(values, digits: int = 0) -> str:
    """The median and, in brackets, lowest to highest."""
    return median(values, digits) + (f" ({extent(values, digits)})" if len(values) > 1 else "")


def megabytes(values) -> str:
    """Bytes as MB, median."""
    return median([value / 1e6 for value in values]) if values else "-"


# --- what to compare --------------------------------------------------------------------------------------------------

def programs(results: dict) -> list[str]:
    """The rows of the main table: all that was meant to run, in the order of the page."""
    planned = {program for record in results["jobs"].values() if record["stage"] == "main"
               for program in record["programs"]}
    return [name for name in [*GRIMACE, *TORCH_F32, *TORCH_BF16, "Keras"] if name in planned]


def ratio(results: dict, stage: str, ours: str | None, theirs: str | None) -> list[float]:
    """Ratios of images a second, round by round; none where either is missing."""
    if not ours or not theirs:
        return []
    return store.ratios(store.series(results, stage, ours), store.series(results, stage, theirs))


def missing(results: dict, stage: str, program: str) -> str:
    """What stands in place of a missing figure; `failures` has the reasons."""
    return "failed" if store.error(results, stage, program) else "not measured"


def failures(results: dict, wanted: list[tuple[str, str]]) -> str:
    """Why figures are missing, a line each of (stage, program); empty where all are there."""
    lines = []
    for stage, program in wanted:
        problem = store.error(results, stage, program)
        if problem and not store.series(results, stage, program):
            lines.append(f"- {program if program == stage else f'{stage}, {program}'}: failed: {problem}")
    return "\n".join(lines)


def rounds(count: int) -> str:
    """A number of rounds in words."""
    return "1 round" if count == 1 else f"{count} rounds"


def speed_table(results: dict, rows: list[str], ours: str | None) -> str:
    """Programs by images a second, with the ratio of `ours` to each."""
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
    return table(["program", "images/s", "min–max", "ms per step", f"{ours or 'Grimace'} to it"], cells)


# --- sections ---------------------------------------------------------------------------------------------------------

def section(title: str, *paragraphs: str) -> str:
    """A heading and what stands under it; empty paragraphs are left out."""
    return "\n\n".join([f"## {title}", *(paragraph for paragraph in paragraphs if paragraph)])


def command(settings: dict) -> str:
    """How the page was made, in its general form."""
    if settings["quick"]:
        return "python3 scripts/bench.py --quick"
    arguments = "" if settings["device"] == "cpu" else " ARGS='--device cuda --out docs/benchmarks-cuda.md'"
    return "make bench" + arguments


def opening(results: dict) -> str:
    """Title, what this page is, warnings."""
    settings = results["settings"]
    lines = [
        "<!-- Written by scripts/bench.py; changes made here are lost. -->",
        "# Benchmarks",
        f"This page is written by `{command(settings)}`. The raw numbers are in the JSON file beside it, from which "
        "`python3 scripts/bench.py --render docs/benchmarks.json` writes the page again.",
    ]
    if settings["quick"]:
        lines.append("**A quick trial: few rows, few steps, one round. It shows that the script works. "
                     "Do not quote its figures.**")
    count, known = disturbed(results)
    if count:
        lines.append(f"**In {count} of {known} runs other work used the machine meanwhile; see Machine and versions.**")
    if not results["finished"]:
        lines.append("**The measurement is not finished.**")
    machine, versions = results["machine"], results["versions"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores"
    lines.append(f"Measured on {results['started'][:10]}, {where}: Grimace {versions.get('grimace', '')} "
                 f"({versions.get('commit', 'commit unknown')}) on libtorch {versions.get('libtorch', '')}. "
                 "Images a second are the seed's training, batch 64; how each was measured stands below.")
    lines.append("Where a step's time goes: [profile.md](profile.md).")
    return "\n\n".join(lines)


def machine_section(results: dict) -> str:
    """When, where, with what."""
    machine, versions, settings = results["machine"], results["versions"], results["settings"]
    memory = f"{machine['memory_gib']} GiB" if machine["memory_gib"] else "unknown"
    virtual = " of a virtual machine" if machine["virtual"] else ""
    facts = [
        ["date", results["started"] + (f" to {results['finished']}" if results["finished"] else "")],
        ["processor", f"{machine['cpu']}, {machine['cores']} cores{virtual}"],
        ["instructions", ", ".join(machine["instructions"]) or "unknown"],
        *([["GPU", machine["gpu"]]] if "gpu" in machine else []),
        ["memory", memory],
        ["system", machine["system"]],
        ["threads", f"{settings['threads']} for Grimace and PyTorch; Keras takes its default"],
        ["load at start", ", ".join(f"{value:.2f}" for value in results["load_at_start"]) + " (1, 5, 15 minutes)"],
        *([name if name != "python" else "Python of the peers", value] for name, value in versions.items()),
    ]
    return section("Machine and versions", table(["item", "value"], facts, left=2), quiet(results))


def disturbed(results: dict) -> tuple[int, int]:
    """How many runs others disturbed, of how many for which that is known."""
    known = [record["others"] for record in results["jobs"].values() if record.get("others") is not None]
    return sum(others > DISTURBED_CORES for others in known), len(known)


def quiet(results: dict) -> str:
    """How undisturbed the machine was."""
    count, known = disturbed(results)
    if not known:
        return "Each program ran alone. Whether anything else used the machine meanwhile is not known on this system."
    return (f"Each program ran alone. In {count} of {known} runs other work, or the hypervisor, used more than "
            f"{DISTURBED_CORES} cores meanwhile.")


def method(results: dict) -> str:
    """What is measured, and how it is not the same for everyone."""
    settings = results["settings"]
    data = settings["data"]
    faces = "faces drawn by `grimace data synth`" if data["train"] == "drawn" else f"the faces of `{data['train']}`"
    rows = store.series(results, "main", GRIMACE[0], "rows")
    trained = f"{int(max(rows.values())):,} training rows" if rows else "training rows"
    steps = settings["torch_steps"]
    lines = [
        f"The seed's network and augmentation (`configs/seed.toml`), Adam, batch 64, on {faces}; {trained}.",
        "- **Grimace**: `grimace train configs/seed.toml --set train.epochs=2 --set precision=...`, images a second of "
        "the second epoch by its `metrics.jsonl`: training rows over training seconds. Everything that training steps "
        "need is in it: picking faces, augmentation, the epoch's plan, adding up and reading back the loss.",
        f"- **PyTorch**: `scripts/peers/torch_eager.py`, the median of {steps} steps after 15 that are not counted, on "
        "4,096 random faces that are in memory already. It reads back no loss and counts no hits, and a median leaves "
        "out slow steps: both are in its favour. `compiled` is `torch.compile`; its compilation is not counted.",
        "- **Keras**: `scripts/peers/keras_seed.py --speed`, the notebook's code with its `ImageDataGenerator`, the "
        "mean of 60 steps after 10 that are not counted. It adds up loss and accuracy.",
        f"- **Rounds**: {settings['rounds']} in turn, every second one backwards, so that a drifting machine hits "
        "everyone alike. A ratio is taken within each round; shown are its median and, in brackets, lowest and highest "
        "over the rounds. It is therefore not exactly the ratio of the medians beside it.",
    ]
    if not settings["peers"]:
        lines.append("- PyTorch and Keras were left out (`--no-peers`).")
    elif not settings["compiled"]:
        lines.append("- `torch.compile` was left out (`--no-compile`).")
    return section("What is measured", lines[0], "\n".join(lines[1:]))


def speed_section(results: dict) -> str:
    """The two main tables."""
    rows, fastest = programs(results), store.best(results, "main", GRIMACE)
    f32 = [name for name in rows if name in [GRIMACE[0], *TORCH_F32, "Keras"]]
    return section("Training speed", speed_table(results, rows, fastest),
                   "The same runs, float32 alone:", speed_table(results, f32, GRIMACE[0]))


def pair(results: dict, stage: str, ours: str, theirs: list[str]) -> list[str]:
    """Three cells: our speed, the best of theirs, the ratio."""
    mine = list(store.series(results, stage, ours).values())
    other = store.best(results, stage, theirs)
    their = list(store.series(results, stage, other).values()) if other else []
    return [spread(mine) if mine else missing(results, stage, ours),
            spread(their) if their else missing(results, stage, theirs[0]),
            spread(ratio(results, stage, ours, other), 2)]


def growth_table(results: dict, first: str, stages: list[tuple[str, str]]) -> str:
    """One row a stage: both precisions of Grimace beside PyTorch's best of that precision."""
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
        what = {name: list(store.series(results, stage, program, name).values())
                for name in ("rows", "images_per_second", "seconds", "peak_bytes")}
        if what["rows"]:
            cells.append([median(what["rows"]), spread(what["images_per_second"]), spread(what["seconds"], 1),
                          megabytes(what["peak_bytes"])])
        else:
            cells.append([stage.removeprefix("rows "), missing(results, stage, program), "-", "-"])
    return table(["rows", f"{program}, images/s", "whole run, s", "peak memory, MB"], cells, left=0)


def growth_section(results: dict) -> str:
    """Batch size, threads, rows."""
    settings = results["settings"]
    at = {count: "batch 64" if count == settings["threads"] else f"threads {count}"
          for count in settings["thread_counts"]}
    intro = (f"Images a second, median of {rounds(settings['growth_rounds'])} and lowest to highest. PyTorch is its "
             "best variant of that precision without `torch.compile`, which would compile anew for each row.")
    batches = growth_table(results, "batch", [(f"{size:,}", f"batch {size}") for size in settings["batches"]])
    threads = growth_table(results, "threads", [(str(count), stage) for count, stage in at.items()]) if at else ""
    rows = ("One epoch of the training rows, and of the same rows ten times over. It is the first epoch, so warming up "
            "is in it, which weighs more on fewer rows. The whole run has start, reading, training, validation and "
            "saving in it.")
    stages = [f"batch {size}" for size in settings["batches"]] + [stage for stage in at.values() if "threads" in stage]
    wanted = [(stage, program) for stage in stages + ["rows 1x", "rows 10x"]
              for program in GRIMACE + TORCH_F32 + TORCH_BF16]
    return section("As the work grows", intro, "### Batch size", batches, "### Threads" if at else "", threads,
                   "### Rows", rows, rows_table(results), failures(results, wanted))


def whole_section(results: dict) -> str:
    """The program from its start."""
    test_rows = results["settings"]["data"]["test_rows"]
    rows = []
    for label, stage, program in [("`grimace train`, start to first step", "start", "start"),
                                  (f"`grimace predict`, {test_rows:,} faces, start to end", "predict", "predict")]:
        seconds = list(store.series(results, stage, program, "seconds").values())
        cells = [median(seconds, 2), extent(seconds, 2)] if seconds else ["not measured", "-"]
        rows.append([label, *cells, "s"])
    for program in GRIMACE:
        peaks = [value / 1e6 for value in store.series(results, "main", program, "peak_bytes").values()]
        if peaks:
            rows.append([f"peak memory of training, {program}", median(peaks), extent(peaks), "MB"])
    note = ("Files are in the system's cache. Peak memory is the largest resident set of the whole process, libtorch "
            "included; PyTorch's and Keras' are not shown, for their scripts load other data.")
    return section("The program as a whole", table(["what", "median", "min–max", "unit"], rows),
                   failures(results, [("start", "start"), ("predict", "predict")]), note)


def verdict(met: list[bool], median_met: bool) -> str:
    """Whether a target is met, by the median; and whether every round agrees."""
    if not met:
        return "not measured"
    if median_met:
        return "yes" if all(met) else "yes, but not in every round"
    return "no" if not any(met) else "no, though in some rounds"


def at_least(values: list[float], target: float) -> list[str]:
    """Measured ratio and verdict."""
    return [spread(values, 2), verdict([value >= target for value in values],
                                       bool(values) and statistics.median(values) >= target)]


def below(values: list[float], target: float) -> list[str]:
    """Measured seconds and verdict."""
    return [spread(values, 2) + (" s" if values else ""), verdict([value < target for value in values],
                                                                bool(values) and statistics.median(values) < target)]


def targets_section(results: dict) -> str:
    """The project's targets against the figures above."""
    ours = store.best(results, "main", GRIMACE)
    torch = store.best(results, "main", TORCH_F32 + TORCH_BF16)
    torch_f32 = store.best(results, "main", TORCH_F32)
    seconds = {name: list(store.series(results, name, name, "seconds").values()) for name in ("start", "predict")}
    named = [(f"{ours or 'Grimace'} to {torch or 'PyTorch'}, the best of each", f"{FOLD} or more",
              at_least(ratio(results, "main", ours, torch), FOLD)),
             (f"{ours or 'Grimace'} to Keras", f"{KERAS_FOLD} or more",
              at_least(ratio(results, "main", ours, "Keras"), KERAS_FOLD)),
             (f"Grimace f32 to {torch_f32 or 'PyTorch float32'}, the best of float32", f"{FOLD} or more",
              at_least(ratio(results, "main", GRIMACE[0], torch_f32), FOLD)),
             ("start to first step", f"under {START_S:g} s", below(seconds["start"], START_S)),
             (f"predict {results['settings']['data']['test_rows']:,} faces", f"under {PREDICT_S:g} s",
              below(seconds["predict"], PREDICT_S))]
    rows = [[label, target, measured, answer] for label, target, (measured, answer) in named]
    count, known = disturbed(results)
    doubt = "a quick trial" if results["settings"]["quick"] else "runs that other work disturbed"
    warning = f"**By {doubt}: neither a yes nor a no here is to be relied on.**"
    return section("Targets", table(["what", "target", "measured", "met"], rows, left=4),
                   warning if results["settings"]["quick"] or count > known / 10 else "")


def cuda_section(results: dict) -> str:
    """What is known about GPUs."""
    if results["settings"]["device"] == "cuda":
        return section(
            "CUDA", "All figures above were measured on the GPU named above. Keras is left out: its wheel here is "
            "`tensorflow-cpu`. `torch_eager.py` waits for the GPU before and after every step, which costs it the "
            "overlap of host and GPU that Grimace has: its figures are lower for that reason, the more so the shorter "
            "a step is.")
    return section("CUDA", "Not measured: every figure above is from the CPU, and nothing here says how fast Grimace "
                   "is on a GPU. `python3 scripts/bench.py --device cuda --out docs/benchmarks-cuda.md` measures it.")


def page(results: dict) -> str:
    """The whole page."""
    parts = [opening, speed_section, targets_section, whole_section, growth_section, cuda_section, method,
             machine_section]
    return "\n\n".join(part(results) for part in parts) + "\n"
