"""The ABI facts of ``abi/*.toml`` as frozen records, each table read once, when first asked for, and proved then.

Facts only: whether a host fits a slice is decided by the launcher's code.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer.model import Platform, PythonAbi

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

Version = tuple[int, int]

NUMBER = re.compile(r"[A-Z]+_([0-9.]+)")
"""A symbol-version node that ends in a number, as ``GLIBC_2.17``; ``GLIBC_ABI_DT_RELR`` is none."""

LIBC_PARTS = {
    # Installed together with libc.so.6 by every distribution, so that the libc's own requirement covers them. Not
    # among them: libcrypt and libnsl, which glibc gave up and distributions package apart.
    "glibc": re.compile(
        r"ld-linux[^/]*\.so\.\d|lib(c|m)\.so\.6|lib(dl|resolv)\.so\.2|lib(mvec|rt|util|anl)\.so\.1|libpthread\.so\.0"
    ),
    # What musl's own loader answers for, whatever stands behind the dot (ldso/dynlink.c, load_library)
    "musl": re.compile(r"lib(c|pthread|rt|m|dl|util|xnet)\..*|ld-musl-.*"),
}
"""By family, the SONAMEs that come with the C library itself."""


@dataclass(frozen=True)
class Python:
    """What is known of one Python ABI tag."""

    abi: PythonAbi
    alias: str
    """What a user may say instead of the tag, or ``""``."""
    cache_tag: str
    """``cpython-39``, the middle of a ``.pyc``'s name; ``""`` on 2.7, which keeps bytecode beside the source."""
    suffixes: tuple[str, ...]
    """Extension modules' names, in import order, ``{triplet}`` in them: see extension_suffixes."""
    stable_abi: str
    """The stable ABI whose wheels it takes: ``abi3``, ``abi3t``, or ``""``."""
    venv: bool
    """A pyvenv.cfg makes a virtual environment."""
    first_release: dt.date
    end_of_life: dt.date
    supported: bool
    """Still maintained on the day the table was checked."""


@dataclass(frozen=True)
class Policy:
    """A manylinux or musllinux policy: what a wheel with its tag may ask of a host, older policies' parts included."""

    name: str
    libc: str
    """``glibc`` or ``musl``."""
    version: Version
    aliases: tuple[str, ...]
    libraries: frozenset[str]
    """SONAMEs that the host must have."""
    nodes: Mapping[str, frozenset[str]]
    """Architecture -> symbol-version nodes, of all those libraries together."""

    def ceiling(self, arch: str, prefix: str) -> str:
        """Give the newest numbered node: ``ceiling("x86_64", "GLIBCXX")`` of manylinux_2_17 is ``GLIBCXX_3.4.19``."""
        found = [node for node in self.nodes[arch] if node.startswith(f"{prefix}_") and NUMBER.fullmatch(node)]
        return max(found, key=node_number, default="")


@dataclass(frozen=True)
class GlibcRelease:
    """A glibc release and the nodes of its libc.so.6, older ones included."""

    version: Version
    nodes: Mapping[str, frozenset[str]]
    """Architecture -> nodes; without those that did not exist yet."""


@dataclass(frozen=True)
class CpuLevel:
    """A CPU level that a slice may need."""

    arch: str
    number: int
    """As in NEED_CPU of ``abi/fatpar.h``."""
    name: str
    features: frozenset[str]
    """Lower levels' included."""


def pythons() -> Mapping[str, Python]:
    """Give every known Python by ABI tag, oldest first; a free-threaded build follows the default one."""
    return _python_facts()[0]


def supported_pythons() -> tuple[Python, ...]:
    """Give the default builds still maintained when the table was checked, newest first.

    Free-threaded builds are left out: few distributions publish wheels for them, so they are packed for only by name.
    """
    newest_first = sorted(pythons().values(), key=lambda python: python.abi.version, reverse=True)
    return tuple(python for python in newest_first if python.supported and not python.abi.free_threaded)


def extension_suffixes(abi: PythonAbi, platform: Platform) -> tuple[str, ...]:
    """Give the names' ends by which ``abi`` finds extension modules on ``platform``, in its order."""
    triplets = _python_facts()[1]
    gnu_named = abi.version < _version(triplets["musl_since"])
    triplet = triplets["glibc" if gnu_named else platform.libc].format(arch=platform.arch)
    return tuple(suffix.format(triplet=triplet) for suffix in pythons()[abi.tag].suffixes)


def version_hex(major: int, minor: int, micro: int) -> int:
    """Give PY_VERSION_HEX of a final release: ``0x030902f0`` for 3.9.2 (CPython's Include/patchlevel.h)."""
    return major << 24 | minor << 16 | micro << 8 | 0xF0


