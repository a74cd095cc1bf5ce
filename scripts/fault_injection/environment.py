"""Full and read-only disks, things in the way, files that went missing, and two processes in one run directory."""
from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from errno import ENOSPC, EROFS
from pathlib import Path

from . import rundir
from .disk import Disk, unavailable
from .lab import AT_THE_END, FACES, WARNING, Case, Lab, Reference
from .program import LIMIT_S, Child, Ended
from .results import Row

GOES_ON = f"then with --resume {AT_THE_END}"


def refused(ended: Ended, *words: str, codes: tuple[int, ...] = (1,)) -> list[str]:
    """What is wrong with how something impossible was refused: the exit code, or words missing in the error line."""
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    if ended.code in codes and errors and all(word in errors[-1] for word in words):
        return []
    return [f"not with exit code {' or '.join(map(str, codes))} and an error with {words}: {ended.told()}"]


def kept(before: rundir.Snapshot, folder: Path) -> list[str]:
    """What of a run is lost, or was left in a mess, after a program failed in it."""
    after = rundir.look(folder)
    problems = after.unreadable + rundir.lost_best(before.best, after) + rundir.missing_lines(folder, before.lines)
    if before.readable and not {"last.safetensors", "previous.safetensors"} & set(after.readable):
        problems.append("neither last.safetensors nor previous.safetensors is there any more")
    return problems + [f"{name} was left behind and takes room" for name in after.hidden]


class OnDisk:
    """A case on a disk of its own; what it leaves is copied into the case's folder when it failed."""

    def __init__(self, lab: Lab, case: Case) -> None:
        self.case, self.disk = case, Disk(lab.work / "disk")
        self.out, self.folder = "disk/run", lab.work / "disk/run"

    def __enter__(self) -> OnDisk:
        self.disk.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.case.failed and self.folder.exists():
            shutil.copytree(self.folder, self.case.folder, dirs_exist_ok=True)
        self.disk.__exit__(None, None, None)


# --- disks ------------------------------------------------------------------------------------------------------------

def starved(case: Case, row: Row, place: OnDisk, reference: Reference, room: float, must_fail: bool) -> None:
    """Lets a run come to the end of its disk, makes room, and goes on."""
    before = rundir.look(place.folder)
    place.disk.leave(int(room * reference.checkpoint_bytes))
    ended = case.run(*case.train(reference.variant, *(["--resume"] if before.readable else []), out=place.out))
    problems = [] if ended.code == 0 and not must_fail else refused(ended, place.out, os.strerror(ENOSPC))
    problems += kept(before, place.folder)
    seen = rundir.metrics_lines(place.folder)
    place.disk.make_room()
    problems += case.resume_problems(reference, place.out) + rundir.missing_lines(place.folder, seen)
    case.check(row, f"room for {room} checkpoints: exit code 1 with path and reason, nothing lost; {GOES_ON}", problems)
    row.note += f"{', ' if row.note else 'room for '}{room} checkpoints: code {ended.code}"


def full_new(lab: Lab, case: Case, row: Row) -> None:
    """A new run on a disk with room for so many checkpoints.

    It fails at its very start, at its first save, at its second, at its first best model, and at a later best one.
    """
    reference = lab.reference(lab.variants[0])
    for room in (0, 0.4, 1.5, 2.25, 2.5):
        with OnDisk(lab, case) as place:
            # last and previous take 2, the best model a third. The last room is enough where no later epoch is better.
            starved(case, row, place, reference, room, must_fail=room < 2.3)


def full_later(lab: Lab, case: Case, row: Row) -> None:
    """A run that goes on when the disk has become full. It may come to its end: the older checkpoint makes room."""
    for room in (0, 0.02, 0.5):
        with OnDisk(lab, case) as place:
            starved(case, row, place, lab.halfway(case, place.out), room, must_fail=False)


