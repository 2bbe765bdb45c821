"""The table of ``packer audit A B``: which version of each library is in which archive."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packer.libraries import Library

_MARK = "!"
_WIDEST = 34
"""Columns that a cell takes at most."""
_GAP = "  "


def said_of(one: Library) -> str:
    """Give the version; where nobody can read it, what tells a file from another, and of what is linked nothing."""
    return one.version or ("" if one.static else f"file {one.sha256[:12]}")


def rows(archives: Sequence[Mapping[str, Sequence[Library]]], different: Sequence[str]) -> list[dict[str, Any]]:
    """Give for each library its versions in each archive, with the slices that have them; sorted.

    :param archives: of each, slice -> libraries.
    :param different: what is there in more than one version.
    """
    found: dict[str, list[dict[str, list[str]]]] = defaultdict(lambda: [defaultdict(list) for _ in archives])
    for number, slices in enumerate(archives):
        for name, some in slices.items():
            for one in some:
                names = found[one.key][number][said_of(one)]
                names += [name] if name not in names else []
    return [
        {
            "library": key,
            "different": key in different,
            "archives": [
                [{"version": version or None, "slices": slices} for version, slices in sorted(there.items())]
                for there in cells
            ],
        }
        for key, cells in sorted(found.items())
    ]  # fmt: skip


def text(rows: Sequence[Mapping[str, Any]], archives: Sequence[Mapping[str, Any]], width: int) -> str:
    """Lay it out in lines of a width; archives that do not fit beside each other come below each other."""
    if not rows:
        return ""
    marked = [[f"{_MARK if row['different'] else ' '} {row['library']}"] for row in rows]
    first = [[""], *marked]
    columns = [
        [_folded(archive["file"]), *(_cell(row["archives"][number], archive) for row in rows)]
        for number, archive in enumerate(archives)
    ]
    left = _widest(marked)
    blocks, block, used = [], [first], left
    for column in columns:
        if len(block) > 1 and used + len(_GAP) + _widest(column) > width:
            blocks.append(block)
            block, used = [first], left
        block.append(column)
        used += len(_GAP) + _widest(column)
    legend = [f"{_MARK} in more than one version"] if any(row["different"] for row in rows) else []
    return "\n\n".join(["\n".join(_lines(one)) for one in (*blocks, block)] + legend)


def _folded(words: str) -> list[str]:
    return textwrap.wrap(words, _WIDEST, subsequent_indent=_GAP) or [""]


def _cell(versions: Sequence[Mapping[str, Any]], archive: Mapping[str, Any]) -> list[str]:
    """Write a line for each version; slices only where they are not all of those that have the library."""
    every = {name for one in versions for name in one["slices"]}
    short = {name: name.partition("-")[0] for name in (part["name"] for part in archive["slices"])}
    if len(set(short.values())) < len(short):
        short = {name: name for name in short}
    lines: list[str] = []
    for one in versions:
        where = "" if every == set(one["slices"]) else f" ({', '.join(short[name] for name in one['slices'])})"
        lines += _folded(f"{one['version'] or 'unknown'}{where}")
    return lines or ["-"]


def _widest(cells: Sequence[Sequence[str]]) -> int:
    return max(len(line) for cell in cells for line in cell)


def _lines(columns: Sequence[Sequence[Sequence[str]]]) -> Iterator[str]:
    widths = [_widest(column) for column in columns]
    for row in zip(*columns, strict=True):
        for parts in zip_longest(*row, fillvalue=""):
            yield _GAP.join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()
