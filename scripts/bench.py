#!/usr/bin/env python3
"""Measures Grimace beside PyTorch and Keras, and writes docs/benchmarks.md and docs/benchmarks.json.

    make bench                                   # builds, runs the criterion benches, then this
    python3 scripts/bench.py --quick             # a few minutes: shows that everything works, not how fast it is
    python3 scripts/bench.py --resume            # goes on with a measurement that was interrupted
    python3 scripts/bench.py --render docs/benchmarks.json

Standard library only. PyTorch and Keras come from .venv-peers, which is installed when missing. Every result is saved
as it comes, in benchmarks.json.tmp beside the page; the page and benchmarks.json change only when all is measured.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from bench import machine, measure, render, results as store
from bench.measure import BATCH, Failed, Setup

ROOT = Path(__file__).resolve().parent.parent
GRIMACE = ROOT / "target/release/grimace"
DATA = ROOT / "data/my_emotion_train.csv"
TEST = ROOT / "data/my_emotion_test.csv"
TEST_ROWS = 3589          # FER2013's PublicTest
QUICK_ROWS = 5120         # Keras' 60 steps of 64 need 4,800


@dataclass(frozen=True)
class Job:
    """One run of one program, in a stage and a round; it may give figures of several variants."""
    stage: str
    round: int
    name: str
    programs: list[str]
    run: Callable[[], tuple[list[dict], measure.Child]]


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> None:
    """Ends the script over a wrong argument or a missing thing."""
    say(text)
    sys.exit(2)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measures Grimace beside PyTorch and Keras; writes docs/benchmarks.md and docs/benchmarks.json.",
        epilog="A full run takes about an hour on 2 cores. Leave the machine alone meanwhile.")
    add = parser.add_argument
    add("--train", type=Path, metavar="CSV", help="faces to train on; default data/my_emotion_train.csv, or else drawn")
    add("--validation", type=Path, metavar="CSV", help="faces to validate on; default: a fifth of the training faces")
    add("--test", type=Path, metavar="CSV", help="faces to predict; default data/my_emotion_test.csv, or else drawn")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="default cpu; cuda measures on the first GPU")
    add("--rounds", type=int, default=5, metavar="N", help="rounds of the main table; default 5")
    add("--growth-rounds", type=int, default=3, metavar="N", help="rounds of batch, threads and rows; default 3")
    add("--peers-python", type=Path, metavar="PATH", help="a Python that has scripts/peers/requirements.txt")
    add("--no-peers", action="store_true", help="measure Grimace alone")
    add("--no-compile", action="store_true", help="leave torch.compile out; it needs a C++ compiler")
    add("--wait", type=float, default=60, metavar="SECONDS", help="longest wait for an idle machine; default 60")
    add("--quick", action="store_true", help="1 round, few steps, few rows: for trying the script")
    add("--resume", action="store_true", help="go on with an interrupted measurement")
    add("--out", type=Path, metavar="MD", help="default docs/benchmarks.md, or beside the JSON of --render")
    add("--render", type=Path, metavar="JSON", help="only write the page, from these results")
    args = parser.parse_args()
    if min(args.rounds, args.growth_rounds) < 1:
        parser.error("--rounds and --growth-rounds are 1 or more")
    if args.validation and not args.train:
        parser.error("--validation needs --train")
    for path in (args.train, args.validation, args.test, args.peers_python, args.render):
        if path and not path.is_file():
            parser.error(f"{path}: no such file")
    args.out = args.out or (args.render.with_suffix(".md") if args.render else ROOT / "docs/benchmarks.md")
    return args


# --- what is needed before anything is measured ---------------------------------------------------------------------

def peers_python(args: argparse.Namespace) -> tuple[Path | None, str | None]:
    """The Python of the peers, installed when missing, or why there is none."""
    if args.no_peers:
        return None, None
    if args.peers_python:
        return args.peers_python.absolute(), None          # not resolved: a venv's python is a link
    folder, requirements = ROOT / ".venv-peers", ROOT / "scripts/peers/requirements.txt"
    python, marker = folder / "bin/python", folder / ".installed"
    if marker.exists() and marker.read_text() == requirements.read_text():
        return python, None
    say("installing PyTorch and TensorFlow into .venv-peers: about 2 GB to download, 6.5 GB on disk, minutes")
    for command in ([sys.executable, "-m", "venv", "--clear", folder],
                    [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
            problem = measure.clean((lines or ["pip failed"])[-1])
            say(f"the peers cannot be installed, Grimace is measured alone: {problem}")
            return None, f"not installed: {problem}"
    marker.write_text(requirements.read_text())
    return python, None


def drawn(work: Path, rows: int, test_rows: int) -> Path:
    """A folder with faces drawn by Grimace: the same every time."""
    folder = work / "drawn"
    if not folder.exists():
        say(f"drawing {rows:,} training and {test_rows:,} test faces")
        child = measure.run_child([GRIMACE, "data", "synth", "--out", folder, "--train", str(rows), "--test",
                                   str(test_rows)], ROOT)
        if child.code != 0:
            stop(f"grimace data synth failed: {measure.reason(child)}")
    return folder


def choose_data(args: argparse.Namespace, work: Path) -> tuple[Path, Path | None, Path, dict]:
    """Training, validation and test CSV, and what the report says of them."""
    train, validation, test = args.train, args.validation, args.test
    if not train and DATA.exists():
        train = DATA
    if not test and TEST.exists():
        test = TEST
    said = {"train": train.name if train else "drawn", "test": test.name if test else "drawn",
            "validation": validation.name if validation else "a fifth of the training rows"}
    folder = drawn(work, 12000, TEST_ROWS) if not (train and test) else work
    train, test = train or folder / "my_emotion_train.csv", test or folder / "my_emotion_test.csv"
    if args.quick:
        train = measure.head(train, QUICK_ROWS, work / "train.csv")
        validation = validation and measure.head(validation, 512, work / "validation.csv")
    said["sizes"] = [path.stat().st_size for path in (train, validation, test) if path]      # tells two data sets apart
    with test.open("rb") as file:
        said["test_rows"] = sum(1 for _ in file) - 1
    absolute = [path and path.absolute() for path in (train, validation, test)]
    return absolute[0], absolute[1], absolute[2], said


def sha256(path: Path) -> str:
    """The checksum of a file, read a megabyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def settings_of(args: argparse.Namespace, setup: Setup, precisions: list[str], data: dict) -> dict:
    """Everything that the figures depend on: two measurements with the same settings may be joined."""
    cores = os.cpu_count() or 1
    threads = {1, 2, setup.threads} if setup.device == "cpu" else set()
    return {
        "quick": args.quick, "device": args.device, "rounds": 1 if args.quick else args.rounds,
        "growth_rounds": 1 if args.quick else args.growth_rounds, "precisions": precisions, "data": data,
        "peers": not args.no_peers, "compiled": setup.compiled, "keras": not args.no_peers and args.device == "cpu",
        "torch_steps": setup.torch_steps, "threads": setup.threads,
        "batches": [BATCH, 256] if args.quick else [16, BATCH, 256, 1024],
        "thread_counts": sorted(count for count in threads if count <= cores), "program_sha256": sha256(GRIMACE),
    }


