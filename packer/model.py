"""What travels down the stages of packing: frozen records, no behaviour beyond their own names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PythonAbi:
    """One Python ABI tag (PEP 425) and the facts the packer needs of it; loaded from ``abi/python.toml``."""

    tag: str
    """As in a wheel's file name: ``cp39``, ``cp27mu``, ``cp313t``."""
    version: tuple[int, int]
    micro: int
    """Newest released micro version: markers and Requires-Python are judged at ``version + (micro,)``."""
    free_threaded: bool = False

    @property
    def full_version(self) -> str:
        """``3.9.25``."""
        return f"{self.version[0]}.{self.version[1]}.{self.micro}"

    @property
    def interpreter(self) -> str:
        """The wheel interpreter tag, ``cp39`` for ``cp39`` and ``cp27mu`` alike: ``cp27``."""
        return f"cp{self.version[0]}{self.version[1]}"

    @property
    def directory(self) -> str:
        """Directory below ``lib/``: ``python3.9``, ``python3.13t``."""
        return f"python{self.version[0]}.{self.version[1]}{'t' if self.free_threaded else ''}"


@dataclass(frozen=True)
class Platform:
    """A manylinux or musllinux policy on one architecture (PEP 600, PEP 656)."""

    libc: str
    """``glibc`` or ``musl``."""
    version: tuple[int, int]
    arch: str
    """``x86_64`` or ``aarch64``."""
    level: int = 1
    """CPU level that its code is compiled for, as in ``abi/cpu.toml``; no wheel tag tells it."""

    @property
    def policy(self) -> str:
        """``manylinux_2_17`` or ``musllinux_1_2``."""
        family = "manylinux" if self.libc == "glibc" else "musllinux"
        return f"{family}_{self.version[0]}_{self.version[1]}"

    @property
    def tag(self) -> str:
        """``manylinux_2_17_x86_64``."""
        return f"{self.policy}_{self.arch}"

    @property
    def name(self) -> str:
        """The tag, with the level if it is more than every CPU has: ``manylinux_2_17_x86_64_v3``."""
        return f"{self.tag}_v{self.level}" if self.level > 1 else self.tag


@dataclass(frozen=True)
class Target:
    """What one slice is packed for: a Python ABI on a platform."""

    python: PythonAbi
    platform: Platform

    @property
    def name(self) -> str:
        """``cp39-manylinux_2_17_x86_64``."""
        return f"{self.python.tag}-{self.platform.name}"


@dataclass(frozen=True)
class Wheel:
    """A wheel file at hand."""

    distribution: str
    """Normalised name (PEP 503)."""
    version: str
    path: Path
    sha256: str
    """Hex digest of the wheel file."""
    built_from: str = ""
    """File name of the source distribution or project it was built from, when it was."""
    requested: bool = False
    """It was asked for by the user, and not only by what depends on it."""


@dataclass(frozen=True)
class Resolution:
    """The wheels of one target, dependencies before what depends on them."""

    target: Target
    wheels: tuple[Wheel, ...]
    directories: tuple[tuple[Path, str], ...] = ()
    """Projects that were built for it, whoever named them, and the digests of what they were."""


class EntryKind(Enum):
    """What a path of a layer is; values as ``enum entry_kind`` in ``abi/fatpar.h``."""

    FILE = 1
    EXEC = 2
    LINK = 3
    DIR = 4


class LayerKind(Enum):
    """Values as ``enum layer_kind`` in ``abi/fatpar.h``."""

    WHEEL = 1
    APP = 2
    INTERPRETER = 3
    BYTECODE = 4


@dataclass(frozen=True)
class Entry:
    """One path of a layer."""

    path: str
    """POSIX, relative to the layer's root."""
    kind: EntryKind
    source: Path | None = None
    """FILE, EXEC: where its bytes are."""
    size: int = 0
    sha256: bytes = b""
    """FILE, EXEC: digest of its bytes."""
    link: str = ""
    """LINK: its target."""


@dataclass(frozen=True)
class Layer:
    """An immutable file tree: an installed wheel, the app itself."""

    name: str
    kind: LayerKind
    entries: tuple[Entry, ...]
    """In the order of the paths' bytes."""
    digest: bytes
    """Tree digest, computed by the launcher's own code."""
    of: Layer | None = None
    """BYTECODE: the layer whose modules it was compiled from."""
    tag: str = ""
    """BYTECODE: cache tag, ``cpython-311``, which is in its files' names."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)


class NeedKind(IntEnum):
    """Values as ``enum need_kind`` in ``abi/fatpar.h``."""

    MACHINE = 1
    CPU = 2
    KERNEL = 3
    LIBC = 4
    NODE = 5
    LIBRARY = 6
    PYTHON = 7
    PYTHON_NOT = 8
    STDLIB = 9


@dataclass(frozen=True, order=True)
class Need:
    """One requirement of a slice; which fields count, ``abi/FORMAT.md`` says per kind."""

    kind: NeedKind
    name: str = ""
    value: str = ""
    number: int = 0


@dataclass(frozen=True)
class Link:
    """One link of a view: ``path`` in the view points to ``target`` in ``layer``."""

    path: str
    layer: Layer
    target: str


class ToolKind(Enum):
    """Values as ``enum tool_kind`` in ``abi/fatpar.h``."""

    PYTHON = 1
    EXECUTABLE = 2
    TITLED = 3
    """As PYTHON, but the program gives its process a title by itself, where Python's arguments stand."""


@dataclass(frozen=True)
class Tool:
    """A program the archive can be."""

    name: str
    kind: ToolKind
    target: str
    """Path in the view: the boot file, or the executable."""


@dataclass(frozen=True)
class Runtime:
    """An interpreter as archives carry it."""

    tag: str
    """Python ABI tag."""
    version: tuple[int, int, int]
    layer: Layer
    executable: str
    """Path in the layer."""
    arch: str
    libc: str
    """``glibc`` or ``musl``."""
    grafted: tuple[str, ...]
    """SONAMEs, as they were, of the shared libraries that come from elsewhere."""
    missing: tuple[str, ...]
    """Extension modules that did not load where it was captured, and are left out."""
    brought: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    """SONAME -> symbol-version nodes of the C library and others that it brings so that none of the host's is loaded;
    empty: the host's are."""

    @property
    def full_version(self) -> str:
        """``3.9.18``."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Slice:
    """What runs on one kind of host."""

    target: Target
    needs: tuple[Need, ...]
    layers: tuple[Layer, ...]
    links: tuple[Link, ...]
    flags: tuple[str, ...]
    """Command line options of the interpreter."""
    runtime: Runtime | None = None
    """The interpreter that it carries, whose layer is among its layers."""

    @property
    def name(self) -> str:
        """The target's, and whether the interpreter is carried, and the C library: ``...-carried``, ``...-libc``."""
        if not self.runtime:
            return self.target.name
        return f"{self.target.name}-{'libc' if self.runtime.brought else 'carried'}"
