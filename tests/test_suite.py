"""No file of tests is passed over: pytest has names of directories into which it does not look."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).parent


def test_every_file_of_tests_is_looked_into(pytestconfig: pytest.Config) -> None:
    patterns = pytestconfig.getini("norecursedirs")
    files = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    assert Path("build/test_wheel.py") in files
    assert [file for file in files if any(fnmatch(part, one) for part in file.parts for one in patterns)] == []
