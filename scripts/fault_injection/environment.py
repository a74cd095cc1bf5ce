"""Full and read-only disks, obstructing files and folders, missing files, and two processes in one
run directory."""
from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from errno import ENOSPC, EROFS
from pathlib import Path

from . import run_dir
from .check_results import Row
from .harness import SAME_RESULT, TRAIN_CSV, WARNING, Case, Harness, Reference
from .process import TIMEOUT_S, Exit, Process
from .tmpfs import Tmpfs, unavailable

RESUMED = f"then with --resume {SAME_RESULT}"


def refusal_problems(exit_: Exit, *words: str, codes: tuple[int, ...] = (1,)) -> list[str]:
    """Problems of how an impossible command failed: the exit code, or words missing in the error
    line."""
    errors = [line for line in exit_.stderr.splitlines() if line.startswith("error")]
    if exit_.code in codes and errors and all(word in errors[-1] for word in words):
        return []
    return [f"expected exit code {' or '.join(map(str, codes))} and an error with {words}: {exit_.describe()}"]


def loss_problems(before: run_dir.Snapshot, folder: Path) -> list[str]:
    """What a failed process lost or left behind."""
    after = run_dir.inspect(folder)
    problems = after.unreadable + run_dir.best_problems(before.best, after)
    problems += run_dir.missing_lines(folder, before.lines)
    if before.readable and not {"last.safetensors", "previous.safetensors"} & set(after.readable):
        problems.append("neither last.safetensors nor previous.safetensors is left")
    return problems + [f"{name} is left behind and takes space" for name in after.temporary]


class OnTmpfs:
    """A case on its own tmpfs; if it fails, the files are copied into the case's folder."""

    def __init__(self, harness: Harness, case: Case) -> None:
        self.case, self.tmpfs = case, Tmpfs(harness.work / "tmpfs")
        self.out, self.folder = "tmpfs/run", harness.work / "tmpfs/run"

    def __enter__(self) -> OnTmpfs:
        self.tmpfs.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.case.failed and self.folder.exists():
            shutil.copytree(self.folder, self.case.folder, dirs_exist_ok=True)
        self.tmpfs.__exit__(None, None, None)


# --- disks ------------------------------------------------------------------------------------------------------------

def run_out_of_space(case: Case, row: Row, place: OnTmpfs, reference: Reference, room: float, must_fail: bool) -> None:
    """Lets a run fill its disk, makes room, and resumes."""
    before = run_dir.inspect(place.folder)
    place.tmpfs.fill_except(int(room * reference.checkpoint_bytes))
    resume = ["--resume"] if before.readable else []
    exit_ = case.run(*case.train_arguments(reference.variant, *resume, out=place.out))
    refused = exit_.code != 0 or must_fail
    problems = refusal_problems(exit_, place.out, os.strerror(ENOSPC)) if refused else []
    problems += loss_problems(before, place.folder)
    lines = run_dir.metrics_lines(place.folder)
    place.tmpfs.make_room()
    problems += case.resume_problems(reference, place.out) + run_dir.missing_lines(place.folder, lines)
    case.check(row, f"room for {room} checkpoints: exit code 1 with path and reason, nothing lost; {RESUMED}", problems)
    row.note += f"{', ' if row.note else 'room for '}{room} checkpoints: code {exit_.code}"


def full_new(harness: Harness, case: Case, row: Row) -> None:
    """A new run on a disk with room for a few checkpoints.

    It fails at startup, at the first save, at the second, at the first best model, and at a later
    best model.
    """
    reference = harness.reference(harness.variants[0])
    for room in (0, 0.4, 1.5, 2.25, 2.5):
        with OnTmpfs(harness, case) as place:
            # last and previous take 2, the best model 1/3. The last amount suffices if no later
            # epoch is better.
            run_out_of_space(case, row, place, reference, room, must_fail=room < 2.3)


def full_later(harness: Harness, case: Case, row: Row) -> None:
    """A run that is resumed on a full disk. It may finish: removing the older checkpoint makes
    room."""
    for room in (0, 0.02, 0.5):
        with OnTmpfs(harness, case) as place:
            run_out_of_space(case, row, place, harness.copy_partial(case, place.out), room, must_fail=False)


