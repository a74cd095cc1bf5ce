"""Checkpoints that are truncated or have a bit flipped, at random offsets."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from . import checkpoint_reader, run_dir
from .check_results import Row
from .harness import SAME_RESULT, TRAIN_CSV, WARNING, Case, Harness, Reference
from .process import Exit


@dataclass
class Rows:
    """The rows of the table."""
    last: Row
    previous: Row
    readers: Row
    resume: Row


def target(number: int) -> str:
    """The file to corrupt: last in half of the cases, best and previous in a quarter each."""
    return ("last", "best", "last", "previous")[number % 4] + ".safetensors"


def corrupt(path: Path, number: int, rng: Random) -> str:
    """Truncates the file or flips one bit, in every third case within the header; describes what
    was done."""
    original = path.read_bytes()
    offset = rng.randrange(checkpoint_reader.header_end(original) if number % 3 == 0 else len(original))
    data, bit = bytearray(original), rng.randrange(8)
    flips = number // 4 % 2
    if flips:
        data[offset] ^= 1 << bit
    else:
        del data[offset:]
    path.write_bytes(data)
    return f"flipped bit {bit} of byte {offset}" if flips else f"truncated to {offset} bytes"


def refusal_problems(exit_: Exit, name: str) -> list[str]:
    """Problems of how a corrupt file was refused."""
    return [] if exit_.code == 2 and name in exit_.stderr else [exit_.describe()]


def contents(folder: Path) -> dict[str, bytes]:
    """The files that hold a run's results."""
    names = (*run_dir.CHECKPOINTS, "metrics.jsonl", "summary.json", "split.csv")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def check_corrupt_best(rows: Rows, case: Case, reference: Reference, what: str) -> None:
    """The best model cannot be recomputed: every command that needs it must fail and change
    nothing."""
    before = contents(case.folder)
    expected = f"exit code 2 and best.safetensors in the message ({what})"
    problems = refusal_problems(case.run("evaluate", case.out, "--data", TRAIN_CSV), "best.safetensors")
    if case.number % 20 == 1:
        problems += refusal_problems(case.run("predict", case.out, "--data", TRAIN_CSV, "--out", "corrupt.csv"),
                                     "best.safetensors")
    case.check(rows.readers, expected, problems)
    exit_ = case.run(*case.train_arguments(reference.variant, "--resume"))
    problems = refusal_problems(exit_, "best.safetensors")
    changed = [name for name, data in contents(case.folder).items() if before.get(name) != data]
    problems += [f"{name} was changed" for name in changed]
    case.check(rows.resume, f"{expected}, and nothing changed", problems)


def run_case(harness: Harness, rows: Rows, case: Case) -> str:
    """Corrupts one file of a run with one epoch left; returns how."""
    reference, name = harness.copy_partial(case), target(case.number)
    if not (case.folder / name).exists():
        row = rows.previous if name.startswith("previous") else rows.last
        case.check(row, f"a {name} to corrupt", [f"a run of {len(reference.final.metrics) - 1} epochs has none"])
        return "none"
    what = corrupt(case.folder / name, case.number, case.rng)
    if name.startswith("best"):
        check_corrupt_best(rows, case, reference, what)
    elif name.startswith("last"):
        case.check(rows.last, f"a warning, {SAME_RESULT} ({what})",
                   case.resume_problems(reference, expected_words=WARNING))
    else:
        case.check(rows.previous, f"{SAME_RESULT} ({what})", case.resume_problems(reference))
    harness.results.cases.append({"case": case.name, "file": name, "corruption": what, "passed": not case.failed})
    return what.split()[0]


def run_double_case(harness: Harness, row: Row, case: Case) -> None:
    """Corrupts both last and previous: there is nothing to resume from."""
    reference = harness.copy_partial(case)
    what = [f"{name}: {corrupt(case.folder / name, case.number + shift, case.rng)}"
            for shift, name in enumerate(("last.safetensors", "previous.safetensors"))
            if (case.folder / name).exists()]
    exit_ = case.run(*case.train_arguments(reference.variant, "--resume"))
    case.check(row, f"exit code 2 and last.safetensors in the message ({', '.join(what)})",
               refusal_problems(exit_, "last.safetensors"))


def run_single(harness: Harness) -> None:
    """The cases in which one file is corrupt."""
    row = harness.results.row
    rows = Rows(row("last corrupt, --resume: warning, same result"),
                row("previous corrupt, last complete, --resume: same result"),
                row("best corrupt, evaluate and predict: code 2, names best"),
                row("best corrupt, --resume: code 2, names best, nothing changed"))
    kinds = Counter(run_case(harness, rows, case) for case in harness.cases("corruption"))
    rows.last.note = f"over all files {kinds['truncated']} truncated, {kinds['flipped']} bits flipped; a third in headers"


def run(harness: Harness) -> None:
    """Runs the checks."""
    if harness.selected("corruption"):
        run_single(harness)
    if harness.selected("double-corruption"):
        row = harness.results.row("last and previous corrupt, --resume: code 2, names last")
        for case in harness.cases("double-corruption"):
            run_double_case(harness, row, case)
