"""Work for several at once that is ended while it is being handed out: nobody waits for what was begun."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import slices

from packer import matrixrun, progress, resolve, runners
from packer.requests import Requests
from packer.targets import target_of
from packer.toolchain import Building

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from packer.resolve import Run
    from packer.runners import Stage
    from packer.sources import Builder

TARGETS = [target_of(f"cp3{minor}-manylinux2014_x86_64") for minor in (9, 11)]
LONGEST = 60


class Ended(Exception):  # noqa: N818 - it stands for KeyboardInterrupt, which pytest would take for its own
    """What a signal's handler raises."""


class Pool(ThreadPoolExecutor):
    """As soon as work is begun, a signal comes."""

    def submit(self, *work: Any, **more: Any) -> Future[Any]:
        super().submit(*work, **more)
        raise Ended


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (resolve, matrixrun):
        monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)


def test_resolving(tmp_path: Path) -> None:
    told: list[bool] = []

    def work(_target: object, _builder: Builder, run: Run) -> None:
        told.append(run.stop.wait(LONGEST))

    with pytest.raises(Ended):
        resolve.for_each(
            work, Requests(()), TARGETS, cache=tmp_path, progress=lambda _: None, limit=1, building=Building()
        )
    assert told == [True]


def test_running_on_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    stops: list[threading.Event] = []

    def staged(path: Path, stop: threading.Event) -> AbstractContextManager[Stage]:
        stops.append(stop)
        return runners.staged(path, stop)

    monkeypatch.setattr("packer.matrixrun.staged", staged)
    monkeypatch.setattr(matrixrun._Visit, "see", lambda _visit, _host: told.append(stops[0].wait(LONGEST)))
    hosts = tmp_path / "hosts.toml"
    hosts.write_text('[[host]]\nname = "here"\nlocal = true\n')
    archive = slices.write(tmp_path / "tool", [slices.Wanted({}, "cp39")])
    with pytest.raises(Ended):
        matrixrun.run(
            archive, hosts, ["x"], at_once=1, shard=None, again=None, timeout=LONGEST, progress=progress.Quiet()
        )
    assert told == [True]
