"""Lazy imports under a real Python 3.15: what they change and what not, and the profile that keeps them safe."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

import pytest
from support import index
from support.hosts import require_host
from support.inhost import packer_in
from support.packing import ROOT, Place

if TYPE_CHECKING:
    from pathlib import Path

    from support.hosts import Result

pytestmark = [pytest.mark.e2e, pytest.mark.hosts]

HOST = "sid"
TOOL = "/opt/tool"
HOME = "/home/u"

APP = {
    "app/__init__.py": "",
    # two modules register something when they are imported; one of them is imported by a third
    "app/main.py": """
import multiprocessing
import os
import subprocess
import sys

import app.heavy
import app.plugins.first
from app import loader, registry

lazy_names = [name for name in ("app.heavy", "app.plugins.first", "app.loader") if name not in sys.modules]
TELL = "import sys; print(sys.get_lazy_imports())"


def tell(_):
    return sys.get_lazy_imports()


def main():
    word = sys.argv[1]
    if word == "names":
        print(sorted(registry.NAMES))
    elif word == "lazy":
        print(lazy_names, sys.get_lazy_imports(), sys.get_lazy_imports_filter() is not None)
    elif word == "heavy":
        print(app.heavy.VALUE)
    elif word == "children":
        print(subprocess.run([sys.executable, "-I", "-c", TELL], capture_output=True, text=True).stdout.strip())
        for method in ("spawn", "forkserver", "fork"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                print(method, pool.map(tell, [0]))
""",
    "app/registry.py": "NAMES = set()\n",
    "app/heavy.py": "".join(f"import app.filler{number}\n" for number in range(20)) + "VALUE = 42\n",
    "app/loader.py": "import app.plugins.second\n",
    "app/plugins/__init__.py": "",
    "app/plugins/first.py": "from app import registry\nregistry.NAMES.add('first')\n",
    "app/plugins/second.py": "import app.registry as registry\nregistry.NAMES.add('second')\n",
    **{f"app/filler{number}.py": "" for number in range(20)},
}

CHECK = """[ "$($TOOL names)" = "['first', 'second']" ] && [ "$($TOOL heavy)" = 42 ]"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shelf")
    index.wheel(directory, "app", scripts=["tool=app.main:main"], files=APP)
    return directory


def pack(place: Place, shelf: Path, name: str, *words: str | Path) -> Path:
    words = (
        "app",
        "--no-index",
        "--find-links",
        shelf,
        "-c",
        "tool",
        "--abis",
        "manylinux2014,cp315",
        "--fast",
        *words,
    )
    place.packed("fat", *words, "-o", name)
    return place.work / name


def run(tool: Path, *words: str, **env: str) -> Result:
    return require_host(HOST).run([TOOL, *words], binds={tool: TOOL}, env=env)


def says(tool: Path, *words: str, **env: str) -> str:
    result = run(tool, *words, **env)
    assert (result.status, result.stderr) == (0, b""), result
    return result.stdout.decode().strip()


def check(tool: Path, directory: Path, *words: str) -> Result:
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    binds = {tool: TOOL, directory: "/mnt"}
    return packer_in(require_host(HOST), "profile", TOOL, "-o", "/mnt/p.json", *words, binds=binds)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shelf: Path) -> Place:
    return Place(tmp_path_factory.mktemp("lazy"))


@pytest.fixture(scope="module")
def every(made: Place, shelf: Path) -> Path:
    """Everything is lazy."""
    return pack(made, shelf, "every", "--lazy-imports", "all")


@pytest.fixture(scope="module")
def plain(made: Place, shelf: Path) -> Path:
    return pack(made, shelf, "plain")


@pytest.fixture(scope="module")
def profiled(plain: Path, made: Place) -> Path:
    """A profile of it, with what a check found."""
    ended = check(plain, made.root / "profile", "--run=heavy", "--check", CHECK)
    assert ended.status == 0, ended
    said = ended.stdout.decode()
    for name in ("app.plugins.first", "app.plugins.second"):
        assert f"/mnt/p.json: cp315: {name} has to stay eager" in said
    assert "/mnt/p.json: cp315: with what leads to them: app.main, app.loader\n" in said
    return made.root / "profile/p.json"


