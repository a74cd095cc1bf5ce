"""Numbers and tables in Markdown."""
from __future__ import annotations

import statistics

Rows = list[list[str]]


def table(head: list[str], rows: Rows, left: int = 1) -> str:
    """A Markdown table with aligned source; all but the first `left` columns are right-aligned."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]

    def line(row: list[str]) -> str:
        padded = (cell.ljust(width) if column < left else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths)))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def number(value: float, digits: int = 0) -> str:
    """A number with thousands separators."""
    return f"{value:,.{digits}f}"


def median(values, digits: int = 0) -> str:
    """The median, or a dash."""
    return number(statistics.median(values), digits) if values else "-"


def extent(values, digits: int = 0) -> str:
    """Min to max, or a dash for fewer than two values."""
    return f"{number(min(values), digits)}–{number(max(values), digits)}" if len(values) > 1 else "-"


def spread(values, digits: int = 0) -> str:
    """The median and, in parentheses, min to max."""
    return median(values, digits) + (f" ({extent(values, digits)})" if len(values) > 1 else "")


def megabytes(values) -> str:
    """The median of bytes, in MB."""
    return median([value / 1e6 for value in values]) if values else "-"


def section(title: str, *paragraphs: str) -> str:
    """A heading and its paragraphs, without empty ones."""
    return "\n\n".join([f"## {title}", *(paragraph for paragraph in paragraphs if paragraph)])
