"""What all tests of the launcher as a process share: archives, made once, and hosts entered once."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from support import archives
from support.hosts import require_host
from support.process import Inside, Store, inside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Pack(Protocol):
    """Writes an archive of modules; :func:`support.archives.write` has the options."""

    def __call__(self, name: str, modules: Mapping[str, str | bytes], **options: Any) -> Path: ...


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Write an archive of that name into a directory of its own."""

    def write(name: str, modules: Mapping[str, str | bytes], **options: Any) -> Path:
        directory = tmp_path_factory.mktemp(name)
        (directory / "work").mkdir()
        return archives.write(directory / name, directory / "work", modules, **options)

    return write


class Enter(Protocol):
    """Enters a host for the rest of the test; :func:`support.process.inside` has the options."""

    def __call__(self, host: str, binds: Mapping[Path, str], **options: Any) -> Inside: ...


@pytest.fixture
def user_home(tmp_path: Path) -> Path:
    """The user's home of every host the test enters, as it is outside."""
    return tmp_path / "home"


@pytest.fixture
def store(user_home: Path) -> Store:
    """The store in the user's home."""
    return Store(user_home / ".cache/fatpar")


@pytest.fixture
def enter(user_home: Path) -> Iterator[Enter]:
    """Enter hosts, one after the other or together, always with the same home."""
    with ExitStack() as stack:

        def start(host: str, binds: Mapping[Path, str], **options: Any) -> Inside:
            return stack.enter_context(inside(require_host(host), user_home, binds, **options))

        yield start
