"""packer/undisturbed.py: a signal that comes too early comes later."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

import pytest

from packer.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Ended(Exception):  # noqa: N818 - it stands for KeyboardInterrupt, which pytest would take for its own
    """What the packer's handler raises."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_comes_when_the_block_is_through() -> None:
    went_on = []

    def work() -> None:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            went_on.append(True)

    with pytest.raises(Ended):
        work()
    assert went_on
    with pytest.raises(Ended):
        os.kill(os.getpid(), signal.SIGTERM)


def test_another_thread_leaves_signals_alone() -> None:
    found = []

    def look() -> None:
        with undisturbed():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
