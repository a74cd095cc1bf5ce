"""SIGKILL at random moments: what is on disk after every one, and where the run ends."""
from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass, field

from . import rundir
from .checkpoint import Best
from .lab import AT_THE_END, Case, Lab, Reference
from .program import Child
from .results import Row


@dataclass
class Rows:
    """What is counted."""
    ends: Row
    files: Row
    best: Row
    lines: Row


@dataclass
class Seen:
    """What one run had before it was killed, and when that was."""
    best: Best | None = None
    lines: list[bytes] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    in_saves: int = 0


def phase(stderr: str) -> str:
    """How far a run was; it says where it is in `run: DIR` when all is read and it begins to train."""
    begun = any(line.startswith("run: ") for line in stderr.splitlines())
    return "in training" if begun else "in start-up"


def killed(case: Case, rows: Rows, seen: Seen, child: Child) -> None:
    """Kills the run and looks at what it left."""
    before = rundir.best_now(case.folder)
    child.send(signal.SIGKILL)
    ended = case.end(child, (signal.SIGKILL,))
    seen.phases.append("after the end" if ended.code == 0 else phase(ended.stderr))
    seen.best = max((best for best in (seen.best, before) if best), default=None)
    judge(case, rows, seen)


def judge(case: Case, rows: Rows, seen: Seen) -> None:
    """What must hold whenever nobody works in the directory."""
    snapshot = rundir.look(case.folder)
    for name in snapshot.readable:
        case.check(rows.files, f"{name} can be read", [])
    for problem in snapshot.unreadable:
        case.check(rows.files, "a checkpoint that can be read", [problem])
    if seen.best or snapshot.promised:
        case.check(rows.best, "the best model that was there, or a better one", rundir.lost_best(seen.best, snapshot))
    seen.best = max((best for best in (seen.best, snapshot.best) if best), default=None)
    seen.lines += snapshot.lines
    # A new temporary file is one that the killed program was about to put in place.
    seen.in_saves += bool(set(snapshot.hidden) - seen.hidden)
    seen.hidden |= set(snapshot.hidden)


def one(lab: Lab, rows: Rows, case: Case) -> Seen:
    """A run that dies 1 to 4 times."""
    reference, seen = lab.timed_reference(case), Seen()
    moments = [case.rng.uniform(0, reference.seconds) for _ in range(case.rng.randint(1, 4))]
    for attempt, moment in enumerate(moments):
        child = case.start(*case.train(reference.variant, *(["--resume"] if attempt else [])))
        if not child.ended_within(moment):
            killed(case, rows, seen, child)
            continue
        # It came to its end before, or refused to go on; then `finish` says so.
        case.end(child)
        seen.phases.append("after the end")
        break
    finish(case, rows, seen, reference)
    lab.results.cases.append({"case": case.name, "variant": str(reference.variant), "phases": seen.phases,
                              "moments_s": [round(moment, 4) for moment in moments], "held": not case.failed})
    return seen


def finish(case: Case, rows: Rows, seen: Seen, reference: Reference) -> None:
    """Goes on to the end, and compares."""
    case.check(rows.ends, AT_THE_END, case.resume_problems(reference))
    if seen.lines:
        case.check(rows.lines, "every line of metrics.jsonl that was there at a kill",
                   rundir.missing_lines(case.folder, seen.lines))


def run(lab: Lab) -> None:
    """The check."""
    row = lab.results.row
    rows = Rows(row("runs killed with SIGKILL 1 to 4 times, --resume: end as unbroken"),
                row("checkpoint files after kills: readable"),
                row("best model after kills: not lost, not older than known"),
                row("runs killed: lines of metrics.jsonl kept byte for byte"))
    phases: Counter[str] = Counter()
    in_saves = 0
    for case in lab.each("kills"):
        seen = one(lab, rows, case)
        phases.update(seen.phases)
        in_saves += seen.in_saves
    spread = ", ".join(f"{phases[name]} {name}" for name in ("in start-up", "in training", "after the end"))
    rows.ends.note = f"moments of kills: {spread}; {in_saves} in the middle of a save"
    rows.files.note = f"{rows.files.tried - rows.files.held} unreadable"
    rows.best.note = f"{rows.best.tried - rows.best.held} lost"