def test_all_imports_are_lazy_and_side_effects_come_late(every: Path, plain: Path) -> None:
    assert says(plain, "lazy") == "[] normal False"
    assert says(plain, "names") == "['first', 'second']"
    assert says(every, "lazy") == "['app.heavy', 'app.plugins.first', 'app.loader'] all False"
    assert says(every, "names") == "[]"
    assert says(every, "heavy") == "42"


def test_they_can_be_switched_off_on_a_host(every: Path) -> None:
    assert says(every, "lazy", FATPAR_LAZY_IMPORTS="off") == "[] normal False"
    assert says(every, "names", FATPAR_LAZY_IMPORTS="off") == "['first', 'second']"


def test_children_import_as_ever_but_for_forks(every: Path) -> None:
    said = "normal\nspawn ['normal']\nforkserver ['normal']\nfork ['all']"
    assert says(every, "children") == said


def test_a_check_finds_what_has_to_stay_eager(profiled: Path) -> None:
    said = json.loads(profiled.read_text())["abis"]["cp315"]
    assert sorted(said["lazy"]["eager"]) == ["app.loader", "app.main", "app.plugins.first", "app.plugins.second"]
    assert said["lazy"]["commands"] == [CHECK]
    assert said["lazy"]["python"].startswith("3.15.")
    assert said["runs"] == ["heavy"]
    names = [one["name"] for one in said["modules"]]
    order = [
        "app",
        "app.main",
        "app.heavy",
        "app.filler0",
        "app.filler19",
        "app.plugins",
        "app.plugins.first",
        "app.loader",
    ]
    assert [name for name in names if name in order] == order
    paths = {one["name"]: one["path"] for one in said["modules"]}
    assert paths["app.heavy"] == "lib/python/site-packages/app/heavy.py"
    assert paths["subprocess"] is None


def test_a_profile_makes_them_safe(made: Place, shelf: Path, profiled: Path) -> None:
    tool = pack(made, shelf, "safe", "--profile", profiled, "--bytecode", "none")
    assert says(tool, "names") == "['first', 'second']"
    assert says(tool, "lazy") == "['app.heavy'] all True"
    assert says(tool, "lazy", FATPAR_LAZY_IMPORTS="off") == "[] normal False"
    described = json.loads(made.packed("inspect", "safe", "--json").stdout)
    assert described["manifest"]["lazy_imports"] == {"cp315": "profile"}


def test_what_its_author_made_lazy_stays_so(tmp_path: Path) -> None:
    """Also in modules that no check saw; what they import eagerly stays eager."""
    place, shelf = Place(tmp_path / "place"), tmp_path / "shelf"
    shelf.mkdir()
    source = """
import sys
lazy import not_there_at_all
lazy from nor_this import thing
__lazy_modules__ = ["nor_that"]
import nor_that
import wave


def main():
    print("wave" in sys.modules, sys.get_lazy_imports())
"""
    index.wheel(shelf, "app", scripts=["tool=app.main:main"], files={"app/__init__.py": "", "app/main.py": source})
    lazy = {"python": "3.15.2", "commands": ["true"], "eager": [], "importers": ["another"]}
    profile = place.work / "p.json"
    profile.write_text(json.dumps({"version": 1, "abis": {"cp315": {"lazy": lazy}}}))
    tool = pack(place, shelf, "tool", "--profile", profile, "--bytecode", "none")
    assert says(tool) == "True all"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("exit 3", "--check fails without lazy imports, too: status 3"),
        ("env -i $TOOL names", "--check does not run the program"),
    ],
)
def test_a_check_that_is_none(plain: Path, tmp_path: Path, command: str, message: str) -> None:
    ended = check(plain, tmp_path / "out", "--check", command)
    assert ended.status == 1
    assert message in ended.stderr.decode()
    assert b"Traceback" not in ended.stderr


# A real program ---------------------------------------------------------------------------------------------------

