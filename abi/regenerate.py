#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["auditwheel", "lief", "stdlibs"]
# ///
"""Write the generated tables of this directory again: policies.toml, glibc.toml, stdlib.toml.

    python abi/regenerate.py policies
    python abi/regenerate.py glibc 2.31=LIBC 2.44=LIBC ...     LIBC: that release's libc.so.6, of any architecture
    python abi/regenerate.py stdlib 2.7=DIR 3.6=DIR ...        DIR: that version's lib/pythonX.Y, nothing split off it

Each prints its table. Debian's packages serve as inputs, unpacked with ``dpkg -x``: libc6, and for one version together
libpythonX.Y-minimal, libpythonX.Y-stdlib, pythonX.Y-venv, pythonX.Y-tk, pythonX.Y-examples and idle-pythonX.Y.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import re
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ARCHITECTURES = ("x86_64", "aarch64")

OLDEST_GLIBC = (2, 5)
"""The release of manylinux1: what came before it is its first row."""

OWN_RELEASE = {
    # of libpthread.so.0 in its own release; 2.34 merged that into libc.so.6
    "GLIBC_2.31": (2, 34),
    "GLIBC_ABI_DT_RELR": (2, 36),
    # distributions patch both into older releases (BZ 33129, BZ 33212): Debian's 2.41 has them
    "GLIBC_ABI_GNU2_TLS": (2, 43),
    "GLIBC_ABI_DT_X86_64_PLT": (2, 43),
}
"""Nodes of libc.so.6 whose name does not tell their release -> the first release that has them (glibc's NEWS)."""

DERIVED_STDLIB = ("3.5", "3.6")
"""No interpreter of the first is at hand: its modules are those of the second that stdlibs lists for the first too."""

NUMBERED = re.compile(r"GLIBC_2(\.\d+)+")

Version = tuple[int, ...]


def version(text: str) -> Version:
    """``2.17`` -> ``(2, 17)``."""
    return tuple(int(part) for part in text.split("."))


def array(key: str, items: Iterable[str]) -> str:
    """Give a TOML array of plain strings, on one line or wrapped to 120 columns."""
    quoted = [f'"{item}"' for item in items]
    short = f"{key} = [{', '.join(quoted)}]"
    if len(short) <= 120:
        return short
    lines: list[str] = []
    for item in quoted:
        if lines and len(lines[-1]) + len(item) + 2 <= 120:
            lines[-1] += f" {item},"
        else:
            lines.append(f"    {item},")
    return "\n".join([f"{key} = [", *lines, "]"])


def head(table: str, about: str, source: list[str], checked: dt.date) -> list[str]:
    """Give the lines that every generated file begins with."""
    return [
        f"# {about}",
        f"# Written by abi/regenerate.py {table}: edit that instead. packer/facts.py reads and proves this file.",
        "",
        array("source", source),
        f"checked = {checked}",
    ]


def policies(checked: dt.date) -> str:
    """Give policies.toml from the installed auditwheel: each policy as what it adds to the one before it."""
    folder = resources.files("auditwheel") / "policy"
    about = "The manylinux and musllinux policies: symbol-version nodes and host libraries that a wheel may ask for."
    lines = head("policies", about, [f"auditwheel {metadata.version('auditwheel')}, policy/*.json"], checked)
    lines += ["", "# libraries, x86_64, aarch64: what the policy adds to the one before it in its family"]
    for family in ("manylinux", "musllinux"):
        rows = json.loads((folder / f"{family}-policy.json").read_text(encoding="utf-8"))
        rows = [row for row in rows if row["name"].startswith(family)]
        rows.sort(key=lambda row: version(row["name"].removeprefix(f"{family}_").replace("_", ".")))
        lines += family_rows(rows)
    return "\n".join(lines) + "\n"


def family_rows(rows: list[dict[str, object]]) -> list[str]:
    """Give the tables of one family's policies, oldest first."""
    lines: list[str] = []
    known: dict[str, set[str]] = {key: set() for key in ("libraries", *ARCHITECTURES)}
    for row in rows:
        lines += ["", "[[policy]]", f'name = "{row["name"]}"', array("aliases", strings(row["aliases"]))]
        values = {"libraries": strings(row["lib_whitelist"]), **policy_nodes(row["symbol_versions"])}
        for key, value in values.items():
            if missing := known[key].difference(value):
                raise SystemExit(f"{row['name']}: {key} lacks what the policy before it has: {sorted(missing)}")
            lines.append(array(key, [item for item in value if item not in known[key]]))
            known[key].update(value)
    return lines


def strings(value: object) -> list[str]:
    """Check that ``value`` is a list of strings."""
    if not isinstance(value, list):
        raise SystemExit(f"not a list: {value!r}")
    return [str(item) for item in value]


def policy_nodes(symbol_versions: object) -> dict[str, list[str]]:
    """Give auditwheel's ``{"x86_64": {"GLIBC": ["2.5"]}}`` as ``{"x86_64": ["GLIBC_2.5"]}``, our architectures only."""
    if not isinstance(symbol_versions, dict):
        raise SystemExit(f"not a table: {symbol_versions!r}")
    return {
        arch: [f"{prefix}_{name}" for prefix, names in sorted(symbol_versions[arch].items()) for name in names]
        for arch in ARCHITECTURES
        if arch in symbol_versions
    }


def glibc(checked: dt.date, libraries: Mapping[str, list[Path]]) -> str:
    """Give glibc.toml from libc.so.6 files by release: each release's nodes that the one before it lacks."""
    seen: dict[str, dict[Version, set[str]]] = {arch: {} for arch in ARCHITECTURES}
    for release, paths in libraries.items():
        for path in paths:
            arch, nodes = defined_nodes(path)
            seen[arch][version(release)] = nodes
    newest = max(release for releases in seen.values() for release in releases)
    added = {arch: added_nodes(arch, releases, newest) for arch, releases in seen.items()}
    about = "Symbol-version nodes of libc.so.6 by glibc release; some releases add none."
    source = f"DT_VERDEF of libc.so.6 in Debian's glibc {', '.join(libraries)}"
    lines = head("glibc", about, [source], checked)
    lines += ["", "# x86_64, aarch64: what the release adds to the one before it; absent before the first there"]
    for minor in range(OLDEST_GLIBC[1], newest[1] + 1):
        lines += ["", "[[release]]", f'version = "2.{minor}"']
        lines += [array(arch, added[arch][2, minor]) for arch in ARCHITECTURES if (2, minor) in added[arch]]
    return "\n".join(lines) + "\n"


def defined_nodes(path: Path) -> tuple[str, set[str]]:
    """Read architecture and version nodes of a libc.so.6, without its own name and its private node."""
    lief = importlib.import_module("lief")
    binary = lief.ELF.parse(str(path))
    arch = {lief.ELF.ARCH.X86_64: "x86_64", lief.ELF.ARCH.AARCH64: "aarch64"}[binary.header.machine_type]
    names = {next(iter(definition.auxiliary_symbols)).name for definition in binary.symbols_version_definition}
    return arch, {name for name in names if name.startswith("GLIBC_") and name != "GLIBC_PRIVATE"}


def release_of(node: str) -> Version:
    """Say in which release a node came, at the earliest OLDEST_GLIBC."""
    if node in OWN_RELEASE:
        return OWN_RELEASE[node]
    if not NUMBERED.fullmatch(node):
        raise SystemExit(f"{node}: neither a number nor in OWN_RELEASE")
    return max(version(node.removeprefix("GLIBC_"))[:2], OLDEST_GLIBC)


def added_nodes(arch: str, releases: Mapping[Version, set[str]], newest: Version) -> dict[Version, list[str]]:
    """Sort the newest library's nodes by release and check every older library against that."""
    if newest not in releases:
        raise SystemExit(f"no libc.so.6 of glibc {newest} for {arch}")
    nodes = releases[newest]
    for release, old in releases.items():
        differ = old ^ {node for node in nodes if release_of(node) <= release}
        if any(NUMBERED.fullmatch(node) for node in differ):
            raise SystemExit(f"glibc {release} for {arch}: has not the nodes that its number says: {differ}")
    first = min(release_of(node) for node in nodes)
    added: dict[Version, list[str]] = {(2, minor): [] for minor in range(first[1], newest[1] + 1)}
    for node in sorted(nodes, key=node_order):
        added[release_of(node)].append(node)
    return added


def node_order(node: str) -> tuple[Version, str]:
    """Sort numbers by value, names after them."""
    return (version(node.removeprefix("GLIBC_")), "") if NUMBERED.fullmatch(node) else ((3,), node)


def stdlib(checked: dt.date, folders: Mapping[str, Path]) -> str:
    """Give stdlib.toml: files and packages of each lib/pythonX.Y that stdlibs knows as standard library.

    stdlibs lists extension modules and other systems' modules too, a directory holds build data and a vendor's
    additions too (sitecustomize): what both have is what every complete installation of that version has.
    """
    modules = {release: pure_modules(folder) & documented_modules(release) for release, folder in folders.items()}
    derived, base = DERIVED_STDLIB
    modules.setdefault(derived, modules[base] & documented_modules(derived))
    source = [
        f"lib/pythonX.Y of {', '.join(folders)}, each with the names of stdlibs {metadata.version('stdlibs')}",
        f"{derived}: the modules of {base} that stdlibs lists for {derived} too",
    ]
    about = "Standard-library modules that are NAME.py or NAME/__init__.py below lib/pythonX.Y, by Python version."
    lines = head("stdlib", about, source, checked)
    for release in sorted(modules, key=version):
        lines += ["", "[[stdlib]]", f'version = "{release}"', array("modules", sorted(modules[release]))]
    return "\n".join(lines) + "\n"


def pure_modules(folder: Path) -> set[str]:
    """List the modules and packages of a directory that are Python source."""
    files = {path.stem for path in folder.glob("*.py")}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


def documented_modules(release: str) -> set[str]:
    """Give the names that stdlibs has for a version."""
    return set(importlib.import_module(f"stdlibs.py{release.replace('.', '')}").module_names)


def main(arguments: list[str]) -> None:
    """Print the table that the first argument names."""
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    table, *inputs = arguments or [""]
    pairs = [(release, Path(path)) for release, _, path in (item.partition("=") for item in inputs)]
    if table == "policies":
        print(policies(today), end="")
    elif table == "glibc":
        libraries = {release: [path for other, path in pairs if other == release] for release, _ in pairs}
        print(glibc(today, libraries), end="")
    elif table == "stdlib":
        print(stdlib(today, dict(pairs)), end="")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
