"""What benchmarks of sizes share: archives, each packed, unpacked and checked once, and tables of ratios."""

from __future__ import annotations

import functools
import tarfile
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import contents
from measure import pack_fat, table

from packer import inspect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from measure import Archive
    from rich.table import Table


@dataclass
class Shop:
    """Makes archives in a directory."""

    work: Path
    patches: bool = True
    """Measure zstd's patches, too, which takes most of the time."""
    archives: dict[str, Archive] = field(default_factory=dict)
    trees: dict[Path, Path] = field(default_factory=dict)
    """Archive -> the directory that it was unpacked to."""
    checked: list[contents.Checked] = field(default_factory=list)

    def pack(self, name: str, inputs: Sequence[str], abis: str, **more: Any) -> Archive:
        """Pack what :func:`measure.pack_fat` does, and make sure that it unpacks to the wheels' files.

        :param name: of the archive; another call with the same name gets the same archive.
        """
        if name not in self.archives:
            archive = pack_fat(self.work / name, inputs, abis, **more)
            self.archives[name] = archive
            self.trees[archive.path] = tree = self.work / f"{name}.tree"
            inspect.extract(archive.path, tree)
            self.checked.append(contents.check(name, archive, tree))
        return self.archives[name]

    def tar(self, archive: Archive, number: int) -> Path:
        """Make a tar of a slice's files as they are installed, by path, without anything that differs by chance."""
        described = inspect.describe(archive.path)
        path = self.work / f"{archive.path.name}-{number}.tar"
        names = [described["layers"][layer]["name"] for layer in described["slices"][number]["layers"]]
        roots = [self.trees[archive.path] / name for name in names]
        found = sorted((file.relative_to(root).as_posix(), file) for root in roots for file in root.rglob("*"))
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            for name, file in found:
                if file.is_file():
                    tar.add(file, name, filter=_plain)
        return path

    def show_checked(self) -> Table:
        """A row per archive."""
        return contents.show(self.checked)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


@dataclass(frozen=True)
class Ratio:
    """Bytes beside other bytes."""

    what: str
    size: int
    beside: str
    other: int
    goal: float | None = None
    """The ratio shall not be above."""

    @functools.cached_property
    def value(self) -> float:
        """How large in comparison."""
        return self.size / self.other

    def json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "ratio": self.value}


def show_ratios(title: str, ratios: Sequence[Ratio]) -> Table:
    """A row per ratio."""
    shown = table(title, "", "bytes", "beside", "bytes", "ratio", "goal")
    for one in ratios:
        goal = "" if one.goal is None else f"{one.goal:g}, {'met' if one.value <= one.goal else 'missed'}"
        shown.add_row(one.what, f"{one.size:,}", one.beside, f"{one.other:,}", f"{one.value:.3f}", goal)
    return shown