SURFACE = [
    ["--version"],
    ["--help"],
    ["--ignore-stdin", "--offline", "GET", "http://localhost/x", "a==b", "X:1"],
    ["--debug"],
    ["--manual"],
    [],
    [
        "--ignore-stdin",
        "--offline",
        "POST",
        "http://localhost/x",
        "a=b",
        "c:=[1,2]",
        "--print=HB",
        "--pretty=all",
        "--style=monokai",
    ],
    ["--ignore-stdin", "--offline", "--form", "POST", "http://localhost/x", "a=b", "--print=HBhb", "--unsorted"],
    ["--ignore-stdin", "--offline", "--multipart", "--boundary=xx", "POST", "http://localhost/x", "a=b"],
    ["--ignore-stdin", "--offline", "--auth=a:b", "--auth-type=digest", "http://localhost/x"],
    ["--ignore-stdin", "--offline", "--bearer-is-no-option", "http://localhost/x"],
    ["--ignore-stdin", "--offline", "-A", "bearer", "-a", "token", "http://localhost/x"],
    ["--ignore-stdin", "--offline", "--session=/tmp/s.json", "http://localhost/x", "A:b"],
    ["--ignore-stdin", "--offline", "--compress", "POST", "http://localhost/x", "a=b"],
    ["--ignore-stdin", "--offline", "--stream", "--raw", "{}", "http://localhost/x"],
    ["--ignore-stdin", "--offline", "--chunked", "--raw", "{}", "http://localhost/x"],
    ["--ignore-stdin", "--offline", "http://localhost/x", "a:=no json"],
    ["--ignore-stdin", "--offline", "http://localhost/x", "f@/not/there"],
    ["http://127.0.0.1:9/refused"],
    ["ftp://localhost/x"],
    ["--ignore-stdin", "--offline", "--verify=no", "--ssl=tls1.2", "--ciphers=x", "https://localhost/x"],
    ["--ignore-stdin", "--offline", "--style=not-there", "http://localhost/x"],
    [
        "--ignore-stdin",
        "--offline",
        "--format-options=json.indent:2",
        "--pretty=format",
        "POST",
        "http://localhost/x",
        "a=b",
    ],
    ["plugins", "list"],
    ["cli", "check-updates", "--help"],
    ["cli", "sessions"],
]
"""What httpie can do without a network."""

HTTPIE_CHECK = """
$TOOL --version && $TOOL --help >/dev/null && $TOOL --ignore-stdin --offline GET http://localhost/x a==b >/dev/null &&
$TOOL --ignore-stdin --offline --form POST http://localhost/x a=b --pretty=all >/dev/null &&
[ "$($TOOL --ignore-stdin --offline -A bearer -a t http://localhost/ | grep -c 'Bearer t')" = 1 ]
"""


def surface(tool: Path, chosen: list[list[str]], **env: str) -> list[tuple[str, str]]:
    """What each of these command lines writes; addresses of objects, which ``--debug`` has, are never the same."""
    script = 'for words; do echo "@@@ $words"; echo "@@@ $words" >&2; eval "/opt/http $words"; echo "status $?"; done'
    words = [shlex.join(one) for one in chosen]
    command = ["sh", "-c", script, "sh", *words]
    result = require_host(HOST).run(command, binds={tool: "/opt/http"}, env=env, timeout=900)
    written = [re.sub("0x[0-9a-f]{8,}", "0x", text.decode()).split("@@@ ") for text in (result.stdout, result.stderr)]
    return list(zip(*written, strict=True))


def same(tool: Path, chosen: list[list[str]]) -> None:
    """Compare a program with itself, its lazy imports switched off, so that even its paths are the same."""
    expected = surface(tool, chosen, FATPAR_LAZY_IMPORTS="off")
    assert len(expected) == len(chosen) + 1
    assert expected[1] == ("--version\n3.2.4\nstatus 0\n", "--version\n")
    assert surface(tool, chosen) == expected


@pytest.mark.network
@pytest.mark.parametrize(
    "chosen", [pytest.param(SURFACE[:4], id="few"), pytest.param(SURFACE, id="whole", marks=pytest.mark.torture)]
)
def test_httpie_does_the_same(place: Place, chosen: list[list[str]]) -> None:
    """Its output over what it can do without a network, with lazy imports and without."""

    def packed(mode: str, *more: str | Path) -> Path:
        (place.work / mode).mkdir()
        words = ("httpie==3.2.4", "-c", "http", "--abis", "manylinux2014,cp315", "--fast", "--lazy-imports", mode)
        place.packed("fat", *words, *more, "-o", f"{mode}/http", env={"XDG_CACHE_HOME": str(ROOT / ".cache")})
        return place.work / mode / "http"

    every = packed("all")
    same(every, chosen)
    if chosen is SURFACE:
        ended = check(every, place.root / "profile", "--check", HTTPIE_CHECK)
        assert ended.status == 0, ended
        same(packed("profile", "--profile", place.root / "profile/p.json", "--bytecode", "none"), chosen)