def read_only_new(harness: Harness, case: Case, row: Row) -> None:
    """A new run in a read-only folder, and one whose parent folder cannot be created there."""
    reference = harness.reference(harness.variants[0])
    for out in ("tmpfs/run", "tmpfs/missing/parent/run"):
        with OnTmpfs(harness, case) as place:
            place.tmpfs.set_read_only(True)
            exit_ = case.run(*case.train_arguments(reference.variant, out=out))
            problems = refusal_problems(exit_, "tmpfs", os.strerror(EROFS))
            place.tmpfs.set_read_only(False)
            problems += case.resume_problems(reference, out)
            case.check(row, f"exit code 1 with path and reason; {RESUMED}", problems)


def read_only_later(harness: Harness, case: Case, row: Row) -> None:
    """A run whose disk becomes read-only: it cannot be resumed, but evaluated."""
    with OnTmpfs(harness, case) as place:
        reference = harness.copy_partial(case, place.out)
        before = run_dir.inspect(place.folder)
        place.tmpfs.set_read_only(True)
        exit_ = case.run(*case.train_arguments(reference.variant, "--resume", out=place.out))
        problems = refusal_problems(exit_, place.out, os.strerror(EROFS)) + loss_problems(before, place.folder)
        evaluated = case.run("evaluate", place.out, "--data", TRAIN_CSV)
        problems += [] if evaluated.code == 0 else [evaluated.describe()]
        place.tmpfs.set_read_only(False)
        problems += case.resume_problems(reference, place.out)
        case.check(row, f"exit code 1 with path and reason, `evaluate` works; {RESUMED}", problems)


# --- obstructing and missing files ------------------------------------------------------------------------------------

def file_for_folder(harness: Harness, case: Case, row: Row) -> None:
    """A file in place of the run directory, or of its parent folder."""
    case.folder.write_text("mine")
    variant = harness.variants[0]
    for out in (case.out, f"{case.out}/run"):
        for more in ((), ("--resume",)):
            problems = refusal_problems(case.run(*case.train_arguments(variant, *more, out=out)), case.out)
            if case.folder.read_text() != "mine":
                problems.append("the file was changed")
            case.check(row, "exit code 1 with the path, the file unchanged", problems)
    if not case.failed:
        case.folder.unlink()


def folder_for_last(harness: Harness, case: Case, row: Row) -> None:
    """A folder in place of last.safetensors, which the program must not remove."""
    reference = harness.copy_partial(case)
    last = case.folder / "last.safetensors"
    last.unlink()
    last.mkdir()
    exit_ = case.run(*case.train_arguments(reference.variant, "--resume"))
    problems = refusal_problems(exit_, "last.safetensors", codes=(1, 2))
    if last.is_dir():
        last.rmdir()
    else:
        problems.append("the folder is gone")
    problems += case.resume_problems(reference, expected_words=WARNING)
    case.check(row, f"exit code 1 or 2 with its name; without the folder, a warning, and {SAME_RESULT}", problems)


def last_missing(harness: Harness, case: Case, row: Row) -> None:
    """last.safetensors is missing."""
    reference = harness.copy_partial(case)
    (case.folder / "last.safetensors").unlink()
    case.check(row, f"a warning, and {SAME_RESULT}", case.resume_problems(reference, expected_words=WARNING))


def metrics_truncated(harness: Harness, case: Case, row: Row) -> None:
    """metrics.jsonl ends in half a line: of an epoch that is not in the checkpoint, or of one that
    is."""
    for extra in (True, False):
        reference = harness.copy_partial(case)
        path = case.folder / "metrics.jsonl"
        text = path.read_bytes()
        path.write_bytes(text + text[:40] if extra else text[:-40])
        problems = case.resume_problems(reference)
        case.check(row, f"{'half a line more' if extra else 'half a line less'}: {SAME_RESULT}", problems)
        if problems:
            return
        shutil.rmtree(case.folder)


def metrics_missing(harness: Harness, case: Case, row: Row) -> None:
    """metrics.jsonl is missing."""
    reference = harness.copy_partial(case)
    (case.folder / "metrics.jsonl").unlink()
    case.check(row, SAME_RESULT, case.resume_problems(reference))


