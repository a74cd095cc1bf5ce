"""Shared by all checks: data, a config, variants of a run with their uninterrupted references, and
cases."""
from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from . import run_dir
from .check_results import Results, Row
from .process import Exit, Process, command_line

ROWS = 600                   # training images: few, so that a run takes about a second
EPOCHS = 6
MAX_TIMEOUTS = 3             # then the script gives up: each has cost two minutes
TIMING_MAX_AGE_S = 90        # after which a run's duration is measured again, as other load on the machine changes
SAME_RESULT = "exit code 0 and the uninterrupted run's result: same tensors, metrics, summary; no temporary files"
WARNING = ("warning", "previous.safetensors")      # printed when a run resumes from the checkpoint before the last
TRAIN_CSV = "data/my_emotion_train.csv"

CONFIG = f"""name = "tiny"
device = "cpu"
[data]
train = "{TRAIN_CSV}"
[model]
kind = "cnn"
filters = [16, 32]
dense = [16]
[train]
epochs = {EPOCHS}
batch = 16
optimizer = {{ kind = "adam", lr = 3e-3 }}
"""


class Abort(Exception):
    """Ends the script with a message and an exit code, after the table."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Variant:
    """Training settings; each variant is compared with its own uninterrupted run."""
    threads: int
    precision: str
    checkpoint_every: str
    patience: int            # of early stopping; 0 is off

    def overrides(self) -> list[str]:
        """The settings as --set arguments."""
        keys = [f"threads={self.threads}", f"precision={self.precision}",
                f"train.checkpoint_every={self.checkpoint_every}", f"train.early_stop.patience={self.patience}"]
        return [argument for key in keys for argument in ("--set", key)]

    def __str__(self) -> str:
        return (f"threads {self.threads}, {self.precision}, patience {self.patience}, "
                f"checkpoint_every {self.checkpoint_every}")


def variants(quick: bool) -> list[Variant]:
    """Threads x precision x checkpoint interval; half of them with early stopping."""
    intervals = ("{ epochs = 1, steps = 3 }", "{ epochs = 2, seconds = 0.2 }")
    choices = [(threads, precision, every) for threads in (1, 2) for precision in ("f32", "bf16")
               for every in intervals]
    every = [Variant(*choice, patience=2 * (number in (1, 2, 5, 6))) for number, choice in enumerate(choices)]
    # --quick takes four, in which every value still occurs twice.
    return [every[number] for number in (0, 3, 5, 6)] if quick else every


@dataclass
class Reference:
    """An uninterrupted run."""
    variant: Variant
    checkpoint_bytes: int    # of last.safetensors
    final: run_dir.Final
    seconds: float           # its duration, when last measured
    measured: float          # when that was


class Case:
    """One case of a check: its folder, its processes and whether it failed."""

    def __init__(self, harness: Harness, check: str, key: int | str, count: int = 1) -> None:
        self.harness, self.key, self.count = harness, key, count      # the check has `count` cases
        self.name, self.out = f"{check}:{key}", f"{check}-{key}"
        self.folder = harness.work / self.out
        self.rng = random.Random(f"{harness.seed} {self.name}")        # independent of the other cases
        self.failed = False
        self.last: tuple[str, ...] = ()
        self.processes: list[Process] = []

    @property
    def number(self) -> int:
        """Its number among the cases of its check."""
        return int(self.key)

    def __enter__(self) -> Case:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
        if not self.failed and kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def check(self, row: Row, expected: str, problems: list[str]) -> bool:
        """Counts a pass, or a failure if there are problems."""
        row.count += 1
        row.passed += not problems
        if problems:
            self.failed = True
            reproduce = (f"{self.harness.reproduce} --only {self.name}\n"
                         f"             (last command: {command_line(self.last)})")
            self.harness.results.add_failure(self.name, row, expected, problems, reproduce, self.folder)
        return not problems

    def start(self, *arguments: str) -> Process:
        """Starts Grimace in the working folder."""
        self.last = arguments
        self.processes.append(Process(self.harness.program, arguments, self.harness.work))
        return self.processes[-1]

    def wait(self, process: Process, signals: tuple[int, ...] = ()) -> Exit:
        """Waits for a process that was sent `signals`, and checks what every process must satisfy.
        Waits for a process that was sent `signals`, and checks what every process must satisfy."""
        return self.check_exit(process.wait(), signals)

    def check_exit(self, exit_: Exit, signals: tuple[int, ...] = ()) -> Exit:
        """Checks what every process must satisfy: no hang, no panic, a documented exit code."""
        codes = {0, 1, 2} | {-number for number in signals} | {128 + number for number in signals}
        wrong = exit_.timed_out or exit_.code not in codes or "panicked" in exit_.stderr
        self.check(self.harness.exits, f"an exit code among {sorted(codes)}, no panic",
                   [exit_.describe()] if wrong else [])
        self.harness.timeouts += exit_.timed_out
        if self.harness.timeouts >= MAX_TIMEOUTS:
            raise Abort(f"{MAX_TIMEOUTS} processes timed out; giving up")
        return exit_

    def run(self, *arguments: str) -> Exit:
        """Runs Grimace until it exits."""
        return self.wait(self.start(*arguments))

    def train_arguments(self, variant: Variant, *more: str, out: str = "") -> tuple[str, ...]:
        """The arguments that train the variant in this case's folder, or in another."""
        return ("train", "tiny.toml", "--out", out or self.out, *variant.overrides(), *more)

    def resume_problems(self, reference: Reference, out: str = "", arguments: tuple[str, ...] = (),
                        expected_words: tuple[str, ...] = ()) -> list[str]:
        """Resumes the run in `out` until it is finished; its differences from the uninterrupted
        run.

        `arguments` override the resume command. One line of stderr must contain all
        `expected_words`.
        """
        exit_ = self.run(*(arguments or self.train_arguments(reference.variant, "--resume", out=out)))
        if exit_.code != 0:
            return [exit_.describe()]
        folder = self.harness.work / (out or self.out)
        problems = run_dir.final_problems(folder, reference.final)
        problems += [f"{name} is left behind" for name in run_dir.temporary_files(folder)]
        lines = exit_.stderr.splitlines()
        if expected_words and not any(all(word in line for word in expected_words) for line in lines):
            problems.append(f"no line of stderr has {expected_words}: {exit_.describe()}")
        return problems


