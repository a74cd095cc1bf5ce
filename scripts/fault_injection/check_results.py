"""What was checked and what came of it: rows of a table, failures with all that is needed to look into them, JSON."""
from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Row:
    """One line of the table."""
    what: str
    tried: int = 0
    held: int = 0
    worst_s: float | None = None       # the longest time, where a time is promised
    note: str = ""
    not_tested: bool = False           # then the note says why

    def took(self, seconds: float) -> None:
        """Keeps the longest time."""
        self.worst_s = max(seconds, self.worst_s or 0.0)

    def cells(self) -> list[str]:
        """As the table shows it."""
        worst = "" if self.worst_s is None else f"{self.worst_s:.2f} s"
        held = "not tested" if self.not_tested else str(self.held)
        return [self.what, "" if self.not_tested else str(self.tried), held, worst, self.note]


def aligned(line: list[str], widths: list[int]) -> str:
    """A line of the table: what, three numbers to the right of their columns, the note as it is."""
    numbers = [cell.rjust(width) for cell, width in zip(line[1:4], widths[1:])]
    return "  ".join([line[0].ljust(widths[0]), *numbers, line[4]]).rstrip()


class Results:
    """All rows and failures."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.rows: list[Row] = []
        self.failures: list[dict] = []
        self.cases: list[dict] = []

    def row(self, what: str) -> Row:
        """A new line of the table."""
        self.rows.append(Row(what))
        return self.rows[-1]

    def failed(self, case: str, row: Row, expected: str, came: list[str], repeat: str, folder: Path) -> None:
        """Tells of a failure at once and keeps it."""
        self.failures.append({"case": case, "check": row.what, "expected": expected, "came": came, "repeat": repeat})
        came_text = textwrap.indent("\n".join(came[:5]), "            ").lstrip()
        self.say(f"FAILED {case}: {row.what}\n  expected: {expected}\n  came:     {came_text}\n"
                 f"  repeat:   {repeat}\n  folder:   {folder}")

    def all_held(self) -> bool:
        """Whether every check held."""
        return not self.failures and all(row.held == row.tried for row in self.rows)

    def table(self) -> str:
        """The rows, aligned."""
        lines = [["what", "tried", "held", "worst", "note"], *(row.cells() for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        lines.insert(1, ["-" * width for width in widths] + ["----"])
        return "\n".join(aligned(line, widths) for line in lines)

    def save(self, path: Path, settings: dict) -> None:
        """Everything as JSON."""
        found = {**settings, "rows": [asdict(row) for row in self.rows],
                 "failures": self.failures, "cases": self.cases}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