def stale_temporary(harness: Harness, case: Case, row: Row) -> None:
    """Temporary files of a killed process; a user's file with the same extension is not one of
    them."""
    reference = harness.copy_partial(case)
    for name in (".last.safetensors.grimace-a1B2c3.tmp", ".metrics.jsonl.grimace-a1B2c3.tmp"):
        (case.folder / name).write_bytes(b"half")
    mine = case.folder / "notes.tmp"
    mine.write_text("mine")
    problems = case.resume_problems(reference)
    if not mine.exists():
        problems.append("notes.tmp, a user's file, was removed")
    case.check(row, f"{SAME_RESULT}; notes.tmp is kept", problems)


# --- two processes ----------------------------------------------------------------------------------------------------

def wait_for_epoch(case: Case, process: Process) -> bool:
    """Waits until the run has finished an epoch and saved its best model; false if it exited
    before."""
    start = time.monotonic()
    while not (run_dir.metrics_lines(case.folder) and run_dir.read_best(case.folder)):
        if process.popen.poll() is not None or time.monotonic() - start > TIMEOUT_S:
            return False
        time.sleep(0.002)
    return process.popen.poll() is None


def lock_held(harness: Harness, case: Case, row: Row) -> None:
    """A second process in a run directory in use; the first is paused meanwhile, so that it cannot
    finish."""
    reference = harness.reference(harness.variants[0])
    first = case.start(*case.train_arguments(reference.variant))
    if not wait_for_epoch(case, first):
        case.check(row, "a run of several epochs", [case.wait(first).describe()])
        return
    first.send(signal.SIGSTOP)
    problems = refusal_problems(case.run(*case.train_arguments(reference.variant, "--resume")), "in use")
    evaluated = case.run("evaluate", case.out, "--data", TRAIN_CSV)
    problems += [] if evaluated.code == 0 else [evaluated.describe()]
    first.send(signal.SIGCONT)
    exit_ = case.wait(first)
    problems += run_dir.final_problems(case.folder, reference.final) if exit_.code == 0 else [exit_.describe()]
    case.check(row, "exit code 1 with \"in use\", `evaluate` works, the first process is not affected", problems)


def lock_stale(harness: Harness, case: Case, row: Row) -> None:
    """The lock file of a killed process, with the id of a running one: only a lock that is held
    counts."""
    reference = harness.reference(harness.variants[0])
    process = case.start(*case.train_arguments(reference.variant))
    begun = wait_for_epoch(case, process)
    process.send(signal.SIGKILL)
    problems = [] if begun else ["the run exited before it was killed"]
    case.wait(process, (signal.SIGKILL,))
    (case.folder / ".lock").write_text(f"process {os.getpid()}")
    case.check(row, f"the next process takes over: {SAME_RESULT}", problems + case.resume_problems(reference))


@dataclass(frozen=True)
class Fault:
    """One row of the table."""
    key: str
    check: str
    run: Callable[[Harness, Case, Row], None]
    needs_tmpfs: bool = False


FAULTS = (
    Fault("full-new", "disk full, new run: code 1, path and reason; --resume: same result", full_new, True),
    Fault("full-later", "disk full, resumed run: nothing lost; --resume: same result", full_later, True),
    Fault("read-only-new", "read-only folder or parent, new run: code 1, path and reason", read_only_new, True),
    Fault("read-only-later", "folder becomes read-only: code 1, nothing lost, evaluate works", read_only_later, True),
    Fault("file-for-folder", "file in place of the run directory: code 1, file kept", file_for_folder),
    Fault("folder-for-last", "folder in place of last.safetensors: refused, nothing lost", folder_for_last),
    Fault("last-missing", "last.safetensors missing, --resume: warning, same result", last_missing),
    Fault("metrics-truncated", "metrics.jsonl with a truncated line, --resume: same result", metrics_truncated),
    Fault("metrics-missing", "metrics.jsonl missing, --resume: same result", metrics_missing),
    Fault("stale-temporary", "stale temporary files, --resume: removed, same result", stale_temporary),
    Fault("lock-held", "second process: code 1, in use; the first is not affected", lock_held),
    Fault("lock-stale", "lock file of a killed process: the next takes over", lock_stale),
)


def run(harness: Harness) -> None:
    """Runs the check."""
    reason = unavailable(harness.work / "tmpfs")
    for fault in FAULTS:
        if not harness.selected("environment", fault.key):
            continue
        row = harness.results.row(fault.check)
        if fault.needs_tmpfs and reason:
            row.skipped, row.note = True, reason
            continue
        harness.results.log(f"environment: {fault.key}")
        with Case(harness, "environment", fault.key) as case:
            fault.run(harness, case, row)
