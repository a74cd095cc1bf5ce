#!/usr/bin/env python3
"""Shows that nothing is lost when a training dies.

    scripts/chaos.sh                          # about ten minutes on 2 cores
    scripts/chaos.sh --quick                  # a small round of everything in about a minute
    scripts/chaos.sh --only kills:17          # one case again, with the same random moments

Runs are killed, interrupted, starved of disk and damaged at random, go on with --resume, and must end exactly as a run
that nothing happened to: same tensors, metrics and summary, bit for bit. A failure is told at once, with what was
expected, what came and how to repeat it; a table comes last. Exit codes: 0 everything held, 1 something did not, 2 bad
arguments.

Standard library only. scripts/chaos.sh is the way to start it: it finds the program and makes small disks possible.
"""
from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chaos import damages, faults, kills, stops
from chaos.lab import Lab, Stop, variants
from chaos.program import catch_signals
from chaos.results import Results

ROOT = Path(__file__).resolve().parent.parent
CHECKS = ("unbroken", "kills", *stops.KINDS, "twice", "faults", "damages", "both")
DEFAULT = {"kills": 100, "terms": 20, "damages": 200}
QUICK = {"kills": 8, "terms": 6, "damages": 12}


def say(text: str) -> None:
    """Progress and failures go to stderr."""
    print(f"chaos: {text}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos.sh", description="Shows that nothing is lost when a training dies.",
        epilog="Exit codes: 0 everything held, 1 something did not, 2 bad arguments.")
    add = parser.add_argument
    add("--quick", action="store_true", help="a small round of everything, about a minute")
    add("--kills", type=int, metavar="N", help="runs killed with SIGKILL, 1 to 4 times each; default 100, quick 8")
    add("--terms", type=int, metavar="N",
        help="runs sent SIGTERM, and a quarter as many SIGINT and SIGHUP; default 20, quick 6")
    add("--damages", type=int, metavar="N", help="checkpoints cut or with a bit flipped; default 200, quick 12")
    add("--seed", type=int, default=42, metavar="S", help="of random moments and places; default 42")
    add("--faces", type=Path, metavar="CSV", help="train on its first 600 faces; default: drawn ones")
    add("--work", type=Path, metavar="DIR", help="empty folder to work in; default: a temporary one, kept on failure")
    add("--json", type=Path, metavar="FILE", help="write all results as JSON")
    add("--only", metavar="CHECK[:CASE]", help=f"one check of {', '.join(CHECKS)}; or one case of it, such as kills:17")
    args = parser.parse_args()
    for name, count in defaults(args).items():
        if getattr(args, name) is None:
            setattr(args, name, count)
        if getattr(args, name) < 0:
            parser.error(f"--{name}: expected 0 or more")
    check_arguments(parser, args)
    return args


def defaults(args: argparse.Namespace) -> dict[str, int]:
    """How many of each, where nothing is said."""
    return QUICK if args.quick else DEFAULT


def counts(args: argparse.Namespace) -> dict[str, int]:
    """How many cases each check has."""
    quarter = -(-args.terms // 4)
    return {"unbroken": len(variants(args.quick)), "kills": args.kills, "terms": args.terms, "ints": quarter,
            "hups": quarter, "twice": min(quarter, 5), "faults": len(faults.FAULTS), "damages": args.damages,
            "both": -(-args.damages // 20)}


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses what cannot be done, before any work."""
    if args.faces and not args.faces.is_file():
        parser.error(f"--faces {args.faces}: no such file")
    if args.work and args.work.exists() and (not args.work.is_dir() or any(args.work.iterdir())):
        parser.error(f"--work {args.work}: expected an empty folder, or one that does not exist yet")
    if args.json and not args.json.absolute().parent.is_dir():
        parser.error(f"--json {args.json}: no such folder")
    if args.only:
        check, _, case = args.only.partition(":")
        if check not in CHECKS:
            parser.error(f"--only {args.only}: expected one of {', '.join(CHECKS)}, or a case of one")
        keys = [fault.key for fault in faults.FAULTS] if check == "faults" else \
            [str(number + 1) for number in range(counts(args)[check])]
        if case and case not in keys:
            shown = ", ".join(keys) if check == "faults" else f"1 to {len(keys)}"
            parser.error(f"--only {args.only}: the cases of {check} are {shown}")


def repeat(args: argparse.Namespace) -> str:
    """The command that does a case of this round again, but for --only."""
    words = ["scripts/chaos.sh", "--seed", str(args.seed)]
    words += ["--quick"] if args.quick else []
    for name, count in defaults(args).items():
        words += [f"--{name}", str(getattr(args, name))] if getattr(args, name) != count else []
    words += ["--faces", str(args.faces)] if args.faces else []
    return shlex.join(words)


def check_everything(lab: Lab) -> None:
    """All checks, one after the other."""
    lab.results.rows.append(lab.repeats)
    try:
        for number, variant in enumerate(lab.variants, 1):
            if lab.wants("unbroken", number):
                lab.reference(variant)
        if lab.wants("kills"):
            kills.run(lab)
        stops.run(lab)
        if lab.wants("faults"):
            faults.run(lab)
        damages.run(lab)
    finally:
        lab.results.rows.append(lab.health)


def work_folder(args: argparse.Namespace) -> Path:
    """Where to work."""
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
        return args.work.resolve()
    return Path(tempfile.mkdtemp(prefix="grimace-chaos-"))


def version(program: Path) -> str:
    """What the program calls itself."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()


def checked(args: argparse.Namespace, work: Path, results: Results) -> int:
    """Checks, prints the table, saves; the exit code."""
    start, code, gave_up = time.monotonic(), 0, None
    program = Path(os.environ.get("GRIMACE") or ROOT / "target/release/grimace").absolute()
    lab = Lab(program, work, args.seed, args.quick, counts(args), args.only, repeat(args), results)
    say(f"{version(program)}, seed {args.seed}, in {work}")
    try:
        lab.prepare(args.faces)
        check_everything(lab)
    except Stop as stop:
        gave_up, code = str(stop), stop.code
        say(gave_up)
    code = code or int(not results.all_held())
    took = round(time.monotonic() - start)
    print_table(results, code, f"seed {args.seed}, {took} s")
    if args.json:
        results.save(args.json, {"version": version(program), "seed": args.seed, "quick": args.quick,
                                 "faces": args.faces.name if args.faces else "drawn", "only": args.only,
                                 "counts": counts(args), "took_s": took, "held": code == 0, "gave_up": gave_up})
    return code


def print_table(results: Results, code: int, how: str) -> None:
    """The table, and in one line what comes of it."""
    untested = sum(row.not_tested for row in results.rows)
    outcome = "NOT everything held" if code else "everything that was tested held" if untested else "everything held"
    more = f"; {untested} rows were not tested" if untested else ""
    print(f"{results.table()}\n\n{outcome}{more} ({how})", flush=True)


def main() -> int:
    """Works in a folder that is removed when all held."""
    args = arguments()
    catch_signals()
    work, results, code = work_folder(args), Results(say), 1
    try:
        code = checked(args, work, results)
    except KeyboardInterrupt:
        say("interrupted")
        code = 130
    finally:
        if args.work or (code == 1 and results.failures):
            say(f"the files are kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
