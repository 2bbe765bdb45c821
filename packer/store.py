"""A store on this machine: what is in it, what of it is sound, and what can go. FORMAT.md, section 8, has its layout.

Which store is used, what is pruned, how an object is removed: the launcher's code decides and does it.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import files, native
from packer.errors import PackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packer.progress import Progress

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class View:
    """A slice of an archive, made ready to run."""

    name: str
    tools: tuple[str, ...]
    archive: str
    """The archive id."""
    slice: str
    layers: tuple[str, ...]
    """Digests; some may lie in another store."""
    used: float
    """Seconds since the epoch; noted twice a day at most."""
    installed: bool
    """By ``packer install``: not pruned by itself."""


@dataclass(frozen=True)
class Layer:
    """An unpacked wheel, interpreter or application."""

    digest: str
    name: str
    """As the views that lead to it call it; "" if none does."""
    size: int
    """Bytes on disk, with the bytecode beside it; a file that several layers share counts in the first only."""
    used: float
    views: tuple[str, ...]


@dataclass(frozen=True)
class Launcher:
    """What starts archives for several machines on this one."""

    digest: str
    size: int
    """Bytes on disk."""
    used: float
    """Seconds since the epoch; noted twice a day at most."""


@dataclass(frozen=True)
class Contents:
    """What is in one store."""

    base: Path
    views: tuple[View, ...]
    """The one used last first."""
    layers: tuple[Layer, ...]
    """The largest first."""
    launchers: tuple[Launcher, ...] = ()
    """The one used last first."""


@dataclass(frozen=True)
class Fault:
    """An object that is not as it was made."""

    kind: str
    """``layers``, ``views`` or ``launchers``: the directory it is in."""
    name: str
    why: str


@dataclass(frozen=True)
class Limits:
    """What a store is kept within by launches that unpack to it."""

    size: int
    """Bytes of its layers."""
    days: int
    """Since a view was last used."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be."""

    views: tuple[str, ...]
    layers: tuple[str, ...]
    launchers: tuple[str, ...]
    size: int


def size_of(word: str) -> int:
    """Read ``5G``, ``500M`` or a number of bytes.

    :raises UsageError: if it is none.
    """
    match = re.fullmatch(r"(\d+)([KMGT]?)i?B?", word)
    if match is None:
        raise UsageError(f"not a size: {word!r}: write a number with K, M, G or T behind it, as 5G")
    return min(int(match[1]) * _UNITS[match[2]], 2**63)


def bases(named: Path | None) -> list[Path]:
    """The stores that there are: the one that is named, else all that a launch by this user would look into.

    :raises PackError: if what is named is no store.
    """
    if named is not None:
        if not (named / "v1" / "views").is_dir():
            raise PackError(
                f"{named}: not a store", hint="a store is a directory with v1/views in it, as ~/.cache/fatpar"
            )
        return [named.absolute()]
    stores = native.new("struct stores *")
    native.lib().storescandidates(stores)
    try:
        found = [Path(native.text(stores.list[number].base)) for number in range(stores.count)]
    finally:
        native.lib().storesclose(stores)
    return [one for one in found if os.access(one / "v1" / "views", os.R_OK | os.X_OK)]


def is_ours(base: Path) -> bool:
    """Whether this user's launches may write to a store."""
    views = base / "v1" / "views"
    return views.stat().st_uid == os.geteuid() and os.access(views, os.W_OK)


def contents(base: Path) -> Contents:
    """Look at a store.

    :raises PackError: if it may not be read.
    """
    try:
        places = [path for path in sorted((base / "v1" / "views").iterdir()) if path.name[0] != "."]
        digests = sorted(path.name for path in (base / "v1" / "layers").iterdir() if path.name[0] != ".")
    except OSError as error:
        raise PackError(f"{error.filename}: {error.strerror}") from error
    leading: dict[str, list[str]] = {digest: [] for digest in digests}
    names: dict[str, str] = {}
    for place in places:
        for called in _about(place).get("layer", ()):
            digest, _, names[digest] = called.partition(" ")
            leading.setdefault(digest, []).append(place.name)
    seen: set[tuple[int, int]] = set()
    layers = []
    for digest in digests:
        path = base / "v1" / "layers" / digest
        used = path.stat().st_mtime
        layers.append(Layer(digest, names.get(digest, ""), _size(path, seen), used, tuple(leading[digest])))
    newest = sorted(map(view, places), key=lambda one: (-one.used, one.name))
    largest = sorted(layers, key=lambda layer: (-layer.size, layer.digest))
    return Contents(base, tuple(newest), tuple(largest), _launchers(base))


