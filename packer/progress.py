"""What long work tells a person: a line that changes on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    """Show progress on standard error while the block runs, if that is a terminal."""
    with several(quiet=quiet) as named:
        yield named("")


@contextlib.contextmanager
def several(*, quiet: bool) -> Iterator[Callable[[str], Progress]]:
    """Show the progress of several things, each with its name before it."""
    if quiet or not sys.stderr or not sys.stderr.isatty():
        yield lambda _: Quiet()
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
