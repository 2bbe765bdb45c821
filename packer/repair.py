"""What a build left -> a wheel for its slice, in the manner of auditwheel.

Libraries that hosts need not have come along under names of their own; paths of this machine are taken out; what is
left is measured, and the wheel's tag says the oldest policy that it keeps to.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, parse_wheel_filename

from packer import facts
from packer.errors import PackError
from packer.files import sha256
from packer.model import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packer.claims import Excess
    from packer.model import Target
    from packer.needs import Judged
    from packer.toolchain import Compiler

_LIBPYTHON = re.compile(r"libpython\d.*\.so.*")

_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Made:
    """How a wheel came to be."""

    source: str
    """File name of the source distribution or project."""
    target: Target
    builder: Platform
    """Of the interpreter, whose suffix its modules have; its version does not count."""
    python: Callable[[], Iterable[Path]]
    """Gives the files that define Python's own symbols."""
    compiler: Compiler
    accept: frozenset[str]
    """Distributions that may need more than the policy of their slice."""
    find: Callable[[str, Path], Path | None]
    """Finds a shared library by its SONAME, for a file."""


def repair(wheel: Path, work: Path, made: Made) -> Path:
    """Write a wheel anew, so that its bytes depend on its files alone: not on times, masks or who was first.

    :return: where it is now: with native code, it is called by what it is for.
    :raises PackError: its native code is not for the target.
    """
    tree = work / "tree"
    try:
        with zipfile.ZipFile(wheel) as archive:
            items = [item for item in archive.infolist() if not item.is_dir()]
            native = native_files(archive)
            if not native:
                return _settled(wheel, {item.filename: _mode(item) for item in items}, archive.read)
            modes = {item.filename: _mode(item) for item in items}
            for item in items:
                archive.extract(item, tree)
    except (zipfile.BadZipFile, zlib.error):
        return wheel  # whoever installs it says what is wrong
    if made.compiler.refusal:
        raise PackError(
            f"{made.source} has native code ({native[0]}): {made.compiler.refusal}", hint=made.compiler.hint
        )
    return _Repair(wheel, tree, made, modes).run(native)


def native_files(wheel: zipfile.ZipFile) -> list[str]:
    """Give the members of a wheel that are native code."""
    return [one.filename for one in wheel.infolist() if not one.is_dir() and wheel.open(one).read(4) == b"\x7fELF"]


