"""Descriptions of hosts, read by the launcher's own probing code: from this machine, or inside a root filesystem.

An archive says what the launcher looks for, so one is written that asks for all there is to know. A child process
enters the root filesystem and probes there what the launcher would see if it ran in it; an image is unpacked by that
child too, so that nothing in it can lead outside. Kernel and CPU are no part of a root filesystem.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import json
import os
import re
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import archive, facts, hostimage, hosts, native
from packer.errors import PackError
from packer.model import Need, NeedKind, Platform, Slice, Target, Tool, ToolKind
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packer.reader import Archive

LIBRARIES = ("libc.so.6", "libcrypt.so.1")
"""Asked for besides what policies name: the second is what CPythons of 3.12 and before are linked with."""

_NOBODY = 65534
_NEW_USER_NAMESPACE = 0x10000000
_NEW_PID_NAMESPACE = 0x20000000
_NO_NEW_PRIVILEGES = 38

_PROGRAMS = (
    "/bin/sh", "/usr/bin/env", "/bin/busybox", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1",
)  # fmt: skip
"""Of which machine a root filesystem is shows in these."""

_RELEASE = ("/etc/os-release", "/usr/lib/os-release")


def of_machine(name: str, more: Sequence[str] = ()) -> str:
    """Describe the machine that this runs on, with the Pythons of its directories and of ``PATH``.

    :param more: libraries to ask for besides the usual ones.
    :return: the text of the description.
    :raises PackError: if it is none that can be described.
    """
    with asking(more) as asks:
        found = _in_child(lambda: _probe(asks, path=True))
    return _text(name, found, "this machine", {})


def of_root(
    name: str, place: Path, *, kernel: str = "", cpu: int = 0, more: Sequence[str] = (), bare: bool = False
) -> str:
    """Describe a host that has a root filesystem.

    :param place: its directory, a tar file of it, or an image as ``docker save`` and OCI layouts have it.
    :param kernel: of the host; else that of the modules there, else this machine's.
    :param cpu: level; else this machine's.
    :param more: libraries to ask for besides the usual ones.
    :param bare: it may have nothing that shows that it is a root filesystem, as an image from scratch.
    :raises PackError: if it cannot be read or entered, or is none that can be described.
    """
    with asking(more) as asks, contextlib.ExitStack() as stack:
        if place.is_dir():
            root, image = place.resolve(), None
        else:
            try:
                image = stack.enter_context(place.open("rb"))
            except OSError as error:
                raise PackError(f"cannot read {place}: {error.strerror}") from error
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="packer-")))
        _refuse_noexec(root, place)

        def work() -> dict[str, Any]:
            _enter(root, owned=image is not None)
            if image:
                hostimage.unpack(image)
            return _probe(asks)

        found = _in_child(work, what=str(place))
    if not (bare or found["libcs"] or found["is_root"]):
        raise PackError(
            f"cannot describe {place}: it seems to be no root filesystem: there is no C library, no program and no "
            "etc/os-release",
            hint="if only static programs are to run there, as in an image from scratch, say --static",
        )
    given = {"kernel": (kernel, "as given"), "cpu": (str(cpu or ""), "as given")}
    if not kernel and found["kernels"]:
        given["kernel"] = (max(found["kernels"], key=_release), "of its modules")
    return _text(name, found, str(place), given)


def _refuse_noexec(root: Path, place: Path) -> None:
    """Stop where no program counts as one, so that there would seem to be no Python."""
    if os.statvfs(root).f_flag & os.ST_NOEXEC:
        hint = "" if root == place.resolve() else "set TMPDIR to a directory that is not"
        raise PackError(f"cannot read {place}: {root} lies on a filesystem that is mounted noexec", hint)


def _release(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)[:4]]


# What is asked --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def asking(more: Iterable[str] = ()) -> Iterator[Archive]:
    """Open an archive that asks for every library, every module and every Python's exact version."""
    policies = {soname for policy in facts.policies() for soname in policy.libraries}
    modules = {name for python in facts.pythons().values() for name in facts.stdlib(python.abi.version)}
    needs = [
        *(Need(NeedKind.LIBRARY, soname) for soname in sorted({*LIBRARIES, *policies, *more})),
        *(Need(NeedKind.STDLIB, module) for module in sorted(modules)),
    ]
    platform = Platform("glibc", (2, 17), next(iter(facts.architectures())))
    slices = []
    for tag, python in facts.pythons().items():
        exactly = Need(NeedKind.PYTHON, tag, number=facts.version_hex(*python.abi.version, 0))
        slices.append(Slice(Target(python.abi, platform), (exactly, *needs), (), (), ()))
        needs = []  # one slice is enough
    with tempfile.TemporaryDirectory(prefix="packer-") as directory:
        path, front = Path(directory) / "asks", Path(directory) / "front"
        front.write_bytes(b"#!/bin/sh\nexit 125\n")
        tool = Tool("asks", ToolKind.PYTHON, "asks")
        archive.write(path, front, slices, [tool], {"version": 1}, lambda _: None)
        with reading(path) as opened:
            yield opened


