"""What the user asks to be packed, in pip's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from packer.model import Target


@dataclass(frozen=True)
class Requests:
    """What the user asks for, in pip's words; paths may be relative to the working directory."""

    requirements: tuple[str, ...] = ()
    """Requirements (PEP 508), wheels, source distributions and project directories, these with ``[extras]`` or not."""
    files: tuple[Path, ...] = ()
    """As for ``--requirement``."""
    constraints: tuple[Path, ...] = ()
    find_links: tuple[str, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    no_index: bool = False
    level_wheels: tuple[tuple[int, str], ...] = ()
    """CPU level and a directory of wheels for it."""
    as_of: str = ""
    """ISO 8601 with time zone: only what indices got before counts."""

    exact: bool = False
    """The requirements are files by their addresses, with digests: nothing else is looked for."""
    locked: tuple[tuple[str, str, str], ...] = ()
    """Of these, names, file names and the indexes that had them, which are asked whether they were yanked."""

    sizes: tuple[tuple[str, int], ...] = ()
    """Of these, file names and how many bytes they have."""

    def preferred(self, target: Target) -> list[str]:
        """Give the directories whose wheels win over others of the same version."""
        return [place for level, place in self.level_wheels if level == target.platform.level]

    def index_options(self) -> list[str]:
        """Give pip's options that say where distributions come from, on top of the user's pip configuration."""
        return [
            *(["--no-index"] if self.no_index else []),
            *([f"--index-url={self.index_url}"] if self.index_url else []),
            *(f"--extra-index-url={url}" for url in self.extra_index_urls),
            *(f"--find-links={place}" for place in self.find_links),
        ]

    def public_options(self) -> tuple[str, ...]:
        """Give the same as they can be shown: without users and passwords."""
        return tuple(re.sub(r"(://)[^/@]*@", r"\1", word) for word in self.index_options())

    def arguments(self) -> list[str]:
        """Give all of it as arguments of ``pip download``."""
        return [
            *self.index_options(),
            *(["--no-deps", "--require-hashes"] if self.exact else []),
            *([f"--uploaded-prior-to={self.as_of}"] if self.as_of and not self.exact else []),
            *(f"--requirement={path}" for path in self.files),
            *(f"--constraint={path}" for path in self.constraints),
            "--",
            *self.requirements,
        ]