class Harness:
    """The working folder, the references and the results."""

    def __init__(self, program: Path, work: Path, seed: int, quick: bool, counts: dict[str, int], only: str | None,
                 reproduce: str, results: Results) -> None:
        self.program, self.work, self.seed, self.counts = program, work, seed, counts
        self.only, self.reproduce, self.results = only, reproduce, results
        self.variants = variants(quick)
        self.references: dict[Variant, Reference] = {}
        self.timeouts = 0
        self.exits = Row("all processes: no hang, no panic, documented exit codes")
        self.repeats = Row("uninterrupted runs repeated: same result")

    def prepare(self, csv: Path | None) -> None:
        """Writes the config and the data: the first rows of `csv`, or synthetic images."""
        (self.work / "tiny.toml").write_text(CONFIG, encoding="utf-8")
        if csv:
            (self.work / "data").mkdir()
            with csv.open("rb") as source:
                head = [line for _, line in zip(range(ROWS + 1), source)]
            (self.work / TRAIN_CSV).write_bytes(b"".join(head))
            return
        with Case(self, "prepare", "data") as case:
            exit_ = case.run("data", "synth", "--out", "data", "--train", str(ROWS), "--test", "150", "--seed", "7")
        if exit_.code != 0:
            raise Abort(f"cannot generate data: {exit_.describe()}")

    def selected(self, check: str, key: object = None) -> bool:
        """Whether this check, or this case of it, has to run: it has cases, and --only does not
        exclude it."""
        if self.only is None:
            return self.counts[check] > 0
        name, _, only_key = self.only.partition(":")
        return name == check and (key is None or only_key in ("", str(key)))

    def cases(self, check: str) -> Iterator[Case]:
        """The selected cases of a check; logs progress."""
        count = self.counts[check]
        for number in range(1, count + 1):
            if not self.selected(check, number):
                continue
            if self.only or number == 1 or number % 10 == 0 or number == count:
                self.results.log(f"{check}: {number} of {count}")
            with Case(self, check, number, count) as case:
                yield case

    def reference(self, variant: Variant) -> Reference:
        """The uninterrupted run of a variant, trained on first use: twice, to check that it
        repeats."""
        if variant not in self.references:
            with Case(self, "reference", self.variants.index(variant) + 1) as case:
                self.train_uninterrupted(case, variant)
                final = run_dir.read_final(case.folder)
                size = (case.folder / "last.safetensors").stat().st_size
            self.references[variant] = Reference(variant, size, final, 0.0, 0.0)
            self.measure(self.references[variant])
        return self.references[variant]

    def timed_reference(self, case: Case) -> Reference:
        """The uninterrupted run for a case, variants in turn, with an up-to-date duration."""
        reference = self.reference(self.variants[case.number % len(self.variants)])
        if time.monotonic() - reference.measured > TIMING_MAX_AGE_S:
            self.measure(reference)
        return reference

    def measure(self, reference: Reference) -> None:
        """Trains the uninterrupted run again for its duration; the result must be the same."""
        with Case(self, "reference", self.variants.index(reference.variant) + 1) as case:
            reference.seconds = self.train_uninterrupted(case, reference.variant)
            reference.measured = time.monotonic()
            case.check(self.repeats, "the same result every time",
                       run_dir.final_problems(case.folder, reference.final))
        self.results.log(f"reference: {reference.variant}: {len(reference.final.metrics)} epochs, "
                         f"{reference.seconds:.2f} s")

    def train_uninterrupted(self, case: Case, variant: Variant) -> float:
        """Trains without interruption; the duration in seconds."""
        exit_, seconds = case.start(*case.train_arguments(variant)).wait_timed()
        if case.check_exit(exit_).code != 0:
            raise Abort(f"an uninterrupted run failed: {exit_.describe()}", 2 if exit_.code == 2 else 1)
        return seconds

    def copy_partial(self, case: Case, out: str = "") -> Reference:
        """Copies a run with one epoch left into the case's folder; returns the reference of the
        finished run.

        The run was configured for one epoch less. Unlike one that a signal stopped, it is the same
        every time.
        """
        variant, partial = self.variants[0], self.work / "partial"
        if not partial.exists():
            exit_ = case.run(*case.train_arguments(variant, "--set", f"train.epochs={EPOCHS - 1}", out=partial.name))
            if exit_.code != 0:
                raise Abort(f"an uninterrupted run failed: {exit_.describe()}")
        shutil.copytree(partial, self.work / (out or case.out), ignore=shutil.ignore_patterns(".lock"))
        return self.reference(variant)
