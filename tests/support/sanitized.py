"""The launcher's code built with AddressSanitizer and UndefinedBehaviorSanitizer, and sessions of tests that use it.

``make test`` builds it (target ``launcher-test``). Its library needs the sanitizer's runtime in the process before
everything else, so tests of it run in a child: :func:`run_pytest` starts one with the runtime preloaded and with this
module as a plugin, which puts the sanitized library in the place of ``packer``'s own.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import lief
import pytest

from packer import native

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "build" / "test" / "launcher"
"""Dynamically linked, with the sanitizers' options compiled in: its environment is that of any other launcher."""
LIBRARY = ROOT / "build" / "test" / "liblauncher.so"


def require(path: Path) -> Path:
    """:data:`LAUNCHER` or :data:`LIBRARY`, if it has been built; otherwise skip the test."""
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not built: cmake --build build --target launcher-test")
    return path


def environment() -> dict[str, str]:
    """What a Python needs in its environment to open the library."""
    binary = lief.ELF.parse(LIBRARY)
    assert binary is not None
    runtimes = [str(name) for name in binary.libraries if str(name).startswith(("libasan.", "libubsan."))]
    return {
        "LD_PRELOAD": " ".join(runtimes),
        # Python frees nothing at its end. A find must look like no exit status of pytest's.
        "ASAN_OPTIONS": "detect_leaks=0:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # each buffer that Python hands to C is then one that the sanitizer knows the end of
        "PYTHONMALLOC": "malloc",
    }


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python that can open the library; stdout and stderr come together."""
    added = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **added},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests with the sanitized library as ``packer.native.lib()``; a find ends the run with its report."""
    # The sanitizers write to descriptor 2 and end the process: pytest must not hold that back.
    options = ["-p", "support.sanitized", "-p", "no:cacheprovider", "--capture=sys"]
    return run_python("-m", "pytest", *options, *arguments)


def pytest_configure() -> None:
    """In the child: use the library, and keep the preload from children of the tests."""
    native.lib = functools.cache(lambda: native.load(LIBRARY))
    for name in environment():
        os.environ.pop(name, None)