# --- what is measured -------------------------------------------------------------------------------------------------

def in_turn(jobs: list[Job], round_: int) -> list[Job]:
    """Forwards in one round, backwards in the next: a machine that slows down hits everyone alike."""
    return jobs if round_ % 2 == 0 else jobs[::-1]


def main_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """Grimace in each precision, PyTorch, Keras."""
    jobs = [Job("main", round_, f"Grimace {precision}", [f"Grimace {precision}"],
                lambda precision=precision: measure.grimace(setup, precision)) for precision in settings["precisions"]]
    if settings["peers"]:
        jobs.append(Job("main", round_, "PyTorch", measure.torch_programs(setup.compiled),
                        lambda: measure.torch(setup, compiled=setup.compiled)))
    if settings["keras"]:
        jobs.append(Job("main", round_, "Keras", ["Keras"], lambda: measure.keras(setup)))
    return in_turn(jobs, round_)


def whole_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """The program from its start."""
    return [Job("start", round_, "start", ["start"], lambda: measure.start(setup)),
            Job("predict", round_, "predict", ["predict"], lambda: measure.predict(setup))]


def growth_points(settings: dict) -> list[tuple[str, dict]]:
    """Stages of batch size and threads with the arguments they change; the seed's batch on all threads is in once."""
    points = [(f"batch {batch}", {"batch": batch}) for batch in settings["batches"]]
    return points + [(f"threads {count}", {"threads": count}) for count in settings["thread_counts"]
                     if count != settings["threads"]]


def growth_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """Batch sizes, thread counts, and ten times the rows."""
    jobs = []
    for stage, change in growth_points(settings):
        for precision in settings["precisions"]:
            jobs.append(Job(stage, round_, f"Grimace {precision}", [f"Grimace {precision}"],
                            lambda precision=precision, change=change: measure.grimace(setup, precision, **change)))
        if settings["peers"]:
            jobs.append(Job(stage, round_, "PyTorch", measure.torch_programs(False),
                            lambda change=change: measure.torch(setup, **change)))
    for times in (1, 10):
        # The last precision is the fast one: the more rows, the longer, and both read the data alike.
        precision = settings["precisions"][-1]
        jobs.append(Job(f"rows {times}x", round_, f"Grimace {precision}", [f"Grimace {precision}"],
                        lambda times=times: many_rows(setup, settings["precisions"][-1], times)))
    return in_turn(jobs, round_)


def many_rows(setup: Setup, precision: str, times: int) -> tuple[list[dict], measure.Child]:
    """One epoch of the training rows, `times` over."""
    if times == 1:
        return measure.grimace(setup, precision, epochs=1)
    csv = measure.repeated(setup.train, times, setup.work / "many.csv")
    try:
        return measure.grimace(setup, precision, epochs=1, csv=csv)
    finally:
        csv.unlink()          # gigabytes


