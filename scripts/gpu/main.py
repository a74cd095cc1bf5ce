#!/usr/bin/env python3
"""Runs the stages of scripts/gpu.sh, which explains the environment; writes results.json,
performance.md and logs. Results are saved after each stage."""
from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.metadata
import importlib.util
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)          # scripts, with the packages gpu and bench

from bench import machine, measure, results as store               # noqa: E402
from gpu import report                                             # noqa: E402
from gpu.session import ROOT, Data, Failed, OutOfTime, Session, log  # noqa: E402
from gpu.stages import STAGES                                      # noqa: E402

FEW_ROWS = 320                  # of `agree`, and of everything with --quick
RECORD_FRACTION = 0.18          # of all minutes, which the peers leave for the record config


def stop(text: str) -> None:
    """Exits because of a wrong argument or a missing prerequisite."""
    log(text)
    sys.exit(2)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu.sh", description="Measures Grimace on a GPU; writes results.json and performance.md.",
        epilog="Environment: GRIMACE (the program, or the program packed as .xz; default target/release/grimace), "
               "PYTHON (a Python with torch 2.11; default python3).")
    add = parser.add_argument
    add("--data", type=Path, metavar="CSV", help="training images, as FER2013's emotion,pixels,Usage; default: synthetic")
    add("--out", type=Path, metavar="FOLDER", default=Path("gpu-results"), help="default gpu-results")
    add("--device", default="cuda:0", metavar="DEVICE", help="default cuda:0")
    add("--minutes", type=float, default=9, metavar="N", help="stages that do not fit are skipped; default 9")
    add("--seeds", type=int, default=1, metavar="N", help="seeds of the stage notebook, 42 and up; default 1")
    add("--quick", action="store_true", help="few images and epochs: a smoke test")
    add("--only", metavar="STAGE,...", help=f"of {', '.join(STAGES)}; adds to the results in --out")
    args = parser.parse_args()
    args.stages = list(STAGES)
    if args.only:
        chosen = [name.strip() for name in args.only.split(",") if name.strip()]
        for name in chosen:
            if name not in STAGES:
                parser.error(f"--only: no stage {name!r}; choose from {', '.join(STAGES)}")
        args.stages = [name for name in STAGES if name in chosen] or parser.error("--only: no stage given")
    if args.minutes <= 0 or args.seeds < 1:
        parser.error("--minutes must be above 0, --seeds 1 or more")
    if args.data and not args.data.is_file():
        parser.error(f"--data: {args.data}: no such file")
    return args


# --- prerequisites ----------------------------------------------------------------------------------------------------

def torch_lib() -> tuple[Path | None, str | None]:
    """The folder of this Python's libtorch, and torch's version; not imported, which takes seconds."""
    spec = importlib.util.find_spec("torch")
    if not spec or not spec.submodule_search_locations:
        return None, None
    return Path(spec.submodule_search_locations[0]) / "lib", importlib.metadata.version("torch")


def program(work: Path) -> Path:
    """The program of GRIMACE, unpacked if necessary."""
    path = Path(os.environ.get("GRIMACE") or ROOT / "target/release/grimace").absolute()
    if not path.is_file():
        stop(f"{path}: no such file; build Grimace (make build), or set GRIMACE")
    if path.suffix != ".xz":
        return path
    log(f"unpacking {path.name}")
    unpacked = work / "grimace"
    try:
        with lzma.open(path) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (lzma.LZMAError, EOFError) as error:
        stop(f"{path}: cannot unpack: {error}")
    unpacked.chmod(0o755)
    return unpacked


