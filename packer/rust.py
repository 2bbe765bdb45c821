"""Projects in Rust that maturin builds: the command that makes a wheel for a target, and what is missing for it.

One wheel of a cffi project serves every Python, and so does one of a program (``bin``); one of pyo3 serves the Python
that it was built for, or with ``abi3`` all from a version on. maturin writes the wheel's tags.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import itertools
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.metadata import parse_email
from packaging.specifiers import SpecifierSet

from packer import process
from packer.errors import PackError
from packer.files import sweep_unused

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer.model import Platform, Target

PYTHON2 = "2.7.18"
"""The last of its kind."""


@dataclass(frozen=True)
class Command:
    """How a wheel is made."""

    words: tuple[str, ...]
    variables: dict[str, str]
    """To add to the environment."""


def is_project(source: Path) -> bool:
    """Tell whether maturin builds a directory; what cannot be read is left to whoever builds it to complain of."""
    system = _read(source / "pyproject.toml").get("build-system", {})
    return bool(system.get("build-backend") == "maturin")


def needs_interpreter(project: Path, target: Target) -> bool:
    """Tell whether compiling takes an interpreter of the target's ABI.

    What has nothing of one version of Python in it does not; nor does what is compiled for another machine, whose
    Pythons maturin knows.
    """
    return not _is_foreign(target.platform) and not _serves_several(project)


def _serves_several(project: Path) -> bool:
    """Tell whether a project's wheel is for more than one version of Python."""
    settings = _read(project / "pyproject.toml").get("tool", {}).get("maturin", {})
    crates = _read(project / "Cargo.toml").get("dependencies", {})
    bindings = [crates[name] for name in ("pyo3", "pyo3-ffi") if name in crates]
    if settings.get("bindings") in ("cffi", "bin") or (settings.get("bindings") is None and not bindings):
        return True
    features = [one for crate in bindings if isinstance(crate, dict) for one in crate.get("features", ())]
    features += [one.rpartition("/")[2] for one in settings.get("features", ())]
    return any(str(feature).startswith("abi3") for feature in features)


def command(project: Path, target: Target, interpreter: Path, wheels: Path, cache: Path, cc: str = "") -> Command:
    """Give the command that makes the wheel for a target.

    What this machine's compiler links because the user wants it is not judged by maturin: its wheel is measured later.

    :param interpreter: of the target's ABI, or any where :func:`needs_interpreter` says so.
    :param wheels: the directory to put it into.
    :param cache: what cargo compiles is kept here, for the next time; not what was long not used.
    :param cc: ``zig``, ``host`` or nothing: what the target needs.
    :raises PackError: if something is not installed that it takes; says what to install.
    """
    for tool in ("cargo", "rustc"):
        if shutil.which(tool) is None:
            raise PackError(
                f"building {project.name} takes Rust, and there is no {tool} on PATH",
                hint="install Rust, from https://rustup.rs or as a package: apt-get install cargo",
            )
    path = _path()
    maturin = shutil.which("maturin", path=path)
    if maturin is None:
        raise PackError(
            f"building {project.name} takes maturin, which is not installed",
            hint="it comes with pip install 'fatpar[rust]'",
        )
    words = [
        *(maturin, "build", "--release", "--out", str(wheels)),
        *(
            "--manifest-path",
            str(project / "Cargo.toml"),
            "--compatibility",
            "linux" if cc == "host" else target.platform.policy,
        ),
        *("--interpreter", _interpreter(project, target, interpreter)),
    ]
    if (project / "Cargo.lock").exists():
        words.append("--locked")
    if _is_foreign(target.platform):
        words += ["--target", _triple(target.platform)]
        _require_library(project, _triple(target.platform))
    if cc == "zig" or (not cc and _takes_zig(target.platform)):
        words.append("--zig")
        _require_zig(project, target.platform)
    kept = cache / "cargo" / hashlib.sha256(os.fsencode(project.resolve())).hexdigest()[:16]
    kept.mkdir(parents=True, exist_ok=True)
    os.utime(kept)
    sweep_unused(cache / "cargo")
    # on PATH, since maturin asks the python3 there for zig
    return Command(tuple(words), {"CARGO_TARGET_DIR": str(kept), "PATH": path})


def versions() -> str:
    """Tell which Rust and which maturin are here."""
    said = []
    for words in (["rustc", "-vV"], ["maturin", "--version"]):
        found = shutil.which(words[0], path=_path()) or words[0]
        try:
            done = subprocess.run([found, *words[1:]], capture_output=True, text=True, timeout=60, check=False)
            said.append(done.stdout)
        except (OSError, subprocess.SubprocessError):
            said.append("none")
    return "".join(said)


