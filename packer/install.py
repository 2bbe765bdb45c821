"""Make an archive ready in a store before anybody starts it: for images, and for machines that many users share."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer import native, signature, store
from packer.errors import PackError
from packer.process import clean_environment
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packer.progress import Progress

SYSTEM_STORE = Path("/var/lib/fatpar")
"""Every launch looks into it, and none makes it."""

_UNFIT = 126
"""The launcher's status where no slice fits."""


class UnfitError(PackError):
    """No slice of the archive runs on this machine."""


@dataclass(frozen=True)
class Installed:
    """What was made ready."""

    store: Path
    view: str
    slice: str
    layers: tuple[str, ...]
    """Digests of those that the view leads to."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Trust:
    """Whose signature an archive must have."""

    allowed_signers: Path
    identity: str | None


def install(path: Path, base: Path, trust: Trust | None, progress: Progress) -> Installed:
    """Unpack the slice that fits this machine, compile its modules, see to it that all of it is on disk.

    :param base: the store; made, for all to read, if need be.
    :raises PackError: if no slice fits, the store will not do, or nobody who is trusted has signed the archive.
    """
    base = base.absolute()
    progress.say(f"unpacking {path}")
    view, slice_name = prepare(path, base, trust)
    place = view.parent
    layers = store.view(place).layers
    progress.say("compiling")
    # compileall follows no links to directories; modules that are links have their bytecode in the view
    _compile(view, [view / "lib", *(base / "v1" / "layers" / digest / "tree" for digest in layers)])
    progress.say("writing to disk")
    _settle(base, place.name, layers)
    closed = _unreachable(view / "bin" / "python")
    warning = f"only its owner can run the interpreter that was found here: {closed} is closed to others"
    return Installed(base, place.name, slice_name, layers, (warning,) if closed else ())


@contextmanager
def _made(base: Path) -> Iterator[None]:
    """Make the store's directory, for all to read whatever the umask; it is gone again if the block raises."""
    missing = [one for one in (base, *base.parents) if not one.exists()]
    above = (missing[-1] if missing else base).parent.stat()
    sticky = above.st_mode & 0o1002 == 0o1002
    if missing and os.geteuid() == 0 and above.st_uid != 0 and not sticky:
        raise PackError(f"{base}: the directory it would be made in belongs to somebody else")
    try:
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            one.chmod(0o755)
    except OSError as error:
        raise PackError(f"{base}: {error.strerror}", hint="name another directory with --store") from error
    try:
        yield
    except PackError:
        for one in missing:
            with suppress(OSError):  # not empty
                one.rmdir()
        raise


def _refused(path: Path, what: str, hint: str, status: int) -> PackError:
    # a launch has to be told in another way
    kind = UnfitError if status == _UNFIT else PackError
    return kind(f"{path}: {what}", "name another directory with --store" if "FATPAR_STORE" in hint else hint)


def _unreachable(python: Path) -> Path | None:
    """What on the way to an interpreter only its owner may pass; None: all may execute it."""
    real = Path(os.path.realpath(python))
    for one in (*reversed(real.parents), real):
        if not one.stat().st_mode & 0o001:
            return one
    return None


def prepare(path: Path, base: Path, trust: Trust | None = None) -> tuple[Path, str]:
    """Let the launcher's code do what a first launch does: the view's tree, and the slice.

    :raises UnfitError: if no slice fits this machine.
    :raises PackError: as :func:`install` has it.
    """
    lib = native.lib()
    stores, plan, fault = (native.new(f"struct {kind} *") for kind in ("stores", "plan", "fault"))
    boot = native.new("char[64]")
    lib.bootid(boot)
    lib.storesonly(stores, os.fsencode(base))
    with reading(path) as opened:  # which tells what is wrong with it
        if trust:
            signature.checked(opened, path, trust.allowed_signers, trust.identity)
        archive = native.new("struct archive *")
        status = lib.archiveopen(archive, os.dup(opened.pointer.fd)) or lib.archiveindex(archive)
        try:
            if status:
                raise PackError(f"{path}: {native.text(lib.archivedescribe(archive, status))}")
            # the id is the digest of the index, and all that is unpacked is checked against that
            if bytes(archive.trailer.id).hex() != opened.id:
                raise PackError(f"{path} has changed while it was checked")
            with _made(base):
                if lib.prepare(archive, stores, boot, plan, fault):
                    raise _refused(path, native.text(fault.what), native.text(fault.hint), fault.status)
                lib.frontinstall(archive, stores)
            return Path(native.text(plan.view)), native.text(plan.slice)
        finally:
            lib.storesclose(stores)
            lib.archiveclose(archive)


def _compile(view: Path, trees: list[Path]) -> None:
    """Let the interpreter keep bytecode beside the layers, since their users may not; what does not compile is left."""
    python = view / "bin" / "python"
    environment = clean_environment()
    del environment["PYTHONDONTWRITEBYTECODE"]
    asked = [str(python), "-c", "import sys; print(sys.version_info[0])"]
    version = subprocess.run(asked, env=environment, capture_output=True, check=False)
    if version.stdout.strip() != b"3":  # 2.7 keeps bytecode beside the modules, in what must not be changed
        return
    subprocess.run(
        [str(python), "-I", "-m", "compileall", "-q", *map(str, trees)],
        env=environment, umask=0o022, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _settle(base: Path, view: str, layers: tuple[str, ...]) -> None:
    """Have it on disk, say so in its marks, and note that it was installed; a mark that gets lost costs a look."""
    note = base / "v1" / "views" / view / "installed"
    if not note.is_symlink():
        note.symlink_to("1")
    os.sync()
    for kind, names in (("layers", layers), ("views", (view,))):
        descriptor = os.open(base / "v1" / kind, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                native.lib().objectmark(descriptor, name.encode(), b"durable")
        finally:
            os.close(descriptor)
