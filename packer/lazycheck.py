"""Tries lazy imports with a program's own tests, and finds the modules that have to stay eager.

The tests are a shell command that runs the packed program. It is run with lists of modules that stay eager: with every
one, so that all is as ever, with none, and with fewer and fewer of them. The lists are beginnings of one list, of all
modules in the order in which they are imported. A module comes behind those that import it in that order, and it can
only be imported when its importer says so if that is imported then, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packer import lazy, lazychild, profile
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LINES = 5
"""Of what a command wrote last, for an error."""


@dataclass(frozen=True)
class Statement:
    """An import that could be lazy."""

    importing: str
    name: str
    taken: tuple[str, ...]
    """What is taken from the module: its attributes, or modules below it."""


@dataclass(frozen=True)
class Found:
    """What a check found."""

    checked: lazy.Checked
    culprits: tuple[str, ...]
    """Modules that have to be imported when their importers say so; the others that are eager lead to them."""
    deferred: int
    """Modules that were imported without lazy imports and not with them."""
    runs: int


@dataclass(frozen=True)
class _Ran:
    """A run of all commands."""

    failed: str
    """How it failed; empty: it did not."""
    statements: tuple[Statement, ...]
    modules: frozenset[str]


class _Bench:
    """A program with lists of eager modules of our choice."""

    def __init__(
        self, place: profile.Stage, commands: Sequence[str], limit: float, tell: Callable[[str], None]
    ) -> None:
        self._place, self._commands, self._limit, self._tell = place, commands, limit, tell
        self._log = place.records.with_name("statements")
        self.runs = 0
        self.python = ""
        for boot in (place.view / "boot").resolve().glob("[!.]*.py"):  # not packer.modules.READER
            self._enter(boot)

    def _enter(self, boot: Path) -> None:
        """Let a boot file switch lazy imports on, which it does by itself if it was packed so."""
        try:
            text = lazy.entered(boot.read_text("utf-8"))
        except ValueError:
            raise PackError(
                f"{self._place.program}: {boot.name} was written by another packer", "pack it again"
            ) from None
        with profile.writable(boot.parent):
            boot.unlink()
            boot.write_text(text, "utf-8")

    def run(self, choice: lazy.Lazy) -> _Ran:
        """Run the commands, until one fails."""
        code = lazy.source({self._place.tag: choice}) + lazychild.source(self._log)
        for boot in (self._place.view / "boot").resolve().glob("*.py"):
            with profile.writable(boot.parent):
                target = boot.with_suffix(".lazy")
                target.unlink(missing_ok=True)
                target.write_text(code, "utf-8")
        failed = next(filter(None, map(self._command, self._commands)), "")
        self.runs += 1
        seen = profile.recorded(self._place, "").startups.get(self._place.tag)
        self.python = seen.python if seen else self.python
        return _Ran(failed, tuple(dict.fromkeys(self._statements())), frozenset(_names(seen)))

    def _command(self, command: str) -> str:
        """Run one, and say how it failed."""
        environment = profile.environment(self._place, {"TOOL": str(self._place.program)})
        environment.pop("FATPAR_LAZY_IMPORTS", None)
        with subprocess.Popen(
            command, shell=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=self._limit)
            except subprocess.TimeoutExpired:
                return f"it did not end in {self._limit:g} seconds"
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode == 0:
            return ""
        lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
        return "\n".join([profile.ended(process.returncode), *lines[-LINES:]])

    def _statements(self) -> Iterator[Statement]:
        rows = self._log.read_text("utf-8", "backslashreplace").splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        for row in rows:
            importing, name, *taken = row.split("\t")
            yield Statement(importing, name, tuple(taken))


def _names(seen: profile.Startup | None) -> Iterator[str]:
    return (one.name for one in seen.modules) if seen else iter(())


def check(
    place: profile.Stage, commands: Sequence[str], known: lazy.Checked, limit: float, tell: Callable[[str], None]
) -> Found:
    """Find out what has to be eager for the commands to succeed.

    :param commands: for the shell; ``$TOOL`` is the program.
    :param known: what an earlier check found for this Python: it stays eager.
    :param limit: seconds that one command may take.
    :param tell: hears what is being done.
    :raises PackError: if the commands fail without lazy imports, too, or do not run the program; if the Python that
        runs here has no lazy imports.
    """
    if not lazy.tag_has(place.tag):
        raise PackError(f"{place.tag} runs here, which has no lazy imports", hint="Python 3.15 is the first that has")
    bench = _Bench(place, commands, limit, tell)
    tell("without lazy imports")
    plain = bench.run(lazy.NOTHING)
    if plain.failed:
        raise PackError(f"--check fails without lazy imports, too: {plain.failed}")
    if not plain.statements:
        raise PackError(
            "--check does not run the program", hint="it is $TOOL, and needs FATPAR_STORE as it is in the environment"
        )
    tell("with lazy imports")
    last = bench.run(lazy.Lazy(known.eager))
    needed, culprits = list(known.eager), list[str]()
    candidates = [name for name in _targets(plain) if name not in needed]
    while last.failed:
        tell(f"it fails: {last.failed.splitlines()[0]}; looking for the module")
        count = _fewest(bench, needed, candidates)
        if count is None:
            raise PackError(
                f"--check fails although all of its imports are eager that were seen: {last.failed}",
                hint="does it succeed each time? a test that does not is no test of this",
            )
        culprit = candidates[count - 1]
        tell(f"{culprit} has to stay eager")
        culprits.append(culprit)
        needed += [name for name in _leading(culprit, plain.statements) if name not in needed]
        candidates = [name for name in candidates[: count - 1] if name not in needed]
        last = bench.run(lazy.Lazy(tuple(needed)))
    importers = tuple(dict.fromkeys(one.importing for one in last.statements))
    checked = lazy.Checked(tuple(needed), importers, bench.python, tuple(commands))
    return Found(checked, tuple(culprits), len(plain.modules - last.modules), bench.runs)


def _fewest(bench: _Bench, needed: Sequence[str], candidates: Sequence[str]) -> int | None:
    """Say how many of the candidates have to be eager, from the first one on; ``None``: all of them do not do."""
    fails, succeeds = 0, len(candidates)
    if not candidates or bench.run(lazy.Lazy((*needed, *candidates))).failed:
        return None
    while succeeds - fails > 1:
        middle = (fails + succeeds) // 2
        if bench.run(lazy.Lazy((*needed, *candidates[:middle]))).failed:
            fails = middle
        else:
            succeeds = middle
    return succeeds


def _targets(plain: _Ran) -> list[str]:
    """All that import statements name, in the order in which they are executed; a module behind its importers."""
    named = [name for one in plain.statements for name in _of(one) if name == one.name or name in plain.modules]
    return list(dict.fromkeys(named))


def _of(statement: Statement) -> tuple[str, ...]:
    return (statement.name, *(f"{statement.name}.{one}" for one in statement.taken))


def _leading(culprit: str, statements: Sequence[Statement]) -> list[str]:
    """Name the modules by whose import a module is imported, and itself: each has to be eager."""
    chain = [culprit]
    while first := next((one for one in statements if _imports(one, chain[0])), None):
        if first.importing in chain:
            break
        if chain[0] not in _of(first):  # a package above what is imported
            chain[0] = first.name
        chain.insert(0, first.importing)
    return chain[1:] if chain[0] == "__main__" else chain


def _imports(statement: Statement, module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in _of(statement))
