"""A small file system that can be full or read-only without affecting anything else."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType

SIZE = 16 << 20


class Unavailable(Exception):
    """No tmpfs can be mounted; the message is the reason."""


class Tmpfs:
    """A tmpfs, mounted for the duration of a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def __enter__(self) -> Tmpfs:
        self.folder.mkdir(exist_ok=True)
        mount("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        # Lazy, so that a process with an open file cannot block it.
        mount("umount", "-l", str(self.folder))
        self.folder.rmdir()

    def fill_except(self, free: int) -> None:
        """Fills the file system so that `free` bytes remain."""
        found = os.statvfs(self.folder)
        self.filler.write_bytes(bytes(found.f_bavail * found.f_frsize - free))

    def make_room(self) -> None:
        """Removes what `fill_except` wrote."""
        self.filler.unlink()

    def set_read_only(self, read_only: bool) -> None:
        """Forbids or allows writing, for root too."""
        mount("mount", "-o", "remount,ro" if read_only else "remount,rw", str(self.folder))


def mount(*command: str) -> None:
    """Runs mount or umount."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    except OSError as error:
        raise Unavailable(f"cannot mount a tmpfs: {error}") from error
    if done.returncode != 0:
        # Without the folder, which means nothing in the table.
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0].rpartition(": ")[2]
        raise Unavailable(f"cannot mount a tmpfs: {reason}")


def unavailable(folder: Path) -> str | None:
    """Why no tmpfs can be mounted; `None` if one can."""
    try:
        with Tmpfs(folder):
            return None
    except Unavailable as error:
        return str(error)
