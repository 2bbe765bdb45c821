"""Real projects with native code, in versions of which the index has no wheel for the slice: built, packed, and run.

These versions are older than the Python that they are built for, but that of greenlet, whose wheels are for a newer C
library.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import compiled
from support.hosts import require_host
from support.skips import skip_optional

from packer import facts, pythons, toolchain
from packer.model import Target
from packer.targets import target_of

if TYPE_CHECKING:
    from support.packing import Place

pytestmark = [pytest.mark.e2e, pytest.mark.hosts, pytest.mark.network]

HOSTS = {"cp27mu": "bullseye", "cp39": "bullseye", "cp311": "bookworm", "cp313": "trixie"}
"""ABI -> a host whose Python has it."""


@dataclass(frozen=True)
class Project:
    """What is built, and what it has to do."""

    requirement: str
    script: str
    """Of its statements none may fail; the first imports what was compiled."""
    tag: str = "cp313"
    policy: str = "manylinux2014"
    libraries: tuple[str, ...] = ()
    """What it is built with and hosts need not have, by the beginnings of names: it comes along."""
    needs: tuple[str, str] = ("/", "")
    """A file without which it cannot be built here, and the package that has it."""


MARKUPSAFE = Project(
    "MarkupSafe==2.1.3",
    "from markupsafe._speedups import escape\nassert escape('<a & b>') == '&lt;a &amp; b&gt;'",
)
PYYAML = Project(
    "PyYAML==5.3.1",
    "from _yaml import CParser\n"
    "import yaml\n"
    "assert yaml.load('a: [1, 2.5, {b: c}]', yaml.CSafeLoader) == {'a': [1, 2.5, {'b': 'c'}]}",
    tag="cp27mu",
    libraries=("libyaml",),
    needs=("/usr/include/yaml.h", "libyaml-dev"),
)
CYSIGNALS = Project(
    "cysignals==1.12.3",
    "from cysignals.signals import AlarmInterrupt\n"
    "from cysignals.alarm import alarm\n"
    "import time\n"
    "try:\n"
    "    alarm(0.1)\n"
    "    time.sleep(60)\n"
    "    raise AssertionError\n"
    "except AlarmInterrupt:\n"
    "    pass",
)
"""Of Cython and meson-python."""
UJSON = Project(
    "ujson==5.9.0",
    "import ujson\nassert ujson.loads(ujson.dumps({'a': [1, 2.5, 'é']})) == {'a': [1, 2.5, 'é']}",
)
MSGPACK = Project(
    "msgpack==1.0.4",
    "from msgpack._cmsgpack import Packer, unpackb\nassert unpackb(Packer().pack({'a': [1, b'x']}))['a'] == [1, b'x']",
    tag="cp311",
)
GREENLET = Project(
    "greenlet==3.4.0",
    "from greenlet import getcurrent, greenlet\n"
    "main = getcurrent()\n"
    "other = greenlet(lambda x: main.switch(x + 1))\n"
    "assert other.switch(1) == 2",
)
CFFI = Project(
    "cffi==1.14.2",
    "from _cffi_backend import FFI\n"
    "ffi = __import__('cffi').FFI()\n"
    "ffi.cdef('int abs(int);')\n"
    "assert ffi.dlopen(None).abs(-3) == 3\n"
    "assert ffi.callback('int(int)', lambda x: x * 2)(21) == 42",
    tag="cp39",
    policy="manylinux_2_28",
    libraries=("libffi",),
    needs=("/usr/include/x86_64-linux-gnu/ffi.h", "libffi-dev"),
)
ZSTANDARD = Project(
    "zstandard==0.18.0",
    "from zstandard.backend_c import ZstdCompressor, ZstdDecompressor\n"
    "assert ZstdDecompressor().decompress(ZstdCompressor().compress(b'abc' * 1000)) == b'abc' * 1000",
    tag="cp311",
)
LXML = Project(
    "lxml==5.2.2",
    "from lxml import etree\n"
    "tree = etree.fromstring('<a><b c=\"1\"/></a>')\n"
    "assert tree.xpath('string(//b/@c)') == '1'\n"
    "xsl = 'http://www.w3.org/1999/XSL/Transform'\n"
    'sheet = f\'<x:stylesheet version="1.0" xmlns:x="{xsl}"><x:template match="/"><d/></x:template></x:stylesheet>\'\n'
    "assert etree.tostring(etree.XSLT(etree.fromstring(sheet))(tree).getroot()) == b'<d/>'",
    policy="manylinux_2_36",
    libraries=("libxml2", "libxslt", "libexslt", "libicuuc"),
    needs=("/usr/include/libxslt/xslt.h", "libxslt1-dev"),
)
CYTOOLZ = Project(
    "cytoolz==0.12.3",
    "from cytoolz.itertoolz import groupby\nassert groupby(len, ['a', 'bb', 'c']) == {1: ['a', 'c'], 2: ['bb']}",
)
"""Of Cython, which its build takes."""

SOME = [MARKUPSAFE, PYYAML]
OTHERS = [CYSIGNALS, UJSON, MSGPACK, GREENLET, CFFI, ZSTANDARD, LXML, CYTOOLZ]


@pytest.mark.parametrize(
    "project",
    [*SOME, *(pytest.param(project, marks=pytest.mark.torture) for project in OTHERS)],
    ids=lambda project: project.requirement,
)
def test_a_project_without_a_wheel_is_built_and_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    host = require_host(HOSTS[project.tag])
    if not pythons.runs_here(Target(facts.pythons()[project.tag].abi, toolchain.machine())):
        skip_optional(f"no {project.tag} is here to build with")
    compiled.require(*project.needs)
    compiled.keep_zigs_cache(monkeypatch)
    (place.work / "tool.py").write_text(f"{project.script}\nprint('done')\n")
    words = ["--abis", f"{project.policy},{project.tag}", "--fast"]
    place.packed("fat", "tool.py", project.requirement, *words, timeout=900)
    (built,) = (place.root / "cache/fatpar-packer/built").glob(f"*/{project.tag}+*/*.whl")
    assert built.name.lower().startswith(project.requirement.replace("==", "-").lower())
    ran = host.run(["/opt/tool"], binds={place.work / "tool": "/opt/tool"})
    assert (ran.status, ran.stdout, ran.stderr) == (0, b"done\n", b"")
    (one,) = json.loads(place.packed("audit", "--json", "tool").stdout)["slices"]
    assert one["excess"] == []
    promised = target_of(one["name"]).platform.version
    assert all(facts.node_number(file["libc"]) <= promised for file in one["files"] if file["libc"]), one["files"]
    names = sorted(file["path"].rpartition("/")[2] for file in one["files"])
    for library in project.libraries:
        assert any(name.startswith(f"{library}-") for name in names), names
