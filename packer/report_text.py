"""A matrix as a table for a terminal."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from packer.native import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packer.results import Addition, Choice, Matrix, Ran, Row

_NO_LIMIT = 100_000
"""Width for what is no terminal: nothing is broken there, so that it can be searched by line."""

_GOOD, _BAD, _SOFT = "green", "bold red", "dim"

INDEX_UNASKED = "Whether there are wheels for it only the index knows, which was not asked: packer fat says so."


def text(matrix: Matrix, *, width: int | None = None, colour: bool = False) -> str:
    """Give the table, what is wrong below it, and what would have to be added.

    :param width: of the terminal; ``None``: it is none.
    """
    output = io.StringIO()
    console = Console(
        file=output, width=width or _NO_LIMIT, force_terminal=colour, no_color=not colour, highlight=False,
        markup=False, emoji=False, legacy_windows=False, color_system="standard" if colour else None,
    )  # fmt: skip
    console.print(_line(title(matrix)))
    console.print(_table(matrix))
    for row in matrix.rows:
        for part in _below(row):
            console.print(part)
    for part in _additions(matrix.additions):
        console.print(part)
    console.print(_line(summary(matrix), _GOOD if matrix.passed else _BAD))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def title(matrix: Matrix) -> str:
    """Say what it is about."""
    part = f", shard {matrix.shard[0]} of {matrix.shard[1]}" if matrix.shard else ""
    return (
        f"{matrix.file}: archive {matrix.id}{part}" if matrix.id else f"{matrix.file}: not packed yet, judged by tags"
    )


def summary(matrix: Matrix) -> str:
    """Say what came of it, in a line."""
    choices = [known for row in matrix.rows if (known := choice_of(row))]
    running = sum(choice.slice is not None for choice in choices)
    parts = [f"a slice runs on {running} of {len(matrix.rows)} hosts"]
    lacking = [row.host for row in matrix.rows if row.required and _none(row)]
    unknown = [
        row.host for row in matrix.rows if row.required and not choice_of(row) and not (row.seen and row.seen.error)
    ]
    unusable = sum(bool(row.seen and row.seen.error) for row in matrix.rows)
    failed = sum(not ran.passed for row in matrix.rows if row.seen for ran in row.seen.cases)
    differing = sum(not row.agrees for row in matrix.rows)
    parts += [f"none on {', '.join(lacking)}, where one is required"] if lacking else []
    parts += [f"not known of {', '.join(unknown)}, where one is required"] if unknown else []
    parts += [f"cases that failed: {failed}"] if failed else []
    parts += [f"hosts that select another slice than predicted: {differing}"] if differing else []
    parts += [f"hosts that could not be used: {unusable}"] if unusable else []
    return printable("; ".join(parts))


def choice_of(row: Row) -> Choice | None:
    """Give what is known of a host's choice: what was seen, or else predicted."""
    return row.seen.choice if row.seen and row.seen.choice else row.predicted


