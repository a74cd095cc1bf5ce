#!/usr/bin/env python3
"""Benchmarks Grimace against PyTorch and Keras, and writes the page and the results of this CPU's
instruction set, docs/benchmarks-avx2.md and .json for example, and docs/benchmarks.md, which has all
of them side by side.

    make bench                                   # builds, runs the criterion benches, then this
    python3 scripts/bench.py --quick             # a few minutes: a smoke test, not a measurement
    python3 scripts/bench.py --isa avx2          # leaves out what the CPU has beyond AVX2
    python3 scripts/bench.py --resume            # resumes an interrupted measurement
    python3 scripts/bench.py --render docs/benchmarks-avx2.json

Standard library only. PyTorch and Keras come from .venv-peers, which is installed when missing.
Every result is saved at once in a .json.tmp beside the page; the page and its .json change only when
everything is measured.
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
from pathlib import Path

from bench import chart, machine, measure, overview, render, results as store
from bench.jobs import Job, all_jobs
from bench.measure import BATCH, Failed, Setup
from bench.workloads import instruction_set

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GRIMACE = ROOT / "target/release/grimace"
DATA = ROOT / "data/my_emotion_train.csv"
TEST = ROOT / "data/my_emotion_test.csv"
TEST_ROWS = 3589          # as FER2013's PublicTest
QUICK_ROWS = 5120         # Keras' 60 steps of 64 need 4,800


def log(text: str) -> None:
    """Progress goes to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> None:
    """Exits because of a wrong argument or a missing prerequisite."""
    log(text)
    sys.exit(2)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Benchmarks Grimace against PyTorch and Keras; writes a page and its results to docs/.",
        epilog="A full run takes about an hour on 2 cores. Leave the machine idle meanwhile.")
    add = parser.add_argument
    add("--train", type=Path, metavar="CSV", help="training images; default data/my_emotion_train.csv, or else synthetic")
    add("--validation", type=Path, metavar="CSV", help="validation images; default: 20%% of the training images")
    add("--test", type=Path, metavar="CSV", help="test images; default data/my_emotion_test.csv, or else synthetic")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="default cpu; cuda uses the first GPU")
    add("--isa", choices=list(machine.LIMITS), help="limit all programs to this instruction set, by environment variables")
    add("--rounds", type=int, default=5, metavar="N", help="rounds of the main table; default 5")
    add("--scaling-rounds", type=int, default=3, metavar="N", help="rounds of the scaling tables; default 3; 0: none")
    add("--peers-python", type=Path, metavar="PATH", help="a Python with scripts/peers/requirements.txt")
    add("--no-peers", action="store_true", help="measure Grimace alone")
    add("--no-compile", action="store_true", help="skip torch.compile, which needs a C++ compiler")
    add("--wait", type=float, default=60, metavar="SECONDS", help="max wait for an idle machine; default 60")
    add("--quick", action="store_true", help="1 round, few steps, few rows: a smoke test")
    add("--resume", action="store_true", help="resume an interrupted measurement")
    add("--out", type=Path, metavar="MD", help="default docs/benchmarks-INSTRUCTION_SET.md, or beside the JSON of --render")
    add("--render", type=Path, metavar="JSON", help="only render the page, from these results")
    args = parser.parse_args()
    if args.rounds < 1 or args.scaling_rounds < 0:
        parser.error("--rounds must be 1 or more, --scaling-rounds 0 or more")
    if args.isa and args.device == "cuda":
        parser.error("--isa is for the CPU")
    if args.validation and not args.train:
        parser.error("--validation needs --train")
    for path in (args.train, args.validation, args.test, args.peers_python, args.render):
        if path and not path.is_file():
            parser.error(f"{path}: no such file")
    if args.render and not args.out:
        args.out = args.render.with_suffix(".md")
    return args


# --- prerequisites ----------------------------------------------------------------------------------------------------

