"""``tools.toml``: several tools, what they share, and how each is packed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import boot, config, libraries
from packer.config import Config
from packer.errors import PackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

FILE = Path("tools.toml")

_KEYS = ("as-one", "libraries", "lock", "output", "settings", "tools")
_ONLY_OF_TOOLS = ("entry", "module", "console_script", "tool", "output")
"""What cannot be said of all tools."""

_OF_EACH = ("inputs", "requirement", "constraint", "include", "accept", "exclude", "profile_run")
"""What tools that become one archive add up."""

_OF_LOCKS = (
    "lock", "abis", "arch", "index_url", "extra_index_url", "find_links", "no_index", "level_wheels",
)  # fmt: skip
"""What decides of a lock, and has to be the same for all tools."""

_WHAT_RUNS = ("entry", "module", "console_script", "tool")


@dataclass(frozen=True)
class Tool:
    """One archive that is packed."""

    name: str
    config: Config
    output: Path
    """Where it goes; paths in ``config`` count from the workspace's directory."""


@dataclass(frozen=True)
class Workspace:
    """What the file says; relative paths count from its directory."""

    path: Path
    tools: tuple[Tool, ...]
    pins: Mapping[str, str]
    """``[libraries]``: what compiled libraries have to be."""
    whole: bool
    """No tool of the file was left out."""

    @property
    def directory(self) -> Path:
        """Where the packing is done."""
        return self.path.parent


class _Mistakes:
    """What is wrong with the file: all of it is told at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def of(self, where: str = "") -> Iterator[None]:
        """Note what the block finds wrong; the rest of it is left out then.

        :param where: what is put before it.
        """
        try:
            yield
        except PackError as error:
            self._found.append((f"{where}{error}", error.hint))

    def tell(self) -> None:
        """Raise what was noted.

        :raises UsageError: naming all.
        """
        if len(self._found) == 1:
            ((message, hint),) = self._found
            raise UsageError(f"{self._path}: {message}", hint)
        if self._found:
            lines = (f"{self._path}: {message}{f' ({hint})' if hint else ''}" for message, hint in self._found)
            raise UsageError("\n".join(lines))


def read(
    path: Path,
    names: Sequence[str] = (),
    spoken: Config | None = None,
    check: Callable[[Tool], None] = lambda _: None,
    check_output: Callable[[Path], None] = lambda _: None,
) -> Workspace:
    """Read the file.

    :param names: the tools that are packed; none: all.
    :param spoken: what the command line says of all tools, which wins.
    :param check: finds out what cannot be right with a tool.
    :param check_output: finds out what cannot be written.
    :raises UsageError: if it is not there, or something in it makes no sense; it names all that does not.
    """
    document = config.load(path)
    if document is None:
        raise UsageError(f"cannot read {path}: there is no such file", hint="--workspace FILE.toml names another")
    mistakes = _Mistakes(path)
    for key in document:
        with mistakes.of():
            config.refuse_unknown("", key, _KEYS)
    shared, directory, pins = Config(), "", {}
    with mistakes.of():
        shared = _shared(document, mistakes)
    with mistakes.of():
        directory = _text("output", document.get("output", "."))
    with mistakes.of():
        pins = libraries.pins(document.get("libraries", {}))
    found: list[Tool] = []
    with mistakes.of():
        tools = _tools(document, names, mistakes)
        if "as-one" in document:
            chosen = [_as_one(_text("as-one", document["as-one"]), tools, shared)]
        else:
            chosen = [(name, config.merge(said, shared)) for name, said in tools.items()]
        found = [_tool(name, one, path.parent, directory, spoken or Config()) for name, one in chosen]
    where = "as-one" if "as-one" in document else "[tools.{}]"
    for number, one in enumerate(found):
        with mistakes.of(f"{where.format(one.name)} output: "):
            _refuse_output(one, found[:number], [path, *_inputs(found, path.parent)])
            check_output(one.output)
    failed: dict[tuple[str, str], list[str]] = {}
    for one in found:
        try:
            check(one)
        except PackError as error:
            failed.setdefault((str(error), error.hint), []).append(where.format(one.name))
    for (message, hint), names in failed.items():  # the same of many tools is told once
        with mistakes.of(f"{', '.join(names)} "):
            raise UsageError(message, hint)
    mistakes.tell()
    return Workspace(path, tuple(found), pins, not names)


def requirements(said: Workspace) -> Config:
    """Give what one lock for all tools is made from: what they share, and what each of them asks for.

    :raises UsageError: if they do not share a lock, or slices.
    """
    first, *others = [one.config for one in said.tools]
    for field in _OF_LOCKS:
        for name, one in zip([tool.name for tool in said.tools[1:]], others, strict=True):
            if getattr(one, field) != getattr(first, field):
                raise UsageError(
                    f"{said.path}: {said.tools[0].name} and {name} do not have the same {field.replace('_', '-')}",
                    hint="one lock is for all tools: write it below [settings]",
                )
    summed: dict[str, Any] = {
        field: tuple(dict.fromkeys(item for one in (first, *others) for item in getattr(one, field)))
        for field in ("inputs", "requirement", "constraint")
    }
    return replace(first, **summed)


def _tools(document: Mapping[str, Any], names: Sequence[str], mistakes: _Mistakes) -> dict[str, Config]:
    """Read the tools that make sense."""
    written = config.table("[tools]", document.get("tools", {}))
    if not written:
        raise UsageError("no tools: write a table [tools.NAME] for each")
    for name in names:
        with mistakes.of():
            config.refuse_unknown("tool", name, written)
    found = {}
    for name, said in written.items():
        with mistakes.of():
            boot.parse_tool(f"{name}={name}")  # it names a file
            found[name] = _settings(f"[tools.{name}]", config.table(f"[tools.{name}]", said), mistakes)
    return {name: one for name, one in found.items() if not names or name in names}


def _settings(where: str, said: Mapping[str, Any], mistakes: _Mistakes) -> Config:
    """Read those of a table's keys that make sense."""
    right = {}
    for key, value in said.items():
        with mistakes.of():
            config.settings(where, {key: value}, Path())
            right[key] = value
    return config.settings(where, right, Path())


