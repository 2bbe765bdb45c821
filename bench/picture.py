"""Bars in an SVG file, a panel per program: what a README shows of a table."""

from __future__ import annotations

import statistics
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH, LEFT, RIGHT = 760, 170, 90
"""Of all, of the names and of the figures behind bars."""

ROW, BAR, HEAD = 20, 13, 44

OURS, THEIRS = "#1a7f64", "#9aa7b4"

CUT = 6
"""Times the median: longer bars are shown cut, or the others could not be told apart."""

BREAK = 'stroke="#fff" stroke-width="4"'

STYLE = "text{font:12px system-ui,sans-serif;fill:#24292f}.head{font-weight:600;font-size:13px}.small{fill:#57606a}"


def bars(panels: Mapping[str, Mapping[str, float]], unit: str, ours: str = "fatpar") -> str:
    """Draw values as bars, each panel to its own scale.

    :param panels: title -> name -> value.
    """
    drawn: list[str] = []
    top = 30
    for title, values in panels.items():
        drawn.append(f'<text class="head" x="12" y="{top + 20}">{escape(title)}</text>')
        top += HEAD - 14
        most = min(max(values.values()), CUT * statistics.median(values.values()))
        for name, value in values.items():
            length = (WIDTH - LEFT - RIGHT) * min(value, most) / most
            drawn += _bar(name, value, length, top, OURS if name == ours else THEIRS)
            if value > most:
                drawn.append(f'<path d="M{LEFT + length - 24:.1f} {top + BAR + 2}l8 -{BAR + 4}" {BREAK}/>')
            top += ROW
        top += 14
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>',
            f'<text class="small" x="12" y="20">{escape(unit)}</text>',
            *drawn,
            "</svg>\n",
        ]
    )


def _bar(name: str, value: float, length: float, top: int, colour: str) -> list[str]:
    middle = top + BAR - 2
    return [
        f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
        f'<text class="small" x="{LEFT + length + 6:.1f}" y="{middle}">{value:,.0f}</text>',
    ]