def peers_python(args: argparse.Namespace) -> tuple[Path | None, str | None]:
    """The peers' Python, installed when missing, or the reason why there is none."""
    if args.no_peers:
        return None, None
    if args.peers_python:
        return args.peers_python.absolute(), None          # not resolved: a venv's python is a symlink
    folder, requirements = ROOT / ".venv-peers", ROOT / "scripts/peers/requirements.txt"
    python, marker = folder / "bin/python", folder / ".installed"
    if marker.exists() and marker.read_text() == requirements.read_text():
        return python, None
    log("installing PyTorch and TensorFlow into .venv-peers: about 2 GB to download, 6.5 GB on disk, minutes")
    for command in ([sys.executable, "-m", "venv", "--clear", folder],
                    [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
            problem = measure.clean((lines or ["pip failed"])[-1])
            log(f"cannot install the peers, measuring Grimace alone: {problem}")
            return None, f"not installed: {problem}"
    marker.write_text(requirements.read_text())
    return python, None


def synthetic(work: Path, rows: int, test_rows: int) -> Path:
    """A folder with synthetic images from `grimace data synth`: the same every time."""
    folder = work / "synthetic"
    if not folder.exists():
        log(f"generating {rows:,} training and {test_rows:,} test images")
        child = measure.run_child([GRIMACE, "data", "synth", "--out", folder, "--train", str(rows), "--test",
                                   str(test_rows)], ROOT)
        if child.code != 0:
            stop(f"grimace data synth failed: {measure.reason(child)}")
    return folder


def choose_data(args: argparse.Namespace, work: Path) -> tuple[Path, Path | None, Path, dict]:
    """Training, validation and test CSV, and their description for the page."""
    train, validation, test = args.train, args.validation, args.test
    if not train and DATA.exists():
        train = DATA
    if not test and TEST.exists():
        test = TEST
    data = {"train": train.name if train else "synthetic", "test": test.name if test else "synthetic",
            "validation": validation.name if validation else "20% of the training rows"}
    folder = synthetic(work, 12000, TEST_ROWS) if not (train and test) else work
    train, test = train or folder / "my_emotion_train.csv", test or folder / "my_emotion_test.csv"
    if args.quick:
        train = measure.head(train, QUICK_ROWS, work / "train.csv")
        validation = validation and measure.head(validation, 512, work / "validation.csv")
    data["sizes"] = [path.stat().st_size for path in (train, validation, test) if path]      # distinguishes datasets
    with test.open("rb") as file:
        data["test_rows"] = sum(1 for _ in file) - 1
    absolute = [path and path.absolute() for path in (train, validation, test)]
    return absolute[0], absolute[1], absolute[2], data


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def chosen_precisions(args: argparse.Namespace, doctor: dict) -> tuple[list[str], str]:
    """The precisions to measure, and the one for stages that run in one only: what "auto" is on the device."""
    if args.isa:
        return ["f32"], "f32"
    if args.device == "cuda":
        return measure.precisions(doctor, args.device), doctor["auto_precision"]
    return measure.precisions(doctor, args.device), "bf16" if doctor["cpu_bf16_fast"] else "f32"


def settings_of(args: argparse.Namespace, setup: Setup, data: dict) -> dict:
    """Everything that the results depend on: --resume requires the same settings."""
    cores = os.cpu_count() or 1
    threads = {1, 2, setup.threads} if setup.device == "cpu" else set()
    return {
        "quick": args.quick, "device": args.device, "rounds": 1 if args.quick else args.rounds,
        "scaling_rounds": min(1, args.scaling_rounds) if args.quick else args.scaling_rounds, "precisions": setup.precisions,
        "auto_precision": setup.auto_precision, "data": data,
        "isa": args.isa,
        "peers": not args.no_peers, "compiled": setup.compiled, "keras": not args.no_peers and args.device == "cpu",
        "torch_steps": setup.torch_steps, "threads": setup.threads,
        "batches": [BATCH, 256] if args.quick else [16, BATCH, 256, 1024],
        "thread_counts": sorted(count for count in threads if count <= cores), "program_sha256": sha256(GRIMACE),
    }


# --- running ---------------------------------------------------------------------------------------------------------

def run_job(job: Job, wait_s: float) -> dict:
    """Waits for an idle machine, runs a job, and returns its record. A failure is a record too."""
    record = {"stage": job.stage, "round": job.round, "programs": job.programs, "metrics": [], "error": None,
              "busy_before": machine.wait_until_idle(wait_s, log)}
    begin = time.monotonic()
    try:
        record["metrics"], child = job.run()
        record["others"] = child.others
    except Failed as failed:
        record["metrics"], record["error"] = failed.metrics, str(failed)
    except (OSError, ValueError, KeyError, IndexError) as error:
        record["error"] = measure.clean(f"{type(error).__name__}: {error}")
    record["took_s"] = round(time.monotonic() - begin, 1)
    return record


def describe(record: dict) -> str:
    """A record for the log."""
    parts = [f"{metrics['program']} {metrics['images_per_second']:,.0f} images/s" if "images_per_second" in metrics
             else f"{metrics['seconds']:.2f} s" for metrics in record["metrics"]]
    if record["error"]:
        parts.append(f"failed: {record['error']}")
    return "; ".join(parts)


# --- main -------------------------------------------------------------------------------------------------------------

def open_results(args: argparse.Namespace, setup: Setup, settings: dict, unfinished: Path) -> dict:
    """The results to add to: with `--resume` those of an interrupted measurement, else new ones."""
    if args.resume and unfinished.exists():
        found = store.load(unfinished)
        differ = [name for name in settings if found["settings"].get(name) != settings[name]]
        if differ:
            stop(f"--resume: {unfinished.name} has other settings ({', '.join(differ)}); "
                 "use the same arguments and the same build, or start over without --resume")
        return found
    if unfinished.exists():
        log(f"starting over; {unfinished.name} of an earlier run is replaced")
    load = [round(value, 2) for value in os.getloadavg()]
    return {"format": store.FORMAT, "finished": None, "started": now(), "settings": settings,
            "machine": machine.describe(args.device), "load_at_start": load,
            "versions": machine.versions(ROOT, measure.doctor(GRIMACE, ROOT), setup.peers_python), "jobs": {}}


def now() -> str:
    """The time in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def measure_all(args: argparse.Namespace, work: Path) -> dict:
    """Prepares, runs all missing jobs, and saves after every job."""
    if not GRIMACE.exists():
        stop("target/release/grimace not found; build it first: make build")
    python, problem = peers_python(args)
    if args.isa:
        # Compiled graphs of an unlimited run are not used.
        flags = f"{os.environ.get('XLA_FLAGS', '')} {machine.LIMITS[args.isa]['XLA_FLAGS']}".strip()
        os.environ.update(machine.LIMITS[args.isa], XLA_FLAGS=flags, TORCHINDUCTOR_CACHE_DIR=str(work / "inductor"))
    doctor = measure.doctor(GRIMACE, ROOT)
    if args.device == "cuda" and not doctor["cuda"]:
        stop(f"--device cuda: {measure.clean(doctor['cuda_reason'] or 'no CUDA')}")
    if not args.out:
        name = "cuda" if args.device == "cuda" else instruction_set(doctor)
        args.out = DOCS / f"benchmarks-{name}.md"
    train, validation, test, data = choose_data(args, work)
    precisions, auto = chosen_precisions(args, doctor)
    setup = Setup(root=ROOT, grimace=GRIMACE, peers_python=python, peers_error=problem, device=args.device,
                  threads=doctor["threads"], torch_steps=15 if args.quick else 60,
                  compiled=not (args.no_compile or args.no_peers),
                  precisions=precisions, auto_precision=auto,
                  train=train, validation=validation, test=test, work=work)
    settings = settings_of(args, setup, data)
    unfinished = args.out.with_suffix(".json.tmp")
    found = open_results(args, setup, settings, unfinished)
    jobs, built = all_jobs(setup, settings), GRIMACE.stat()
    for number, job in enumerate(jobs, 1):
        name = store.key(job.stage, job.round, job.name)
        if name in found["jobs"] and not found["jobs"][name]["error"]:
            continue
        record = run_job(job, args.wait)
        if GRIMACE.stat().st_mtime_ns != built.st_mtime_ns:
            stop("target/release/grimace was rebuilt meanwhile; measure again, without building")
        found["jobs"][name] = record
        store.save(found, unfinished)
        log(f"{number} of {len(jobs)}: {name}: {describe(record)} ({record['took_s']:.0f} s)")
    found["finished"] = now()
    store.save(found, args.out.with_suffix(".json"))
    unfinished.unlink(missing_ok=True)
    return found


def write_overview() -> None:
    """The page of all instruction sets, and the chart of the first."""
    (DOCS / "benchmarks.md").write_text(render.wrap(overview.page(DOCS)), encoding="utf-8")
    first, *_ = overview.found_results(DOCS).values()
    for theme in chart.COLORS:
        (DOCS / f"img/speed-{theme}.svg").write_text(chart.speed_chart(first, theme), encoding="utf-8")


def main() -> int:
    """Measures and renders, or only renders."""
    args = arguments()
    try:
        if args.render:
            found = store.load(args.render)
        else:
            signal.signal(signal.SIGTERM, signal.default_int_handler)      # SIGTERM also stops the child
            work = Path(tempfile.mkdtemp(prefix="grimace-bench-"))
            try:
                found = measure_all(args, work)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except KeyboardInterrupt:
        log("interrupted; the results so far are kept: resume with the same arguments and --resume")
        return 130
    except (Failed, ValueError, OSError) as error:
        log(str(error))
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(render.page(found), encoding="utf-8")
    if args.out.resolve().parent == DOCS and found["settings"]["device"] == "cpu":
        write_overview()
    log(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
