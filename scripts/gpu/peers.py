"""Grimace against PyTorch on the device, in turn: each batch size has its three PyTorch processes,
which compile at the same time and then wait, and rounds in which one program at a time runs."""
from __future__ import annotations

import json
import queue
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from bench import measure
from gpu.session import ROOT, Failed, OutOfTime, Session, attempt, log

BATCHES = [64, 256, 1024, 4096]
VARIANTS = ["eager", "compiled", "reduce-overhead"]
ROUNDS = 3
WARMUP_S, ROUND_S, STOP_S = 150, 30, 5


def median(values: list[float]) -> float:
    """The median, to a tenth."""
    return round(statistics.median(values), 1)


def grimace_row(session: Session, name: str, batch: int, cuda_graph: bool, round_: int, epochs: int = 4) -> dict:
    """Images per second of a short run of the notebook's recipe in bf16."""
    overrides = {"train.batch": batch, "train.epochs": epochs, "train.early_stop.patience": 0, "precision": "bf16",
                 "train.cuda_graph": cuda_graph}
    training = session.train("notebook.toml", overrides, name, 60)
    row = {"program": "Grimace graph" if cuda_graph else "Grimace eager", "batch": batch, "round": round_,
           "images_per_second": median(training.speeds()), "fallback": training.fallback,
           "seconds": round(training.seconds, 2)}
    log(f"batch {batch}, round {round_ + 1}, {row['program']}: {row['images_per_second']:,.0f} images/s"
        + (f"; CUDA graphs are not used: {training.fallback}" if training.fallback is not None else ""))
    return row


class Peer:
    """A running torch_peer.py: one variant at one batch size, which measures on request."""

    def __init__(self, session: Session, variant: str, batch: int) -> None:
        self.session, self.variant, self.batch = session, variant, batch
        self.log = session.out / "logs" / f"torch-{variant}-{batch}.log"
        command: list[str | Path] = [sys.executable, ROOT / "scripts/gpu/torch_peer.py", "--device", session.device,
                                     "--batch", str(batch), "--variant", variant, "--wait"]
        with self.log.open("w") as stderr:
            self.process = session.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(line)
        self.lines.put(None)

    def next(self, limit_s: float) -> dict:
        """The next JSON line. Raises Failed if the process ended or takes longer than `limit_s`."""
        try:
            line = self.lines.get(timeout=self.session.timeout(limit_s))
        except queue.Empty:
            raise (OutOfTime() if self.session.left() <= 0 else Failed(f"no result after {limit_s:.0f} s")) from None
        if line is None:
            code = self.process.wait()
            stderr = self.log.read_text(errors="replace")
            raise Failed(measure.reason(measure.Child(code, "", stderr, 0, 0, None)))
        return json.loads(line)

    def measure(self, round_: int) -> dict:
        """One round."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:
            pass                                                   # `next` tells why it ended
        found = self.next(ROUND_S)
        row = {"program": f"PyTorch {self.variant}", "batch": self.batch, "round": round_,
               "images_per_second": found["images_per_second"], "peak_bytes": found["peak_bytes"],
               "steps": found["steps"]}
        log(f"batch {self.batch}, round {round_ + 1}, {row['program']}: {row['images_per_second']:,.0f} images/s")
        return row

    def stop(self) -> None:
        """Ends the process."""
        self.session.kill(self.process)


def compare(session: Session, record: dict) -> None:
    """All batch sizes, the notebook's first, while there is time."""
    reason = unavailable(session)
    if reason:
        record["note"] = f"PyTorch was not measured: {reason}"
        log(record["note"])
    if reason and not session.simulated:
        record["problems"].append(record["note"])
    record["batches"] = [64] if session.quick else BATCHES
    took = 0.0
    for index, batch in enumerate(record["batches"]):
        if session.left() - session.reserve_s < took:
            record["cut"] = True
            log(f"no time for batch {batch}")
            continue
        begin = time.monotonic()
        running: list[Peer] = []
        try:
            if not reason:
                running = start_all(session, record, batch)
            later = len(record["batches"]) - index - 1
            rounds(session, record, batch, running, later)
        finally:
            for peer in running:
                peer.stop()
        # The next batch needs the same start, and one round at least.
        took = (time.monotonic() - begin) * (0.6 if later else 1)


def unavailable(session: Session) -> str | None:
    """Why PyTorch cannot be measured."""
    if session.simulated:
        return "it does not see the simulated device of GRIMACE_CUDA_LIBRARY"
    return None if session.torch_lib else "PYTHON has no torch"


def start_all(session: Session, record: dict, batch: int) -> list[Peer]:
    """Starts all variants at once; returns those that are ready."""
    started = [Peer(session, variant, batch) for variant in VARIANTS]
    ready: list[Peer] = []

    def wait(peer: Peer) -> None:
        found = peer.next(WARMUP_S)
        record["device_name"], record["torch"] = found["device_name"], found["torch"]
        if found.get("cudagraph_skips"):
            raise Failed("torch.compile recorded no CUDA graph")
        ready.append(peer)

    try:
        for peer in started:
            if not attempt(record, f"PyTorch {peer.variant}, batch {batch}", lambda peer=peer: wait(peer)):
                peer.stop()
    except BaseException:
        for peer in started:
            peer.stop()
        raise
    return ready


def rounds(session: Session, record: dict, batch: int, running: list[Peer], later: int) -> None:
    """Up to three rounds; `later` batch sizes and the record config keep their time."""
    took = 0.0
    for round_ in range(1 if session.quick else ROUNDS):
        # A later batch size takes about two rounds: its PyTorch processes start, then one round.
        if round_ and batch != 64 and session.left() - session.reserve_s < took * (1 + 2 * later):
            record["cut"] = True
            log(f"batch {batch}: {round_} of {ROUNDS} rounds, for lack of time")
            return
        begin = time.monotonic()
        jobs = [(f"Grimace {'graph' if cuda_graph else 'eager'}, batch {batch}",
                 lambda cuda_graph=cuda_graph: grimace_row(
                     session, f"peers-{batch}-{'graph' if cuda_graph else 'eager'}-{round_}", batch, cuda_graph, round_,
                     epochs=2 if session.quick else 4))
                for cuda_graph in (False, True)]
        jobs += [(f"PyTorch {peer.variant}, batch {batch}", lambda peer=peer: peer.measure(round_)) for peer in running]
        for what, job in jobs if round_ % 2 == 0 else jobs[::-1]:
            attempt(record, what, lambda job=job: record["rows"].append(job()))
        took = time.monotonic() - begin
