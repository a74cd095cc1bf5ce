"""The results: one record per job, saved after each, and statistics over rounds."""
from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

FORMAT = 2


def save(results: dict, path: Path) -> None:
    """Writes the results atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new.tmp")
    temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def load(path: Path) -> dict:
    """Reads results; raises ValueError for an invalid file."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: not JSON: {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ValueError(f"{path.name}: expected results of this scripts/bench.py (format {FORMAT})")
    return results


def key(stage: str, round_: int, job: str) -> str:
    """The key of a job's record."""
    return f"{stage}/{round_}/{job}"


def series(results: dict, stage: str, program: str, what: str = "images_per_second") -> dict[int, float]:
    """One metric of a program by round, without rounds in which it failed."""
    found = {}
    for record in results["jobs"].values():
        if record["stage"] == stage:
            for metrics in record["metrics"]:
                if metrics["program"] == program and metrics.get(what) is not None:
                    found[record["round"]] = metrics[what]
    return found


def error(results: dict, stage: str, program: str) -> str | None:
    """Why a program has no metrics in a stage, in its last failed round; None if it never
    failed."""
    found = None
    for record in results["jobs"].values():
        if record["stage"] == stage and program in record["programs"] and record["error"]:
            if program not in {metrics["program"] for metrics in record["metrics"]}:
                found = record["error"]
    return found


def ratios(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """Ours over theirs in every round that has both.

    Within a round both ran under the same conditions; the two medians may come from different
    hours.
    """
    return [ours[round_] / theirs[round_] for round_ in sorted(ours.keys() & theirs.keys()) if theirs[round_] > 0]


def best(results: dict, stage: str, programs: list[str]) -> str | None:
    """The program with the highest median images per second; None if none was measured."""
    medians = {program: statistics.median(values.values())
               for program in programs if (values := series(results, stage, program))}
    return max(medians, key=medians.__getitem__) if medians else None
