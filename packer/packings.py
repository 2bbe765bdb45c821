"""Several packings at once, each in a process of its own: they share the cache and the processors, and no failure.

A packing compresses on all processors, but resolving, installing and measuring keep one busy at most: as many packings
at once as there are processors take the least time. Threads would not do: signals and the user's mask belong to a
process.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from packer.packchild import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from packer.progress import Progress


_CHILD = """
import sys
sys.path = [*filter(None, sys.path), {place!r}]
from packer.packchild import main
sys.exit(main())
"""
"""Finds this packer, and no modules in the directory where it works."""


@dataclass(frozen=True)
class Packing:
    """One that is to be done."""

    name: str
    request: Request
    environment: Mapping[str, str] = field(default_factory=dict)
    """What is other there."""
    umask: int = -1
    """-1: as here."""


@dataclass(frozen=True)
class Outcome:
    """What came of one."""

    name: str
    error: str = ""
    """Why there is no archive; empty: there is."""
    hint: str = ""
    slices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def run(packings: Sequence[Packing], at_once: int, progress: Callable[[str], Progress]) -> Iterator[Outcome]:
    """Do them all; give what came of each as it ends. None is left running, whatever ends this.

    :param progress: of a packing, by its name.
    """
    children: set[subprocess.Popen[bytes]] = set()
    stop = threading.Event()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            futures = [pool.submit(_run, one, progress(one.name), children, stop) for one in packings]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(children):
                child.terminate()  # it cleans up
            raise


def _run(
    packing: Packing, progress: Progress, children: set[subprocess.Popen[bytes]], stop: threading.Event
) -> Outcome:
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(place=str(Path(__file__).resolve().parents[1]))], cwd="/",
            env={**os.environ, **packing.environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True, umask=packing.umask,
        )  # fmt: skip
        children.add(child)
        if stop.is_set():
            child.terminate()
        assert child.stdin is not None
        assert child.stdout is not None
        with child, child.stdout as output:
            try:
                with child.stdin as asked:
                    pickle.dump(packing.request, asked)
            except BrokenPipeError:  # it ended, and its status says how
                pass
            said = _events(output, progress)
        children.discard(child)
        if "packed" in said:
            made = said["packed"]
            return Outcome(
                packing.name, slices=tuple(made["slices"]), notes=tuple(made["notes"]), warnings=tuple(made["warnings"])
            )
        if "failed" in said:
            return Outcome(packing.name, **said["failed"])
        errors.seek(0)
        last = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        return Outcome(packing.name, f"it ended with status {child.returncode}{': ' if last else ''}{''.join(last)}")


def _events(output: IO[bytes], progress: Progress) -> dict[str, Any]:
    """Pass progress on until the last event, which is given back; none if the child ended before."""
    for line in output:
        event: dict[str, Any] = json.loads(line)
        if "say" in event:
            progress.say(event["say"])
        elif "total" in event:
            progress.total(event["total"])
        elif "advance" in event:
            progress.advance(event["advance"])
        else:
            return event
    return {}
