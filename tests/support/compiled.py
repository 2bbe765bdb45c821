"""Projects whose build back end runs the C compiler that it is told, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ZIG_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "zig"
"""Where the launchers' build has zig keep compiled C libraries: half a minute for each."""

BACKEND = """
import os, shlex, subprocess, sys, sysconfig, tempfile, zipfile

NAME, TAG, SUFFIX, LIBRARIES = {facts!r}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    python = "cp%d%d" % sys.version_info[:2]
    soabi = sysconfig.get_config_var("SOABI") or ""
    tag = "%s-%s" % (TAG or (python, "cp" + soabi.split("-")[1]))
    module = NAME + (SUFFIX or sysconfig.get_config_var("EXT_SUFFIX"))
    made = os.path.join(tempfile.mkdtemp(), module)
    words = shlex.split(os.environ.get("CC", "cc")) + ["-shared", "-fPIC", "-O2", "mod.c", "-o", made]
    subprocess.check_call(words + shlex.split(os.environ.get("LDFLAGS", "")) + LIBRARIES)
    info = "%s-1.0.dist-info/" % NAME
    files = {
        info + "METADATA": "Metadata-Version: 2.1\\nName: %s\\nVersion: 1.0\\n" % NAME,
        info + "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: %s-%s\\n" % (tag, platform),
        info + "RECORD": "",
    }
    name = "%s-1.0-%s-%s.whl" % (NAME, tag, platform)
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        archive.write(made, module)
        for path in sorted(files):
            archive.writestr(path, files[path])
    return name
"""


def project(
    directory: Path,
    source: str,
    *,
    tag: tuple[str, str] | None = None,
    suffix: str = "",
    libraries: tuple[str, ...] = (),
) -> Path:
    """Make the project ``mod``: one module in C.

    :param tag: interpreter and ABI of its wheel, where it is not for the Python that builds alone.
    :param suffix: of the module's file, likewise.
    :param libraries: words for the linker.
    """
    facts = ("mod", tag, suffix, list(libraries))
    directory.mkdir(parents=True)
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (directory / "backend.py").write_text(BACKEND.replace("{facts!r}", repr(facts)))
    (directory / "mod.c").write_text(source + "\nvoid *PyInit_mod(void) { return 0; }\n")
    return directory


def shared_library(directory: Path, name: str, source: str, target: str) -> Path:
    """Compile a shared library with zig; it is looked for there by its builder's user."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"lib{name}.so"
    (directory / f"{name}.c").write_text(source)
    words = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-fPIC", "-O2", "-g0"]
    subprocess.run(
        [*words, f"-Wl,-soname,lib{name}.so.1", directory / f"{name}.c", "-o", path],
        check=True, env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(ZIG_CACHE)},
    )  # fmt: skip
    (directory / f"lib{name}.so.1").symlink_to(path.name)
    return path


def keep_zigs_cache(patch: pytest.MonkeyPatch) -> None:
    """Let builds use what zig has compiled before."""
    patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(ZIG_CACHE))


def require(header: str, package: str) -> None:
    """Skip a test for which a library's header is missing."""
    if not Path(header).exists():
        pytest.skip(f"{header} is missing: install the package {package}")
