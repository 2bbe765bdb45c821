"""The child process that packs one archive of several: its settings come by stdin, events go to stdout.

An event is a line of JSON, an object with one key: ``say``, ``total`` and ``advance`` are progress; ``packed`` or
``failed`` is the last.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer import signals
from packer.errors import PackError

if TYPE_CHECKING:
    from packer.config import Config


@dataclass(frozen=True)
class Request:
    """What is packed."""

    directory: Path
    """In which it is done: relative paths count from it."""
    config: Config
    home: Path | None
    """As :func:`packer.job.job_of` takes it; so is ``beside``."""
    beside: tuple[Path, ...]
    limit: float
    twice: bool = False
    """Pack again, and refuse what is not the same then."""
    into: Path | None = None
    """Where the archive goes instead of its directory."""
    relocking: tuple[str, ...] | None = None
    """As :func:`packer.job.job_of` takes it."""


class _Told:
    """Passes progress on."""

    def say(self, text: str) -> None:
        _tell("say", text)

    def total(self, size: int) -> None:
        _tell("total", size)

    def advance(self, size: int) -> None:
        _tell("advance", size)


def _tell(what: str, value: object) -> None:
    print(json.dumps({what: value}), flush=True)


def main() -> int:
    """Pack."""
    from packer import reproduce  # it starts children, too

    request: Request = pickle.load(sys.stdin.buffer)
    try:
        with signals.ending():
            os.chdir(request.directory)
            wanted, notes = reproduce.job_of(request)
            made = reproduce.packed(wanted, request, _Told())
    except PackError as error:
        _tell("failed", {"error": str(error), "hint": error.hint})
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _tell("failed", {"error": f"{where}{error.strerror or error}", "hint": ""})
        return 1
    except KeyboardInterrupt:
        return 130
    _tell("packed", {
        "slices": [one.name for one in made.slices], "notes": [*notes, *made.notes], "warnings": made.warnings,
    })  # fmt: skip
    return 0