def digest(path: Path) -> str:
    """The start of a file's SHA-256: --only must not mix builds, and there is no git on the machine."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()[:12]


def check_program(session: Session) -> str:
    """The version of the program; exits if it does not start."""
    try:
        child = session.run([session.grimace, "--version"], "version", 60)
    except OSError as error:
        stop(f"cannot start {session.grimace.name}: {error}")
    except (Failed, OutOfTime):
        stop(f"{session.grimace.name} --version does not end")
    if child.code != 0:
        hint = "" if session.torch_lib else "; PYTHON has no torch: set it to a Python with torch 2.11"
        stop(f"cannot start {session.grimace.name}: {child.reason()}{hint}")
    return child.stdout.strip()


def choose_data(args: argparse.Namespace, session: Session) -> tuple[Data, int]:
    """The training images, with few of them apart, and the number of rows."""
    path = args.data and args.data.absolute()
    if not path:
        rows = FEW_ROWS if args.quick else 12000
        command = [session.grimace, "data", "synth", "--out", session.work / "synthetic", "--train", str(rows),
                   "--test", "16"]
        try:
            child = session.run(command, "synth", 120)
        except (Failed, OutOfTime) as error:
            stop(f"grimace data synth: {error or 'no time left'}")
        if child.code != 0:
            stop(f"grimace data synth failed: {child.reason()}")
        path = session.work / "synthetic/my_emotion_train.csv"
    few, rows, public_test = session.work / "few.csv", 0, False
    try:
        with path.open(newline="", encoding="utf-8-sig") as source, few.open("w", newline="", encoding="utf-8") as target:
            reader, writer = csv.reader(source), csv.writer(target)
            head = [name.strip().lower() for name in next(reader, [])]
            if not {"emotion", "pixels"} <= set(head):
                stop(f"--data: {path.name}: no columns emotion and pixels")
            emotion, pixels = head.index("emotion"), head.index("pixels")
            usage = head.index("usage") if "usage" in head else None
            writer.writerow(["emotion", "pixels"])
            for row in reader:
                part = row[usage].strip() if usage is not None else "Training"
                public_test |= part == "PublicTest"
                if part.lower() in ("training", "train"):
                    rows += 1
                    if rows <= FEW_ROWS:
                        writer.writerow([row[emotion], row[pixels]])
    except (csv.Error, UnicodeDecodeError, IndexError) as error:
        stop(f"--data: {path.name}: not a CSV that this script reads: {error}")
    if not rows:
        stop(f"--data: {path.name}: no rows for training")
    name = path.name if args.data else "synthetic images"
    data = Data(few if args.quick else path, few, name, bool(args.data), public_test)
    return data, min(rows, FEW_ROWS) if args.quick else rows


def new_results(args: argparse.Namespace, session: Session, versions: dict, rows: int) -> dict:
    """Results without stages, or with those of an earlier run that --only adds to."""
    settings = {"quick": args.quick, "simulated": session.simulated, "device": args.device,
                "data": {"name": session.data.name, "real": session.data.real, "public_test": session.data.public_test,
                         "rows": rows}}
    found = {"format": report.FORMAT, "settings": settings, "runs": [], "stages": {},
             "machine": {**machine.describe("cpu"), **gpu_of(session)}, "versions": versions}
    path = args.out / "results.json"
    if not args.only or not path.exists():
        return found
    try:
        before = report.load(path)
    except ValueError as error:
        log(f"starting over: {error}")
        return found
    differ = [key for key in ("settings", "machine", "versions") if before[key] != found[key]]
    if differ:
        log(f"starting over: results.json has other {' and '.join(differ)}")
        return found
    return before


def gpu_of(session: Session) -> dict:
    """Name, driver and memory of the GPU by nvidia-smi; empty without it. `doctor` adds to it."""
    if session.simulated:
        return {"gpu": "a simulated device"}
    if not session.device.startswith("cuda"):
        return {"gpu": "no GPU"}
    from gpu.gpu_monitor import nvidia_index
    line = machine.output_of("nvidia-smi", "-i", nvidia_index(session.device),
                             "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    parts = [part.strip() for part in (line or "").splitlines()[0].split(",")] if line else []
    return dict(zip(("gpu", "driver", "gpu_memory"), parts)) if len(parts) == 3 else {}


def command_of(args: argparse.Namespace) -> str:
    """The command, without folders: it is published."""
    parts = ["scripts/gpu.sh", *(["--quick"] if args.quick else []),
             *([f"--data {args.data.name}"] if args.data else []), *([f"--only {args.only}"] if args.only else []),
             *([f"--device {args.device}"] if args.device != "cuda:0" else []),
             *([f"--seeds {args.seeds}"] if args.seeds != 1 else []),
             *([f"--minutes {args.minutes:g}"] if args.minutes != 9 else [])]
    return " ".join(parts)


# --- stages -----------------------------------------------------------------------------------------------------------

def run_stage(session: Session, name: str, record: dict) -> None:
    """Runs a stage, which fills its record: a status, rows and problems."""
    function, needed = STAGES[name]
    left = session.left()
    if left < (3 if session.quick else needed):
        record |= {"status": "skipped", "note": f"skipped: {max(left, 0):.0f} s left"}
        log(f"{name}: {record['note']}")
        return
    log(f"{name}: {left:.0f} s left")
    begin = time.monotonic()
    try:
        function(session, record)
    except OutOfTime:
        record["cut"] = True
        log(f"{name}: out of time")
    except KeyboardInterrupt:
        record["problems"].append("interrupted")
        raise
    except Exception as error:                                     # whatever it is, the next stage runs
        problem = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        record["problems"].append(problem)
        log(f"{name} failed: {problem}")
    finally:
        record["problems"] = list(dict.fromkeys(measure.clean(problem) for problem in record["problems"]))
        record["took_s"] = round(time.monotonic() - begin, 1)
        record["status"] = "failed" if record["problems"] else "done" if not record.get("cut") else \
            "cut short" if record["rows"] else "skipped"


def save(results: dict, out: Path) -> None:
    """Writes results.json and performance.md."""
    store.save(results, out / "results.json")
    (out / "performance.md").write_text(report.page(results), encoding="utf-8")


def measure_all(args: argparse.Namespace, work: Path, deadline: float) -> int:
    """Prepares, runs the stages, and saves after each. Returns the exit code."""
    args.out = args.out.absolute()
    (args.out / "logs").mkdir(parents=True, exist_ok=True)
    lib, torch_version = torch_lib()
    session = Session(program(work), lib, args.out, work, args.device, args.quick,
                      bool(os.environ.get("GRIMACE_CUDA_LIBRARY")), args.seeds, deadline)
    if "record" in args.stages:
        session.reserve_s = RECORD_FRACTION * 60 * args.minutes
    versions = {"grimace": check_program(session).removeprefix("grimace "), "sha256": digest(session.grimace),
                "torch": torch_version}
    session.data, rows = choose_data(args, session)
    results = new_results(args, session, versions, rows)
    run = {"command": command_of(args), "started": now(), "finished": None}
    results["runs"].append(run)
    failed = []
    try:
        for name in args.stages:
            results["stages"][name] = record = {"status": "skipped", "rows": [], "problems": []}
            run_stage(session, name, record)
            if record["status"] == "failed":
                failed.append(name)
            save(results, args.out)
            if name == "doctor" and "report" not in record:
                log(f"{args.device} cannot be used, so the other stages are left out")
                break
    finally:
        session.kill_all()
        run["finished"] = now()
        save(results, args.out)
    summary = "; ".join(f"{name} {results['stages'][name]['status']}" for name in args.stages if name in results["stages"])
    log(f"{summary}; {args.out / 'performance.md'} is written")
    return 1 if failed else 0


def now() -> str:
    """The time in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def main() -> int:
    """Runs everything in a temporary folder."""
    begin = time.monotonic()
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with tempfile.TemporaryDirectory(prefix="grimace-gpu-") as work:
        try:
            return measure_all(args, Path(work), begin + 60 * args.minutes)
        except KeyboardInterrupt:
            log("interrupted")
            return 130


if __name__ == "__main__":
    sys.exit(main())