def _shared(document: Mapping[str, Any], mistakes: _Mistakes) -> Config:
    said = config.table("[settings]", document.get("settings", {}))
    if "lock" in document:
        if "lock" in said:
            raise UsageError("lock and [settings] lock: only one of them can be")
        said = {**said, "lock": document["lock"]}
    shared = _settings("[settings]", said, mistakes)
    for field in _ONLY_OF_TOOLS:
        if getattr(shared, field) not in (None, ()):
            raise UsageError(f"[settings] {field.replace('_', '-')}: that is for each tool to say")
    return shared


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{key}: must be a string, is {value!r}")
    return value


def _tool(name: str, said: Config, root: Path, directory: str, spoken: Config) -> Tool:
    output = root / (said.output or Path(directory, name))
    return Tool(name, replace(config.merge(spoken, said), output=None), output)


def _inputs(tools: Sequence[Tool], root: Path) -> Iterator[Path]:
    """Give the files and directories that tools are made from."""
    for one in tools:
        said = one.config
        words = [word for word in said.inputs if os.sep in word or word.endswith((".py", ".whl"))]
        words += [word.rpartition(":")[0] for word in said.include]
        paths = (*words, *said.requirement, *said.constraint, said.lock, said.profile)
        yield from (root / path for path in paths if path)


def _refuse_output(tool: Tool, others: Sequence[Tool], taken: Iterable[Path]) -> None:
    """Refuse an output that would take the place of something.

    :raises UsageError: naming it.
    """
    place = Path(os.path.realpath(tool.output))
    if place.is_dir():
        raise UsageError(f"{tool.output} is a directory", hint='output = "FILE" names another')
    for path in taken:
        if path.exists() and Path(os.path.realpath(path)) == place:
            raise UsageError(f"{tool.output} is what tools are made from", hint='output = "FILE" names another')
    for one in others:
        other = Path(os.path.realpath(one.output))
        if place == other:
            raise UsageError(f"{tool.output} is where {one.name} goes")
        if other in place.parents or place in other.parents:
            raise UsageError(f"{tool.output} and {one.output} of {one.name}: a file has nothing inside")


# One archive ------------------------------------------------------------------------------------------------------


def _as_one(name: str, tools: Mapping[str, Config], shared: Config) -> tuple[str, Config]:
    """Make one archive's options of all tools': it is each of them by its name, and the first by any other."""
    boot.parse_tool(f"{name}={name}")
    for tool, said in tools.items():
        for field in fields(Config):
            if field.name not in (*_OF_EACH, *_WHAT_RUNS) and getattr(said, field.name) not in (None, ()):
                key = next(key for key, name in config.keys().items() if name == field.name)
                raise UsageError(
                    f"[tools.{tool}] {key}: as-one makes one archive, which has one for all tools",
                    hint="write it below [settings]",
                )
    words = [word for tool, said in tools.items() for word in _runs(tool, said)]
    summed: dict[str, Any] = {
        field: tuple(dict.fromkeys(item for one in (shared, *tools.values()) for item in getattr(one, field)))
        for field in _OF_EACH
    }
    return name, replace(shared, tool=tuple(words), **summed)


def _runs(tool: str, said: Config) -> list[str]:
    if said.module or any(word.endswith(".py") for word in said.inputs):
        what = f"module {said.module}" if said.module else "a script"
        raise UsageError(
            f"[tools.{tool}] {what}: as-one takes functions and commands alone",
            hint="write entry = 'MODULE:FUNCTION' or console-script",
        )
    return [f"{tool}={said.entry or said.console_script or tool}", *said.tool]
