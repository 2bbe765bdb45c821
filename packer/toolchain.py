"""What compiles native code for a target: this machine's compiler, zig for an older glibc or another machine, an image.

zig has the headers of every glibc since 2.17's time and stubs of its libraries, so that what it links needs no newer
symbol than the slice's oldest host has, and what is newer is not declared at all.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer.errors import PackError
from packer.model import Platform

if TYPE_CHECKING:
    from packer.model import Target

_INSTALL = "python -m pip install ziglang, where the packer is installed"

_ZIGS_MUSL = (1, 2)

_PROBE_SECONDS = 60

_COMPILER = r"""#!/bin/sh
# zig, asked for one machine and C library, without the words that it does not know
case $PWD in
*/pip-install-*) target=@NATIVE@ ;; # something that the build itself needs, and runs here
*) target="@TARGET@" ;;
esac
case " $* " in
*" -dM "*) target=${target%%.*} ;; # zig lets clang answer, which knows of no versions
esac
for word do
	shift
	case $word in
	-Wl,-Bsymbolic-functions | -Wl,--exclude-libs,* | -Wl,--warn-common | -Wl,-Map,* | -Wl,-Map=* | -Wl,-O[0-9] | \
	-Wl,--no-undefined-version | -Wl,--push-state* | -Wl,--pop-state | -flto* | -ffat-lto-objects | -fuse-ld=* | \
	-specs=* | -static-libgcc | -static-libstdc++ | -lpython[0-9]*) ;;
	-lgcc_s) set -- "$@" -lunwind ;;
	*) set -- "$@" "$word" ;;
	esac
done
exec @ZIG@ @TOOL@ -target $target -O2 -fno-sanitize=undefined -ffile-prefix-map=@WORK@=. -idirafter @INCLUDE@ \
	-Wno-unused-command-line-argument -Wno-error=incompatible-function-pointer-types -Wno-error=int-conversion \
	"$@" -g0@MACHINE@
"""
"""Without optimisation zig would link its undefined-behaviour checks. libpython is the interpreter's to load.

What gcc warned of for decades, projects of that time do; but what is not declared stays an error.
"""


_CRYPT = """/* glibc's, which zig does not have and Python.h asked for before 3.9 */
#pragma once
char *crypt(const char *, const char *);
"""


@dataclass(frozen=True)
class Building:
    """What the user says about how wheels are built."""

    cc: str = ""
    """``zig``, ``host``, or empty: what the target needs."""
    image: str = ""
    """Of a container to build in."""
    interpreters: tuple[Path, ...] = ()
    """Pythons that build, before those that are found."""
    accept: frozenset[str] = frozenset()
    """Distributions (normalised) that may need more of a host than their slice's policy."""


@dataclass(frozen=True)
class Compiler:
    """What compiles for a target."""

    key: str
    """Tells it from others that may make another file of the same source."""
    zig: Path | None = None
    refusal: str = ""
    """Why native code of its making is not packed."""
    hint: str = ""


@functools.cache
def find_zig() -> Path | None:
    """Find zig: in the package ``ziglang`` beside us, else on PATH."""
    package = importlib.util.find_spec("ziglang")
    for place in package.submodule_search_locations or () if package else ():
        if os.access(Path(place, "zig"), os.X_OK):
            return Path(place, "zig")
    found = shutil.which("zig")
    return Path(found) if found else None


@functools.cache
def machine() -> Platform:
    """Tell this machine's C library and processor."""
    try:
        family, _, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        family, number = "", ""
    version = re.match(r"(\d+)\.(\d+)", number)
    if family == "glibc" and version:
        return Platform("glibc", (int(version[1]), int(version[2])), os.uname().machine)
    return Platform("musl", _ZIGS_MUSL, os.uname().machine)


def choose(target: Target, said: str) -> Compiler:
    """Choose what compiles for a target.

    :param said: ``zig``, ``host`` or nothing.
    :raises PackError: zig is asked for and not here, or asked for what it cannot do.
    """
    platform, here = target.platform, machine()
    same = (here.arch, here.libc) == (platform.arch, platform.libc)
    if said == "host" or (not said and same and here.version <= platform.version and platform.level == 1):
        return Compiler(f"host-{_host()}")
    too_old = platform.libc == "musl" and platform.version < _ZIGS_MUSL
    zig = find_zig()
    if zig and not too_old:
        return Compiler(f"zig-{_version(zig)}", zig)
    if said == "zig":
        raise PackError(
            f"--cc zig: its musl is 1.2, and {target.name} is for musl 1.1"
            if zig
            else "--cc zig: there is no zig here",
            hint=f"--abis musllinux_1_2 is for musl 1.2; or {_other_ways(platform)}" if zig else _INSTALL,
        )
    if same:
        why = f"compiled here, it is for this machine's {_words(here)}, and {target.name} is for {_words(platform)}"
    else:
        why = f"this machine compiles for {here.arch} with {here.libc}, and {target.name} is another"
    return Compiler(f"host-{_host()}", refusal=why, hint=_other_ways(platform) if zig else
                    f"{_INSTALL}, compiles for it; or {_other_ways(platform)}")  # fmt: skip


