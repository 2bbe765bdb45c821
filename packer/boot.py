"""How a packed program is entered: what the user may ask for, and the boot file that the interpreter is given.

The launcher runs ``python FLAGS VIEW/boot/TOOL.py NAME ARGUMENTS...``, where NAME is argv[0] as it was typed. A boot
file belongs to one tool and serves every Python from 2.7 on. What it leaves in ``__main__`` and on ``sys.path`` is
what a console script in a virtual environment leaves there, less the script's own directory.
"""

from __future__ import annotations

import configparser
import re
import textwrap
import warnings
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from installer.utils import parse_entrypoints

from packer import modules, wheels
from packer.errors import PackError, UsageError
from packer.model import EntryKind, Layer, Target, Tool, ToolKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TOOL_NAME = re.compile(r"[^\s/\0.-][^\s/\0]*")
_ENTRY_POINTS = re.compile(r"lib/python/site-packages/[^/]+\.(dist|egg)-info/entry_points\.txt")
_MADE_OTHERWISE = r"import \*|\b(__dict__|__getattr__|eval|exec|globals|locals|modules|setattr|vars)\b"
_PYTHON_SHEBANG = re.compile(rb"#![^\n]*python[0-9.]*w?(\s|$)")


@dataclass(frozen=True)
class Function:
    """``module:function``: import the module, call the function, exit with what it returns."""

    module: str
    attribute: str
    """May have dots."""


@dataclass(frozen=True)
class Module:
    """``python -m module``."""

    module: str


@dataclass(frozen=True)
class Script:
    """A file of Python that is run as ``__main__``."""

    path: str
    """In the view: ``app/NAME.py`` for a program of one file, ``bin/NAME`` for a script a wheel installs."""


@dataclass(frozen=True)
class Executable:
    """A program that is no Python at all, as ruff's."""

    path: str
    """In the view."""


@dataclass(frozen=True)
class Installed:
    """Whatever the wheels install under this name; :func:`resolve` finds out what that is."""

    name: str


EntryPoint = Function | Module | Script | Executable


def parse_function(word: str) -> Function:
    """Read ``module:function``, the value of ``-e``.

    :raises UsageError: if it is no such thing.
    """
    match = re.fullmatch(rf"({_DOTTED}):({_DOTTED})", word)
    if match is None:
        raise UsageError(f"not an entry point: {word!r}: write module:function")
    return Function(*match.groups())


def parse_module(word: str) -> Module:
    """Read the value of ``-m``.

    :raises UsageError: if it is no module name.
    """
    if re.fullmatch(_DOTTED, word) is None:
        raise UsageError(f"not a module name: {word!r}")
    return Module(word)


def parse_tool(word: str) -> tuple[str, Function | Installed]:
    """Read ``NAME=module:function`` or ``NAME=console_script``, the value of ``--tool``.

    :return: the name under which the archive is that tool, and what it runs.
    :raises UsageError: if it is neither, or the name cannot be a file's.
    """
    name, equals, wanted = word.partition("=")
    if not equals or not wanted:
        raise UsageError(f"not a tool: {word!r}: write NAME=module:function or NAME=console_script")
    if _TOOL_NAME.fullmatch(name) is None:
        raise UsageError(f"not a tool's name: {name!r}: it must be able to name a file and a command")
    return name, parse_function(wanted) if ":" in wanted else Installed(wanted)


def installed(layers: Sequence[Layer]) -> dict[str, EntryPoint]:
    """Find every command that the wheels install: entry points, and files in ``bin/``.

    :param layers: in the order of installation; of two commands with one name the later counts, as in a view.
    :return: by name, sorted; a file in ``bin/`` gives way to an entry point of the same layer.
    :raises PackError: if a wheel's ``entry_points.txt`` cannot be read.
    """
    found: dict[str, EntryPoint] = {}
    for layer in layers:
        found.update(_programs(layer))
        found.update(_entry_points(layer))
    return dict(sorted(found.items()))


