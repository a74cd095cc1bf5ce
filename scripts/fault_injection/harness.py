"""What all checks share: faces, a config, variants of a run with their unbroken references, and cases."""
from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from . import rundir
from .program import Child, Ended, seconds_until_end, shown
from .results import Results, Row

ROWS = 600                   # training faces: few, so that a run takes about a second
EPOCHS = 6
MOST_HANGS = 3               # then the script gives up: every one has cost two minutes
PACE_S = 90                  # how long the time that a run takes is believed: the machine may have other work, too
AT_THE_END = "exit code 0 and the end of the unbroken run: same tensors, metrics and summary, no temporary files"
WARNING = ("warning", "previous.safetensors")      # said by a run that goes on from the checkpoint before the last
FACES = "data/my_emotion_train.csv"

CONFIG = f"""name = "tiny"
device = "cpu"
[data]
train = "{FACES}"
[model]
kind = "cnn"
filters = [16, 32]
dense = [16]
[train]
epochs = {EPOCHS}
batch = 16
optimizer = {{ kind = "adam", lr = 3e-3 }}
"""


class Stop(Exception):
    """Ends the script with a message and an exit code, after the table."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Variant:
    """One way to train; each has an unbroken run of its own to be compared with."""
    threads: int
    precision: str
    every: str               # train.checkpoint_every
    patience: int            # of early stopping; 0 is off

    def sets(self) -> list[str]:
        """Its keys as arguments."""
        keys = [f"threads={self.threads}", f"precision={self.precision}", f"train.checkpoint_every={self.every}",
                f"train.early_stop.patience={self.patience}"]
        return [argument for key in keys for argument in ("--set", key)]

    def __str__(self) -> str:
        return f"threads {self.threads}, {self.precision}, patience {self.patience}, checkpoint_every {self.every}"


def variants(quick: bool) -> list[Variant]:
    """Threads, number formats and cadences; early stopping in half of them."""
    cadences = ("{ epochs = 1, steps = 3 }", "{ epochs = 2, seconds = 0.2 }")
    choices = [(threads, precision, every) for threads in (1, 2) for precision in ("f32", "bf16") for every in cadences]
    every = [Variant(*choice, patience=2 * (number in (1, 2, 5, 6))) for number, choice in enumerate(choices)]
    # A quick round takes four, in which every choice still occurs twice.
    return [every[number] for number in (0, 3, 5, 6)] if quick else every


@dataclass
class Reference:
    """A run that nothing happened to."""
    variant: Variant
    checkpoint_bytes: int    # of last.safetensors
    final: rundir.Final
    seconds: float           # from start to end, when it was last measured
    measured: float          # when that was


class Case:
    """One case of a check: a folder, the programs run for it, and what came of it."""

    def __init__(self, lab: Lab, check: str, key: int | str, count: int = 1) -> None:
        self.lab, self.key, self.count = lab, key, count          # `count` cases are in its check
        self.name, self.out = f"{check}:{key}", f"{check}-{key}"
        self.folder = lab.work / self.out
        self.rng = random.Random(f"{lab.seed} {self.name}")        # a case's moments do not depend on other cases
        self.failed = False
        self.last: tuple[str, ...] = ()
        self.children: list[Child] = []

    @property
    def number(self) -> int:
        """Its number among the cases of its check."""
        return int(self.key)

    def __enter__(self) -> Case:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for child in self.children:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
        if not self.failed and kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def check(self, row: Row, expected: str, problems: list[str]) -> bool:
        """Counts one thing that held, or tells of the problems."""
        row.tried += 1
        row.held += not problems
        if problems:
            self.failed = True
            repeat = f"{self.lab.repeat} --only {self.name}\n            (last command: {shown(self.last)})"
            self.lab.results.failed(self.name, row, expected, problems, repeat, self.folder)
        return not problems

    def start(self, *arguments: str) -> Child:
        """Starts the program in the working folder."""
        self.last = arguments
        self.children.append(Child(self.lab.program, arguments, self.lab.work))
        return self.children[-1]

    def end(self, child: Child, signals: tuple[int, ...] = ()) -> Ended:
        """Waits for a program's end and judges what holds for every program, with the signals it was sent."""
        return self.judge(child.end(), signals)

    def judge(self, ended: Ended, signals: tuple[int, ...] = ()) -> Ended:
        """What holds for every program: no hang, no panic, no exit code but those of the contract."""
        codes = {0, 1, 2} | {-number for number in signals} | {128 + number for number in signals}
        wrong = ended.hung or ended.code not in codes or "panicked" in ended.stderr
        self.check(self.lab.health, f"an exit code among {sorted(codes)}, no panic", [ended.told()] if wrong else [])
        self.lab.hangs += ended.hung
        if self.lab.hangs >= MOST_HANGS:
            raise Stop(f"{MOST_HANGS} programs hung; giving up")
        return ended

    def run(self, *arguments: str) -> Ended:
        """Runs the program to its end."""
        return self.end(self.start(*arguments))

    def train(self, variant: Variant, *more: str, out: str = "") -> tuple[str, ...]:
        """The arguments that train the variant in this case's folder, or in another."""
        return ("train", "tiny.toml", "--out", out or self.out, *variant.sets(), *more)

    def resume_problems(self, reference: Reference, out: str = "", arguments: tuple[str, ...] = (),
                        says: tuple[str, ...] = ()) -> list[str]:
        """Goes on with the run in `out`, to its end; in what that is not the unbroken run's.

        `arguments` are those to go on with where the program gave some; `says` are words that one line of stderr has.
        """
        ended = self.run(*(arguments or self.train(reference.variant, "--resume", out=out)))
        if ended.code != 0:
            return [ended.told()]
        folder = self.lab.work / (out or self.out)
        problems = rundir.end_problems(folder, reference.final)
        problems += [f"{name} is left behind" for name in rundir.hidden_files(folder)]
        if says and not any(all(word in line for word in says) for line in ended.stderr.splitlines()):
            problems.append(f"no line of stderr has {says}: {ended.told()}")
        return problems


