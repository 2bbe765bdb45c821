"""What stands before the blobs: a launcher, or a shell front and the launchers of several machines.

``abi/FORMAT.md``, section 3.1, has both; the front's text is ``launcher/front.sh``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer import facts, native

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_BOUNDARY = 4096
"""On which launchers and blobs begin: so dd(1) finds the former, and a changed launcher of about the same size moves
nothing."""

_MARK = b"\x89fplnch\n"
"""What a launcher behind a front ends in."""

_TABLE = "fatpar_launchers=''"
"""The line of the front that says where they are."""


@dataclass(frozen=True)
class Launcher:
    """One behind a front."""

    machine: str
    offset: int
    size: int
    digest: str

    @property
    def record(self) -> dict[str, object]:
        """As it stands in the index."""
        machine = facts.architectures()[self.machine]
        return {"machine": machine, "reserved": 0, "offset": self.offset, "size": self.size}


@dataclass(frozen=True)
class Front:
    """The bytes before the first blob."""

    content: bytes
    launchers: tuple[Launcher, ...] = ()
    """Of a file with a shell front."""


def make(launchers: Path | Mapping[str, Path]) -> Front:
    """Put it together.

    :param launchers: one, or by machine, in the order in which they stand; of only one there is no front.
    """
    if isinstance(launchers, Path):
        return Front(_padded(launchers.read_bytes()))
    if len(launchers) == 1:
        return make(*launchers.values())
    padded = {machine: _marked(path.read_bytes()) for machine, path in launchers.items()}
    # the table's numbers make it longer, and that moves what they say: they have a fixed width
    start = len(_text(list(_placed(padded, 0))))
    placed = tuple(_placed(padded, start))
    return Front(_text(placed) + b"".join(padded.values()), placed)


def _placed(launchers: Mapping[str, bytes], at: int) -> Iterator[Launcher]:
    for machine, content in launchers.items():
        yield Launcher(machine, at, len(content), hashlib.sha256(content).hexdigest())
        at += len(content)


def _text(launchers: Sequence[Launcher]) -> bytes:
    """The script, up to where the first launcher begins; a shell never gets to what fills it up."""
    rows = "\n".join(f"{one.machine} {one.digest} {one.offset:<10} {one.size:<10}" for one in launchers)
    template = source().read_text("utf-8")
    if template.count(f"\n{_TABLE}\n") != 1:
        raise ValueError(f"{source()} has no place for its launchers")
    text = template.replace(_TABLE, f"{_TABLE[:-1]}\n{rows}'").encode()
    return text + b"\n" * (-len(text) % _BOUNDARY)


def source() -> Path:
    """The front's text."""
    checkout = Path(__file__).parent.parent / "launcher" / "front.sh"
    return checkout if checkout.exists() else native.data("front.sh")


def _padded(launcher: bytes) -> bytes:
    return launcher + bytes(-len(launcher) % _BOUNDARY)


def _marked(launcher: bytes) -> bytes:
    padded = _padded(launcher + bytes(len(_MARK)))
    return padded[: -len(_MARK)] + _MARK