def resolve(wanted: EntryPoint | Installed, layers: Sequence[Layer]) -> EntryPoint:
    """Turn a command's name into what the wheels of one slice install under it; leave the rest as it is.

    :raises UsageError: if they install no such command, or their module surely has no such function; names those that
        are nearest.
    """
    if isinstance(wanted, Function):
        _refuse_missing(wanted, layers)
    if not isinstance(wanted, Installed):
        return wanted
    commands = installed(layers)
    if wanted.name not in commands:
        near = get_close_matches(wanted.name, commands) or list(commands)
        raise UsageError(
            f"no command {wanted.name!r}: none of the wheels installs it",
            hint=f"there is {', '.join(near)}" if near else "name a function with -e module:function",
        )
    return commands[wanted.name]


def _refuse_missing(function: Function, layers: Sequence[Layer]) -> None:
    """Refuse a name that the module's source does not hold as a word, unless it may be made in another way."""
    place = f"lib/python/site-packages/{function.module.replace('.', '/')}"
    name = function.attribute.partition(".")[0]
    sources = [
        entry.source.read_text("utf-8", "replace")
        for layer in layers
        for entry in layer.entries
        if entry.source and entry.path in (f"{place}.py", f"{place}/__init__.py")
    ]
    # of several the last is in the view; none: an extension module, or what is included
    if sources and not re.search(rf"\b{name}\b|{_MADE_OTHERWISE}", sources[-1]):
        near = get_close_matches(name, re.findall(r"^(?:def|class) (\w+)", sources[-1], re.MULTILINE))
        raise UsageError(f"no function {name} in {function.module}", hint=f"did you mean {near[0]}?" if near else "")


def tool(name: str, entry: EntryPoint) -> Tool:
    """Describe a program for the archive's index."""
    if isinstance(entry, Executable):
        return Tool(name, ToolKind.EXECUTABLE, entry.path)
    return Tool(name, ToolKind.PYTHON, f"boot/{name}.py")


def titled(tools: Iterable[Tool], layers: Iterable[Layer]) -> tuple[Tool, ...]:
    """Leave the name of the process to tools that come with setproctitle, which looks for Python's own arguments."""
    if not any(layer.name.startswith("setproctitle-") for layer in layers):
        return tuple(tools)
    return tuple(replace(one, kind=ToolKind.TITLED) if one.kind is ToolKind.PYTHON else one for one in tools)


def start(entry: Function | Module | Script) -> str:
    """Say where execution begins, in the words of :func:`packer.needs.needs`."""
    if isinstance(entry, Function):
        return f"{entry.module}:{entry.attribute}"
    return f"{entry.module}.__main__" if isinstance(entry, Module) else entry.path


def flags(target: Target) -> tuple[str, ...]:
    """Choose the interpreter's options: no user site, no PYTHON* variables, no script directory on ``sys.path``.

    Python 2.7 has no ``-I``; there the boot file takes the directory away.
    """
    return ("-I",) if target.python.version >= (3, 4) else ("-E", "-s")


def is_quiet(script: Path) -> bool:
    """Tell whether a script is compiled without a warning, as far as this Python knows: each run has to give it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            compile(script.read_bytes(), str(script), "exec")
        except (SyntaxError, ValueError, Warning):
            return False
    return True


def boot_source(entry: Function | Module | Script, *, table: bool = False, kept: bool = False) -> str:
    """Write the boot file of a tool: valid from Python 2.7 on, and harmless when it is only imported.

    :param table: modules are found by the table of :mod:`packer.modules`, on Pythons that take one.
    :param kept: a script runs from kept bytecode.

    multiprocessing's spawn and forkserver import it once more, by its path, as ``__mp_main__``. Then it does what a
    console script does: import the program's module, in which things may be registered that the child has to know.
    """
    head = _HEAD + _TABLE.format(reader=modules.READER.removeprefix("boot")) if table else _HEAD
    if isinstance(entry, Function):
        first = entry.attribute.partition(".")[0]
        call = _CALL_FUNCTION.format(module=entry.module, first=first, attribute=entry.attribute)
        return head + call
    if isinstance(entry, Module):
        return head + _RUN_MODULE.format(module=entry.module)
    beside = _BESIDE if entry.path.startswith("app/") else ""
    return head + _RUN_SCRIPT.format(path=f"/{entry.path}", beside=beside, code=_KEPT_CODE if kept else _COMPILED_CODE)


# Every line but an import is guarded: in a child, argv and path are the parent's already. Python 2.7 in a view has a
# prefix of its own, but Debian's site module looks for dist-packages there, so site-packages is added here. The
# sys.path[0] it drops is this file's directory or, where the file is a link, the layer's. __file__ is absolute: the
# launcher gives it.
_HEAD = """\
# -*- coding: utf-8 -*-
# Written by packer. The name as typed follows the path of this file in argv.
import sys

