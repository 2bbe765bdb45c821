"""Real programs do the same packed as in a venv of the same wheels: whole stdout, whole stderr, status, files.

Five run with all other tests, the whole list with ``make apps``.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import apps
from support.apps import App
from support.hosts import require_host
from support.packing import ROOT, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.apps import Archive
    from support.said import Say

LISTED = apps.read()

CACHE = ROOT / ".cache"
"""The repository's own, which ``make clean`` keeps."""

AT_ONCE = 2

WHERE = [*((abi, "") for abi in apps.HOSTS), (apps.CARRIED, apps.BARE)]
"""Where each program runs: the ABI, and the host if it is not that of the ABI's Python."""


def test_the_list_has_every_kind_of_program() -> None:
    assert len(LISTED.apps) >= 15
    for chosen in (LISTED.apps, [app for app in LISTED.apps if app.ci]):
        assert {kind for app in chosen for kind in app.kinds} == set(apps.KINDS)


def test_five_programs_run_in_every_test_run() -> None:
    assert Counter(app.ci for app in LISTED.apps)[True] == 5


@pytest.mark.parametrize("app", LISTED.apps, ids=lambda app: app.name)
def test_a_listed_program_is_pinned_and_says_how_success_looks(app: App) -> None:
    assert apps.unpinned(app) == []
    assert app.shows
    assert all(one.reason for one in app.normalise)


@pytest.fixture(scope="session")
def archives(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Archive]]]:
    """Every program of this session by its name, packed two at a time while the first are tried already."""
    for host in (*apps.HOSTS.values(), apps.BARE):
        require_host(host)  # or packing would be for nothing
    wanted = {app.name: app for app in map(_tried, request.session.items) if app}
    with tempfile.TemporaryDirectory(prefix="fatpar-apps-") as name, ThreadPoolExecutor(AT_ONCE) as pool:

        def pack(app: App) -> Archive:
            return apps.pack(app, Place(Path(name) / app.name), LISTED.uploaded_before, CACHE)

        packed = {app.name: pool.submit(pack, app) for app in wanted.values()}
        yield packed
        pool.shutdown(cancel_futures=True)


def _tried(item: pytest.Item) -> App | None:
    if not isinstance(item, pytest.Function) or item.originalname != test_packed_and_in_a_venv.__name__:
        return None
    app = item.callspec.params["app"]
    assert isinstance(app, App)
    return app


@pytest.fixture(scope="session")
def pip() -> str:
    """The pip that makes the venvs."""
    return apps.fetch_pip(LISTED, apps.packer_cache(CACHE))


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that is gone at once: pytest would keep those of three sessions."""
    with tempfile.TemporaryDirectory(prefix="fatpar-app-") as name:
        yield Path(name)


@pytest.mark.e2e
@pytest.mark.hosts
@pytest.mark.network
@pytest.mark.parametrize(("abi", "bare"), WHERE, ids=["-".join(filter(None, where)) for where in WHERE])
@pytest.mark.parametrize(
    "app", [pytest.param(app, id=app.name, marks=pytest.mark.apps(ci=app.ci)) for app in LISTED.apps]
)
def test_packed_and_in_a_venv(
    app: App, abi: str, bare: str, archives: Mapping[str, Future[Archive]], pip: str, directory: Path, say: Say
) -> None:
    """The first launch is compared with the first, the second with the second.

    :param bare: host of the archive, if it is not the venv's: it has no Python, so that what is carried runs.
    """
    host = require_host(apps.HOSTS[abi])
    other = require_host(bare) if bare else host
    archive = archives[app.name].result()
    if (abi, bare) == WHERE[0]:
        say(f"packed {app.name}: {archive.size:,} bytes, {archive.files:,} files, {archive.seconds:.1f} seconds")
    venv = directory / "venv"
    apps.make_venv(host, venv, archive.wheels[abi], pip, apps.packer_cache(CACHE))
    command = f"{apps.PREFIX}/bin/{app.command}"
    plain = [f"{apps.PREFIX}/bin/python", "-m", app.module] if app.module else [command]

    expected = apps.launch_twice(host, app, plain, {venv: apps.PREFIX}, directory / "plain")
    binds = {archive.file: command, **(apps.HIDDEN if bare else {})}
    found = apps.launch_twice(other, app, [command], binds, directory / "packed")

    assert expected[0].status == app.status, expected[0]
    assert app.shows in expected[0].everything
    assert found == expected
