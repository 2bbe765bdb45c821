"""The generated tables are what their generator gives, and it refuses input that contradicts itself."""

from __future__ import annotations

import datetime as dt
import importlib.util
import os
import platform
import re
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packer import facts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCRIPT = Path(__file__).parents[2] / "abi" / "regenerate.py"


def load() -> ModuleType:
    """The generator as a module: ``abi/`` is no package."""
    spec = importlib.util.spec_from_file_location("regenerate", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


regenerate = load()


def own_libc() -> Path:
    """The C library that this process runs on."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    found = re.search(r"(/\S+/libc\.so\.6|/\S+/libc-2\.\d+\.so)$", maps, re.MULTILINE)
    if not found:
        pytest.skip("this Python does not run on glibc")
    return Path(found[1])


def test_policies_are_auditwheels() -> None:
    text = facts.read_text("policies.toml")
    data = tomllib.loads(text)
    assert data["source"] == [f"auditwheel {metadata.version('auditwheel')}, policy/*.json"], "regenerate policies.toml"
    assert regenerate.policies(data["checked"]) == text


def test_this_machines_libc_has_the_nodes_of_its_release() -> None:
    arch, nodes = regenerate.defined_nodes(own_libc())
    assert arch == platform.machine()
    version = regenerate.version(str(os.confstr("CS_GNU_LIBC_VERSION")).removeprefix("glibc "))
    (release,) = (item for item in facts.glibc_releases() if item.version == version)
    assert {node for node in nodes ^ release.nodes[arch] if regenerate.NUMBERED.fullmatch(node)} == set()


def test_a_libc_of_another_release_is_refused() -> None:
    arch, nodes = regenerate.defined_nodes(own_libc())
    newest = max(regenerate.release_of(node) for node in nodes)
    releases = {newest: nodes, (2, 10): nodes}
    with pytest.raises(SystemExit, match=rf"glibc \(2, 10\) for {arch}: has not the nodes that its number says"):
        regenerate.added_nodes(arch, releases, newest)


def test_an_unknown_node_is_refused() -> None:
    with pytest.raises(SystemExit, match="GLIBC_ABI_SPAM: neither a number nor in OWN_RELEASE"):
        regenerate.added_nodes("x86_64", {(2, 50): {"GLIBC_2.50", "GLIBC_ABI_SPAM"}}, (2, 50))


def test_the_running_pythons_modules_are_found() -> None:
    release = f"{sys.version_info[0]}.{sys.version_info[1]}"
    modules = regenerate.pure_modules(Path(sysconfig.get_path("stdlib"))) & regenerate.documented_modules(release)
    assert "json" in modules
    assert modules <= facts.stdlib((sys.version_info[0], sys.version_info[1]))


def test_stdlib_derives_the_version_without_an_interpreter(tmp_path: Path) -> None:
    for name in ("json", "secrets", "_sysconfigdata_m_linux", "sitecustomize"):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "lib-dynload").mkdir()
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "__init__.py").touch()
    data = tomllib.loads(regenerate.stdlib(dt.date(2026, 11, 22), {"3.6": tmp_path}))
    assert {row["version"]: row["modules"] for row in data["stdlib"]} == {
        "3.5": ["json", "xml"],
        "3.6": ["json", "secrets", "xml"],
    }


@given(st.lists(st.text(alphabet="abcXYZ_.0123456789 -", min_size=1, max_size=150)))
def test_arrays_read_back_and_fit_the_line(items: list[str]) -> None:
    text = regenerate.array("key", items)
    assert tomllib.loads(text) == {"key": items}
    assert all(len(line) <= 120 or line.count('"') == 2 for line in text.splitlines())
