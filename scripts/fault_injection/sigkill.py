"""SIGKILL at random moments: what is on disk after each kill, and the result of the resumed run."""
from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass, field

from . import run_dir
from .check_results import Row
from .checkpoint_reader import Best
from .harness import SAME_RESULT, Case, Harness, Reference
from .process import Process


@dataclass
class Rows:
    """The rows of the table."""
    results: Row
    files: Row
    best: Row
    lines: Row


@dataclass
class History:
    """What a run had saved before each kill, and when it was killed."""
    best: Best | None = None
    lines: list[bytes] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    temporary: set[str] = field(default_factory=set)
    during_saves: int = 0


def phase(stderr: str) -> str:
    """The phase of a run: it prints `run: DIR` when the data is loaded and training begins."""
    begun = any(line.startswith("run: ") for line in stderr.splitlines())
    return "during training" if begun else "during startup"


def kill(case: Case, rows: Rows, history: History, process: Process) -> None:
    """Kills the run and checks what is on disk."""
    before = run_dir.read_best(case.folder)
    process.send(signal.SIGKILL)
    exit_ = case.wait(process, (signal.SIGKILL,))
    history.phases.append("after exit" if exit_.code == 0 else phase(exit_.stderr))
    history.best = max((best for best in (history.best, before) if best), default=None)
    check_files(case, rows, history)


def check_files(case: Case, rows: Rows, history: History) -> None:
    """What must hold whenever no process uses the directory."""
    snapshot = run_dir.inspect(case.folder)
    for name in snapshot.readable:
        case.check(rows.files, f"{name} is readable", [])
    for problem in snapshot.unreadable:
        case.check(rows.files, "a readable checkpoint", [problem])
    if history.best or snapshot.recorded_best:
        case.check(rows.best, "the best model saved so far, or a better one",
                   run_dir.best_problems(history.best, snapshot))
    history.best = max((best for best in (history.best, snapshot.best) if best), default=None)
    history.lines += snapshot.lines
    # A new temporary file means that the process was killed during a save.
    history.during_saves += bool(set(snapshot.temporary) - history.temporary)
    history.temporary |= set(snapshot.temporary)


def run_case(harness: Harness, rows: Rows, case: Case) -> History:
    """A run that is killed 1 to 4 times."""
    reference, history = harness.timed_reference(case), History()
    moments = [case.rng.uniform(0, reference.seconds) for _ in range(case.rng.randint(1, 4))]
    for attempt, moment in enumerate(moments):
        resume = ["--resume"] if attempt else []
        process = case.start(*case.train_arguments(reference.variant, *resume))
        if not process.exits_within(moment):
            kill(case, rows, history, process)
            continue
        # The run finished before, or did not resume; `finish` finds out which.
        case.wait(process)
        history.phases.append("after exit")
        break
    finish(case, rows, history, reference)
    harness.results.cases.append({"case": case.name, "variant": str(reference.variant), "phases": history.phases,
                                  "moments_s": [round(moment, 4) for moment in moments], "passed": not case.failed})
    return history


def finish(case: Case, rows: Rows, history: History, reference: Reference) -> None:
    """Resumes the run until it is finished, and compares the result."""
    case.check(rows.results, SAME_RESULT, case.resume_problems(reference))
    if history.lines:
        case.check(rows.lines, "every line of metrics.jsonl that was there at a kill",
                   run_dir.missing_lines(case.folder, history.lines))


def run(harness: Harness) -> None:
    """Runs the check."""
    row = harness.results.row
    rows = Rows(row("SIGKILL 1 to 4 times, --resume: result of the uninterrupted run"),
                row("checkpoint files after SIGKILL: readable"),
                row("best model after SIGKILL: not lost, not older than recorded"),
                row("metrics.jsonl after SIGKILL: lines kept byte for byte"))
    phases: Counter[str] = Counter()
    during_saves = 0
    for case in harness.cases("sigkill"):
        history = run_case(harness, rows, case)
        phases.update(history.phases)
        during_saves += history.during_saves
    counts = ", ".join(f"{phases[name]} {name}" for name in ("during startup", "during training", "after exit"))
    rows.results.note = f"kills: {counts}; {during_saves} during a save"
    rows.files.note = f"{rows.files.count - rows.files.passed} unreadable"
    rows.best.note = f"{rows.best.count - rows.best.passed} lost"
