#!/usr/bin/env python3
"""Benchmarks the forest against scikit-learn's, in turn and on the same rows; prints a Markdown
table.

    python3 scripts/bench_forest.py --train data/my_emotion_train.csv --peers-python VENV/bin/python [--rounds 3]

The peer's Python needs numpy, pandas and scikit-learn (scripts/peers/requirements.txt). The rows
are the notebook's: scripts/peers/notebook_data.py splits the CSV 80:20 for Grimace exactly as the
peer does. A round takes about five minutes on 2 cores.
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


def log(text: str) -> None:
    """Progress goes to stderr."""
    print(f"bench_forest: {text}", file=sys.stderr, flush=True)


def checked(child: measure.Child, name: str) -> measure.Child:
    """The child; exits the script if it failed."""
    if child.code != 0:
        log(f"{name} failed: {measure.reason(child)}")
        sys.exit(1)
    return child


def grimace(rows: Path, work: Path, number: int, overrides: list[str]) -> dict:
    """One `grimace forest`: its summary and its peak memory."""
    command = [GRIMACE, "forest", "configs/forest.toml", "--json", "--out", work / f"run-{number}"]
    for override in [f"data.train={rows / 'train.csv'}", f"data.validation={rows / 'validation.csv'}", *overrides]:
        command += ["--set", override]
    child = checked(measure.run_child(command, ROOT), "grimace forest")
    return {**json.loads(child.stdout), "peak_bytes": child.peak_bytes, "others": child.others}


def peer(args: argparse.Namespace, flags: list[str]) -> dict:
    """One run of the peer: its metrics and its peak memory."""
    script = ROOT / "scripts/peers/sklearn_forest.py"
    child = checked(measure.run_child([args.peers_python.absolute(), script, args.train, *flags], ROOT), "scikit-learn")
    return {**measure.json_lines(child.stdout)[0], "peak_bytes": child.peak_bytes, "others": child.others}


def spread(values: list[float], digits: int) -> str:
    """Median, min and max."""
    if not values:
        return ""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" if len(values) > 1 else f"{middle:.{digits}f}"


def accuracy(found: dict, key: str, dedup_key: str) -> str:
    """An accuracy and, if it is known, the deduplicated one."""
    if found.get(key) is None:
        return ""
    return f"{found[key]:.4f}" + (f" ({found[dedup_key]:.4f})" if found.get(dedup_key) is not None else "")


def table(rounds: list[dict[str, dict]]) -> str:
    """A row per program: times and memory over the rounds, accuracies of the first round."""
    lines = ["| program | fit, seconds | speedup of Grimace, histogram | cross-validation, seconds | peak memory, MB | "
             "validation accuracy (dedup) | cross-validation accuracy (dedup) |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for name in (OURS, LINFA, PEER, PEER_ALONE):
        all_ = [found[name] for found in rounds if name in found]
        if not all_:
            continue
        ratios = [found[name]["fit_seconds"] / found[OURS]["fit_seconds"] for found in rounds if name in found]
        cross = [found["cv_seconds"] for found in all_ if found.get("cv_seconds")]
        cells = [name, spread([found["fit_seconds"] for found in all_], 1), spread(ratios, 1), spread(cross, 1),
                 spread([found["peak_bytes"] / 1e6 for found in all_], 0),
                 accuracy(all_[0], "val_accuracy", "val_accuracy_dedup"),
                 accuracy(all_[0], "cv_mean", "cv_mean_dedup")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks the forest against scikit-learn's; prints a Markdown table.")
    parser.add_argument("--train", type=Path, required=True, metavar="CSV", help="images, with the column emotion")
    parser.add_argument("--peers-python", type=Path, required=True, metavar="PATH", help="a Python that has scikit-learn")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--no-linfa", action="store_true", help="skip the linfa finder, half a minute per round")
    parser.add_argument("--one-core", action="store_true", help="also run scikit-learn on one core, a minute per round")
    args = parser.parse_args()
    for path in (args.train, args.peers_python):
        if not path.is_file():
            parser.error(f"{path}: no such file")
    args.train = args.train.absolute()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        split = [args.peers_python.absolute(), ROOT / "scripts/peers/notebook_data.py", args.train, work / "rows"]
        checked(measure.run_child(split, ROOT), "splitting the rows")
        rounds = []
        for number in range(args.rounds):
            machine.wait_until_idle(60, log)
            log(f"round {number + 1} of {args.rounds}")
            found = {OURS: grimace(work / "rows", work, 2 * number, []), PEER: peer(args, ["--jobs", "-1"])}
            if not args.no_linfa:
                overrides = ["forest.finder=linfa", "forest.folds=0"]
                found[LINFA] = grimace(work / "rows", work, 2 * number + 1, overrides)
            if args.one_core:
                found[PEER_ALONE] = peer(args, ["--fit-only"])
            for name, metrics in found.items():
                log(f"{name}: fit {metrics['fit_seconds']:.2f} s, {metrics['peak_bytes'] / 1e6:.0f} MB, "
                    f"other work took {metrics['others']} cores")
            rounds.append(found)
        print(table(rounds))


if __name__ == "__main__":
    main()
