"""What end-to-end tests share: places in which the packer works, and a shelf of small wheels that need no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import index
from support.packing import Place

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where the packer works in this test."""
    return Place(tmp_path / "place")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's package index out of the test."""
    index.forget_pip_configuration(monkeypatch)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of distributions that are as small as can be, as for --find-links."""
    directory = tmp_path_factory.mktemp("shelf")
    source = "import sys\n\n\ndef main():\n    print('hello', *sys.argv[1:])\n"
    index.wheel(directory, "hello", tag="py2.py3-none-any", scripts=["hello=hello:main"], files={"hello.py": source})
    index.wheel(directory, "native", tag="cp39-cp39-manylinux_2_17_x86_64", files={"native.py": ""})
    index.wheel(directory, "several", scripts=["one=several:main", "two=several:main"], files={"several.py": source})
    index.wheel(directory, "demanding", requires_python=">=4")
    return directory
