"""Lazy imports (PEP 810): which modules of a program may be imported when they are used, and how its boot file says so.

The boot file, not ``-X lazy_imports``, switches them on: lines of ``.pth`` files are there for what they import, and
multiprocessing's children would be given the option without the filter. Those import as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packer import facts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from packer.model import PythonAbi

FIRST = (3, 15)
"""The Python that has them."""

ANCHOR = "    del sys.argv[0]\n"
"""In every boot file, where it knows that it is the main program and has not yet imported it."""

_ENTER = f"""\
    if sys.version_info >= {FIRST}:
        with open(__file__[:-2] + "lazy", encoding="utf-8") as code:
            exec(code.read(), {{}})
        del code
"""

_CODE = """\
# Written by packer. Which imports are lazy; the boot file of the same name runs this, from Python 3.15 on.
import os
import sys


def choose(eager, importers):
    above = {name.rpartition(".")[0] for name in eager}

    def is_lazy(importing, name, fromlist, depth=1):
        if not importers or importing in importers:
            if name not in eager and not (name in above and any(name + "." + one in eager for one in fromlist or ())):
                return True
        # what its author made lazy stays so: the flag of IMPORT_NAME, or the list for older Pythons
        frame = sys._getframe(depth)
        return frame.f_code.co_code[frame.f_lasti + 1] & 3 == 1 or name in frame.f_globals.get("__lazy_modules__", ())

    return is_lazy if eager or importers else None


chosen = TABLE.get("cp%d%d%s" % (*sys.version_info[:2], sys.abiflags))
if chosen and os.environ.get("FATPAR_LAZY_IMPORTS") != "off":
    sys.set_lazy_imports_filter(choose(*(frozenset(names.split()) for names in chosen)))
    sys.set_lazy_imports("all")
"""


@dataclass(frozen=True)
class Lazy:
    """What is lazy under one Python: all, but for what is named."""

    eager: tuple[str, ...] = ()
    """Modules that are imported when their importers say so."""
    importers: tuple[str, ...] = ()
    """Modules whose imports may be lazy: those that a check has seen; empty: all."""


NOTHING = Lazy(importers=("-",))
"""No module is called so, and what its author made lazy stays so: all is as ever."""


@dataclass(frozen=True)
class Checked(Lazy):
    """What was found to work."""

    python: str = ""
    """Version it was checked with."""
    commands: tuple[str, ...] = ()
    """What checked it."""


def has(python: PythonAbi) -> bool:
    """Tell whether a Python has lazy imports."""
    return python.version[:2] >= FIRST


def tag_has(tag: str) -> bool:
    """Tell whether the Python of an ABI tag has lazy imports."""
    return tag in facts.pythons() and has(facts.pythons()[tag].abi)


def entered(boot_source: str) -> str:
    """Have a boot file run what :func:`source` writes, from the file beside it whose name ends in ``.lazy``.

    :raises ValueError: if it is none of ours.
    """
    if _ENTER in boot_source:
        return boot_source
    if ANCHOR not in boot_source:
        raise ValueError("not a boot file")
    return boot_source.replace(ANCHOR, ANCHOR + _ENTER, 1)


def source(choices: Mapping[str, Lazy]) -> str:
    """Write the file beside the boot file.

    :param choices: by Python tag; the others import as ever.
    """
    table = {tag: (_words(one.eager), _words(one.importers)) for tag, one in sorted(choices.items())}
    return _CODE.replace("TABLE", repr(table), 1)


def _words(names: Collection[str]) -> str:
    # one string: a boot file is compiled at each launch
    return " ".join(sorted(name for name in names if name and not any(map(str.isspace, name))))