def settle(wheel: Path) -> Path:
    """Write a wheel anew and change nothing of its files."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return _settled(
                wheel, {one.filename: _mode(one) for one in archive.infolist() if not one.is_dir()}, archive.read
            )
    except (zipfile.BadZipFile, zlib.error):
        return wheel


def _mode(item: zipfile.ZipInfo) -> int:
    return 0o755 if item.external_attr >> 16 & 0o100 else 0o644


def _settled(wheel: Path, modes: Mapping[str, int], read: Callable[[str], bytes]) -> Path:
    settled = wheel.parent.with_name("settled")
    with zipfile.ZipFile(settled, "w") as new:
        for name in sorted(modes):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = (stat.S_IFREG | modes[name]) << 16
            new.writestr(entry, read(name))
    return settled.replace(wheel)


@dataclass
class _Repair:
    """One wheel with native code, unpacked."""

    wheel: Path
    tree: Path
    made: Made
    modes: dict[str, int]
    grafted: dict[str, Path] = field(default_factory=dict)
    """SONAME -> where the library was."""

    def run(self, native: Sequence[str]) -> Path:
        self._refuse_other_machines(native)
        native = [self._named_for_target(path) for path in native]
        self._graft(native)
        judged = self._measure()
        self._refuse_unknown_symbols(judged)
        platform = self._policy(judged)
        tags = parse_wheel_filename(self.wheel.name)[3]
        tag = platform.tag if platform else f"linux_{self.made.target.platform.arch}"
        first = self.wheel.name.removesuffix(".whl").rpartition("-")[0]
        self._write_tag({f"{one.interpreter}-{one.abi}-{tag}" for one in tags})
        renamed = self.wheel.with_name(f"{first}-{tag}.whl")
        self._write_record()
        _settled(self.wheel, self.modes, lambda path: (self.tree / path).read_bytes())
        return self.wheel.rename(renamed)

    def _refuse_other_machines(self, native: Iterable[str]) -> None:
        platform = self.made.target.platform
        wanted = facts.architectures()[platform.arch]
        for path in native:
            found = int.from_bytes((self.tree / path).read_bytes()[18:20], "little")
            if found != wanted:
                names = {number: name for name, number in facts.architectures().items()}
                raise PackError(
                    f"{self.made.source}: {path} is for {names.get(found, f'ELF machine {found}')}, and "
                    f"{self.made.target.name} is not: its build does not take the compiler that CC names",
                    hint="--build-in IMAGE, on such a machine or with an emulator",
                )

    def _named_for_target(self, path: str) -> str:
        """Give an extension module the suffix by which the target's Python finds it."""
        python, platform = self.made.target.python, self.made.target.platform
        ours, wanted = (facts.extension_suffixes(python, one)[0] for one in (self.made.builder, platform))
        if ours == wanted or not path.endswith(ours):
            return path
        renamed = path.removesuffix(ours) + wanted
        (self.tree / path).rename(self.tree / renamed)
        self.modes[renamed] = self.modes.pop(path)
        return renamed

    def _graft(self, native: Sequence[str]) -> None:
        """Bring the libraries that hosts need not have, and leave no path of this machine."""
        from packer import graft  # loads lief, which takes longer than the rest of the packer

        libraries = f"{self.wheel.name.partition('-')[0]}.libs"
        changes = {path: self._outside(self.tree / path, native) for path in native}
        waiting = list(self.grafted.values())
        while waiting:
            before, library = set(self.grafted), waiting.pop()
            self._outside(library, native)
            waiting += [self.grafted[soname] for soname in self.grafted.keys() - before]
        names = {soname: _hashed(soname, path) for soname, path in self.grafted.items()}
        for path, outside in changes.items():
            file = self.tree / path
            said = graft.said_path(file)
            words = [word for word in said if word.startswith(("$ORIGIN", "${ORIGIN}"))]
            if outside:
                installed = re.sub(r"^[^/]+\.data/(plat|pure)lib/", "", path)
                words.append(f"$ORIGIN/{os.path.relpath(libraries, os.path.dirname(installed) or '.')}")
            dropped = frozenset(name for name in graft.needed(file) if _LIBPYTHON.fullmatch(name))
            if outside or words != said or dropped:
                change = graft.Change(":".join(words), {one: names[one] for one in outside}, dropped=dropped)
                graft.graft(file, file, change)
        for soname, origin in self.grafted.items():
            path = f"{libraries}/{names[soname]}"
            (self.tree / libraries).mkdir(exist_ok=True)
            graft.copy(origin, self.tree / path)
            needed = {other: names[other] for other in graft.needed(origin) if other in names}
            graft.graft(self.tree / path, self.tree / path, graft.Change("$ORIGIN", needed, names[soname]))
            self.modes[path] = 0o755

    def _outside(self, file: Path, native: Sequence[str]) -> list[str]:
        """Find the libraries of a file that neither its wheel nor a policy has."""
        from packer import graft

        platform = self.made.target.platform
        promised = facts.policy_of(platform).libraries
        own = {path.rpartition("/")[2] for path in native}
        outside = []
        for soname in graft.needed(file):
            if soname in promised or soname in own or facts.LIBC_PARTS[platform.libc].fullmatch(soname):
                continue
            if _LIBPYTHON.fullmatch(soname):
                continue
            found = self.grafted.get(soname) or self.made.find(soname, file)
            if not found:
                raise PackError(
                    f"{self.made.source}: {self._said(file)} needs {soname}, which is in no directory of libraries",
                    hint="name its directory to the build: LDFLAGS=-L/opt/lib",
                )
            self.grafted[soname] = found
            outside.append(soname)
        return outside

    def _said(self, file: Path) -> str:
        return str(file.relative_to(self.tree)) if file.is_relative_to(self.tree) else str(file)

    def _measure(self) -> tuple[Judged, ...]:
        from packer import elfread, needs

        files = []
        for path in sorted(self.modes):
            source = self.tree / path
            if source.read_bytes()[:4] == b"\x7fELF":
                files.append(elfread.read(self.wheel.name.removesuffix(".whl"), path, source, sha256(source)))
        return needs.judge([file for file in files if file], self.made.target)

    def _policy(self, judged: Sequence[Judged]) -> Platform | None:
        """Give the oldest policy that the files keep to.

        :raises PackError: it is newer than the slice's.
        """
        from packer import claims
        from packer.needs import Use

        platform = self.made.target.platform
        checked = [one for one in judged if one.use is not Use.LEFT_OUT]

        def excess(claim: Platform) -> list[Excess]:
            return [found for one in checked for found in claims.beyond(one, platform, claim)]

        oldest = facts.oldest_platform(platform.libc, platform.arch).version
        versions = [one.version for one in facts.policies() if one.libc == platform.libc and one.version >= oldest]
        if platform.libc == "musl":
            versions = [platform.version]  # it has no versions of symbols: what it is compiled with counts
        kept = [Platform(platform.libc, version, platform.arch) for version in versions]
        found = next((one for one in kept if not excess(one)), None)
        distribution = canonicalize_name(self.wheel.name.partition("-")[0])
        if distribution not in self.made.accept and (found is None or found.version > platform.version):
            self._refuse(excess(platform), found, distribution)
        return found

    def _refuse(self, excess: Sequence[Excess], found: Platform | None, distribution: str) -> None:
        lines = []
        for one in excess:
            symbols = self._symbols(one.path, one.what.partition(" ")[0])
            lines.append(f"{one.path} needs {one.what}{f' ({symbols})' if symbols else ''}")
        policy = self.made.target.platform.policy
        zig = "" if self.made.compiler.zig else "--cc zig compiles for that C library; "
        tag = f"; --abis {found.policy} is for hosts that have it" if found else ""
        raise PackError(
            f"{self.made.source}: {'; '.join(lines[:3])}{f' and {len(lines) - 3} more' if len(lines) > 3 else ''}: "
            f"more than {policy} has",
            hint=f"{zig}--accept {distribution} packs it, and asks every host for what it needs{tag}",
        )

    def _symbols(self, path: str, node: str) -> str:
        from packer import graft

        names = sorted(symbol for symbol, its in graft.asked(self.tree / path) if its == node)
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def _refuse_unknown_symbols(self, judged: Sequence[Judged]) -> None:
        """Refuse a symbol that nobody defines: linking lets it pass, since Python's are not there either.

        Only where all that is loaded beside the module is known to the last symbol: of the target's C library zig
        gives each symbol that it has a node.
        """
        from packer import graft
        from packer.needs import Use

        if not self.made.compiler.zig or self.made.target.platform.libc != "glibc":
            return
        known: set[str] = set()
        for path in self.made.python():
            known |= graft.given(path)
        for one in judged:
            known |= graft.given(self.tree / one.file.path)
        for one in judged:
            if one.use is not Use.LOADED or one.libraries:
                continue
            missing = sorted(
                name for name, node in graft.asked(self.tree / one.file.path) if not node and name not in known
            )
            if missing:
                raise PackError(
                    f"{self.made.source}: {one.file.path} needs {', '.join(missing[:3])}, which neither Python nor "
                    f"{self.made.target.platform.policy}'s C library defines",
                    hint="newer C libraries may: name a newer policy in --abis, as manylinux_2_28, for such hosts",
                )

    def _write_tag(self, tags: set[str]) -> None:
        (path,) = [name for name in self.modes if re.fullmatch(r"[^/]+\.dist-info/WHEEL", name)]
        lines = (self.tree / path).read_text("utf-8").splitlines()
        kept = [line for line in lines if line.strip() and not line.startswith(("Tag:", "Root-Is-Purelib:"))]
        kept += ["Root-Is-Purelib: false", *(f"Tag: {tag}" for tag in sorted(tags))]
        (self.tree / path).write_text("\n".join(kept) + "\n", "utf-8")

    def _write_record(self) -> None:
        (path,) = [name for name in self.modes if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
        rows = [self._row(name) for name in sorted(self.modes) if name != path]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (path, "", "")])
        (self.tree / path).write_text(text.getvalue(), "utf-8")

    def _row(self, name: str) -> tuple[str, str, str]:
        content = (self.tree / name).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        return name, f"sha256={digest}", str(len(content))


