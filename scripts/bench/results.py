"""What was measured: one record a job, saved after each, and the statistics over rounds."""
from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

FORMAT = 1


def save(results: dict, path: Path) -> None:
    """Writes the results whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new.tmp")
    temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def load(path: Path) -> dict:
    """Reads results; a ValueError says what is wrong with the file."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: not JSON: {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ValueError(f"{path.name}: not results of this scripts/bench.py (format {FORMAT})")
    return results


def key(stage: str, round_: int, job: str) -> str:
    """The name of a job's record."""
    return f"{stage}/{round_}/{job}"


def series(results: dict, stage: str, program: str, what: str = "images_per_second") -> dict[int, float]:
    """One figure of a program by round; rounds in which it failed are missing."""
    found = {}
    for record in results["jobs"].values():
        if record["stage"] == stage:
            for figure in record["figures"]:
                if figure["program"] == program and figure.get(what) is not None:
                    found[record["round"]] = figure[what]
    return found


def error(results: dict, stage: str, program: str) -> str | None:
    """Why a program has no figure in a stage, in its last failed round; None where it never failed."""
    found = None
    for record in results["jobs"].values():
        if record["stage"] == stage and program in record["programs"] and record["error"]:
            if program not in {figure["program"] for figure in record["figures"]}:
                found = record["error"]
    return found


def ratios(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """Ours over theirs in every round that has both.

    Within a round both met the same machine; a ratio of two medians could take them from different hours.
    """
    return [ours[round_] / theirs[round_] for round_ in sorted(ours.keys() & theirs.keys()) if theirs[round_] > 0]


def best(results: dict, stage: str, programs: list[str]) -> str | None:
    """The program with the highest median images a second; None where none was measured."""
    medians = {program: statistics.median(values.values())
               for program in programs if (values := series(results, stage, program))}
    return max(medians, key=medians.__getitem__) if medians else None
