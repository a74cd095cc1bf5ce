"""Starts Grimace, signals it, and reports how it exited."""
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

TIMEOUT_S = 120              # a command that takes longer hangs


def command_line(arguments: tuple[str, ...]) -> str:
    """A command in shell syntax."""
    return shlex.join(["grimace", *arguments])


@dataclass(frozen=True)
class Exit:
    """How a process exited; the code is negative if a signal killed it."""
    arguments: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    timed_out: bool

    def shell_code(self) -> int:
        """The exit code as a shell reports it: 128 + n for signal n."""
        return self.code if self.code >= 0 else 128 - self.code

    def describe(self) -> str:
        """The command, its exit code and the last lines of stderr."""
        how = f"timed out after {TIMEOUT_S} s" if self.timed_out else f"exit code {self.code}"
        lines = [f"    | {line}" for line in self.stderr.splitlines()[-6:]]
        return "\n".join([f"{command_line(self.arguments)}: {how}; the last lines of stderr:",
                          *(lines or ["    | (empty)"])])


class Process:
    """A running command. Its output goes to files, so that it never blocks on a full pipe."""

    def __init__(self, program: Path, arguments: tuple[str, ...], folder: Path) -> None:
        self.arguments = arguments
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        # A new session: Ctrl-C at the terminal reaches this script only, which then stops the
        # process itself.
        self.popen = subprocess.Popen([program, *arguments], cwd=folder, env=environment(), stdin=subprocess.DEVNULL,
                                      stdout=self.out, stderr=self.err, start_new_session=True)

    def exits_within(self, seconds: float) -> bool:
        """Waits at most `seconds`; whether the process exited meanwhile."""
        try:
            self.popen.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def send(self, number: int) -> None:
        """Sends a signal; does nothing if the process has exited."""
        self.popen.send_signal(number)

    def wait(self) -> Exit:
        """Waits for the process to exit, and kills it after `TIMEOUT_S`."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.popen.kill()

        timer = threading.Timer(TIMEOUT_S, kill)
        timer.start()
        try:
            # Without a timeout of its own, which would poll every 50 ms: the moment of exit is
            # measured.
            code = self.popen.wait()
        finally:
            timer.cancel()
        exit_ = Exit(self.arguments, code, read_all(self.out.fileno()), read_all(self.err.fileno()), late.is_set())
        self.out.close()
        self.err.close()
        return exit_

    def wait_timed(self) -> tuple[Exit, float]:
        """`wait`, and the seconds it took."""
        start = time.monotonic()
        exit_ = self.wait()
        return exit_, time.monotonic() - start


def read_all(descriptor: int) -> str:
    """The text of an open file, at whatever position it is."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


def environment() -> dict[str, str]:
    """The environment of a process under test."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RUST_BACKTRACE", "OMP_NUM_THREADS")}
    # OpenMP threads that wait sleep instead of spinning. Spinning makes a run ten times slower on a
    # busy machine, which would invalidate the timing of signals. The results are the same.
    return kept | {"OMP_WAIT_POLICY": "PASSIVE"}


def catch_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP stop the script after cleanup, as Ctrl-C does.

    Signals that are ignored at the start (`nohup`, a background job) get an empty handler instead.
    Child processes inherit ignored signals but not handled ones, so the processes under test always
    begin with the default.
    """
    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        ignored = signal.getsignal(number) == signal.SIG_IGN
        signal.signal(number, (lambda _number, _frame: None) if ignored else interrupt)