def _words(platform: Platform) -> str:
    return f"{platform.libc} {platform.version[0]}.{platform.version[1]}"


def _other_ways(platform: Platform) -> str:
    return f"--build-in IMAGE, as a {platform.policy} image; or --cc host, which takes this machine's compiler"


def _version(zig: Path) -> str:
    said = subprocess.run([zig, "version"], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    if said.returncode != 0:
        raise PackError(f"{zig} does not run: {said.stderr.strip()[:200]}", hint=_INSTALL)
    return said.stdout.strip()


def _host() -> str:
    """Name this machine's compilers, as far as they decide what comes out."""
    said = "".join(_answer(os.environ.get(name) or default) for name, default in (("CC", "cc"), ("CXX", "c++")))
    return f"{hashlib.sha256(said.encode()).hexdigest()[:8]}-{_words(machine()).replace(' ', '')}"


def _answer(compiler: str) -> str:
    """Ask a compiler who it is: with all its words, since the first may only be what starts it."""
    try:
        return subprocess.run(
            [*shlex.split(compiler), "--version"], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return "none"


def triple(platform: Platform) -> str:
    """Name a platform as zig does."""
    if platform.libc == "musl":
        return f"{platform.arch}-linux-musl"
    return f"{platform.arch}-linux-gnu.{platform.version[0]}.{platform.version[1]}"


def environment(compiler: Compiler, target: Target, work: Path, cache: Path) -> dict[str, str]:
    """Write the commands that compile for a target into ``work``, and give the variables by which builds find them.

    What is built for other machines is built by an interpreter of this one: it says so where it is asked, and what the
    modules are for is only in what the compiler makes of them.
    """
    if not compiler.zig:
        return {}
    tools = work / "toolchain"
    include = tools / "include"
    include.mkdir(parents=True)
    _multiarch(include, target)
    (include / "crypt.h").write_text(_CRYPT, "utf-8")
    level = f" -mcpu={target.platform.arch}_v{target.platform.level}" if target.platform.level > 1 else ""
    words = {
        "@ZIG@": shlex.quote(str(compiler.zig)),
        "@WORK@": shlex.quote(str(work)), "@INCLUDE@": shlex.quote(str(include)),
        "@TARGET@": triple(target.platform) + level, "@MACHINE@": _libraries(target.platform),
        "@NATIVE@": triple(Platform(machine().libc, min(machine().version, (2, 17)), machine().arch)),
    }  # fmt: skip
    for name, tool in (("cc", "cc"), ("c++", "c++")):
        _write(tools / name, _put_in(_COMPILER, {**words, "@TOOL@": tool}))
    for name in ("ar", "ranlib"):
        _write(tools / name, f'#!/bin/sh\nexec {words["@ZIG@"]} {name} "$@"\n')
    cc, cxx = str(tools / "cc"), str(tools / "c++")
    variables = {
        "CC": cc, "CXX": cxx, "AR": str(tools / "ar"), "RANLIB": str(tools / "ranlib"),
        "LDSHARED": f"{cc} -shared", "LDCXXSHARED": f"{cxx} -shared",
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(cache / "zig")),
        "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
    }  # fmt: skip
    return variables | _rust(target, cc)


def _rust(target: Target, cc: str) -> dict[str, str]:
    """Tell cargo; what is for another machine or C library has to be named to it, and to PyO3 its Python."""
    platform, here = target.platform, machine()
    name = f"{platform.arch}-unknown-linux-{'gnu' if platform.libc == 'glibc' else 'musl'}"
    variables = {f"CARGO_TARGET_{name.upper().replace('-', '_')}_LINKER": cc}
    if (platform.arch, platform.libc) != (here.arch, here.libc):
        version = ".".join(map(str, target.python.version))
        variables |= {"CARGO_BUILD_TARGET": name, "PYO3_CROSS_PYTHON_VERSION": version}
    return variables


def _libraries(platform: Platform) -> str:
    """Give the words that let it find this machine's libraries, if they are for the platform; behind its own."""
    here = machine()
    if (here.arch, here.libc) != (platform.arch, platform.libc):
        return ""
    names = [f"{platform.arch}-linux-{'gnu' if platform.libc == 'glibc' else 'musl'}", "."]
    words = [f" -idirafter /usr/include/{name}" for name in names]
    words += [f" -L/usr/{lib}" for lib in (*(f"lib/{name}" for name in names), "lib64") if Path("/usr", lib).is_dir()]
    return "".join(words)


def _multiarch(include: Path, target: Target) -> None:
    """Let Debian's ``pyconfig.h`` find its other half, which is the same for every 64-bit machine we pack for.

    Those of all Pythons: meson tries cython with the one that pkg-config names.
    """
    for directory in Path("/usr/include").glob("*-linux-*/python*"):
        for name in (directory.parent.name, f"{target.platform.arch}-linux-gnu", f"{target.platform.arch}-linux-musl"):
            link = include / name / directory.name
            link.parent.mkdir(exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(directory)


def _put_in(text: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(name, word)
    return text


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o755)