def _launcher_paths(base: Path) -> list[Path]:
    """Those of a store that has any: only archives for several machines leave some."""
    place = base / "v1" / "launchers"
    return sorted(path for path in place.iterdir() if re.fullmatch("[0-9a-f]{64}", path.name)) if place.is_dir() else []


def _launchers(base: Path) -> tuple[Launcher, ...]:
    found = []
    for path in _launcher_paths(base):
        status = path.lstat()
        found.append(Launcher(path.name, status.st_blocks * 512, status.st_atime))
    return tuple(sorted(found, key=lambda one: (-one.used, one.digest)))


def view(path: Path) -> View:
    """What one view says of itself."""
    said = _about(path)
    return View(
        path.name,
        tuple(said.get("tool", ())),
        "".join(said.get("archive", ())),
        "".join(said.get("slice", ())),
        tuple(value.partition(" ")[0] for value in said.get("layer", ())),
        path.stat().st_mtime,
        (path / "installed").is_symlink(),
    )


def _about(path: Path) -> dict[str, list[str]]:
    """The lines of a view's ``about``: word -> values."""
    said: dict[str, list[str]] = {}
    for line in files.small(path / "about").decode("utf-8", "surrogateescape").split("\n"):
        word, _, value = line.partition(" ")
        said.setdefault(word, []).append(value)
    return said


