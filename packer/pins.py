"""``[libraries]`` of a workspace: the compiled libraries in its archives have to be those that are pinned."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from packer import job
from packer.cache import Cache
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    Found = Mapping[str, Sequence[Any]]
    """Slice -> its libraries."""


def module() -> ModuleType:
    """Give what reads libraries.

    :raises PackError: if this packer has no such thing.
    """
    try:
        return importlib.import_module("packer.libraries")
    except ModuleNotFoundError as error:
        if error.name != "packer.libraries":
            raise
        raise PackError("[libraries]: this packer does not read libraries", hint="get a newer packer") from None


def libraries(path: Path) -> Found:
    """Find the libraries of an archive."""
    found: Found = module().of_archive(path, Cache(job.cache() / "read"))
    return found


def check(pins: Mapping[str, str], archives: Mapping[str, Found]) -> tuple[str, ...]:
    """Compare libraries with pins: a sentence for each that does not hold.

    :param archives: the tool's name -> its libraries.
    """
    places = {f"{name} {one}": there for name, found in archives.items() for one, there in found.items()}
    sentences: tuple[str, ...] = module().check(pins, places)
    return sentences