@cache
def policies() -> tuple[Policy, ...]:
    """Give the known policies, manylinux before musllinux, each family oldest first."""
    data = _read("policies.toml")
    known: list[Policy] = []
    for row in data["policy"]:
        family, _, number = row["name"].partition("_")
        before = known[-1] if known and known[-1].name.startswith(family) else None
        policy = Policy(
            name=row["name"],
            libc={"manylinux": "glibc", "musllinux": "musl"}[family],
            version=_version(number.replace("_", ".")),
            aliases=tuple(row["aliases"]),
            libraries=frozenset(row["libraries"]) | (before.libraries if before else frozenset()),
            nodes=_grown(row, before.nodes if before else {}, row["name"]),
        )
        _prove(before is None or before.version < policy.version, f"{policy.name}: not newer than the one before it")
        known.append(policy)
    _unique((name for policy in known for name in (policy.name, *policy.aliases)), "policies.toml")
    return tuple(known)


def policy_of(platform: Platform) -> Policy:
    """Give the newest known policy that promises no more than ``platform`` does.

    A host of ``manylinux_2_29`` has what ``manylinux_2_28`` lists; no list exists for it itself.
    """
    fitting = [policy for policy in policies() if policy.libc == platform.libc and policy.version <= platform.version]
    return fitting[-1]


def oldest_platform(libc: str, arch: str) -> Platform:
    """Give the first policy that exists on an architecture."""
    policy = next(policy for policy in policies() if policy.libc == libc and arch in policy.nodes)
    return Platform(libc, policy.version, arch)


@cache
def glibc_releases() -> tuple[GlibcRelease, ...]:
    """Give every glibc release from manylinux1's on, oldest first, none left out."""
    known: list[GlibcRelease] = []
    for row in _read("glibc.toml")["release"]:
        before = known[-1] if known else None
        release = GlibcRelease(_version(row["version"]), _grown(row, before.nodes if before else {}, row["version"]))
        follows = before is None or release.version == (before.version[0], before.version[1] + 1)
        _prove(follows, f"glibc {row['version']}: does not follow the release before it")
        known.append(release)
    return tuple(known)


@cache
def cpu_levels() -> tuple[CpuLevel, ...]:
    """Give the levels, an architecture's one after the other, lowest first."""
    known: list[CpuLevel] = []
    for row in _read("cpu.toml")["levels"]["level"]:
        before = known[-1] if known and known[-1].arch == row["arch"] else None
        old = before.features if before else frozenset()
        _prove(before is None or before.number < row["number"], f"{row['name']}: not higher than the one before it")
        _prove(old.isdisjoint(row["features"]), f"{row['name']}: names a feature again")
        known.append(CpuLevel(row["arch"], row["number"], row["name"], old.union(row["features"])))
    _prove({level.arch for level in known} == set(architectures()), "cpu.toml: an architecture without levels")
    _unique(((level.arch, level.number) for level in known), "cpu.toml")
    return tuple(known)


@cache
def architectures() -> Mapping[str, int]:
    """Give the architectures that can be packed for, with their ELF ``e_machine``."""
    rows = _read("cpu.toml")["architectures"]["architecture"]
    _unique((row["name"] for row in rows), "cpu.toml")
    return {row["name"]: row["e_machine"] for row in rows}


def stdlib(version: Version) -> frozenset[str]:
    """Give the standard-library modules of a Python version that are ``NAME.py`` or ``NAME/__init__.py``.

    Top-level names only: no distribution splits one package over several of its own packages. Not among them: modules
    that are built in or extension modules, and ``test``.
    """
    return _stdlib_facts()[version]


@cache
def _stdlib_facts() -> Mapping[Version, frozenset[str]]:
    modules: dict[Version, frozenset[str]] = {}
    for row in _read("stdlib.toml")["stdlib"]:
        names = row["modules"]
        _unique(names, f"standard library of {row['version']}")
        _prove(all(name.isidentifier() for name in names), f"standard library of {row['version']}: not a module's name")
        modules[_version(row["version"])] = frozenset(names)
    _prove(modules.keys() == {python.abi.version for python in pythons().values()}, "stdlib.toml: not python.toml's")
    return modules


@cache
def _python_facts() -> tuple[Mapping[str, Python], Mapping[str, str]]:
    """Read python.toml: Pythons by tag, and the table of triplets."""
    data = _read("python.toml")
    releases = {_version(row["version"]): row for row in data["releases"]["version"]}
    _prove(list(releases) == sorted(releases), "python.toml: releases are not in order")
    known: dict[str, Python] = {}
    for row in data["abis"]["abi"]:
        python = _python(row, releases[_version(row["version"])], data)
        _prove(python.abi.tag not in known, f"{python.abi.tag}: named twice")
        _prove_python(python)
        known[python.abi.tag] = python
    order = [(python.abi.version, python.abi.free_threaded) for python in known.values()]
    _prove(order == sorted(order), "python.toml: tags are not in order")
    _prove({version for version, _ in order} == releases.keys(), "python.toml: a release without a tag")
    _unique((name for python in known.values() for name in (python.abi.tag, python.alias) if name), "python.toml")
    return known, data["triplets"]


