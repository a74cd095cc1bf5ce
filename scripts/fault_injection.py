#!/usr/bin/env python3
"""Fault injection: checks that a training run survives crashes, signals, full disks and corrupt
files.

    scripts/fault_injection.sh                     # about ten minutes on 2 cores
    scripts/fault_injection.sh --quick             # a few cases of every check, about a minute
    scripts/fault_injection.sh --only sigkill:17   # one case again, with the same random moments

A faulted run is resumed with --resume and must end exactly as an uninterrupted run: same tensors,
metrics and summary, bit for bit. A failure is logged at once, with what was expected, the problems
and the command that reproduces it; a table comes last. Exit codes: 0 everything passed, 1 something
failed, 2 bad arguments.

Standard library only. Start it with scripts/fault_injection.sh, which finds the program and allows
mounting a tmpfs.
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

from fault_injection import corruption, environment, sigkill, termination_signals
from fault_injection.check_results import Results
from fault_injection.harness import Abort, Harness, variants
from fault_injection.process import catch_signals

ROOT = Path(__file__).resolve().parent.parent
CHECKS = ("reference", "sigkill", *termination_signals.SIGNALS, "double-sigint", "environment", "corruption",
          "double-corruption")
DEFAULT = {"sigkills": 100, "sigterms": 20, "corruptions": 200}
QUICK = {"sigkills": 8, "sigterms": 6, "corruptions": 12}


def log(text: str) -> None:
    """Progress and failures go to stderr."""
    print(f"fault_injection: {text}", file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/fault_injection.sh",
        description="Checks that a training run survives crashes, signals, full disks and corrupt files.",
        epilog="Exit codes: 0 everything passed, 1 something failed, 2 bad arguments.")
    add = parser.add_argument
    add("--quick", action="store_true", help="a few cases of every check, about a minute")
    add("--sigkills", type=int, metavar="N", help="runs killed with SIGKILL, 1 to 4 times each; default 100, quick 8")
    add("--sigterms", type=int, metavar="N",
        help="runs sent SIGTERM, and a quarter as many SIGINT and SIGHUP; default 20, quick 6")
    add("--corruptions", type=int, metavar="N",
        help="checkpoints truncated or with a bit flipped; default 200, quick 12")
    add("--seed", type=int, default=42, metavar="S", help="of random moments and offsets; default 42")
    add("--data", type=Path, metavar="CSV", help="train on its first 600 images; default: synthetic ones")
    add("--work", type=Path, metavar="DIR", help="empty folder to work in; default: a temporary one, kept on failure")
    add("--json", type=Path, metavar="FILE", help="write all results as JSON")
    add("--only", metavar="CHECK[:CASE]", help=f"one check of {', '.join(CHECKS)}; or one case, such as sigkill:17")
    args = parser.parse_args()
    for name, count in default_counts(args).items():
        if getattr(args, name) is None:
            setattr(args, name, count)
        if getattr(args, name) < 0:
            parser.error(f"--{name}: expected 0 or more")
    check_arguments(parser, args)
    return args


def default_counts(args: argparse.Namespace) -> dict[str, int]:
    """The defaults of --sigkills, --sigterms and --corruptions."""
    return QUICK if args.quick else DEFAULT


def case_counts(args: argparse.Namespace) -> dict[str, int]:
    """The number of cases of each check."""
    quarter = -(-args.sigterms // 4)
    return {"reference": len(variants(args.quick)), "sigkill": args.sigkills, "sigterm": args.sigterms,
            "sigint": quarter, "sighup": quarter, "double-sigint": min(quarter, 5),
            "environment": len(environment.FAULTS), "corruption": args.corruptions,
            "double-corruption": -(-args.corruptions // 20)}


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Rejects invalid arguments before any work."""
    if args.data and not args.data.is_file():
        parser.error(f"--data {args.data}: no such file")
    if args.work and args.work.exists() and (not args.work.is_dir() or any(args.work.iterdir())):
        parser.error(f"--work {args.work}: expected an empty folder, or one that does not exist yet")
    if args.json and not args.json.absolute().parent.is_dir():
        parser.error(f"--json {args.json}: no such folder")
    if args.only:
        check, _, case = args.only.partition(":")
        if check not in CHECKS:
            parser.error(f"--only {args.only}: expected one of {', '.join(CHECKS)}, or a case of one")
        is_named = check == "environment"
        keys = [fault.key for fault in environment.FAULTS] if is_named else \
            [str(number + 1) for number in range(case_counts(args)[check])]
        if case and case not in keys:
            shown = ", ".join(keys) if is_named else f"1 to {len(keys)}"
            parser.error(f"--only {args.only}: the cases of {check} are {shown}")


