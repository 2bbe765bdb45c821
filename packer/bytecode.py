"""A layer's modules -> a layer of their bytecode, for one Python, so that no host has to compile them.

The bytes depend on the layer and the interpreter's version alone: not on machine, user, mask, directory or time, nor
on which other modules are compiled. They are what an interpreter on the host would have kept: valid for as long as
the source has its size and the one time that every file in a store has.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from packer import compilechild, facts, files, native, process, pythons
from packer.errors import PackError
from packer.files import sha256
from packer.layers import layer
from packer.model import Entry, EntryKind, Layer, LayerKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from packer.model import PythonAbi

_SITE = "lib/python/site-packages/"

_ROOTS = (_SITE, "app/")
"""Below which modules are imported from: the second has what is beside a program of one file."""

_INDEX = "index.json"

_SECONDS = 600.0
"""For the modules of one layer: some ten thousand, the most that a wheel has, take a tenth of it."""

_LAST_LINES = 12
"""Of a child that failed, for the error."""

_LOADER = ("LD_LIBRARY_PATH",)
"""All that a child gets of our environment: some interpreters do not start without."""


class _Row(TypedDict):
    """One module's bytecode, in the index of a directory of the cache."""

    module: str
    """The source's path in the layer."""
    file: str
    """Name in the directory."""
    size: int
    sha256: str
    """Hex."""


def compile_layers(
    layers: Sequence[Layer],
    python: PythonAbi,
    interpreter: pythons.Interpreter,
    cache: Path,
    wanted: Callable[[str], bool] | None = None,
) -> dict[bytes, Layer]:
    """Compile the modules of each layer: those below ``site-packages``, and those beside a script.

    What does not compile is passed over: an import on the host fails as it would have. There is nothing for Python
    2.7, which has no ``__pycache__``.

    :param interpreter: of the ABI ``python``; started only for what the cache does not have.
    :param cache: directory that keeps what was made; the entries' files are there.
    :param wanted: told a module's path in its layer, says whether to take its bytecode; None: all.
    :return: layer digest -> its bytecode layer; layers of which there is no bytecode are not in it.
    :raises PackError: the interpreter fails, or the cache cannot be written to.
    """
    tag = cache_tag(python)
    found: dict[bytes, Layer] = {}
    for one in layers if tag else ():
        modules = _modules(one, tag)
        place = cache / "bytecode" / _key(one, interpreter)
        if not modules or one.digest in found:
            continue
        rows = _rows(one, modules, tag, interpreter, place)
        entries = [_entry(row, tag, place) for row in rows if wanted is None or wanted(row["module"])]
        if entries:
            # Pythons with and without GIL write their bytecode under one cache tag, but people should tell them apart.
            name = f"{one.name} {tag}{'t' if python.free_threaded else ''}"
            found[one.digest] = layer(name, LayerKind.BYTECODE, entries, of=one, tag=tag)
    return found


def cache_tag(python: PythonAbi) -> str:
    """``cpython-311``, the middle of a ``.pyc``'s name; ``""`` for Python 2.7, which keeps it beside the source."""
    return facts.pythons()[python.tag].cache_tag


def _modules(one: Layer, tag: str) -> tuple[Entry, ...]:
    """The sources to compile; not those whose bytecode would have a path that no archive can hold."""
    return tuple(
        entry
        for entry in one.entries
        if entry.kind in (EntryKind.FILE, EntryKind.EXEC)
        and entry.path.startswith(_ROOTS)
        and entry.path.endswith(".py")
        and not entry.path.endswith("/.py")
        and native.lib().pathissafe(native.encoded(_path(entry.path, tag)))
    )


def _path(module: str, tag: str) -> str:
    """Where the bytecode of a module is in the layer for it: ``a/b.py`` -> ``a/b.cpython-311.pyc``."""
    return f"{module.removesuffix('.py')}.{tag}.pyc"


