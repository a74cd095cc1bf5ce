"""Starts the program, signals it, and says how it ended."""
from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 120                # a program that takes longer hangs


def shown(arguments: tuple[str, ...]) -> str:
    """A command as a shell reads it."""
    return shlex.join(["grimace", *arguments])


@dataclass(frozen=True)
class Ended:
    """How a program ended; the code is negative where a signal ended it."""
    arguments: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    hung: bool

    def shell_code(self) -> int:
        """The exit code as a shell shows it, in which a death by a signal has 128 and its number."""
        return self.code if self.code >= 0 else 128 - self.code

    def told(self) -> str:
        """The command, its exit code and the end of what it said."""
        how = f"did not end within {LIMIT_S} s" if self.hung else f"exit code {self.code}"
        lines = [f"    | {line}" for line in self.stderr.splitlines()[-6:]]
        return "\n".join([f"{shown(self.arguments)}: {how}; the end of stderr:", *(lines or ["    | (nothing)"])])


class Child:
    """A running program. Its output goes to files, so that it can never wait for somebody to read it."""

    def __init__(self, program: Path, arguments: tuple[str, ...], folder: Path) -> None:
        self.arguments = arguments
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        # A session of its own: Ctrl-C at the terminal is for the script, which then ends the program itself.
        self.process = subprocess.Popen([program, *arguments], cwd=folder, env=environment(), stdin=subprocess.DEVNULL,
                                        stdout=self.out, stderr=self.err, start_new_session=True)

    def ended_within(self, seconds: float) -> bool:
        """Waits so long; whether it ended meanwhile."""
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def send(self, number: int) -> None:
        """Sends a signal; nothing happens where the program has ended."""
        self.process.send_signal(number)

    def stderr(self) -> str:
        """What it has said so far. Read in place: the program writes where the file's position is."""
        size = os.fstat(self.err.fileno()).st_size
        return os.pread(self.err.fileno(), size, 0).decode(errors="replace")

    def end(self) -> Ended:
        """Waits for its end, or makes one after `LIMIT_S`."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(LIMIT_S, give_up)
        timer.start()
        try:
            # Without a time-out of its own: that would look only every 50 ms, and the moment of the end is measured.
            code = self.process.wait()
        finally:
            timer.cancel()
        stdout = os.pread(self.out.fileno(), os.fstat(self.out.fileno()).st_size, 0).decode(errors="replace")
        ended = Ended(self.arguments, code, stdout, self.stderr(), late.is_set())
        self.out.close()
        self.err.close()
        return ended


def environment() -> dict[str, str]:
    """The environment of a program under test."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RUST_BACKTRACE", "OMP_NUM_THREADS")}
    # Threads that wait for one another sleep instead of spinning: where the machine has other work, spinning makes a
    # run ten times slower, and its moments mean nothing then. The results are the same.
    return kept | {"OMP_WAIT_POLICY": "PASSIVE"}


def catch_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP end the script as Ctrl-C does, after cleaning up.

    Those that were ignored from the start (`nohup`, a shell's background job) get an empty handler instead. Programs
    inherit what is ignored, but not what is handled, so those under test always begin with the default.
    """
    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        ignored = signal.getsignal(number) == signal.SIG_IGN
        signal.signal(number, (lambda _number, _frame: None) if ignored else interrupt)


def seconds_until_end(child: Child) -> tuple[Ended, float]:
    """How a program ended and how long that took from now."""
    start = time.monotonic()
    ended = child.end()
    return ended, time.monotonic() - start
