"""The jobs of a benchmark, in order."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from . import measure, workloads
from .measure import Setup


@dataclass(frozen=True)
class Job:
    """One run of one program, in a stage and a round; it may report metrics of several variants."""
    stage: str
    round: int
    name: str
    programs: list[str]
    run: Callable[[], tuple[list[dict], measure.Child]]


def alternated(jobs: list[Job], round_: int) -> list[Job]:
    """Forward in even rounds, backward in odd ones, so that thermal drift affects all programs
    equally."""
    return jobs if round_ % 2 == 0 else jobs[::-1]


def main_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """Grimace in each precision, PyTorch, Keras."""
    jobs = [Job("main", round_, f"Grimace {precision}", [f"Grimace {precision}"],
                lambda precision=precision: measure.grimace(setup, precision)) for precision in setup.precisions]
    if settings["peers"]:
        jobs.append(Job("main", round_, "PyTorch", measure.torch_programs(setup, setup.compiled),
                        lambda: measure.torch(setup, compiled=setup.compiled)))
    if settings["keras"]:
        jobs.append(Job("main", round_, "Keras", ["Keras"], lambda: measure.keras(setup)))
    return alternated(jobs, round_)


def process_jobs(setup: Setup, round_: int) -> list[Job]:
    """Start-up and prediction, as whole processes."""
    return [Job("start", round_, "start", ["start"], lambda: measure.start(setup)),
            Job("predict", round_, "predict", ["predict"], lambda: measure.predict(setup))]


def record_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """The record network: Grimace in each precision, PyTorch."""
    jobs = [Job("record", round_, f"Grimace {precision}", [f"Grimace {precision}"],
                lambda precision=precision: workloads.record(setup, precision)) for precision in setup.precisions]
    if settings["peers"]:
        jobs.append(Job("record", round_, "PyTorch", measure.torch_programs(setup, setup.compiled),
                        lambda: workloads.torch_record(setup)))
    return alternated(jobs, round_)


def inference_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """Whole processes that classify images: Grimace, TorchScript, ONNX Runtime."""
    runtimes = workloads.RUNTIMES if settings["peers"] else workloads.RUNTIMES[:1]
    jobs = [Job(stage, round_, runtime, [runtime],
                lambda network=network, images=images, runtime=runtime:
                workloads.inference(setup, network, images, runtime))
            for stage, network, images in workloads.inference_stages(settings["data"]["test_rows"])
            for runtime in runtimes]
    return alternated(jobs, round_)


def shared_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """Training the notebook's CNN beside one busy process."""
    jobs = [Job("shared", round_, f"Grimace {precision}", [f"Grimace {precision}"],
                lambda precision=precision: workloads.shared(lambda: measure.grimace(setup, precision)))
            for precision in setup.precisions]
    if settings["peers"]:
        jobs.append(Job("shared", round_, "PyTorch", measure.torch_programs(setup, False),
                        lambda: workloads.shared(lambda: measure.torch(setup))))
    return alternated(jobs, round_)


def sweep_jobs(setup: Setup, round_: int) -> list[Job]:
    """A sweep over two seeds, one after the other and at the same time."""
    jobs = [Job("sweep", round_, f"--parallel {count}", [f"--parallel {count}"],
                lambda count=count: workloads.sweep(setup, count)) for count in (1, 2)]
    return alternated(jobs, round_)


def scaling_points(settings: dict) -> list[tuple[str, dict]]:
    """Stages of batch size and threads with their arguments; batch 64 on all threads occurs once."""
    points = [(f"batch {batch}", {"batch": batch}) for batch in settings["batches"]]
    return points + [(f"threads {count}", {"threads": count}) for count in settings["thread_counts"]
                     if count != settings["threads"]]


def scaling_jobs(setup: Setup, settings: dict, round_: int) -> list[Job]:
    """Batch sizes, thread counts, and 1 and 10 times the rows."""
    jobs = []
    for stage, change in scaling_points(settings):
        for precision in setup.precisions:
            jobs.append(Job(stage, round_, f"Grimace {precision}", [f"Grimace {precision}"],
                            lambda precision=precision, change=change: measure.grimace(setup, precision, **change)))
        if settings["peers"]:
            jobs.append(Job(stage, round_, "PyTorch", measure.torch_programs(setup, False),
                            lambda change=change: measure.torch(setup, **change)))
    for times in (1, 10):
        precision = setup.auto_precision       # loading does not depend on it
        jobs.append(Job(f"rows {times}x", round_, f"Grimace {precision}", [f"Grimace {precision}"],
                        lambda times=times: many_rows(setup, setup.auto_precision, times)))
    return alternated(jobs, round_)


def many_rows(setup: Setup, precision: str, times: int) -> tuple[list[dict], measure.Child]:
    """One epoch of the training rows, repeated `times` times."""
    if times == 1:
        return measure.grimace(setup, precision, epochs=1)
    csv = measure.repeated(setup.train, times, setup.work / "many.csv")
    try:
        return measure.grimace(setup, precision, epochs=1, csv=csv)
    finally:
        csv.unlink()          # gigabytes


def all_jobs(setup: Setup, settings: dict) -> list[Job]:
    """All jobs in order."""
    jobs = []
    for round_ in range(settings["rounds"]):
        jobs += main_jobs(setup, settings, round_) + process_jobs(setup, round_)
        if settings["device"] == "cpu":
            jobs += record_jobs(setup, settings, round_) + inference_jobs(setup, settings, round_)
            jobs += shared_jobs(setup, settings, round_) + sweep_jobs(setup, round_)
    for round_ in range(settings["scaling_rounds"]):
        jobs += scaling_jobs(setup, settings, round_)
    return jobs