# The child ------------------------------------------------------------------------------------------------------


def _in_child(work: Callable[[], dict[str, Any]], what: str = "") -> dict[str, Any]:
    """Run something in a child process that leads a session, which ends with it.

    Where root may have a namespace of processes, nothing that it starts outlives it; else only a program can that makes
    itself another session.
    """
    reading_end, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            _own_processes()
            said = json.dumps(_said(work)).encode()
            with os.fdopen(writing_end, "wb") as pipe:
                pipe.write(said)
        os._exit(0)
    os.close(writing_end)
    try:
        with os.fdopen(reading_end, "rb") as pipe:
            text = pipe.read()
    finally:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    answer: dict[str, Any] = json.loads(text or b'{"error": "the child process died", "hint": ""}')
    if "error" in answer:
        raise PackError(f"cannot read {what}: {answer['error']}" if what else answer["error"], answer["hint"])
    return answer


def _own_processes() -> None:
    """Go on as the first process of a namespace, with which the kernel ends all others; this one waits for it."""
    if ctypes.CDLL(None).unshare(_NEW_PID_NAMESPACE) != 0:
        return  # not root, or root without the right to
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        os._exit(0)


def _said(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except PackError as error:
        return {"error": str(error), "hint": error.hint}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return {"error": f"{where}{error.strerror or error}", "hint": ""}
    except MemoryError:
        return {"error": "out of memory", "hint": ""}


def _enter(root: Path, *, owned: bool) -> None:
    """Make a directory the root of this process, which is then nobody's; programs in there can gain nothing.

    :param owned: the directory is empty and this process will fill it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and owned:
        os.chown(root, _NOBODY, _NOBODY)
    try:
        os.chroot(root)
        real = True
    except PermissionError:
        _own_namespace(libc)
        try:
            os.chroot(root)
        except PermissionError:
            raise _no_way() from None
        real = False
    os.chdir("/")
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if real:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    os.listdir("/")  # where nobody may look there would seem to be nothing


def _own_namespace(libc: ctypes.CDLL) -> None:
    """Become root of a user namespace, which is nobody but oneself outside of it."""
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_USER_NAMESPACE) != 0:
        raise _no_way()
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError:
        raise _no_way() from None


def _no_way() -> PackError:
    return PackError(
        "only root may enter a root filesystem here, and this machine gives users no namespace of their own",
        hint="run it as root, or see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and "
        "kernel.apparmor_restrict_unprivileged_userns",
    )


def _probe(asks: Archive, *, path: bool = False) -> dict[str, Any]:
    """Let the launcher's code look, and give what it found as JSON values.

    :param path: on ``PATH`` too.
    """
    lib = native.lib()
    found: Any = native.new("struct host *")
    lib.hostprobe(found, asks.pointer)
    own = found.python_count
    if path:
        lib.hostprobepath(found, asks.pointer)
    return {
        "machine": found.machine, "release": native.text(found.release), "cpu": found.cpu, "foreign": _foreign(found),
        "libcs": [_libc(found.libcs[index]) for index in range(found.libc_count)],
        "pythons": [_python(found.pythons[index], on_path=index >= own) for index in range(found.python_count)],
        "title": _pretty_name(), "kernels": _kernels(),
        "is_root": any(map(os.path.lexists, (*_PROGRAMS, *_RELEASE, "/etc/passwd"))),
    }  # fmt: skip


def _libc(one: Any) -> dict[str, Any]:
    nodes: dict[str, list[str]] = {native.text(one.libraries[index]): [] for index in range(one.library_count)}
    for index in range(one.node_count):
        nodes[native.text(one.nodes[index].library)].append(native.text(one.nodes[index].name))
    return {"family": one.family, "version": one.version, "path": native.text(one.path), "nodes": nodes}


def _python(one: Any, *, on_path: bool) -> dict[str, Any]:
    return {
        "path": native.text(one.path), "abi": native.text(one.abi), "version": one.version, "libc": one.libc,
        "lacks": [native.text(one.lacks[index]) for index in range(one.lack_count)], "on_path": on_path,
    }  # fmt: skip


def _foreign(found: Any) -> int:
    """Give the machine that programs are for, if it is another one; else 0."""
    lib, elf = native.lib(), native.new("struct elf *")
    for path in _PROGRAMS:
        if lib.elfopen(elf, path.encode()) == lib.ELF_OK:
            machine: int = elf.machine
            lib.elfclose(elf)
            return machine if machine != found.machine else 0
    return 0


def _pretty_name() -> str:
    for place in _RELEASE:
        with contextlib.suppress(OSError, ValueError):
            said = re.search(r'^PRETTY_NAME="?(.*?)"?$', Path(place).read_text("utf-8"), re.MULTILINE)
            return said[1] if said else ""
    return ""


def _kernels() -> list[str]:
    """Give the releases of the kernels that are installed."""
    found = []
    for place, prefix in (("/lib/modules", ""), ("/usr/lib/modules", ""), ("/boot", "vmlinuz-")):
        with contextlib.suppress(OSError):
            names = [name.removeprefix(prefix) for name in os.listdir(place) if name.startswith(prefix)]
            found += [name for name in names if re.match(r"\d+\.\d+", name)]
    return found


# The description ------------------------------------------------------------------------------------------------


def _text(name: str, found: Mapping[str, Any], origin: str, given: Mapping[str, tuple[str, str]]) -> str:
    """Write what was found as a description.

    :param given: what is not this machine's -> the value, and where it is from.
    """
    machines = {number: machine for machine, number in facts.architectures().items()}
    machine = machines[found["machine"]]
    if found["foreign"]:
        other = machines.get(found["foreign"], "another machine")
        raise PackError(f"cannot read {origin}: it is for {other}, and this machine's launcher reads {machine} only")
    here = "of the machine that read it" if given else ""
    kernel, kernel_from = given["kernel"] if given and given["kernel"][0] else (found["release"], here)
    cpu, cpu_from = given["cpu"] if given and given["cpu"][0] else (str(found["cpu"]), here)
    assumed = [key for key, origin_of in (("cpu", cpu_from), ("kernel", kernel_from)) if here and origin_of == here]
    lines = [
        f"source = {_quoted(f'packer hosts add, from {origin}')}",
        f"checked = {dt.date.today()}",
        *([f"assumed = [{', '.join(map(_quoted, assumed))}]"] if assumed else []),
        "",
        f"title = {_quoted(found['title'] or name)}",
        f"machine = {_quoted(machine)}",
        f"cpu = {cpu}{_remark(cpu_from)}",
        f"kernel = {_quoted(kernel)}{_remark(kernel_from)}",
        *_libc_lines(found, machine),
        *_python_lines(found),
    ]
    text = "\n".join(lines) + "\n"
    try:
        hosts.read(f"{name}.toml", text)
    except ValueError as error:
        raise PackError(f"cannot describe {origin}: {error}") from error
    return text


def _libc_lines(found: Mapping[str, Any], machine: str) -> Iterator[str]:
    if not found["libcs"]:
        yield 'libc = "none"'
        return
    libc = found["libcs"][0]
    family = "glibc" if libc["family"] == native.lib().LIBC_GLIBC else "musl"
    version = (libc["version"] >> 16, libc["version"] >> 8 & 255)
    if version == (0, 0):
        raise PackError(f"cannot tell the release of {libc['path']}")
    yield f'libc = "{family} {version[0]}.{version[1]}"{_remark(libc["path"])}'
    libraries = dict(_libraries(libc["nodes"], family, version, machine))
    if libraries:
        yield ""
        yield "[libraries]"
        yield from (f"{_quoted(soname)} = {_quoted(' '.join(nodes))}" for soname, nodes in sorted(libraries.items()))


def _libraries(
    found: Mapping[str, Sequence[str]], family: str, version: facts.Version, machine: str
) -> Iterator[tuple[str, list[str]]]:
    """Give the newest nodes of each library; of the C library, those that others of its release lack."""
    plain = hosts.bare(machine, family, version)
    for soname, nodes in found.items():
        if not facts.LIBC_PARTS[family].fullmatch(soname):
            yield soname, newest(nodes)
        elif soname == "libc.so.6":
            more = [node for node in nodes if node != "GLIBC_PRIVATE" and not hosts.offers(plain, soname, node)]
            if more:
                yield soname, more


def newest(nodes: Iterable[str]) -> list[str]:
    """Give the newest of each kind of node, and all that have no number."""
    kept: dict[str, str] = {}
    for node in nodes:
        kind = node.rpartition("_")[0] if facts.NUMBER.fullmatch(node) else node
        if kind not in kept or facts.node_number(node) > facts.node_number(kept[kind]):
            kept[kind] = node
    return [kept[kind] for kind in sorted(kept) if kept[kind] != "GLIBC_PRIVATE"]


def _python_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for one in found["pythons"]:
        path, abi, number = one["path"], one["abi"], one["version"]
        yield ""
        if abi not in facts.pythons() or one["libc"] != 0:
            why = "of another C library" if one["libc"] != 0 else "no slice can be for it"
            yield f"# left out: {path!a}, {abi}: {why}"
            continue
        python = facts.pythons()[abi].abi
        lacks = [module for module in one["lacks"] if module in facts.stdlib(python.version)]
        yield "[[python]]" + _remark("on PATH" if one["on_path"] else "")
        yield f"path = {_quoted(path)}"
        yield f'abi = "{abi}"'
        yield f'version = "{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}"'
        yield f"lacks = [{', '.join(map(_quoted, lacks))}]"


def _remark(text: str) -> str:
    return f"  # {text if text.isprintable() else ascii(text)}" if text else ""


def _quoted(text: str) -> str:
    """Give a TOML string; names that are no text are written out."""
    shown = text.encode("utf-8", "backslashreplace").decode().replace("\x7f", "\ufffd")
    return json.dumps(shown, ensure_ascii=False)
