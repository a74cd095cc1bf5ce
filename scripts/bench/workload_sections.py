"""The sections of the page on the record network, inference, and a machine that is shared."""
from __future__ import annotations

import statistics

from . import results as store
from .comparisons import GRIMACE, TORCH_BF16, TORCH_F32, failures, missing, pair, ratio
from .formatting import section, spread, table
from .workloads import RUNTIMES, SWEEP_EPOCHS, inference_stages


def precisions(results: dict) -> list[tuple[str, list[str]]]:
    """Grimace and the variants of PyTorch in each precision that was measured."""
    both = list(zip(GRIMACE, [TORCH_F32, TORCH_BF16]))
    return [(ours, theirs) for ours, theirs in both if ours.split()[1] in results["settings"]["precisions"]]


def auto_precision(results: dict) -> str:
    """The precision of the stages that run in one only. Results from before the setting had bf16 where possible."""
    return results["settings"].get("auto_precision", results["settings"]["precisions"][-1])


def measured(results: dict, stage: str) -> bool:
    """Whether the results have this stage."""
    return any(record["stage"] == stage for record in results["jobs"].values())


def record(results: dict) -> str:
    """The network of configs/best/cpu.toml."""
    if not measured(results, "record"):
        return ""
    rows = [[ours.split()[1], *pair(results, "record", ours, theirs)] for ours, theirs in precisions(results)]
    text = ("Images per second of training the residual network of `configs/best/cpu.toml`, 2.8 million parameters, at its "
            "full size of 48 pixels, batch 128. PyTorch's is its best variant of that precision.")
    expected = [("record", program) for program in GRIMACE + TORCH_F32 + TORCH_BF16]
    return section("Record network", text, table(["precision", "Grimace", "PyTorch", "ratio"], rows),
                   failures(results, expected))


def inference(results: dict) -> str:
    """Whole processes from start to a CSV of probabilities."""
    stages = inference_stages(results["settings"]["data"]["test_rows"])
    stages = [stage for stage, *_ in stages if measured(results, stage)]
    if not stages:
        return ""
    rows = []
    for stage in stages:
        seconds = [store.series(results, stage, runtime, "seconds") for runtime in RUNTIMES]
        cells = [spread(list(found.values()), 2) if found else missing(results, stage, runtime)
                 for found, runtime in zip(seconds, RUNTIMES)]
        others = [found for found in seconds[1:] if found]
        fastest = min(others, key=lambda found: statistics.median(found.values()), default={})
        rows.append([stage, *cells, spread(store.ratios(fastest, seconds[0]), 2)])
    text = ("Seconds from the start of the process to its end, for a CSV of images to a CSV of probabilities: `grimace "
            "predict`, and `scripts/peers/predict.py` on the exported TorchScript and ONNX files. The last column is the "
            "faster peer's time divided by Grimace's.")
    return section("Inference", text, table(["network, images", *RUNTIMES, "speedup"], rows),
                   failures(results, [(stage, runtime) for stage in stages for runtime in RUNTIMES]))


def shared(results: dict) -> str:
    """Training beside one busy process."""
    if not measured(results, "shared"):
        return ""
    rows = []
    for program in [*GRIMACE, *TORCH_F32[:2], TORCH_BF16[0]]:
        if speeds := list(store.series(results, "shared", program).values()):
            idle = list(store.series(results, "main", program).values())
            kept = ratio_of_stages(results, program)
            rows.append([program, spread(idle) if idle else "not measured", spread(speeds), spread(kept, 2)])
    text = ("Images per second of training the notebook's CNN on the idle machine, and beside one process that computes all "
            "the time. Grimace bounds how long OpenMP's threads spin; PyTorch has its defaults.")
    best = [store.best(results, "shared", names) for names in (GRIMACE, TORCH_F32 + TORCH_BF16)]
    found = ratio(results, "shared", *best)
    verdict = f"Beside the busy process, {best[0]} is {spread(found, 2)} times as fast as {best[1]}." if found else ""
    expected = [("shared", program) for program in GRIMACE + TORCH_F32[:2] + TORCH_BF16[:1]]
    return section("A shared machine", text, table(["program", "idle", "beside a busy process", "kept"], rows), verdict,
                   failures(results, expected))


def sweep(results: dict) -> str:
    """Two trainings one after the other, and at the same time."""
    if not measured(results, "sweep"):
        return ""
    programs = ["--parallel 1", "--parallel 2"]
    seconds = [store.series(results, "sweep", program, "seconds") for program in programs]
    row = [spread(list(found.values()), 1) if found else missing(results, "sweep", program)
           for found, program in zip(seconds, programs)]
    text = (f"Seconds of `grimace sweep configs/notebook.toml --seeds 2`, {SWEEP_EPOCHS} epochs each, in "
            f"{auto_precision(results)}: one training after the other, and both at the same time.")
    return section("Sweep", text, table([*programs, "speedup"], [[*row, spread(store.ratios(*seconds), 2)]], left=0),
                   failures(results, [("sweep", program) for program in programs]))


def ratio_of_stages(results: dict, program: str) -> list[float]:
    """The speed beside a busy process as a fraction of the idle one, round by round."""
    return store.ratios(store.series(results, "shared", program), store.series(results, "main", program))
