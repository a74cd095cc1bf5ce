"""Draws the training speeds as a bar chart, for README.md."""
from __future__ import annotations

import statistics
from html import escape

from . import results as store
from .comparisons import GRIMACE, programs
from .formatting import number

WIDTH, BAR, GAP = 790, 26, 12
LEFT, TOP, BOTTOM = 285, 40, 34                  # room for names, title and footer
FONT = "font-family=\"-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""
COLORS = {                                       # text, faint text, our bars, the other bars
    "light": ("#1f2328", "#59636e", "#0969da", "#c8ced6"),
    "dark": ("#f0f6fc", "#9198a1", "#4493f8", "#444c56"),
}


def speed_chart(results: dict, theme: str) -> str:
    """An SVG with a bar per program: median images per second over rounds, and its range as a line."""
    text, faint, ours, others = COLORS[theme]
    rows = [(program, store.series(results, "main", program)) for program in programs(results)]
    speeds = {program: list(series.values()) for program, series in rows if series}
    bars = sorted(speeds.items(), key=lambda item: -statistics.median(item[1]))
    top = max(max(values) for _, values in bars)
    scale = (WIDTH - LEFT - 90) / top
    height = TOP + len(bars) * (BAR + GAP) + BOTTOM
    machine = results["machine"]
    footer = (f"Median of {results['settings']['rounds']} rounds, line: min to max. "
              f"{machine['cpu']}, {machine['cores']} cores; longer is better.")
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
             f'viewBox="0 0 {WIDTH} {height}" role="img" {FONT} font-size="14">',
             "<title>Training speed in images per second</title>",
             f'<text x="0" y="18" fill="{text}" font-size="16" font-weight="600">'
             "Training the notebook's CNN: images per second</text>"]
    for index, (program, values) in enumerate(bars):
        y = TOP + index * (BAR + GAP)
        own = program in GRIMACE
        middle, median = y + BAR / 2, statistics.median(values)
        low, high = LEFT + min(values) * scale, LEFT + max(values) * scale
        weight = ' font-weight="600"' if own else ""
        name = program.replace("channels_last", "channels-last")
        parts += [f'<text x="{LEFT - 10}" y="{middle + 5}" text-anchor="end" fill="{text}"{weight}>{escape(name)}</text>',
                  f'<rect x="{LEFT}" y="{y}" width="{median * scale:.1f}" height="{BAR}" rx="3" '
                  f'fill="{ours if own else others}"/>',
                  f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" '
                  f'stroke="{text}" stroke-opacity="0.55" fill="none"/>',
                  f'<text x="{max(high, LEFT + median * scale) + 8:.1f}" y="{middle + 5}" fill="{text}"{weight}>'
                  f"{number(median)}</text>"]
    parts += [f'<text x="0" y="{height - 8}" fill="{faint}" font-size="12">{escape(footer)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"