def _key(one: Layer, interpreter: pythons.Interpreter) -> str:
    """Name the place in the cache for the bytecode of a layer."""
    parts = (one.digest.hex(), interpreter.tag, interpreter.full_version, interpreter.build, _child_digest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _child_digest() -> str:
    return sha256(Path(compilechild.__file__)).hex()


def _entry(row: _Row, tag: str, place: Path) -> Entry:
    path = _path(row["module"], tag)
    return Entry(path, EntryKind.FILE, place / row["file"], row["size"], bytes.fromhex(row["sha256"]))


def _rows(
    one: Layer, modules: Sequence[Entry], tag: str, interpreter: pythons.Interpreter, place: Path
) -> Iterable[_Row]:
    """Give the index of ``place``, which is filled if it is not there yet."""
    try:
        if not place.exists():
            _fill(one, modules, tag, interpreter, place)
        return _checked(json.loads((place / _INDEX).read_bytes()))
    except OSError as error:
        raise PackError(f"cannot keep bytecode in {place}: {error.strerror}", hint=f"remove {place}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PackError(f"{place / _INDEX} is damaged: {error}", hint=f"remove {place}") from None


def _checked(rows: Iterable[_Row]) -> list[_Row]:
    """Take what was read for what it should be, or find out now that it is not."""
    return [
        _Row(module=str(row["module"]), file=str(row["file"]), size=int(row["size"]), sha256=str(row["sha256"]))
        for row in rows
    ]


def _fill(one: Layer, modules: Sequence[Entry], tag: str, interpreter: pythons.Interpreter, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=files.scratch(place.parent.parent), prefix="compile-") as name:
        work, made = Path(name), Path(name) / "made"
        made.mkdir()
        _compile(one, modules, tag, interpreter, work)
        numbered = [(f"{number}.pyc", entry.path) for number, entry in enumerate(modules)]
        rows = [_row(made, file, module) for file, module in numbered if (made / file).exists()]
        (made / _INDEX).write_text(json.dumps(rows), encoding="ascii")
        files.publish(made, place)


def _row(made: Path, file: str, module: str) -> _Row:
    path = made / file
    return _Row(module=module, file=file, size=path.stat().st_size, sha256=sha256(path).hex())


def _compile(one: Layer, modules: Sequence[Entry], tag: str, interpreter: pythons.Interpreter, work: Path) -> None:
    """Run the child in ``work``, where it finds its request.

    :raises PackError: it does not get to its end.
    """
    (work / "request").write_bytes(b"".join(map(_request, modules)))
    # Neither -I nor -E: they would make it ignore PYTHONHASHSEED, on which the order of constant sets depends.
    options = ("-S", "-s", "-B", "-W", "ignore")
    what = f"compiling {one.name} with {interpreter.path}"
    done = process.run(
        [str(interpreter.path), *options, compilechild.__file__, str(work), str(_workers()), tag],
        environment=_environment(),
        limit=_SECONDS,
        stop=threading.Event(),
        tell=lambda line: None,
        what=what,
    )
    if done.status != 0:
        lines = [line for line in done.lines if line.strip()]
        said = lines[-1].strip() if lines else f"exit status {done.status}"
        hint = "its last lines:\n" + "\n".join(lines[-_LAST_LINES:]) if len(lines) > 1 else ""
        raise PackError(f"{what} failed: {said}", hint=hint)


def _request(module: Entry) -> bytes:
    """One module of a request: where the source is, and the path that its code has, without ``site-packages``."""
    assert module.source is not None
    name = module.path.removeprefix(_SITE)
    return os.fsencode(module.source.absolute()) + b"\0" + native.encoded(name) + b"\0"


def _workers() -> int:
    return os.cpu_count() or 1


def _environment() -> dict[str, str]:
    """Of a child: the same for everybody."""
    ours = {name: os.environ[name] for name in _LOADER if name in os.environ}
    return {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", **ours}
