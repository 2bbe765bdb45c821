"""What long work tells a person: a line that changes on a terminal; elsewhere one from time to time."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SELDOM = 60.0
"""Seconds between lines in a log: what takes no longer says nothing there."""


class Progress(Protocol):
    """Told by the stages of packing how far they are."""

    def say(self, text: str) -> None:
        """Name what is being done now."""

    def total(self, size: int) -> None:
        """Announce bytes to be compressed."""

    def advance(self, size: int) -> None:
        """Count bytes that have been compressed."""


class Quiet:
    """Tells nothing."""

    def say(self, text: str) -> None: ...

    def total(self, size: int) -> None: ...

    def advance(self, size: int) -> None: ...


@contextlib.contextmanager
def showing(*, quiet: bool) -> Iterator[Progress]:
    """Show progress on standard error while the block runs."""
    with several(quiet=quiet) as named:
        yield named("")


@contextlib.contextmanager
def several(*, quiet: bool) -> Iterator[Callable[[str], Progress]]:
    """Show the progress of several things, each with its name before it."""
    if quiet or not sys.stderr:
        yield lambda _: Quiet()
        return
    if not sys.stderr.isatty():
        with _logged() as named:
            yield named
        return
    # only here: it takes longer to import than all the rest
    from rich import progress
    from rich.console import Console

    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        class Bar:
            def __init__(self, name: str) -> None:
                self._task = bar.add_task(name, total=None)
                self._before = f"{name}: " if name else ""

            def say(self, text: str) -> None:
                bar.update(self._task, description=f"{self._before}{text}"[:80])

            def total(self, size: int) -> None:
                bar.update(self._task, total=size, completed=0)

            def advance(self, size: int) -> None:
                bar.advance(self._task, size)

        yield Bar


@contextlib.contextmanager
def _logged() -> Iterator[Callable[[str], Progress]]:
    """Write a line of what is being done whenever that has taken long."""
    over = threading.Event()
    lines: list[_Line] = []

    def tell() -> None:
        while not over.wait(SELDOM):
            for line in lines:
                if line.text:
                    print(f"packer: {line.name}{line.text} ...", file=sys.stderr, flush=True)

    def named(name: str) -> Progress:
        lines.append(_Line(f"{name}: " if name else ""))
        return lines[-1]

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield named
    finally:
        over.set()
        thread.join()


class _Line(Quiet):
    """What one thing is at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""

    def say(self, text: str) -> None:
        self.text = text
