"""``packer fat --workspace``: all tools of a file, as archives that share what they can."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packer.config import Config
    from packer.packchild import Request
    from packer.packings import Outcome
    from packer.workspace import Tool, Workspace

_NOT_OF_ALL = {
    "entry": "-e", "module": "-m", "console_script": "-c", "tool": "--tool", "output": "-o", "requirement": "-r",
    "include": "--include",
}  # fmt: skip
"""Options that say what one archive is."""


def add(fat: argparse.ArgumentParser) -> None:
    """Declare its options."""
    group = fat.add_argument_group("several tools at once")
    group.add_argument(
        "--workspace", nargs="?", const="", metavar="FILE.toml",
        help="pack the tools that a file lists, or those that are named; what else is said on the command line holds "
        "for all of them (default: tools.toml)",
    )  # fmt: skip
    group.add_argument(
        "-j", "--jobs", type=_count, metavar="N", help="how many at once (default: as many as there are processors)"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1000:
        raise argparse.ArgumentTypeError(f"not a number of jobs: {text!r}")
    return int(text)


def pack(options: argparse.Namespace, spoken: Config) -> int:
    """Pack them, each as it can be; the status is 1 if one could not."""
    from dataclasses import replace

    from packer import files, job, progress, workspace
    from packer.packchild import Request

    for field, option in _NOT_OF_ALL.items():
        if getattr(spoken, field) not in (None, ()):
            raise UsageError(f"--workspace and {option}: the file says that of each tool")
    names = list(spoken.inputs)
    path = workspace.FILE
    if options.workspace.endswith(".toml"):
        path = Path(options.workspace)
    elif options.workspace:  # argparse takes the first tool for it
        names.insert(0, options.workspace)
    spoken = _absolute(replace(spoken, inputs=()))
    relocking = ("--workspace", str(path), *job.index_of(spoken))

    def request(tool: Tool) -> Request:
        twice = options.verify_reproducible
        return Request(path.parent.resolve(), tool.config, Path(), (), options.timeout, twice, relocking=relocking)

    said = workspace.read(path, names, spoken, lambda tool: _check(request(tool)), _check_output)
    for tool in said.tools:
        tool.output.parent.mkdir(parents=True, exist_ok=True)
    with files.working() as staged, progress.several(quiet=options.quiet) as bar:
        done = _Done(said, staged, options)
        done.pack([request(tool) for tool in said.tools], bar)
    return done.report()


def _check_output(path: Path) -> None:
    """Find out whether it can be written, or else the first directory that has to be made for it.

    :raises PackError: naming it.
    """
    from packer import files

    while not os.path.lexists(path.parent):
        path = path.parent
    files.refuse_unwritable(path, option="output")


def _check(request: Request) -> None:
    """Find what would end the packing of a tool before it has begun.

    :raises PackError: naming it.
    """
    from packer import locked, reproduce

    here = Path.cwd()
    os.chdir(request.directory)
    try:
        wanted, _ = reproduce.job_of(request)
        if wanted.lock:
            locked.picked(wanted.lock, wanted.requests, wanted.targets)
    finally:
        os.chdir(here)


def locking(path: Path, spoken: Config) -> Config:
    """Give what ``packer lock`` locks for a workspace, in whose directory it works from now on.

    :raises UsageError: if the command line names requirements, too, or the file makes no sense.
    """
    from dataclasses import replace

    from packer import workspace

    if spoken.inputs or spoken.requirement:
        raise UsageError("--workspace and requirements: the file says what is locked", hint="write them into it")
    said = workspace.read(path, (), _absolute(spoken))
    config = workspace.requirements(said)
    if config.lock is None:
        raise UsageError(f"{path}: it names no lock", hint='write lock = "pylock.toml" at its beginning')
    os.chdir(said.directory)
    return replace(config, output=None)


def _absolute(spoken: Config) -> Config:
    """Let paths of the command line count from where it was typed."""
    from dataclasses import fields, replace

    def at(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(at, value))
        return Path(os.path.abspath(value)) if isinstance(value, Path) else value

    there = tuple(os.path.abspath(one) if os.path.isdir(one) else one for one in spoken.find_links)
    changed = {field.name: at(getattr(spoken, field.name)) for field in fields(spoken)}
    return replace(spoken, **{**changed, "find_links": there})


_TO_AGREE = (
    "ask for releases whose wheels bring what is wanted (NAME==VERSION in requirements; packer lock --workspace), or "
    "allow more in [libraries]"
)


class _Done:
    """What has been packed so far."""

    def __init__(self, said: Workspace, staged: Path, options: argparse.Namespace) -> None:
        self._said = said
        self._staged = staged
        self._options = options
        self._outcomes: dict[str, Outcome] = {}
        self._problems: list[str] = []
        self._unmatched: list[str] = []
        self._written: dict[str, Path] = {}

    def pack(self, requests: Sequence[Request], bar: Any) -> None:
        """Do the work, and put what is right where it belongs."""
        from dataclasses import replace

        from packer import packings

        outputs = tuple(tool.output.resolve() for tool in self._said.tools)
        wanted = []
        for tool, request in zip(self._said.tools, requests, strict=True):
            self._staging(tool).parent.mkdir()
            config = replace(tool.config, output=self._staging(tool))
            wanted.append(packings.Packing(tool.name, replace(request, config=config, beside=outputs)))
        at_once = min(self._options.jobs or os.cpu_count() or 1, len(wanted))
        tools = {tool.name: tool for tool in self._said.tools}
        for outcome in packings.run(wanted, at_once, bar):
            self._outcomes[outcome.name] = outcome
            if not outcome.error and not self._said.pins:
                self._place(tools[outcome.name])
        if self._said.pins:
            self._check()

    def _staging(self, tool: Tool) -> Path:
        return self._staged / tool.name / tool.output.name

    def _place(self, tool: Tool) -> None:
        from packer.files import replacing

        with replacing(tool.output, mode=0o777, option="output") as file, self._staging(tool).open("rb") as made:
            shutil.copyfileobj(made, file, 1 << 20)
        self._written[tool.name] = tool.output

    def _check(self) -> None:
        """Refuse archives whose libraries are not those of ``[libraries]``: each by itself, then all together."""
        from packer import libraries
        from packer.cli_libraries import kept as cache

        good = [tool for tool in self._said.tools if not self._outcomes[tool.name].error]
        found = {
            tool: {
                f"{tool.name} {one}": some for one, some in libraries.of_archive(self._staging(tool), cache()).items()
            }
            for tool in good
        }
        for tool in good:
            drift = libraries.check(self._said.pins, found[tool])
            if drift:
                self._fail(tool.name, "\n".join(drift))
        good = [tool for tool in good if not self._outcomes[tool.name].error]
        together = {place: some for tool in good for place, some in found[tool].items()}
        self._problems += libraries.check(self._said.pins, together)
        if self._said.whole and len(good) == len(self._said.tools):
            self._unmatched += libraries.unmatched(self._said.pins, together)
        for tool in () if self._problems else good:
            self._place(tool)

    def _fail(self, name: str, error: str) -> None:
        from dataclasses import replace

        self._outcomes[name] = replace(self._outcomes[name], error=error, hint=_TO_AGREE)

    # What came of it

    def report(self) -> int:
        """Say it."""
        from packer import share

        for tool in self._said.tools:
            self._tell(tool.name, self._outcomes[tool.name])
        for name in () if self._options.quiet else self._unmatched:
            _complain(f"warning: {self._said.path}: {name}: there is no such library in any of them")
        for problem in self._problems:
            _complain(problem)
        if self._problems:
            _complain("no archive was written: together they are not what [libraries] asks for")
            _complain(f"hint: {_TO_AGREE}")
        written = [self._written[tool.name] for tool in self._said.tools if tool.name in self._written]
        shared = share.measure(written) if len(written) > 1 else None
        if self._options.json:
            print(json.dumps(self._json(shared), indent=2, sort_keys=True))
        elif shared and not self._options.quiet:
            print(share.text(shared))
        failed = [tool.name for tool in self._said.tools if tool.name not in self._written]
        if failed:
            _complain(f"{len(failed)} of {len(self._said.tools)} were not packed: {', '.join(failed)}")
        return 1 if failed else 0

    def _tell(self, name: str, outcome: Outcome) -> None:
        if not self._options.quiet:
            for text in (*outcome.notes, *(f"warning: {one}" for one in outcome.warnings)):
                _complain(f"{name}: {text}")
        if outcome.error:
            _complain(_each_line(name, outcome.error, outcome.hint))
        elif name in self._written and not self._options.quiet and not self._options.json:
            path = self._written[name]
            print(f"{path}: {path.stat().st_size:,} bytes for {', '.join(outcome.slices)}")

    def _json(self, shared: Mapping[str, Any] | None) -> dict[str, Any]:
        from packer.inspect import describe

        return {
            "version": 1,
            "workspace": str(self._said.path),
            "tools": [
                {
                    "name": tool.name,
                    "error": self._outcomes[tool.name].error or None,
                    "archive": describe(self._written[tool.name]) if tool.name in self._written else None,
                }
                for tool in self._said.tools
            ],
            "problems": self._problems,
            "unmatched": self._unmatched,
            "shared": shared,
        }


def _each_line(name: str, error: str, hint: str) -> str:
    lines: Sequence[str] = [*error.splitlines(), *([f"hint: {hint}"] if hint else [])]
    return "\n".join(f"{name}: {line}" for line in lines)


def _complain(message: str | Iterable[str]) -> None:
    for line in str(message).splitlines():
        print(f"packer: {line}", file=sys.stderr)