def reproduce_command(args: argparse.Namespace) -> str:
    """The command that repeats a case, without --only."""
    words = ["scripts/fault_injection.sh", "--seed", str(args.seed)]
    words += ["--quick"] if args.quick else []
    for name, count in default_counts(args).items():
        words += [f"--{name}", str(getattr(args, name))] if getattr(args, name) != count else []
    words += ["--data", str(args.data)] if args.data else []
    return shlex.join(words)


def run_checks(harness: Harness) -> None:
    """Runs all selected checks."""
    harness.results.rows.append(harness.repeats)
    try:
        for number, variant in enumerate(harness.variants, 1):
            if harness.selected("reference", number):
                harness.reference(variant)
        if harness.selected("sigkill"):
            sigkill.run(harness)
        termination_signals.run(harness)
        if harness.selected("environment"):
            environment.run(harness)
        corruption.run(harness)
    finally:
        harness.results.rows.append(harness.exits)


def work_folder(args: argparse.Namespace) -> Path:
    """The folder to work in."""
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
        return args.work.resolve()
    return Path(tempfile.mkdtemp(prefix="grimace-fault-injection-"))


def version(program: Path) -> str:
    """The output of --version."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()


def run(args: argparse.Namespace, work: Path, results: Results) -> int:
    """Runs the checks, prints the table, writes the JSON; returns the exit code."""
    start, code, aborted = time.monotonic(), 0, None
    program = Path(os.environ.get("GRIMACE") or ROOT / "target/release/grimace").absolute()
    harness = Harness(program, work, args.seed, args.quick, case_counts(args), args.only, reproduce_command(args),
                      results)
    log(f"{version(program)}, seed {args.seed}, in {work}")
    try:
        harness.prepare(args.data)
        run_checks(harness)
    except Abort as abort:
        aborted, code = str(abort), abort.code
        log(aborted)
    code = code or int(not results.all_passed())
    seconds = round(time.monotonic() - start)
    print_table(results, code, f"seed {args.seed}, {seconds} s")
    if args.json:
        results.save(args.json, {"version": version(program), "seed": args.seed, "quick": args.quick,
                                 "data": args.data.name if args.data else "synthetic", "only": args.only,
                                 "counts": case_counts(args), "seconds": seconds, "passed": code == 0,
                                 "aborted": aborted})
    return code


def print_table(results: Results, code: int, settings: str) -> None:
    """Prints the table and the outcome in one line."""
    skipped = sum(row.skipped for row in results.rows)
    outcome = "FAILED" if code else "all checks that ran passed" if skipped else "all checks passed"
    more = f"; {skipped} skipped" if skipped else ""
    print(f"{results.table()}\n\n{outcome}{more} ({settings})", flush=True)


def main() -> int:
    """Works in a folder that is removed when everything passed."""
    args = parse_arguments()
    catch_signals()
    work, results, code = work_folder(args), Results(log), 1
    try:
        code = run(args, work, results)
    except KeyboardInterrupt:
        log("interrupted")
        code = 130
    finally:
        if args.work or (code == 1 and results.failures):
            log(f"the files are kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
