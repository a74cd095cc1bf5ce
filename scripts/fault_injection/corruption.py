"""Cut files and flipped bits, anywhere in a checkpoint."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from . import checkpoint, rundir
from .lab import AT_THE_END, FACES, WARNING, Case, Lab, Reference
from .program import Ended
from .results import Row


@dataclass
class Rows:
    """What is counted."""
    last: Row
    previous: Row
    readers: Row
    resume: Row


def target(number: int) -> str:
    """Half of the damages are done to last, the others to best and previous in turn."""
    return ("last", "best", "last", "previous")[number % 4] + ".safetensors"


def damage(path: Path, number: int, rng: Random) -> str:
    """Cuts the file or flips one bit, at an offset that for every third number lies in the header; says what it did."""
    whole = path.read_bytes()
    offset = rng.randrange(checkpoint.header_end(whole) if number % 3 == 0 else len(whole))
    data, bit = bytearray(whole), rng.randrange(8)
    if number // 4 % 2:
        data[offset] ^= 1 << bit
    else:
        del data[offset:]
    path.write_bytes(data)
    return f"bit {bit} of byte {offset} flipped" if number // 4 % 2 else f"cut to {offset} bytes"


def refused(ended: Ended, name: str) -> list[str]:
    """What is wrong with how a damaged file was refused."""
    return [] if ended.code == 2 and name in ended.stderr else [ended.told()]


def contents(folder: Path) -> dict[str, bytes]:
    """The files that hold a run's results."""
    names = (*rundir.CHECKPOINTS, "metrics.jsonl", "summary.json", "split.csv")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def best_damaged(lab: Lab, rows: Rows, case: Case, reference: Reference, what: str) -> None:
    """The best model cannot be made anew: every command that needs it says so and changes nothing."""
    before = contents(case.folder)
    expected = f"exit code 2 and best.safetensors in the message ({what})"
    problems = refused(case.run("evaluate", case.out, "--data", FACES), "best.safetensors")
    if case.number % 20 == 1:
        problems += refused(case.run("predict", case.out, "--data", FACES, "--out", "damaged.csv"),
                            "best.safetensors")
    case.check(rows.readers, expected, problems)
    problems = refused(case.run(*case.train(reference.variant, "--resume")), "best.safetensors")
    changed = [name for name, data in contents(case.folder).items() if before.get(name) != data]
    problems += [f"{name} was changed" for name in changed]
    case.check(rows.resume, f"{expected}, and nothing changed", problems)


def one(lab: Lab, rows: Rows, case: Case) -> str:
    """One damage to a copy of a run with one epoch left; what was done."""
    reference, name = lab.halfway(case), target(case.number)
    if not (case.folder / name).exists():
        row = rows.previous if name.startswith("previous") else rows.last
        case.check(row, f"a {name} to damage", [f"a run of {len(reference.final.metrics) - 1} epochs has none"])
        return "nothing"
    what = damage(case.folder / name, case.number, case.rng)
    if name.startswith("best"):
        best_damaged(lab, rows, case, reference, what)
    elif name.startswith("last"):
        case.check(rows.last, f"a warning, {AT_THE_END} ({what})", case.resume_problems(reference, says=WARNING))
    else:
        case.check(rows.previous, f"{AT_THE_END} ({what})", case.resume_problems(reference))
    lab.results.cases.append({"case": case.name, "file": name, "damage": what, "held": not case.failed})
    return what.split()[0]


def both(lab: Lab, row: Row, case: Case) -> None:
    """Last and previous damaged: nothing to go on from."""
    reference = lab.halfway(case)
    what = [f"{name}: {damage(case.folder / name, case.number + shift, case.rng)}"
            for shift, name in enumerate(("last.safetensors", "previous.safetensors"))
            if (case.folder / name).exists()]
    ended = case.run(*case.train(reference.variant, "--resume"))
    case.check(row, f"exit code 2 and last.safetensors in the message ({', '.join(what)})",
               refused(ended, "last.safetensors"))


def one_each(lab: Lab) -> None:
    """The checks in which one file is damaged."""
    row = lab.results.row
    rows = Rows(row("last damaged, --resume: warning, end as unbroken"),
                row("previous damaged, last whole, --resume: end as unbroken"),
                row("best damaged, evaluate and predict: code 2, best named"),
                row("best damaged, --resume: code 2, best named, nothing changed"))
    kinds = Counter(one(lab, rows, case) for case in lab.each("damages"))
    rows.last.note = f"of all damages {kinds['cut']} cuts, {kinds['bit']} flipped bits; a third of them in headers"


def run(lab: Lab) -> None:
    """The checks."""
    if lab.wants("damages"):
        one_each(lab)
    if lab.wants("both"):
        row = lab.results.row("last and previous damaged, --resume: code 2, last named")
        for case in lab.each("both"):
            both(lab, row, case)