def _path() -> str:
    """Give where commands are: those that are installed with us come first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _interpreter(project: Path, target: Target, own: Path) -> str:
    if _is_foreign(target.platform) and not _serves_several(project):
        return target.python.directory
    return str(own)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _is_foreign(wanted: Platform) -> bool:
    return wanted.arch != platform.machine() or wanted.libc == "musl" or _own_glibc() == (0, 0)


def _own_glibc() -> tuple[int, int]:
    """This machine's glibc; (0, 0) if it has another C library."""
    name, version = platform.libc_ver()
    if name != "glibc":
        return 0, 0
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _triple(wanted: Platform) -> str:
    return f"{wanted.arch}-unknown-linux-{'gnu' if wanted.libc == 'glibc' else 'musl'}"


def _takes_zig(wanted: Platform) -> bool:
    """Tell whether this machine's linker would make something that is too new, or for another machine."""
    return _is_foreign(wanted) or _own_glibc() > wanted.version


def _require_library(project: Path, triple: str) -> None:
    """See that Rust can compile for another machine."""
    done = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", triple], capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and any(Path(done.stdout.strip()).glob("libstd-*")):
        return
    debian = {"aarch64-unknown-linux-gnu": "arm64", "x86_64-unknown-linux-gnu": "amd64"}.get(triple)
    raise PackError(
        f"building {project.name} takes Rust's standard library for {triple}, which is not installed",
        hint=f"rustup target add {triple}" + (f", or Debian's package libstd-rust-dev:{debian}" if debian else ""),
    )


def _require_zig(project: Path, wanted: Platform) -> None:
    if importlib.util.find_spec("ziglang") is not None or shutil.which("zig"):
        return
    glibc = ".".join(map(str, _own_glibc()))
    why = (
        f"{wanted.tag} is for another machine or C library"
        if _is_foreign(wanted)
        else f"this machine's glibc is {glibc}, and {wanted.policy} promises {wanted.version[0]}.{wanted.version[1]}"
    )
    raise PackError(
        f"building {project.name} takes a linker for {wanted.tag}: {why}", hint="zig is one: pip install ziglang"
    )


def failure(lines: Sequence[str], status: int) -> tuple[str, list[str]]:
    """Give the line that says why a build failed, and what it wrote without maturin's report of a compiler."""
    said = [line for line in lines if line.strip()]
    compiled = list(itertools.takewhile(lambda line: not line.startswith("\N{COLLISION SYMBOL}"), said))
    if why := process.last_error(compiled):
        return why, compiled
    return (said[-1].strip() if said else f"maturin ended with {status}"), said


def for_python2(wheel: Path) -> Path:
    """Let a wheel that serves every Python 3 serve 2.7, too, if its project says that it does.

    maturin tags it ``py3``, and knows nothing of 2.7; what it puts in, bindings of cffi, runs there. Whoever asks for
    the wheel first, it is the same.

    :return: the wheel, under the name of its new tag, or as it was.
    """
    name = wheel.name.replace("-py3-none-", "-py2.py3-none-")
    if name == wheel.name:
        return wheel
    with zipfile.ZipFile(wheel) as old:
        files = {item: old.read(item) for item in old.infolist()}
    contents = {item.filename: content for item, content in files.items()}
    info = next(path.rpartition("/")[0] for path in contents if path.endswith(".dist-info/WHEEL"))
    wanted = parse_email(contents[f"{info}/METADATA"])[0].get("requires_python", "")
    if not wanted or not SpecifierSet(wanted).contains(PYTHON2):
        return wheel
    tags = b"".join(
        line + (line.replace(b"Tag: py3-", b"Tag: py2-") if line.startswith(b"Tag: py3-") else b"")
        for line in contents[f"{info}/WHEEL"].splitlines(keepends=True)
    )
    contents[f"{info}/RECORD"] = _recorded(contents[f"{info}/RECORD"], f"{info}/WHEEL", tags)
    contents[f"{info}/WHEEL"] = tags
    made = wheel.with_name(name)
    with zipfile.ZipFile(made, "w") as new:
        for item in files:
            new.writestr(item, contents[item.filename])
    wheel.unlink()
    return made


def _recorded(record: bytes, path: str, content: bytes) -> bytes:
    """RECORD with another content of one file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    lines = record.decode("utf-8").splitlines()
    return "".join(
        f"{path},sha256={digest},{len(content)}\n" if line.startswith(f"{path},") else f"{line}\n" for line in lines
    ).encode()
