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
from .lab import AT_THE_END, Case, Lab, Reference, Stop
from .program import Child, Ended, seconds_until_end
from .results import Row

MOST_S = 5.0                 # within which a signal ends the program
NEXT_S = 0.03                # within which the second SIGINT comes
FINISHED = ("epochs", "early_stop")
KINDS = {"terms": signal.SIGTERM, "ints": signal.SIGINT, "hups": signal.SIGHUP}


def running(case: Case, reference: Reference) -> Child:
    """A run at a random moment, of which each of the check's cases draws its own in another part of the run.

    A moment after the end says nothing about signals; then another one is drawn, from the whole run.
    """
    part = reference.seconds / case.count
    first, width = (case.number - 1) * part, part
    for _ in range(20):
        child = case.start(*case.train(reference.variant))
        if not child.ended_within(first + case.rng.uniform(0, width)):
            return child
        first, width = 0.0, reference.seconds
        ended = case.end(child)
        shutil.rmtree(case.folder, ignore_errors=True)
    raise Stop(f"runs end before a signal can be sent: {ended.told()}")


def stopped(case: Case) -> str | None:
    """What summary.json says of how the run stopped."""
    try:
        return str(json.loads((case.folder / "summary.json").read_text())["stopped"])
    except FileNotFoundError:
        return None


def way_on(ended: Ended) -> tuple[str, ...]:
    """The arguments that the program says go on with the run; none where it does not say."""
    lines = [line for line in ended.stderr.splitlines() if line.startswith("to go on: grimace train ")]
    return tuple(shlex.split(lines[-1])[4:]) if lines else ()


def in_its_last_epoch(case: Case, reference: Reference) -> bool:
    """Whether all epochs but one are done: a signal that comes then may find that nothing is left to interrupt."""
    return len(rundir.metrics_lines(case.folder)) >= len(reference.final.metrics) - 1


def end_problems(case: Case, ended: Ended, number: int, took: float, may_finish: bool) -> list[str]:
    """What is wrong with how soon, and with which code, it ended."""
    problems = [f"it took {took:.2f} s to end"] if took > MOST_S else []
    if ended.code == 0 and may_finish and stopped(case) in FINISHED:
        return problems
    return problems + ([] if ended.shell_code() == 128 + number else [ended.told()])


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
    reference = lab.timed_reference(case)
    child = running(case, reference)
    may_finish = in_its_last_epoch(case, reference)
    child.send(kind)
    ended, took = seconds_until_end(child)
    case.judge(ended, (kind,))
    row.took(took)
    problems = end_problems(case, ended, kind, took, may_finish)
    problems += left_problems(case, ended) if ended.code else []
    place = where(case, ended)
    # As its user would: with the command that it gave, where it gave one.
    problems += case.resume_problems(reference, arguments=way_on(ended))
    expected = (f"exit code {128 + kind} within {MOST_S:g} s; nothing left behind, or stopped = \"interrupted\" and "
                f"the command that goes on; then {AT_THE_END}")
    case.check(row, expected, problems)
    lab.results.cases.append({"case": case.name, "variant": str(reference.variant), "signal": kind.name, "came": place,
                              "took_s": round(took, 3), "held": not case.failed})
    return place


def twice(lab: Lab, row: Row, case: Case) -> str:
    """One run that gets SIGINT twice; where it came."""
    reference = lab.timed_reference(case)
    child = running(case, reference)
    may_finish = in_its_last_epoch(case, reference)
    child.send(signal.SIGINT)
    time.sleep(case.rng.uniform(0, NEXT_S))
    child.send(signal.SIGINT)
    ended, took = seconds_until_end(child)
    case.judge(ended, (signal.SIGINT,))
    row.took(took)
    problems = end_problems(case, ended, signal.SIGINT, took, may_finish) + rundir.look(case.folder).unreadable
    place = where(case, ended)
    problems += case.resume_problems(reference)
    case.check(row, f"exit code 130 at once, checkpoints that can be read; then {AT_THE_END}", problems)
    return place


def told(places: Counter[str]) -> str:
    """Where the signals came, for the table."""
    return ", ".join(f"{count} {place}" for place, count in places.most_common())


def run(lab: Lab) -> None:
    """The checks."""
    for check, kind in KINDS.items():
        if not lab.wants(check):
            continue
        row = lab.results.row(f"{kind.name}: code {128 + kind} within {MOST_S:g} s, --resume: end as unbroken")
        places = Counter(one(lab, row, case, kind) for case in lab.each(check))
        row.note = told(places)
    if lab.wants("twice"):
        row = lab.results.row("SIGINT twice: code 130 at once, --resume: end as unbroken")
        row.note = told(Counter(twice(lab, row, case) for case in lab.each("twice")))
