"""``[tool.packer]`` of a pyproject.toml: the options of ``packer fat`` under the same names.

For a project that packs itself; the command line wins, option by option.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from packer.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_T = TypeVar("_T")


@dataclass(frozen=True)
class Config:
    """What ``packer fat`` is told; ``None`` or empty: not said. Names are the options', with ``_`` for ``-``."""

    inputs: tuple[str, ...] = ()
    """Requirements, project directories, one script."""
    requirement: tuple[Path, ...] = ()
    constraint: tuple[Path, ...] = ()
    lock: Path | None = None
    include: tuple[str, ...] = ()
    """``SRC:DEST``."""
    abis: str | None = None
    arch: tuple[str, ...] = ()
    bundle: str | None = None
    runtime: tuple[str, ...] = ()
    """``TAG=SOURCE``."""
    libc: str | None = None
    entry: str | None = None
    module: str | None = None
    console_script: str | None = None
    tool: tuple[str, ...] = ()
    """``NAME=module:function`` or ``NAME=console_script``."""
    index_url: str | None = None
    extra_index_url: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool | None = None
    level_wheels: tuple[str, ...] = ()
    """``LEVEL=DIR``."""
    accept: tuple[str, ...] = ()
    """Distributions."""
    cc: str | None = None
    build_in: str | None = None
    interpreter: tuple[Path, ...] = ()
    bytecode: str | None = None
    profile_run: tuple[str, ...] = ()
    profile: Path | None = None
    lazy_imports: str | None = None
    exclude: tuple[str, ...] = ()
    trim: bool | None = None
    plain_imports: bool | None = None
    fast: bool | None = None
    small: bool | None = None
    label: tuple[str, ...] = ()
    """``NAME=TEXT``."""
    output: Path | None = None


_ENTRIES = ("entry", "module", "console_script")


def merge(spoken: Config, written: Config) -> Config:
    """Take from ``written`` what the command line did not say; of the ways to name what runs only one counts.

    Labels are said one by one.
    """
    said = {field.name for field in fields(Config) if getattr(spoken, field.name) not in (None, ())}
    if said & {*_ENTRIES, "tool"}:
        said |= {*_ENTRIES, "tool"}
    if spoken.label and written.label:  # each by its own name
        names = {word.partition("=")[0] for word in spoken.label}
        more = tuple(word for word in written.label if word.partition("=")[0] not in names)
        spoken = replace(spoken, label=(*spoken.label, *more))
    taken = {field.name: getattr(written, field.name) for field in fields(Config) if field.name not in said}
    return replace(spoken, **taken)


def read(directory: Path) -> Config | None:
    """Read ``directory/pyproject.toml``; ``None`` if it is not there.

    Relative paths in it count from the directory.

    :raises UsageError: if it is not TOML, or its ``[tool.packer]`` has a key or value that makes no sense.
    """
    path = directory / "pyproject.toml"
    document = load(path)
    if document is None:
        return None
    with naming(path):
        values = table("[tool.packer]", table("[tool]", document.get("tool", {})).get("packer", {}))
        return settings("[tool.packer]", values, directory)


def load(path: Path) -> dict[str, Any] | None:
    """Read a TOML file; ``None`` if it is not there.

    :raises UsageError: if it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before mistakes that are found in it."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}", error.hint) from None


def settings(where: str, written: Mapping[str, object], directory: Path) -> Config:
    """Read a table that has options of ``packer fat`` as its keys.

    :param where: what the table is called, ``[tool.packer]``.
    :raises UsageError: if a key or value makes no sense.
    """
    known = keys()
    values: dict[str, Any] = {}
    for key, value in written.items():
        refuse_unknown(where, key, known)
        values[known[key]] = _READERS[known[key]](f"{where} {key}", value, directory)
    ways = [field.replace("_", "-") for field in _ENTRIES if field in values]
    if len(ways) > 1:
        raise UsageError(f"{where} {' and '.join(ways)}: only one of them can say what runs")
    return Config(**values)


def keys() -> dict[str, str]:
    """Give the field of each key."""
    known = {field.name.replace("_", "-"): field.name for field in fields(Config)}
    known["requirements"] = known.pop("inputs")  # they have no option
    known["labels"] = known.pop("label")
    return known


def refuse_unknown(where: str, key: str, known: Iterable[str]) -> None:
    """Name the key that was probably meant."""
    known = sorted(known)
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise UsageError(f"{where} {key}: there is no such key".lstrip(), hint)


def _expect(kind: type[_T], name: str, key: str, value: object) -> _T:
    if not isinstance(value, kind):
        raise UsageError(f"{key}: must be {name}, is {value!r}")
    return value


def table(key: str, value: object) -> dict[str, Any]:
    """Take a value that must be a table."""
    return _expect(dict, "a table", key, value)


def _text(key: str, value: object, _: Path) -> str:
    return _expect(str, "a string", key, value)


def _flag(key: str, value: object, _: Path) -> bool:
    return _expect(bool, "true or false", key, value)


def _texts(key: str, value: object, directory: Path) -> tuple[str, ...]:
    return tuple(_text(key, item, directory) for item in _expect(list, "a list of strings", key, value))


def _path(key: str, value: object, directory: Path) -> Path:
    return directory / _text(key, value, directory)


def _paths(key: str, value: object, directory: Path) -> tuple[Path, ...]:
    return tuple(directory / text for text in _texts(key, value, directory))


def _places(key: str, value: object, directory: Path) -> tuple[str, ...]:
    """URLs as they are, directories from the file's."""
    texts = _texts(key, value, directory)
    return tuple(text if re.match(r"[a-z+]+:", text) else str(directory / text) for text in texts)


def _assigned(key: str, value: object, directory: Path) -> tuple[str, ...]:
    """``NAME=PATH``; a word that is not so is refused where all are read."""
    words = [word.partition("=") for word in _texts(key, value, directory)]
    return tuple(f"{name}={directory / path}" if path else f"{name}{equals}" for name, equals, path in words)


def _words(key: str, value: object, directory: Path) -> str:
    return ",".join(_texts(key, value, directory)) if isinstance(value, list) else _text(key, value, directory)


def _includes(key: str, value: object, directory: Path) -> tuple[str, ...]:
    return tuple(map(str, _paths(key, value, directory)))


def _named(key: str, value: object, directory: Path) -> tuple[str, ...]:
    return tuple(f"{name}={_text(f'{key}.{name}', entry, directory)}" for name, entry in table(key, value).items())


_READERS: Mapping[str, Callable[[str, object, Path], object]] = {
    "inputs": _texts,
    "requirement": _paths,
    "constraint": _paths,
    "lock": _path,
    "include": _includes,
    "abis": _words,
    "arch": _texts,
    "bundle": _words,
    "runtime": _assigned,
    "libc": _text,
    "entry": _text,
    "module": _text,
    "console_script": _text,
    "tool": _named,
    "index_url": _text,
    "extra_index_url": _texts,
    "find_links": _places,
    "no_index": _flag,
    "level_wheels": _assigned,
    "accept": _texts,
    "cc": _text,
    "build_in": _text,
    "interpreter": _paths,
    "bytecode": _text,
    "profile_run": _texts,
    "profile": _path,
    "lazy_imports": _text,
    "exclude": _texts,
    "trim": _flag,
    "plain_imports": _flag,
    "fast": _flag,
    "small": _flag,
    "label": _named,
    "output": _path,
}