def _python(row: Mapping[str, Any], release: Mapping[str, Any], data: Mapping[str, Any]) -> Python:
    """Join a tag's row with its version's release and the tables that hold for all."""
    version = _version(row["version"])
    free_threaded = row["tag"].endswith("t")
    stable = [
        other["tag"]
        for other in data["stable_abis"]["abi"]
        if other["free_threaded"] == free_threaded and (version >= _version(other["since"]))
    ]
    return Python(
        abi=PythonAbi(row["tag"], version, release["newest"], free_threaded),
        alias=row.get("alias", ""),
        cache_tag=row.get("cache_tag", ""),
        suffixes=tuple(row["suffixes"]),
        stable_abi=stable[0] if stable else "",
        venv=version >= _version(data["venv"]["since"]),
        first_release=release["first_release"],
        end_of_life=release["end_of_life"],
        supported=release["first_release"] <= data["releases"]["checked"] < release["end_of_life"],
    )


def _prove_python(python: Python) -> None:
    """Prove that tag, version, flags, cache tag and suffixes tell one story (PEP 425, PEP 3149)."""
    tag, version = python.abi.tag, python.abi.version
    flags = tag.removeprefix(python.abi.interpreter)
    if version < (3, 3):
        allowed = {"m", "mu"}
    elif version < (3, 8):
        allowed = {"m"}
    elif version < (3, 13):
        allowed = {""}
    else:
        allowed = {"", "t"}
    _prove(tag.startswith("cp") and flags in allowed, f"{tag}: not a tag of CPython {version[0]}.{version[1]}")
    _prove(python.first_release < python.end_of_life, f"{tag}: ends before it begins")
    _prove(python.alias in ("", python.abi.interpreter), f"{tag}: an alias of another version: {python.alias}")
    digits = f"{version[0]}{version[1]}"
    if python.cache_tag:
        _prove(python.cache_tag == f"cpython-{digits}", f"{tag}: a cache tag of another version: {python.cache_tag}")
        _prove(python.suffixes[0] == f".cpython-{digits}{flags}-{{triplet}}.so", f"{tag}: suffixes of another tag")
    _prove(bool(python.cache_tag) == (version >= (3, 2)), f"{tag}: cache tags came with 3.2")


def _grown(row: Mapping[str, Any], before: Mapping[str, frozenset[str]], name: str) -> Mapping[str, frozenset[str]]:
    """Add a row's nodes to those before it, per architecture, and prove that they are new and in order."""
    nodes = dict(before)
    for arch in architectures():
        old = before.get(arch, frozenset())
        _prove(arch in row or not old, f"{name}: {arch} is gone")
        if arch not in row:
            continue
        _unique(row[arch], f"{name} {arch}")
        _prove(old.isdisjoint(row[arch]), f"{name} {arch}: names a node again")
        _prove_order(row[arch], name)
        nodes[arch] = old.union(row[arch])
    return nodes


def _prove_order(nodes: list[str], name: str) -> None:
    """Prove that the numbered nodes of each prefix stand in the order of their numbers."""
    numbered = [node for node in nodes if NUMBER.fullmatch(node)]
    ordered = sorted(numbered, key=lambda node: (node.partition("_")[0], node_number(node)))
    _prove(numbered == ordered, f"{name}: nodes are not in order")


def node_number(node: str) -> tuple[int, ...]:
    """Give the number of a numbered node: ``GLIBC_2.3.4`` -> ``(2, 3, 4)``.

    :raises ValueError: if it has none.
    """
    found = NUMBER.fullmatch(node)
    if not found:
        raise ValueError(f"{node}: not a numbered node")
    return tuple(int(part) for part in found[1].split("."))


def _version(text: str) -> Version:
    major, minor = text.split(".")
    return int(major), int(minor)


def _unique(items: Iterable[object], name: str) -> None:
    seen: set[object] = set()
    for item in items:
        _prove(item not in seen, f"{name}: {item} is there twice")
        seen.add(item)


def _prove(holds: bool, what: str) -> None:
    """Stop on facts that contradict each other: a mistake in the data, not of a user."""
    if not holds:
        raise ValueError(f"abi facts: {what}")


def _read(name: str) -> dict[str, Any]:
    """Read one file of facts and prove that each of its tables says its source and when that was checked.

    A file's facts are one table with both keys at its top, or several tables that each have them.
    """
    data = tomllib.loads(read_text(name))
    several = all(isinstance(value, dict) for value in data.values())
    tables = {f"{name}: {key}": table for key, table in data.items()} if several else {name: data}
    for where, table in tables.items():
        _prove(bool(table.get("source")) and "checked" in table, f"{where}: no source or no date")
    return data


def read_text(name: str) -> str:
    """Give the text of a file of ``abi/``, ``fatpar.h`` among them."""
    return (folder() / name).read_text(encoding="utf-8")


def folder() -> Path:
    """Give the directory ``abi/``.

    It lies beside this package in a checkout, and inside it in an installed wheel. A checkout is known by the format's
    header, since ``site-packages`` may well hold an ``abi`` of somebody else's.
    """
    package = Path(__file__).parent
    checkout = package.parent / "abi"
    return checkout if (checkout / "fatpar.h").is_file() else package / "_data" / "abi"
