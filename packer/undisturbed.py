"""Importing what does not bear a signal: lief ends the whole process if Ctrl-C comes while it is being imported."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put off the signals that end the packer until the block is through."""
    if threading.current_thread() is not threading.main_thread():  # no signal's exception comes up in others
        yield
        return
    came: list[int] = []
    numbers = [
        one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT) if callable(signal.getsignal(one))
    ]
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in numbers}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in came[:1]:
            os.kill(os.getpid(), number)
