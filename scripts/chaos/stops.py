"""SIGTERM, SIGINT and SIGHUP at random moments, and a second SIGINT right after the first."""
from __future__ import annotations

import json
import shlex
import shutil
import signal
import time
from collections import Counter

from . import rundir
from .kills import phase
from .lab import Case, Lab, Reference, Stop
from .program import Child, Ended, seconds_until_end
from .results import Row

MOST_S = 5.0                 # within which a signal ends the program
NEXT_S = 0.03                # within which the second SIGINT comes
FINISHED = ("epochs", "early_stop")
KINDS = {"terms": signal.SIGTERM, "ints": signal.SIGINT, "hups": signal.SIGHUP}


def running(case: Case, reference: Reference) -> Child:
    """A run at a random moment. A moment after its end says nothing about signals, so another is drawn then."""
    for _ in range(20):
        child = case.start(*case.train(reference.variant))
        if not child.ended_within(case.rng.uniform(0, reference.seconds)):
            return child
        ended = case.end(child)
        shutil.rmtree(case.folder, ignore_errors=True)
    raise Stop(f"runs end before a signal can be sent: {ended.told()}")


def stopped(case: Case) -> str | None:
    """What summary.json says of how the run stopped."""
    try:
        return json.loads((case.folder / "summary.json").read_text())["stopped"]
    except FileNotFoundError:
        return None


def way_on(ended: Ended) -> tuple[str, ...]:
    """The arguments that the program says go on with the run; none where it does not say."""
    lines = [line for line in ended.stderr.splitlines() if line.startswith("to go on: grimace train ")]
    return tuple(shlex.split(lines[-1])[4:]) if lines else ()


def code_problems(ended: Ended, number: int, took: float, most: float) -> list[str]:
    """What is wrong with how soon, and with which code, it ended."""
    problems = [] if ended.shell_code() == 128 + number else [ended.told()]
    return problems + ([f"it took {took:.2f} s to end"] if took > most else [])


def left_problems(case: Case, ended: Ended) -> list[str]:
    """What is wrong with what an interrupted run left: nothing at all, or a run that says how to go on."""
    if not case.folder.exists():
        return []
    if ended.code < 0:
        return [f"the signal itself ended it (code {ended.code}) although it had begun its run directory"]
    problems = [] if stopped(case) == "interrupted" else [f"summary.json: stopped is {stopped(case)!r}"]
    if way_on(ended)[-1:] != ("--resume",):
        problems.append(f"it does not say how to go on: {ended.told()}")
    return problems + rundir.look(case.folder).unreadable


def where(case: Case, ended: Ended) -> str:
    """When the signal came."""
    if ended.code < 0:
        return "before the program's first line"
    if ended.code == 0:
        return "as the run ended"
    return phase(ended.stderr) if case.folder.exists() else "in start-up"


def one(lab: Lab, row: Row, case: Case, kind: signal.Signals) -> str:
    """One run that gets one signal and goes on; where it came."""
    reference = lab.reference(lab.variant(case.number))
    child = running(case, reference)
    child.send(kind)
    ended, took = seconds_until_end(child)
    case.judge(ended, (kind,))
    row.took(took)
    if ended.code == 0 and stopped(case) in FINISHED:
        problems = []          # it came when all was done
    else:
        problems = code_problems(ended, kind, took, MOST_S) + left_problems(case, ended)
    # As its user would: with the command that it gave, where it gave one.
    problems += case.resume_problems(reference, arguments=way_on(ended))
    expected = (f"exit code {128 + kind} within {MOST_S:g} s; nothing left behind, or stopped = \"interrupted\" and the "
                "command that goes on; then the end of the unbroken run")
    case.check(row, expected, problems)
    return where(case, ended)


def twice(lab: Lab, row: Row, case: Case) -> None:
    """One run that gets SIGINT twice."""
    reference = lab.reference(lab.variant(case.number))
    child = running(case, reference)
    child.send(signal.SIGINT)
    time.sleep(case.rng.uniform(0, NEXT_S))
    child.send(signal.SIGINT)
    ended, took = seconds_until_end(child)
    case.judge(ended, (signal.SIGINT,))
    row.took(took)
    finished = ended.code == 0 and stopped(case) in FINISHED
    problems = [] if finished else code_problems(ended, signal.SIGINT, took, MOST_S)
    problems += rundir.look(case.folder).unreadable + case.resume_problems(reference)
    case.check(row, "exit code 130 at once, whole checkpoints; then the end of the unbroken run", problems)


def run(lab: Lab, counts: dict[str, int]) -> None:
    """The checks; `counts` has how many for each of KINDS, and for `twice`."""
    for check, kind in KINDS.items():
        if not counts[check] or not lab.wants(check):
            continue
        row = lab.results.row(f"{kind.name}: code {128 + kind} within {MOST_S:g} s, --resume: end as unbroken")
        places = Counter(one(lab, row, case, kind)
                         for case in lab.each(check, counts[check]))
        row.note = ", ".join(f"{count} {place}" for place, count in places.most_common())
    if counts["twice"] and lab.wants("twice"):
        row = lab.results.row("SIGINT twice: code 130 at once, --resume: end as unbroken")
        for case in lab.each("twice", counts["twice"]):
            twice(lab, row, case)