def _hashed(soname: str, path: Path) -> str:
    """Rename a library as auditwheel does, so that no other of its name is taken for it in the same process."""
    stem, dot, rest = soname.partition(".so")
    return f"{stem}-{sha256(path).hex()[:8]}{dot}{rest}"


def finder(platform: Platform, places: Iterable[Path] = ()) -> Callable[[str, Path], Path | None]:
    """Find libraries as this machine's loader would, where compilers were told to look first."""
    named = [Path(word[2:]) for word in os.environ.get("LDFLAGS", "").split() if word.startswith("-L") and word[2:]]
    named += [Path(word) for word in os.environ.get("LD_LIBRARY_PATH", "").split(":") if word]
    system = [Path(directory) for directory in ("/usr/local/lib", "/lib", "/usr/lib", "/lib64", "/usr/lib64")]
    number = facts.architectures()[platform.arch].to_bytes(2, "little")

    def find(soname: str, user: Path) -> Path | None:
        from packer import graft

        own = [directory for directory, _ in graft.run_path(user)]
        for directory in [*places, *own, *named, *(each / f"{platform.arch}-linux-gnu" for each in system), *system]:
            path = directory / soname
            if path.is_file() and path.read_bytes()[18:20] == number:
                return path.resolve()
        return None

    return find


def python_files(executable: Path) -> Iterator[Path]:
    """Give the files that define Python's symbols: the executable and, if it has one, its libpython."""
    from packer import graft

    yield executable
    for soname in graft.needed(executable):
        if _LIBPYTHON.fullmatch(soname):
            for directory in (*(one for one, _ in graft.run_path(executable)), executable.parent.parent / "lib"):
                if (directory / soname).is_file():
                    yield directory / soname
                    break
