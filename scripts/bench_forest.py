#!/usr/bin/env python3
"""Measures the forest beside scikit-learn's: both in turn, on the same rows, and prints a table in Markdown.

    python3 scripts/bench_forest.py --train data/my_emotion_train.csv --peers-python VENV/bin/python [--rounds 3]

The peer's Python needs numpy, pandas and scikit-learn (scripts/peers/requirements.txt). The rows are those of the notebook:
scripts/peers/seed_data.py cuts the CSV 80:20 for Grimace as the peer cuts it for itself. A round takes about five minutes on 2 cores.
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from bench import machine, measure

ROOT = Path(__file__).resolve().parent.parent
GRIMACE = ROOT / "target/release/grimace"
OURS, LINFA, PEER, PEER_ALONE = "Grimace, histogram", "Grimace, linfa", "scikit-learn, all cores", "scikit-learn, as the notebook"


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(f"bench_forest: {text}", file=sys.stderr, flush=True)


def checked(child: measure.Child, name: str) -> measure.Child:
    """The child, or the end of the script when it failed."""
    if child.code != 0:
        say(f"{name} failed: {measure.reason(child)}")
        sys.exit(1)
    return child


def grimace(rows: Path, work: Path, number: int, sets: list[str]) -> dict:
    """One `grimace forest`: its summary and its peak memory."""
    command = [GRIMACE, "forest", "configs/forest.toml", "--json", "--out", work / f"run-{number}"]
    for set_ in [f"data.train={rows / 'train.csv'}", f"data.validation={rows / 'validation.csv'}", *sets]:
        command += ["--set", set_]
    child = checked(measure.run_child(command, ROOT), "grimace forest")
    return {**json.loads(child.stdout), "peak_bytes": child.peak_bytes, "others": child.others}


def peer(args: argparse.Namespace, flags: list[str]) -> dict:
    """One run of the peer: its figures and its peak memory."""
    script = ROOT / "scripts/peers/sklearn_forest.py"
    child = checked(measure.run_child([args.peers_python.absolute(), script, args.train, *flags], ROOT), "scikit-learn")
    return {**measure.json_lines(child.stdout)[0], "peak_bytes": child.peak_bytes, "others": child.others}


def spread(values: list[float], digits: int) -> str:
    """Median, lowest and highest."""
    if not values:
        return ""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" if len(values) > 1 else f"{middle:.{digits}f}"


def accuracy(found: dict, key: str, without: str) -> str:
    """An accuracy and, where it is known, the one without copies."""
    if found.get(key) is None:
        return ""
    return f"{found[key]:.4f}" + (f" ({found[without]:.4f})" if found.get(without) is not None else "")


def table(rounds: list[dict[str, dict]]) -> str:
    """A line for each program; times and memory over the rounds, accuracies of the first."""
    lines = ["| program | fit, seconds | ours to it | cross-validation, seconds | peak memory, MB | validation accuracy "
             "(without copies) | cross-validated (without copies) |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for name in (OURS, LINFA, PEER, PEER_ALONE):
        all_ = [found[name] for found in rounds if name in found]
        if not all_:
            continue
        ratios = [found[name]["fit_seconds"] / found[OURS]["fit_seconds"] for found in rounds if name in found]
        cross = [found["cv_seconds"] for found in all_ if found.get("cv_seconds")]
        cells = [name, spread([found["fit_seconds"] for found in all_], 1), spread(ratios, 1), spread(cross, 1),
                 spread([found["peak_bytes"] / 1e6 for found in all_], 0),
                 accuracy(all_[0], "val_accuracy", "val_accuracy_without_copies"),
                 accuracy(all_[0], "cv_mean", "cv_mean_without_copies")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the forest beside scikit-learn's; prints a table in Markdown.")
    parser.add_argument("--train", type=Path, required=True, metavar="CSV", help="faces, with the column emotion")
    parser.add_argument("--peers-python", type=Path, required=True, metavar="PATH", help="a Python that has scikit-learn")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--no-linfa", action="store_true", help="leave out the linfa finder, half a minute a round")
    parser.add_argument("--one-core", action="store_true", help="also scikit-learn on one core, a minute a round")
    args = parser.parse_args()
    for path in (args.train, args.peers_python):
        if not path.is_file():
            parser.error(f"{path}: no such file")
    args.train = args.train.absolute()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cut = [args.peers_python.absolute(), ROOT / "scripts/peers/seed_data.py", args.train, work / "rows"]
        checked(measure.run_child(cut, ROOT), "cutting the rows")
        rounds = []
        for number in range(args.rounds):
            machine.wait_until_idle(60, say)
            say(f"round {number + 1} of {args.rounds}")
            found = {OURS: grimace(work / "rows", work, 2 * number, []), PEER: peer(args, ["--jobs", "-1"])}
            if not args.no_linfa:
                sets = ["forest.finder=linfa", "forest.folds=0"]
                found[LINFA] = grimace(work / "rows", work, 2 * number + 1, sets)
            if args.one_core:
                found[PEER_ALONE] = peer(args, ["--fit-only"])
            for name, figures in found.items():
                say(f"{name}: fit {figures['fit_seconds']:.2f} s, {figures['peak_bytes'] / 1e6:.0f} MB, "
                    f"other work took {figures['others']} cores")
            rounds.append(found)
        print(table(rounds))


if __name__ == "__main__":
    main()
