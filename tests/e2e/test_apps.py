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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from support.apps import Archive, Outcome
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


@pytest.fixture(scope="session")
def in_venvs(archives: Mapping[str, Future[Archive]], pip: str) -> Callable[[App, str], list[Outcome]]:
    """What the two launches of an app in a venv come to, by the ABI. Of each there is one, whatever is compared."""
    known: dict[tuple[str, str], list[Outcome]] = {}

    def launched(app: App, abi: str) -> list[Outcome]:
        if (app.name, abi) not in known:
            known[app.name, abi] = launch_in_a_venv(app, abi, archives[app.name].result().wheels[abi], pip)
        return known[app.name, abi]

    return launched


def launch_in_a_venv(app: App, abi: str, wheels: Sequence[str], pip: str) -> list[Outcome]:
    host = require_host(apps.HOSTS[abi])
    with tempfile.TemporaryDirectory(prefix="fatpar-app-") as name:
        venv = Path(name) / "venv"
        apps.make_venv(host, venv, wheels, pip, apps.packer_cache(CACHE))
        argv = [f"{apps.PREFIX}/bin/python", "-m", app.module] if app.module else [place_of(app)]
        return apps.launch_twice(host, app, argv, {venv: apps.PREFIX}, Path(name) / "plain")


def place_of(app: App) -> str:
    """Where the command is in a host."""
    return f"{apps.PREFIX}/bin/{app.command}"


@pytest.mark.e2e
@pytest.mark.hosts
@pytest.mark.network
@pytest.mark.parametrize(("abi", "bare"), WHERE, ids=["-".join(filter(None, where)) for where in WHERE])
@pytest.mark.parametrize(
    "app", [pytest.param(app, id=app.name, marks=pytest.mark.apps(ci=app.ci)) for app in LISTED.apps]
)
def test_packed_and_in_a_venv(
    app: App,
    abi: str,
    bare: str,
    archives: Mapping[str, Future[Archive]],
    in_venvs: Callable[[App, str], list[Outcome]],
    directory: Path,
    say: Say,
) -> None:
    """The first launch is compared with the first, the second with the second.

    :param bare: host of the archive, if it is not the venv's: it has no Python, so that what is carried runs.
    """
    host = require_host(bare or apps.HOSTS[abi])
    archive = archives[app.name].result()
    if (abi, bare) == WHERE[0]:
        say(f"packed {app.name}: {archive.size:,} bytes, {archive.files:,} files, {archive.seconds:.1f} seconds")
    expected = in_venvs(app, abi)
    binds = {archive.file: place_of(app), **(apps.HIDDEN if bare else {})}
    found = apps.launch_twice(host, app, [place_of(app)], binds, directory / "packed")

    assert expected[0].status == app.status, expected[0]
    assert app.shows in expected[0].everything
    assert found == expected
