"""The launcher's code under sanitizers: that they see faults at all, and that the unit tests give them none to see."""

from __future__ import annotations

import subprocess
import zlib

import pytest
from support import sanitized

READ_TOO_FAR = """
import sys
from packer import native
from support import sanitized
sanitized.pytest_configure()
size = int(sys.argv[1])
buffer = native.ffi().new("char[100]")
print(hex(native.lib().crc32(buffer, size)))
"""


@pytest.fixture(autouse=True)
def _built() -> None:
    sanitized.require(sanitized.LIBRARY)


def test_fault_in_a_buffer_of_python_s_is_seen() -> None:
    good = sanitized.run_python("-c", READ_TOO_FAR, "100")
    assert (good.returncode, good.stdout) == (0, f"{hex(zlib.crc32(bytes(100)))}\n")
    bad = sanitized.run_python("-c", READ_TOO_FAR, "101")
    assert bad.returncode == 99
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in bad.stdout
    assert "launcher/crc32.c" in bad.stdout


def test_sanitized_launcher_runs_without_any_environment() -> None:
    launcher = sanitized.require(sanitized.LAUNCHER)
    done = subprocess.run([launcher], env={}, capture_output=True, text=True, check=False)
    assert "Sanitizer" not in done.stderr
    assert done.returncode == 125, "it is no archive"


@pytest.mark.slow
def test_native_tests_have_no_finds() -> None:
    # those of tests/e2e start packers of their own, which open the other library
    done = sanitized.run_pytest("-m", "native", "tests/launcher", "tests/packer")
    assert done.returncode == 0, done.stdout
