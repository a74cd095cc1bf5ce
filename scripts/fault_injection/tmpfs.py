"""A small file system that can be full or read-only without harm to anything else."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType

SIZE = 16 << 20


class Unavailable(Exception):
    """No tmpfs can be mounted; says why."""


class Disk:
    """A tmpfs for as long as the `with` lasts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def __enter__(self) -> Disk:
        self.folder.mkdir(exist_ok=True)
        mount("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        # Lazily, so that a program that still has a file open there cannot keep it.
        mount("umount", "-l", str(self.folder))
        self.folder.rmdir()

    def leave(self, room: int) -> None:
        """Fills it but for so many bytes."""
        found = os.statvfs(self.folder)
        self.filler.write_bytes(bytes(found.f_bavail * found.f_frsize - room))

    def make_room(self) -> None:
        """Removes what filled it."""
        self.filler.unlink()

    def read_only(self, yes: bool) -> None:
        """Forbids or allows writing, to root as well."""
        mount("mount", "-o", "remount,ro" if yes else "remount,rw", str(self.folder))


def mount(*command: str) -> None:
    """Runs mount or umount."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    except OSError as error:
        raise Unavailable(f"no tmpfs can be mounted: {error}") from error
    if done.returncode != 0:
        # mount's message names the folder, which says nothing to whoever reads the table.
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0].rpartition(": ")[2]
        raise Unavailable(f"no tmpfs can be mounted: {reason}")


def unavailable(folder: Path) -> str | None:
    """Why there can be no such disk; `None` where there can be one."""
    try:
        with Disk(folder):
            return None
    except Unavailable as error:
        return str(error)
