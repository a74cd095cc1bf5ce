"""The results of all checks: a table with a row per check, failures with everything needed to
reproduce them, JSON."""
from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Row:
    """One row of the table."""
    check: str
    count: int = 0
    passed: int = 0
    max_s: float | None = None         # the longest time, if there is a limit
    note: str = ""
    skipped: bool = False              # the note has the reason

    def add_time(self, seconds: float) -> None:
        """Keeps the longest time."""
        self.max_s = max(seconds, self.max_s or 0.0)

    def cells(self) -> list[str]:
        """The row's cells as text."""
        longest = "" if self.max_s is None else f"{self.max_s:.2f} s"
        passed = "skipped" if self.skipped else str(self.passed)
        return [self.check, "" if self.skipped else str(self.count), passed, longest, self.note]


def aligned(cells: list[str], widths: list[int]) -> str:
    """One line of the table: the check left-aligned, three numbers right-aligned, the note
    unpadded."""
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:4], widths[1:])]
    return "  ".join([cells[0].ljust(widths[0]), *numbers, cells[4]]).rstrip()


class Results:
    """All rows, failures and cases."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log = log
        self.rows: list[Row] = []
        self.failures: list[dict] = []
        self.cases: list[dict] = []

    def row(self, check: str) -> Row:
        """Adds a row to the table."""
        self.rows.append(Row(check))
        return self.rows[-1]

    def add_failure(self, case: str, row: Row, expected: str, problems: list[str], reproduce: str,
                    folder: Path) -> None:
        """Logs a failure at once and records it."""
        self.failures.append({"case": case, "check": row.check, "expected": expected, "problems": problems,
                              "reproduce": reproduce})
        text = textwrap.indent("\n".join(problems[:5]), "             ").lstrip()
        self.log(f"FAILED {case}: {row.check}\n  expected:  {expected}\n  problems:  {text}\n"
                 f"  reproduce: {reproduce}\n  folder:    {folder}")

    def all_passed(self) -> bool:
        """Whether every check passed."""
        return not self.failures and all(row.passed == row.count for row in self.rows)

    def table(self) -> str:
        """The rows, aligned."""
        lines = [["check", "count", "passed", "max", "note"], *(row.cells() for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        lines.insert(1, ["-" * width for width in widths] + ["----"])
        return "\n".join(aligned(line, widths) for line in lines)

    def save(self, path: Path, settings: dict) -> None:
        """Writes everything as JSON."""
        content = {**settings, "rows": [asdict(row) for row in self.rows],
                   "failures": self.failures, "cases": self.cases}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