def read_only_new(lab: Lab, case: Case, row: Row) -> None:
    """A new run in a read-only folder, and one whose folder's parent cannot be made there."""
    reference = lab.reference(lab.variants[0])
    for out in ("disk/run", "disk/missing/parent/run"):
        with OnDisk(lab, case) as place:
            place.disk.read_only(True)
            ended = case.run(*case.train(reference.variant, out=out))
            problems = refused(ended, "disk", os.strerror(EROFS))
            place.disk.read_only(False)
            problems += case.resume_problems(reference, out)
            case.check(row, f"exit code 1 with path and reason; {GOES_ON}", problems)


def read_only_later(lab: Lab, case: Case, row: Row) -> None:
    """A run whose disk has become read-only: it cannot go on, but can be used."""
    with OnDisk(lab, case) as place:
        reference = lab.halfway(case, place.out)
        before = rundir.look(place.folder)
        place.disk.read_only(True)
        ended = case.run(*case.train(reference.variant, "--resume", out=place.out))
        problems = refused(ended, place.out, os.strerror(EROFS)) + kept(before, place.folder)
        used = case.run("evaluate", place.out, "--data", FACES)
        problems += [] if used.code == 0 else [used.told()]
        place.disk.read_only(False)
        problems += case.resume_problems(reference, place.out)
        case.check(row, f"exit code 1 with path and reason, `evaluate` works; {GOES_ON}", problems)


# --- things in the way, and things gone -------------------------------------------------------------------------------

def file_for_folder(lab: Lab, case: Case, row: Row) -> None:
    """A file where the run directory, or the folder that it is in, should be."""
    case.folder.write_text("mine")
    variant = lab.variants[0]
    for out in (case.out, f"{case.out}/run"):
        for more in ((), ("--resume",)):
            problems = refused(case.run(*case.train(variant, *more, out=out)), case.out)
            if case.folder.read_text() != "mine":
                problems.append("the file was changed")
            case.check(row, "exit code 1 with the path, the file as it was", problems)
    if not case.failed:
        case.folder.unlink()


def folder_for_last(lab: Lab, case: Case, row: Row) -> None:
    """A folder where last.safetensors should be: nothing that the program may remove."""
    reference = lab.halfway(case)
    last = case.folder / "last.safetensors"
    last.unlink()
    last.mkdir()
    problems = refused(case.run(*case.train(reference.variant, "--resume")), "last.safetensors", codes=(1, 2))
    if last.is_dir():
        last.rmdir()
    else:
        problems.append("the folder is gone")
    problems += case.resume_problems(reference, says=WARNING)
    case.check(row, f"exit code 1 or 2 with its name; when it is gone, a warning, and {AT_THE_END}", problems)


def last_gone(lab: Lab, case: Case, row: Row) -> None:
    """last.safetensors is missing."""
    reference = lab.halfway(case)
    (case.folder / "last.safetensors").unlink()
    case.check(row, f"a warning, and {AT_THE_END}", case.resume_problems(reference, says=WARNING))


def metrics_torn(lab: Lab, case: Case, row: Row) -> None:
    """metrics.jsonl ends in half a line: of an epoch that the checkpoint does not have, or of one that it has."""
    for extra in (True, False):
        reference = lab.halfway(case)
        path = case.folder / "metrics.jsonl"
        text = path.read_bytes()
        path.write_bytes(text + text[:40] if extra else text[:-40])
        problems = case.resume_problems(reference)
        case.check(row, f"{'half a line more' if extra else 'half a line less'}: {AT_THE_END}", problems)
        if problems:
            return
        shutil.rmtree(case.folder)


def metrics_gone(lab: Lab, case: Case, row: Row) -> None:
    """metrics.jsonl is missing."""
    reference = lab.halfway(case)
    (case.folder / "metrics.jsonl").unlink()
    case.check(row, AT_THE_END, case.resume_problems(reference))


def stale_temporary(lab: Lab, case: Case, row: Row) -> None:
    """Temporary files of a process that was killed; a file of the user's own with such an ending is none."""
    reference = lab.halfway(case)
    for name in (".last.safetensors.999999.tmp", ".metrics.jsonl.999999.tmp"):
        (case.folder / name).write_bytes(b"half")
    mine = case.folder / "notes.tmp"
    mine.write_text("mine")
    problems = case.resume_problems(reference)
    if not mine.exists():
        problems.append("notes.tmp, a file of the user's own, was removed")
    case.check(row, f"{AT_THE_END}; notes.tmp stays", problems)