def plan(setup: Setup, settings: dict) -> list[Job]:
    """Every run in its order."""
    jobs = []
    for round_ in range(settings["rounds"]):
        jobs += main_jobs(setup, settings, round_) + whole_jobs(setup, settings, round_)
    for round_ in range(settings["growth_rounds"]):
        jobs += growth_jobs(setup, settings, round_)
    return jobs


def record_of(job: Job, wait_s: float) -> dict:
    """Waits for an idle machine, runs a job, and gives its record. A failure is a record too."""
    record = {"stage": job.stage, "round": job.round, "programs": job.programs, "figures": [], "error": None,
              "busy_before": machine.wait_until_idle(wait_s, say)}
    begin = time.monotonic()
    try:
        record["figures"], child = job.run()
        record["others"] = child.others
    except Failed as failed:
        record["figures"], record["error"] = failed.figures, str(failed)
    except (OSError, ValueError, KeyError, IndexError) as error:
        record["error"] = measure.clean(f"{type(error).__name__}: {error}")
    record["took_s"] = round(time.monotonic() - begin, 1)
    return record


def told(record: dict) -> str:
    """A record in a few words."""
    parts = [f"{figure['program']} {figure['images_per_second']:,.0f} images/s" if "images_per_second" in figure
             else f"{figure['seconds']:.2f} s" for figure in record["figures"]]
    if record["error"]:
        parts.append(f"failed: {record['error']}")
    return "; ".join(parts)


# --- from beginning to end --------------------------------------------------------------------------------------------

def open_results(args: argparse.Namespace, setup: Setup, settings: dict, unfinished: Path) -> dict:
    """Results to add to: those of an interrupted measurement with `--resume`, or new ones."""
    if args.resume and unfinished.exists():
        found = store.load(unfinished)
        differ = [name for name in settings if found["settings"].get(name) != settings[name]]
        if differ:
            stop(f"--resume: {unfinished.name} was measured with other settings ({', '.join(differ)}); "
                 "use the same arguments and the same build, or start anew without --resume")
        return found
    if unfinished.exists():
        say(f"starting anew; what an earlier run left in {unfinished.name} is replaced")
    load = [round(value, 2) for value in os.getloadavg()]
    return {"format": store.FORMAT, "finished": None, "started": now(), "settings": settings,
            "machine": machine.describe(args.device), "load_at_start": load,
            "versions": machine.versions(ROOT, measure.doctor(GRIMACE, ROOT), setup.peers_python), "jobs": {}}


def now() -> str:
    """The time in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def measure_all(args: argparse.Namespace, work: Path) -> dict:
    """Makes ready, runs what is missing, and saves after every run."""
    if not GRIMACE.exists():
        stop("there is no target/release/grimace; build it first: make build")
    python, problem = peers_python(args)
    doctor = measure.doctor(GRIMACE, ROOT)
    if args.device == "cuda" and not doctor["cuda"]:
        stop(f"--device cuda: {measure.clean(doctor['cuda_reason'] or 'no CUDA')}")
    train, validation, test, data = choose_data(args, work)
    setup = Setup(root=ROOT, grimace=GRIMACE, peers_python=python, peers_error=problem, device=args.device,
                  threads=doctor["threads"], torch_steps=15 if args.quick else 60,
                  compiled=not (args.no_compile or args.no_peers), train=train, validation=validation, test=test,
                  work=work)
    settings = settings_of(args, setup, measure.precisions(doctor, args.device), data)
    unfinished = args.out.with_suffix(".json.tmp")
    found = open_results(args, setup, settings, unfinished)
    jobs, built = plan(setup, settings), GRIMACE.stat()
    for number, job in enumerate(jobs, 1):
        name = store.key(job.stage, job.round, job.name)
        if name in found["jobs"] and not found["jobs"][name]["error"]:
            continue
        record = record_of(job, args.wait)
        if GRIMACE.stat().st_mtime_ns != built.st_mtime_ns:
            stop("target/release/grimace was built anew meanwhile; measure again, and leave it alone")
        found["jobs"][name] = record
        store.save(found, unfinished)
        say(f"{number} of {len(jobs)}: {name}: {told(record)} ({record['took_s']:.0f} s)")
    found["finished"] = now()
    store.save(found, args.out.with_suffix(".json"))
    unfinished.unlink(missing_ok=True)
    return found


def main() -> int:
    """Measures and renders, or only renders."""
    args = arguments()
    try:
        if args.render:
            found = store.load(args.render)
        else:
            signal.signal(signal.SIGTERM, signal.default_int_handler)      # so that it, too, stops the running program
            work = Path(tempfile.mkdtemp(prefix="grimace-bench-"))
            try:
                found = measure_all(args, work)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except KeyboardInterrupt:
        say("interrupted; what was measured is kept: --resume with the same arguments goes on")
        return 130
    except (Failed, ValueError, OSError) as error:
        say(str(error))
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(render.page(found), encoding="utf-8")
    say(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