def by_reason(reasons: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Give for the most telling reason of each slice, which is the first, the slices that it holds for.

    Slices that ask for different things of one kind, Pythons say, and find the same, have one reason together.
    """
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, why in reasons.items():
        if why:
            asked, comma, there = why[0].partition(", found ")
            kind, _, what = asked.rpartition(" ")
            wanted[kind, comma + there].append(what)
            found[kind, comma + there].append(name)
    return {
        f"{kind} {', '.join(dict.fromkeys(wanted[kind, there]))}{there}": names
        for (kind, there), names in found.items()
    }


def together(additions: Iterable[Addition]) -> str:
    """Say all that would have to be added at once; empty if that is one thing or none."""
    changes = [one.change.split() for one in additions if one.change]
    values: dict[str, list[str]] = defaultdict(list)
    for words in changes:
        for option, value in zip(words[::2], words[1::2], strict=True):
            values[option] += value.removeprefix("...,").split(",")
    said = {option: ",".join(dict.fromkeys(found)) for option, found in values.items()}
    if "--abis" in said:
        said["--abis"] = f"...,{said['--abis']}"
    return " ".join(f"{option} {value}" for option, value in said.items()) if len(changes) > 1 else ""


def seconds(time: float | None) -> str:
    """Write a time."""
    return "" if time is None else f"{time:.2f} s"


def _none(row: Row) -> bool:
    choice = choice_of(row)
    return choice is not None and choice.slice is None


def _line(words: str, style: str = "") -> Text:
    return Text(printable(words), style)


def _table(matrix: Matrix) -> Table:
    ran = any(row.seen for row in matrix.rows)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=_SOFT, pad_edge=False)
    for name in ("host", "slice", "python", *(("seen", "first", "warm") if ran else ())):
        table.add_column(name, justify="right" if name in ("first", "warm") else "left", overflow="fold")
    for row in matrix.rows:
        table.add_row(*_cells(row), *(_seen(row) if ran else ()))
    return table


def _cells(row: Row) -> Iterator[Text]:
    choice = choice_of(row)
    yield _line(f"{row.host}{' (required)' if row.required else ''}")
    if choice is None:
        yield from (_line("not known", _SOFT), _line(""))
    elif choice.slice is None:
        yield from (_line("none", _BAD if row.required else "yellow"), _line(""))
    else:
        own = "" if choice.python else "its own"
        yield from (_line(choice.slice, _GOOD), _line(choice.python or own, "" if choice.python else _SOFT))


def _seen(row: Row) -> Iterator[Text]:
    """Give what was seen: the verdict, and the times of the first case."""
    if row.seen is None:
        yield from map(_line, ("", "", ""))
        return
    passed = sum(ran.passed for ran in row.seen.cases)
    said = f"{passed} of {len(row.seen.cases)} passed" if row.seen.cases else ""
    said = "could not be used" if row.seen.error else said
    said = said if row.agrees else "another slice"
    yield _line(said, _GOOD if row.passed else _BAD)
    first = row.seen.cases[0] if row.seen.cases else None
    yield from (_line(seconds(first.first if first else None)), _line(seconds(first.warm if first else None)))


def _below(row: Row) -> Iterator[Padding | Text]:
    """Say of a host what a cell has no room for: why no slice runs there, and what is wrong."""
    parts = [*_why_none(row), *_disagreement(row)]
    parts += [row.seen.error] if row.seen and row.seen.error else []
    cases = [ran for ran in row.seen.cases if not ran.passed] if row.seen else []
    if parts or cases:
        yield _line("")
        yield _line(f"{row.host}: {row.title}" if row.title != row.host else row.host, "bold")
    for part in parts:
        yield Padding(_line(part), (0, 0, 0, 2))
    for ran in cases:
        yield from _failure(ran)


def _why_none(row: Row) -> Iterator[str]:
    choice = choice_of(row)
    if choice is None or choice.slice is not None:
        return
    for why, names in by_reason(choice.reasons).items():
        yield f"{_names(names)}: {why}"


def _names(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more"


def _disagreement(row: Row) -> Iterator[str]:
    if row.agrees or not (row.seen and row.seen.choice and row.predicted):
        return
    yield f"selects {row.seen.choice.slice or 'none'}, predicted was {row.predicted.slice or 'none'}"
    for name, why in row.seen.choice.reasons.items():
        if why and not row.predicted.reasons.get(name):
            yield f"{name}, said there: {why[0]}"
    for name, why in row.predicted.reasons.items():
        if why and not row.seen.choice.reasons.get(name):
            yield f"{name}, predicted: {why[0]}"


def _failure(ran: Ran) -> Iterator[Padding]:
    command = " ".join((ran.case, *ran.arguments)) if ran.arguments else ran.case
    yield Padding(_line(f"failed: {command}: {ran.why}", _BAD), (0, 0, 0, 2))
    for line in ran.output.splitlines()[-10:]:
        yield Padding(_line(f"| {line}", _SOFT), (0, 0, 0, 4))


def _additions(additions: Iterable[Addition]) -> Iterator[Padding | Text]:
    wanted = [one for one in additions if one.change]
    if wanted or additions:
        yield _line("")
        yield _line("what would have to be added", "bold")
    for one in additions:
        yield Padding(_line(f"for {', '.join(one.hosts)}:"), (0, 0, 0, 2))
        if one.change:
            yield Padding(_line(one.change, "cyan"), (0, 0, 0, 4))
            yield Padding(_line(f"costs: {one.cost}", _SOFT), (0, 0, 0, 4))
        if one.provided:
            yield Padding(_line(f"provided that {one.provided}" if one.change else one.provided), (0, 0, 0, 4))
    if all_of_it := together(wanted):
        yield Padding(_line("all of that:"), (0, 0, 0, 2))
        yield Padding(_line(all_of_it, "cyan"), (0, 0, 0, 4))
    if wanted:
        yield Padding(_line(INDEX_UNASKED, _SOFT), (0, 0, 0, 2))
    yield _line("")