if __name__ == "__main__":
    del sys.argv[0]
    if sys.version_info[0] == 2:
        del sys.path[0]
        packages = __file__.rsplit("/", 2)[0] + "/lib/python2.7/site-packages"
        if packages not in sys.path:
            __import__("site").addsitedir(packages)
        del packages
"""

# Not imported, so that sys.modules is as ever; the loader is the one of this file.
_TABLE = """\
    if sys.version_info >= (3, 5):
        imports = {{"__name__": "fatpar"}}
        exec(type(__loader__)("fatpar", __file__.rpartition("/")[0] + {reader!r}).get_code("fatpar"), imports)
        imports["install"](__file__)
        del imports
"""

# The import is not guarded: a console script's is not, and a child may need what it registers.
_CALL_FUNCTION = """
from {module} import {first}

if __name__ == "__main__":
    sys.exit({attribute}())
"""

# What `python -m` itself calls. Unlike runpy.run_module it runs the module in the real __main__, which is still there
# when exit handlers and pickling ask for it.
_RUN_MODULE = """\
    del sys
    __import__("runpy")._run_module_as_main("{module}", alter_argv=False)
"""

# __file__ is what multiprocessing imports in a child, which therefore never sees this file.
_RUN_SCRIPT = """\
    __file__ = __file__.rsplit("/", 2)[0] + {path!r}
    if sys.version_info[0] > 2:
        __loader__ = type(__loader__)("__main__", __file__)
{beside}\
{code}\
    del sys
    exec(globals().pop("code"))
"""

_COMPILED_CODE = """\
    with open(__file__, "rb") as code:
        code = compile(code.read(), __file__, "exec")
"""

# compile makes all types of ast, which takes 1.5 ms. In bin there is no place for bytecode.
_KEPT_CODE = f"""\
    if sys.version_info[0] > 2:
        code = __loader__.get_code("__main__")
    else:
{textwrap.indent(_COMPILED_CODE, "    ")}"""

# As python does for a script; a script in bin/ has nothing to import there
_BESIDE = """\
    sys.path.insert(0, __file__.rsplit("/", 1)[0])
"""


def _programs(layer: Layer) -> Iterator[tuple[str, EntryPoint]]:
    for entry in layer.entries:
        directory, _, name = entry.path.rpartition("/")
        if directory == "bin" and entry.kind in (EntryKind.FILE, EntryKind.EXEC):
            assert entry.source is not None, entry.path
            with entry.source.open("rb") as file:
                head = file.read(4096)
            python = _PYTHON_SHEBANG.match(head) or wheels.is_relocatable(head)
            yield name, Script(entry.path) if python else Executable(entry.path)


def _entry_points(layer: Layer) -> Iterator[tuple[str, EntryPoint]]:
    for entry in layer.entries:
        if _ENTRY_POINTS.fullmatch(entry.path):
            assert entry.source is not None, entry.path
            try:
                for name, module, attribute, _ in parse_entrypoints(entry.source.read_text("utf-8")):
                    yield name, Function(module, attribute)
            except (configparser.Error, AssertionError, UnicodeDecodeError) as error:
                raise PackError(f"cannot read the entry points of {layer.name}: {entry.path}: {error}") from error
