"""What an ELF file says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packer import facts


@dataclass(frozen=True)
class File:
    """What an ELF executable or shared object says of itself."""

    layer: str
    path: str
    """In the layer."""
    machine: int
    """``e_machine``."""
    bits: int
    """32 or 64."""
    soname: str
    needed: tuple[str, ...]
    """DT_NEEDED."""
    nodes: tuple[tuple[str, str], ...]
    """Library and symbol-version node that it must have; those marked weak are not here, the loader only warns."""
    interpreter: str
    """PT_INTERP of an executable."""
    kernel: int
    """Least kernel by the GNU ABI note, ``a << 16 | b << 8 | c``; 0: not said."""
    cpu: int
    """x86-64 level that the GNU property calls needed; 0: not said."""
    module_of: tuple[int, ...]
    """Major versions of Python whose function for entering an extension module of the file's name it exports."""

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def libc(self) -> str:
        """``glibc`` or ``musl``; ``""`` if it asks for neither, as what is linked statically."""
        if "/ld-musl-" in self.interpreter or any(re.match(r"libc\.(musl-|so$)", name) for name in self.needed):
            return "musl"
        if "/ld-linux" in self.interpreter or any(facts.LIBC_PARTS["glibc"].fullmatch(name) for name in self.needed):
            return "glibc"
        return ""
