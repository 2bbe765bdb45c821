"""``packer explain``: which slice would run, here or on a host that is described."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from support import archives
from support.packing import Place

from packer.model import Need, NeedKind

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

RUNNING = f"cp{sys.version_info[0]}{sys.version_info[1]}"
HERE = ("env", f"PATH={sys.base_prefix}/bin:/usr/bin:/bin")
"""So that the Python that runs the test is found, whatever there is besides."""


def write(place: Place, *tags: str, more: tuple[Need, ...] = (), machine: str = "x86_64") -> Path:
    (place.root / "files").mkdir()
    return archives.write(
        place.work / "app", place.root / "files", {"app.py": ""}, tags=tags, more=more, machine=machine
    )


def test_a_slice_that_fits_this_machine(place: Place) -> None:
    write(place, "cp27mu", RUNNING)
    status, stdout, stderr = place.run("explain", "app", prefix=HERE).whole
    assert (status, stderr) == (0, "")
    lines = stdout.splitlines()
    assert lines[0] == "host"
    assert any(line.startswith(f"  {RUNNING}-manylinux_2_17_x86_64: fits /") for line in lines)
    assert lines[-2] == "choice"


def test_no_slice_fits_this_machine(place: Place) -> None:
    write(place, RUNNING, more=(Need(NeedKind.LIBRARY, "libnowhere.so.1"),))
    status, stdout, stderr = place.run("explain", "app", prefix=HERE).whole
    assert (status, stderr) == (1, "")
    name = f"{RUNNING}-manylinux_2_17_x86_64"
    assert stdout.endswith(
        f"slices, most preferred first\n  {name}: needs library libnowhere.so.1, found none\n"
        "choice\n  none: this machine cannot run it\n"
    )
    explained = json.loads(place.run("explain", "app", "--json", prefix=HERE).stdout)
    assert (explained["choice"], explained["slices"][0]["fits"]) == (None, False)


def test_an_archive_for_another_machine(place: Place) -> None:
    write(place, RUNNING, machine="aarch64")
    ended = place.run("explain", "app", prefix=HERE)
    assert (ended.status, ended.stderr) == (1, "")
    assert f"  {RUNNING}-manylinux_2_17_aarch64: needs machine aarch64, found x86_64\n" in ended.stdout


@pytest.mark.parametrize(
    ("host", "choice"), [("bullseye", "cp39"), ("bookworm", "cp311"), ("trixie", "cp313"), ("sid", None)]
)
def test_a_named_host(place: Place, host: str, choice: str | None) -> None:
    write(place, "cp313", "cp311", "cp39")
    ended = place.run("explain", "app", "--host", host, "--json")
    assert (ended.status, ended.stderr) == (0 if choice else 1, "")
    explained = json.loads(ended.stdout)
    assert explained["host"] == host
    assert explained["choice"] == (choice and f"{choice}-manylinux_2_17_x86_64")
    assert [one["fits"] for one in explained["slices"]] == [choice == tag for tag in ("cp313", "cp311", "cp39")]


def test_a_described_host(place: Place) -> None:
    write(place, "cp39")
    (place.work / "router.toml").write_text('machine = "aarch64"\ncpu = 80\nkernel = "4.4.0"\nlibc = "musl 1.2"\n')
    assert place.run("explain", "app", "--host", "router.toml").whole == (1, (
        "host\n  machine  aarch64, ARMv8.0\n  kernel   4.4.0\n  libc     musl 1.2 (router.toml)\n"
        "  python   none found\nslices, most preferred first\n"
        "  cp39-manylinux_2_17_x86_64: needs machine x86_64, found aarch64; needs glibc 2.17, found musl 1.2; "
        "needs CPython cp39, found no Python at all\nchoice\n  none: this machine cannot run it\n"
    ), "")  # fmt: skip


def test_a_host_that_makes_no_sense(place: Place) -> None:
    write(place, "cp39")
    (place.work / "host.toml").write_text("machine = 1\n")
    unknown = "no host 'bookwurm': neither a name nor a file"
    for name, status, said in (
        ("bookwurm", 2, f"{unknown}\npacker: hint: known are bookworm, and others: packer hosts list"),
        ("host.toml", 1, "host host.toml: machine must be a string, is 1"),
        (".", 1, "cannot read the host .: Is a directory"),
    ):
        assert place.run("explain", "app", "--host", name).whole == (status, "", f"packer: {said}\n")
