"""SIGTERM, SIGINT and SIGHUP at random moments, and a second SIGINT right after the first."""
from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import time
from collections import Counter

from . import run_dir
from .check_results import Row
from .harness import SAME_RESULT, Abort, Case, Harness, Reference
from .process import Exit, Process
from .sigkill import phase

MAX_EXIT_S = 5.0             # a signal must end the process within this time
MAX_SECOND_SIGINT_S = 0.03   # the second SIGINT follows within this time
FINISHED = ("epochs", "early_stop")
SIGNALS = {"sigterm": signal.SIGTERM, "sigint": signal.SIGINT, "sighup": signal.SIGHUP}


def start_and_wait(case: Case, reference: Reference) -> Process:
    """Starts a run and waits for a random moment; each case of a check samples another part of the
    run.

    A run that finished before that moment does not test signals: the moment is then sampled again,
    from the whole run.
    """
    part = reference.seconds / case.count
    first, width = (case.number - 1) * part, part
    for _ in range(20):
        process = case.start(*case.train_arguments(reference.variant))
        if not process.exits_within(first + case.rng.uniform(0, width)):
            return process
        first, width = 0.0, reference.seconds
        exit_ = case.wait(process)
        shutil.rmtree(case.folder, ignore_errors=True)
    raise Abort(f"runs finish before a signal can be sent: {exit_.describe()}")


def stop_reason(case: Case) -> str | None:
    """`stopped` in summary.json."""
    try:
        return str(json.loads((case.folder / "summary.json").read_text())["stopped"])
    except FileNotFoundError:
        return None


def resume_arguments(exit_: Exit) -> tuple[str, ...]:
    """The arguments of the resume command that the process printed; empty if it printed none."""
    found = [re.search(r": (\S*grimace) (train .*)$", line) for line in exit_.stderr.splitlines()]
    commands = [match.group(2) for match in found if match]
    return tuple(shlex.split(commands[-1])) if commands else ()


def in_last_epoch(case: Case, reference: Reference) -> bool:
    """Whether at most one epoch is left: a signal may then find nothing to interrupt."""
    return len(run_dir.metrics_lines(case.folder)) >= len(reference.final.metrics) - 1


def exit_problems(case: Case, exit_: Exit, number: int, seconds: float, may_finish: bool) -> list[str]:
    """Problems of the exit code and of the time to exit."""
    problems = [f"it took {seconds:.2f} s to exit"] if seconds > MAX_EXIT_S else []
    if exit_.code == 0 and may_finish and stop_reason(case) in FINISHED:
        return problems
    return problems + ([] if exit_.shell_code() == 128 + number else [exit_.describe()])


def interrupted_problems(case: Case, exit_: Exit) -> list[str]:
    """Problems of an interrupted run: it must leave nothing, or a run directory and a resume
    command."""
    if not case.folder.exists():
        return []
    if exit_.code < 0:
        return [f"the signal killed it (code {exit_.code}) although its run directory existed"]
    problems = [] if stop_reason(case) == "interrupted" else [f"summary.json: stopped is {stop_reason(case)!r}"]
    if resume_arguments(exit_)[-1:] != ("--resume",):
        problems.append(f"it did not print the resume command: {exit_.describe()}")
    return problems + run_dir.inspect(case.folder).unreadable


def moment(case: Case, exit_: Exit) -> str:
    """The phase in which the signal arrived."""
    if exit_.code < 0:
        return "before the signal handlers"
    if exit_.code == 0:
        return "at exit"
    return phase(exit_.stderr) if case.folder.exists() else "during startup"


def run_case(harness: Harness, row: Row, case: Case, sent: signal.Signals) -> str:
    """One run that gets one signal and is resumed; the phase in which the signal arrived."""
    reference = harness.timed_reference(case)
    process = start_and_wait(case, reference)
    may_finish = in_last_epoch(case, reference)
    process.send(sent)
    exit_, seconds = process.wait_timed()
    case.check_exit(exit_, (sent,))
    row.add_time(seconds)
    problems = exit_problems(case, exit_, sent, seconds, may_finish)
    problems += interrupted_problems(case, exit_) if exit_.code else []
    when = moment(case, exit_)
    # As a user would: with the printed command, if there is one.
    problems += case.resume_problems(reference, arguments=resume_arguments(exit_))
    expected = (f"exit code {128 + sent} within {MAX_EXIT_S:g} s; nothing left behind, or stopped = \"interrupted\" and "
                f"the resume command; then {SAME_RESULT}")
    case.check(row, expected, problems)
    harness.results.cases.append({"case": case.name, "variant": str(reference.variant), "signal": sent.name,
                                  "phase": when, "exit_s": round(seconds, 3), "passed": not case.failed})
    return when


def run_double_case(harness: Harness, row: Row, case: Case) -> str:
    """One run that gets SIGINT twice; the phase in which the first arrived."""
    reference = harness.timed_reference(case)
    process = start_and_wait(case, reference)
    may_finish = in_last_epoch(case, reference)
    process.send(signal.SIGINT)
    time.sleep(case.rng.uniform(0, MAX_SECOND_SIGINT_S))
    process.send(signal.SIGINT)
    exit_, seconds = process.wait_timed()
    case.check_exit(exit_, (signal.SIGINT,))
    row.add_time(seconds)
    problems = exit_problems(case, exit_, signal.SIGINT, seconds, may_finish)
    problems += run_dir.inspect(case.folder).unreadable
    when = moment(case, exit_)
    problems += case.resume_problems(reference)
    case.check(row, f"exit code 130 at once, readable checkpoints; then {SAME_RESULT}", problems)
    return when


def describe(phases: Counter[str]) -> str:
    """When the signals arrived, for the table."""
    return ", ".join(f"{count} {when}" for when, count in phases.most_common())


def run(harness: Harness) -> None:
    """Runs the checks."""
    for check, sent in SIGNALS.items():
        if not harness.selected(check):
            continue
        row = harness.results.row(f"{sent.name}: code {128 + sent} within {MAX_EXIT_S:g} s, --resume: same result")
        row.note = describe(Counter(run_case(harness, row, case, sent) for case in harness.cases(check)))
    if harness.selected("double-sigint"):
        row = harness.results.row("SIGINT twice: code 130 at once, --resume: same result")
        row.note = describe(Counter(run_double_case(harness, row, case) for case in harness.cases("double-sigint")))
