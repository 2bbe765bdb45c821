"""Trimming: what a wheel ships and nobody runs is left out of its layer."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from packer import layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packer.model import Layer

_SITE = "lib/python/site-packages/"

NOBODY_RUNS = ("*/tests/*", "*.a", "*.la")
"""What ``--trim`` leaves out: tests inside of packages, and what only a linker reads.

Type stubs and sources of compiled code stay, although they look as useless: mypy reads stubs, ``lazy_loader`` reads
them at import, f2py and Cython read C.
"""


def trim(layer: Layer, patterns: Sequence[str]) -> tuple[Layer, tuple[str, ...]]:
    """Leave out what one of the patterns matches.

    :param patterns: as in a shell, but ``*`` matches ``/`` too; of paths below site-packages, of others whole.
    :return: another layer and the paths that are not in it; the same layer if there are none. ``.dist-info`` stays.
    """
    gone = tuple(entry.path for entry in layer.entries if _matches(entry.path, patterns))
    if not gone:
        return layer, ()
    kept = [entry for entry in layer.entries if not _matches(entry.path, patterns)]
    return layers.layer(layer.name, layer.kind, kept), gone


def unused(patterns: Iterable[str], left_out: Iterable[str]) -> tuple[str, ...]:
    """Give the patterns that left out nothing: they were mistyped."""
    paths = list(left_out)
    return tuple(pattern for pattern in patterns if not any(_matches(path, (pattern,)) for path in paths))


def _matches(path: str, patterns: Iterable[str]) -> bool:
    path = path.removeprefix(_SITE)
    if ".dist-info/" in path:
        return False
    return any(fnmatchcase(path, pattern) for pattern in patterns)
