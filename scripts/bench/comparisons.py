"""Speeds of programs beside each other."""
from __future__ import annotations

from . import results as store
from .formatting import spread

GRIMACE = ["Grimace f32", "Grimace bf16"]
TORCH_F32 = ["PyTorch fp32", "PyTorch fp32 channels_last", "PyTorch fp32 compiled", "PyTorch fp32 channels_last compiled"]
TORCH_BF16 = ["PyTorch bf16 channels_last", "PyTorch bf16 channels_last compiled"]


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


def pair(results: dict, stage: str, ours: str, theirs: list[str]) -> list[str]:
    """Three cells: our speed, their best, the ratio."""
    mine = list(store.series(results, stage, ours).values())
    other = store.best(results, stage, theirs)
    their = list(store.series(results, stage, other).values()) if other else []
    return [spread(mine) if mine else missing(results, stage, ours),
            spread(their) if their else missing(results, stage, theirs[0]),
            spread(ratio(results, stage, ours, other), 2)]