def _size(path: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes on disk of what is below a directory and was not seen yet."""
    total = 0
    for place, directories, names in os.walk(path):
        for name in (".", *names, *(one for one in directories if os.path.islink(f"{place}/{one}"))):
            status = os.lstat(f"{place}/{name}")
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


# Sound or not ---------------------------------------------------------------------------------------------------


def verify(base: Path, progress: Progress) -> list[Fault]:
    """Compute every layer's and every launcher's digest and follow every view's links."""
    faults = []
    for path in sorted((base / "v1" / "layers").iterdir()):
        if path.name[0] != ".":
            progress.say(f"reading layer {path.name[:16]}")
            why = _layer_fault(path)
            faults += [Fault("layers", path.name, why)] if why else []
    wrong = {fault.name for fault in faults}
    for path in sorted((base / "v1" / "views").iterdir()):
        if path.name[0] != ".":
            why = _view_fault(path, wrong)
            faults += [Fault("views", path.name, why)] if why else []
    for path in _launcher_paths(base):
        why = _launcher_fault(path)
        faults += [Fault("launchers", path.name, why)] if why else []
    return faults


def _launcher_fault(path: Path) -> str:
    fault = native.new("struct fault *")
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        failed = native.lib().launchersound(descriptor, path.name.encode(), fault)
    finally:
        os.close(descriptor)
    return native.text(fault.what) if failed else ""


def _layer_fault(path: Path) -> str:
    if not (path / "made").is_symlink():
        return "nothing says when it was made"
    digest, fault = native.new("uint8_t[32]"), native.new("struct fault *")
    try:
        descriptor = os.open(path / "tree", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return f"tree: {error.strerror}"
    try:
        if native.lib().treeread(descriptor, digest, fault):
            return native.text(fault.what)
    finally:
        os.close(descriptor)
    return "" if bytes(digest).hex() == path.name else "its files are not those that it was made of"


def _view_fault(path: Path, wrong: set[str]) -> str:
    if not (path / "made").is_symlink():
        return "nothing says when it was made"
    if not os.path.exists(path / "tree" / "bin" / "python"):
        return "its interpreter is gone"
    for place, directories, names in os.walk(path / "tree"):
        for name in (*directories, *names):
            if name == "__pycache__":  # leads to a place that may not be there yet
                continue
            one = os.path.join(place, name)
            if os.path.islink(one) and not os.path.exists(one):
                return f"{os.path.relpath(one, path / 'tree')} leads nowhere"
    damaged = sorted(wrong.intersection(view(path).layers))
    return f"it leads to layer {damaged[0][:16]}, which is damaged" if damaged else ""


def repair(base: Path, progress: Progress, *, bytecode: bool) -> list[Fault]:
    """Remove what :func:`verify` finds, and what killed launches left; the next launch makes anew what it needs.

    :param bytecode: remove all of it, too: nothing tells whether it is whole, and interpreters make it anew.
    :raises PackError: if something cannot be removed.
    """
    with _opened(base) as store:
        faults = verify(base, progress)
        for fault in reversed(faults):  # views before layers
            if _remove(store, fault):
                raise PackError(f"{base}: cannot remove {fault.kind}/{fault.name}")
        for kind in ("layers", "views"):
            for path in (base / "v1" / kind).iterdir() if bytecode else ():
                native.lib().objectforget(getattr(store, kind), path.name.encode())
        _sweep(store)
    return faults


def _remove(store: Any, fault: Fault) -> bool:
    """Remove an object: whether that failed."""
    if fault.kind != "launchers":
        return bool(native.lib().objectremove(getattr(store, fault.kind), fault.name.encode()))
    with _launchers_of(store) as directory:
        return bool(native.lib().launcherremove(directory, fault.name.encode()))


def _sweep(store: Any) -> None:
    """Remove what killed launches left, if it is old enough that nobody is at work on it."""
    native.lib().objectsweep(store.layers)
    native.lib().objectsweep(store.views)
    native.lib().planssweep(store.plans)
    with _launchers_of(store) as directory:
        native.lib().launcherssweep(directory)


@contextmanager
def _launchers_of(store: Any) -> Iterator[int]:
    """A descriptor of a store's launchers; negative: there are none."""
    descriptor = native.lib().launchersopen(store)
    try:
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


# What goes ------------------------------------------------------------------------------------------------------


def limits(base: Path) -> Limits:
    """What holds for a store."""
    with _opened(base, locked=False) as store:
        found = native.new("struct limits *")
        native.lib().limitsread(store, found)
        return Limits(found.size, found.days)


def set_limits(base: Path, wanted: Limits) -> None:
    """Let launches keep a store within these limits from now on."""
    with files.replacing(base / "v1" / "limits", exact=0o644, option="--store") as file:
        file.write(f"size {wanted.size}\ndays {wanted.days}\n".encode())


def prune(base: Path, wanted: Limits, *, installed: bool, dry: bool) -> Pruned:
    """Remove what is beyond limits and not in use.

    :param installed: what was installed, too.
    :param dry: remove nothing, only say what would be.
    :raises PackError: if the store cannot be written to, or nothing tells what processes use.
    """
    with _opened(base) as store:
        found, out = native.new("struct limits *"), native.new("struct pruned *")
        found.size, found.days = wanted.size, wanted.days
        failed = native.lib().prune(store, found, installed, dry, out)
        lines = [line.split() for line in native.own(out.list).splitlines()]
        if not dry:
            _sweep(store)
        if failed:
            raise PackError("what programs use cannot be seen: /proc is not mounted")
        named = {kind: tuple(name for one, name in lines if one == kind) for kind in ("view", "layer", "launcher")}
        return Pruned(named["view"], named["layer"], named["launcher"], out.size)


@contextmanager
def _opened(base: Path, *, locked: bool = True) -> Iterator[Any]:
    """A store that can be written to, to which no launch unpacks meanwhile."""
    stores = native.new("struct stores *")
    native.lib().storesonly(stores, os.fsencode(base.absolute()))
    native.lib().storesopen(stores, 0)
    store: Any = native.ffi().addressof(stores, "list", 0)
    try:
        if store.fd < 0 or (locked and not store.writable):
            raise PackError(f"{base}: {native.text(store.why)}")
        if locked:
            descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=store.fd)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield store
            finally:
                os.close(descriptor)
        else:
            yield store
    finally:
        native.lib().storesclose(stores)


def as_json(found: Sequence[Contents]) -> dict[str, Any]:
    """Everything, for programs; docs/json.md has the keys."""
    return {
        "version": 1,
        "stores": [
            {
                "store": str(one.base),
                "limits": vars(limits(one.base)) if is_ours(one.base) else None,
                "views": [vars(view) | {"tools": list(view.tools), "layers": list(view.layers)} for view in one.views],
                "layers": [vars(layer) | {"views": list(layer.views)} for layer in one.layers],
                "launchers": [vars(launcher) for launcher in one.launchers],
            }
            for one in found
        ],
    }
