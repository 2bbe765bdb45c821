"""The table of a view's modules, by which a packed program finds them: directories and what they hold, in lines.

The first line is the time that every source in a store has. Each further one is a directory in the view and, after
tabs, what may be imported from it: ``name/`` for a package, ``name.py``, or the file name of an extension module.
A name that could be found in more than one way is left out: the interpreter decides then, as it would have.
``packer/hostimport.py`` reads it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from packer import facts, native
from packer.compilechild import MODIFIED
from packer.model import EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from packer.model import Layer, Target

PATH = "boot/.modules"
READER = "boot/.import.py"
"""Where the table and ``packer/hostimport.py`` are in a view; no tool's name begins with a dot."""

COMPILED = "boot/.compiled.py"
"""Where ``packer/hostcompiled.py`` is, which that one runs."""

FEWEST = 20
"""Modules. Reading a table takes about as long as looking for so many: an estimate, from programs with none and 226."""

BEHIND = 5
"""Modules that are imported with one of the standard library's, itself among them: an estimate, as argparse has 12."""

_Directories = dict[str, dict[str, EntryKind]]
"""Path of a directory in the view -> what is in it."""

_LINE = re.compile(r"[^\t\n]*")


def readers() -> Iterator[tuple[Path, str]]:
    """Give what reads a table on the host, and where it belongs in a view."""
    for name, place in (("hostimport.py", READER), ("hostcompiled.py", COMPILED)):
        yield Path(__file__).with_name(name), place


def table(layers: Sequence[Layer], target: Target, imported: Callable[[], int] = int) -> bytes:
    """Make the table of a view; ``b""`` where none is of use: for 2.7, and for programs of few modules.

    :param layers: as :func:`packer.view.links` takes them.
    :param imported: counts the modules of the standard library that the program imports for sure.
    """
    if target.python.version < (3, 5):
        return b""
    site = f"lib/{target.python.directory}/site-packages"
    roots = {"lib/python/site-packages": site, "app": "app"}
    suffixes = (*facts.extension_suffixes(target.python, target.platform), ".py", ".pyc")
    directories = _directories(layers, roots)
    lines = [str(MODIFIED)]
    for directory, children in sorted(directories.items()):
        known = [name for name in _known(directory, children, directories, suffixes) if _LINE.fullmatch(name)]
        if known and _LINE.fullmatch(directory):
            lines.append("\t".join((directory, *known)))
    few = FEWEST - sum(line.count("\t") for line in lines)
    return native.encoded("\n".join(lines)) if few <= 0 or imported() * BEHIND >= few else b""


def _directories(layers: Sequence[Layer], roots: dict[str, str]) -> _Directories:
    """Merge layers."""
    found: _Directories = {}
    for layer in layers:
        for entry in layer.entries:
            for root, shown in roots.items():
                if entry.path.startswith(f"{root}/"):
                    _add(found, shown, entry.path[len(root) + 1 :].split("/"), entry.kind)
    return found


def _add(found: _Directories, directory: str, names: list[str], kind: EntryKind) -> None:
    for name in names[:-1]:
        found.setdefault(directory, {})[name] = EntryKind.DIR
        directory = f"{directory}/{name}"
    found.setdefault(directory, {})[names[-1]] = kind


def _known(
    directory: str, children: dict[str, EntryKind], directories: _Directories, suffixes: Iterable[str]
) -> Iterator[str]:
    """Give what is surely found in a directory, in the words of the table."""
    for stem in sorted({name.partition(".")[0] for name in children} - {"", "__init__"}):
        package = _files("__init__", directories.get(f"{directory}/{stem}", {}), suffixes)
        modules = _files(stem, children, suffixes)
        if children.get(stem, EntryKind.DIR) is not EntryKind.DIR:
            continue
        if package == ["__init__.py"]:
            yield f"{stem}/"
        elif not package and len(modules) == 1 and not modules[0].endswith(".pyc"):
            yield modules[0]


def _files(stem: str, children: dict[str, EntryKind], suffixes: Iterable[str]) -> list[str]:
    """Give the files that a module of this name could be; links count as any."""
    return [stem + suffix for suffix in suffixes if stem + suffix in children]