class Lab:
    """The working folder and what lies in it."""

    def __init__(self, program: Path, work: Path, seed: int, quick: bool, counts: dict[str, int], only: str | None,
                 repeat: str, results: Results) -> None:
        self.program, self.work, self.seed, self.counts = program, work, seed, counts
        self.only, self.repeat, self.results = only, repeat, results
        self.variants = variants(quick)
        self.references: dict[Variant, Reference] = {}
        self.hangs = 0
        self.health = Row("programs run for all of this: no hang, no panic, no odd exit code")
        self.repeats = Row("unbroken runs done again: the same end")

    def prepare(self, faces: Path | None) -> None:
        """Faces and config. Faces of the user's own are cut to as many as are drawn otherwise."""
        (self.work / "tiny.toml").write_text(CONFIG, encoding="utf-8")
        if faces:
            (self.work / "data").mkdir()
            with faces.open("rb") as source:
                head = [line for _, line in zip(range(ROWS + 1), source)]
            (self.work / FACES).write_bytes(b"".join(head))
            return
        with Case(self, "prepare", "faces") as case:
            ended = case.run("data", "synth", "--out", "data", "--train", str(ROWS), "--test", "150", "--seed", "7")
        if ended.code != 0:
            raise Stop(f"faces cannot be drawn: {ended.told()}")

    def wants(self, check: str, key: object = None) -> bool:
        """Whether this check, and this case of it, is to be done: there are such cases, and --only leaves them in."""
        if self.only is None:
            return self.counts[check] > 0
        name, _, only_key = self.only.partition(":")
        return name == check and (key is None or only_key in ("", str(key)))

    def each(self, check: str) -> Iterator[Case]:
        """The cases of a check that are asked for, one after the other; tells how far it is."""
        count = self.counts[check]
        for number in range(1, count + 1):
            if not self.wants(check, number):
                continue
            if self.only or number == 1 or number % 10 == 0 or number == count:
                self.results.say(f"{check}: {number} of {count}")
            with Case(self, check, number, count) as case:
                yield case

    def reference(self, variant: Variant) -> Reference:
        """The unbroken run of a variant, trained when it is first asked for: twice, to see that it repeats."""
        if variant not in self.references:
            with Case(self, "unbroken", self.variants.index(variant) + 1) as case:
                self.unbroken(case, variant)
                final = rundir.final(case.folder)
                size = (case.folder / "last.safetensors").stat().st_size
            self.references[variant] = Reference(variant, size, final, 0.0, 0.0)
            self.measure(self.references[variant])
        return self.references[variant]

    def timed_reference(self, case: Case) -> Reference:
        """The unbroken run for a case, all variants in turn, with the time that it takes at present."""
        reference = self.reference(self.variants[case.number % len(self.variants)])
        if time.monotonic() - reference.measured > PACE_S:
            self.measure(reference)
        return reference

    def measure(self, reference: Reference) -> None:
        """Trains the unbroken run once more, for its time; it must end as it did."""
        with Case(self, "unbroken", self.variants.index(reference.variant) + 1) as case:
            reference.seconds, reference.measured = self.unbroken(case, reference.variant), time.monotonic()
            case.check(self.repeats, "the same end every time", rundir.end_problems(case.folder, reference.final))
        self.results.say(f"unbroken: {reference.variant}: {len(reference.final.metrics)} epochs, "
                         f"{reference.seconds:.2f} s")

    def unbroken(self, case: Case, variant: Variant) -> float:
        """Trains without a break; the seconds from start to end."""
        ended, seconds = seconds_until_end(case.start(*case.train(variant)))
        if case.judge(ended).code != 0:
            raise Stop(f"an unbroken run failed: {ended.told()}", 2 if ended.code == 2 else 1)
        return seconds

    def halfway(self, case: Case, out: str = "") -> Reference:
        """Puts a run with one epoch left into the case's folder; the reference of its end.

        It is one that was asked for one epoch less: unlike one that was stopped by a signal, it is the same every time.
        """
        variant, made = self.variants[0], self.work / "halfway"
        if not made.exists():
            ended = case.run(*case.train(variant, "--set", f"train.epochs={EPOCHS - 1}", out=made.name))
            if ended.code != 0:
                raise Stop(f"an unbroken run failed: {ended.told()}")
        shutil.copytree(made, self.work / (out or case.out), ignore=shutil.ignore_patterns(".lock"))
        return self.reference(variant)