# --- two processes ----------------------------------------------------------------------------------------------------

def has_an_epoch(case: Case, child: Child) -> bool:
    """Waits until the run has finished an epoch and saved its best model; false where it ended before."""
    start = time.monotonic()
    while not (rundir.metrics_lines(case.folder) and rundir.best_now(case.folder)):
        if child.process.poll() is not None or time.monotonic() - start > LIMIT_S:
            return False
        time.sleep(0.002)
    return child.process.poll() is None


def lock_held(lab: Lab, case: Case, row: Row) -> None:
    """A second process on a run directory in use; the first is held still meanwhile, so that it cannot end too soon."""
    reference = lab.reference(lab.variants[0])
    first = case.start(*case.train(reference.variant))
    if not has_an_epoch(case, first):
        case.check(row, "a run of several epochs", [case.end(first).told()])
        return
    first.send(signal.SIGSTOP)
    problems = refused(case.run(*case.train(reference.variant, "--resume")), "in use")
    used = case.run("evaluate", case.out, "--data", FACES)
    problems += [] if used.code == 0 else [used.told()]
    first.send(signal.SIGCONT)
    ended = case.end(first)
    problems += rundir.end_problems(case.folder, reference.final) if ended.code == 0 else [ended.told()]
    case.check(row, "exit code 1 with \"in use\", `evaluate` works, the first ends as the unbroken run", problems)


def lock_left(lab: Lab, case: Case, row: Row) -> None:
    """The lock file of a killed process, that even names a living one: only a lock that is held counts."""
    reference = lab.reference(lab.variants[0])
    child = case.start(*case.train(reference.variant))
    begun = has_an_epoch(case, child)
    child.send(signal.SIGKILL)
    problems = [] if begun else ["the run ended before it was killed"]
    case.end(child, (signal.SIGKILL,))
    (case.folder / ".lock").write_text(f"process {os.getpid()}")
    case.check(row, f"the next process takes over: {AT_THE_END}", problems + case.resume_problems(reference))


@dataclass(frozen=True)
class Fault:
    """One row of the table."""
    key: str
    what: str
    run: Callable[[Lab, Case, Row], None]
    needs_disk: bool = False


FAULTS = (
    Fault("full-new", "disk full, new run: code 1, path and reason; --resume: end as unbroken", full_new, True),
    Fault("full-later", "disk full, run goes on: nothing lost; --resume: end as unbroken", full_later, True),
    Fault("read-only-new", "read-only folder or parent, new run: code 1, path and reason", read_only_new, True),
    Fault("read-only-later", "folder becomes read-only: code 1, nothing lost, evaluate works", read_only_later, True),
    Fault("file-for-folder", "a file where the run directory should be: code 1, file kept", file_for_folder),
    Fault("folder-for-last", "a folder where last.safetensors should be: refused, nothing lost", folder_for_last),
    Fault("last-gone", "last.safetensors gone, --resume: warning, end as unbroken", last_gone),
    Fault("metrics-torn", "metrics.jsonl with a torn line, --resume: end as unbroken", metrics_torn),
    Fault("metrics-gone", "metrics.jsonl gone, --resume: end as unbroken", metrics_gone),
    Fault("temporary", "stale temporary files, --resume: removed, end as unbroken", stale_temporary),
    Fault("lock-held", "a second process: code 1, in use; the first undisturbed", lock_held),
    Fault("lock-left", "lock file of a killed process: the next takes over", lock_left),
)


def run(lab: Lab) -> None:
    """The checks."""
    reason = unavailable(lab.work / "disk")
    for fault in FAULTS:
        if not lab.wants("faults", fault.key):
            continue
        row = lab.results.row(fault.what)
        if fault.needs_disk and reason:
            row.not_tested, row.note = True, reason
            continue
        lab.results.say(f"faults: {fault.key}")
        with Case(lab, "faults", fault.key) as case:
            fault.run(lab, case, row)
