"""What the launcher's selection says of the hosts of ``abi/hosts``, against what is known from other sources."""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import archives

from packer import archive, facts, hosts, native, targets
from packer.model import Need, NeedKind, Slice, Tool, ToolKind
from packer.reader import reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packer.model import Platform

TRUTHS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[1] / "abi" / "truths.toml").read_text("utf-8")
)["truth"]  # fmt: skip

KINDS = {
    "machine": "OTHER_MACHINE", "cpu": "CPU_TOO_OLD", "family": "OTHER_LIBC", "libc": "LIBC_TOO_OLD",
    "node": "NODE_MISSING", "library": "LIBRARY_MISSING", "python": "NO_PYTHON",
}  # fmt: skip
"""``why`` -> the launcher's word for it."""

PREFIXES = {
    "libstdc++.so.6": ("GLIBCXX", "CXXABI"), "libgcc_s.so.1": ("GCC",), "libz.so.1": ("ZLIB",),
}  # fmt: skip
"""The libraries of which a wheel may need the newest nodes that its policy has."""


def allowed(platform: Platform, library: str) -> Iterator[Need]:
    """All that a policy lets a wheel ask of a library."""
    yield Need(NeedKind.LIBRARY, library)
    for prefix in PREFIXES[library]:
        ceiling = facts.policy_of(platform).ceiling(platform.arch, prefix)
        if ceiling:
            yield Need(NeedKind.NODE, library, ceiling)


def asked(truth: Mapping[str, Any]) -> Slice:
    """What a truth's slice asks of a host; nothing is in it."""
    name: str = truth["slice"]
    target = targets.target_of(name if "-" in name else f"cp311-{name}")
    platform = target.platform
    needs = list(archives.needs(target))
    if truth.get("bundled"):
        needs = [need for need in needs if need.kind != NeedKind.LIBC]
    if platform.level > 1:
        needs.append(Need(NeedKind.CPU, number=platform.level))
    default = ["libz.so.1"] if platform.libc == "musl" else list(PREFIXES)
    for library in truth.get("uses", default):
        needs += allowed(platform, library)
    needs += [Need(NeedKind.NODE, *one.split()) for one in truth.get("nodes", [])]
    needs += [Need(NeedKind.LIBRARY, one) for one in truth.get("libraries", [])]
    return Slice(target, tuple(needs), (), (), ())


@pytest.fixture(autouse=True)
def nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without hosts of their own, which could stand for those that are meant."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with a slice for each truth, in their order."""
    work = tmp_path_factory.mktemp("truths")
    path, front = work / "app", work / "front"
    front.write_bytes(b"#!/bin/sh\nexit 125\n")
    tool = Tool("app", ToolKind.PYTHON, "app")
    archive.write(path, front, [asked(truth) for truth in TRUTHS], [tool], {"version": 1}, lambda _: None)
    return path


@functools.cache
def reasons(path: Path, host: str) -> list[list[int]]:
    """For each slice, the kinds of reason that the launcher's selection has against it."""
    lib, ffi = native.lib(), native.ffi()
    found: Any = ffi.new("struct host *")
    selection: Any = ffi.new("struct selection *")
    with reading(path) as opened:
        hosts.describe_into(found, opened, hosts.find(host))
        lib.selectslice(selection, opened.pointer, found)
        lib.hostfree(found)
    verdicts = [selection.verdicts[number] for number in range(selection.verdict_count)]
    return [[one.reasons[index].why for index in range(one.reason_count)] for one in verdicts]


@pytest.mark.parametrize("number", range(len(TRUTHS)), ids=[f"{one['host']}-{one['slice']}" for one in TRUTHS])
def test_selection_says_what_is_known(number: int, every: Path) -> None:
    truth = TRUTHS[number]
    said = reasons(every, truth["host"])[number]
    if "-" not in truth["slice"]:  # every slice needs a Python; here that is not the question
        said = [one for one in said if one != native.lib().NO_PYTHON]
    assert (not said) == truth["runs"], said
    if not truth["runs"]:
        assert getattr(native.lib(), KINDS[truth["why"]]) in said


NO_PYTHON_KNOWN = {
    "alpine-3.13", "alpine-3.14", "alpine-3.15", "alpine-3.20", "alpine-3.21", "alpine-3.22", "alpine-3.22-aarch64",
    "azurelinux-3.0", "jessie", "opensuse-15.6", "opensuse-16.0", "sles-12",
    "sles-15-sp6", "ubuntu-14.04", "ubuntu-16.04", "void-musl", "wheezy", "wolfi",
}  # fmt: skip
"""Hosts with a Python of which no page was found that says so."""


@pytest.mark.parametrize("name", hosts.shipped())
def test_of_each_host_both_things_are_known_and_its_python(name: str) -> None:
    truths = [one for one in TRUTHS if one["host"] == name]
    assert {one["runs"] for one in truths} == {True, False}
    known = any(one["runs"] and "-" in one["slice"] for one in truths)
    assert known == (bool(hosts.find(str(hosts.shipped()[name])).pythons) and name not in NO_PYTHON_KNOWN)


def test_the_table_says_something_for_every_reason_and_where_from() -> None:
    negatives = [one for one in TRUTHS if not one["runs"]]
    assert set(Counter(one["why"] for one in negatives)) == set(KINDS)
    for one in TRUTHS:
        assert one["host"] in hosts.shipped()
        assert re.search(r"\w", one["source"])
        assert ("why" in one) == (not one["runs"])
