"""A store keeps itself small: what nobody started for long goes when something is unpacked, and nobody notices."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.layers import SITE
from support.native import lib, new
from support.process import Store, traced

if TYPE_CHECKING:
    from pathlib import Path

    from support.process import Inside

    from .conftest import Enter

pytestmark = pytest.mark.hosts

DAY = 24 * 3600

COMMON: dict[str, str | bytes | None] = {f"{SITE}/common/__init__.py": "", f"{SITE}/common/big.bin": b"x" * 300_000}

APP = """\
import common, os, subprocess, sys, time


def wait(home, number):
    open(home + "/ready." + number, "w").close()
    while not os.path.exists(home + "/go"):
        time.sleep(0.02)


def main():
    if len(sys.argv) > 2:
        wait(sys.argv[1], sys.argv[2])
        import {0}.late, {0}.child
        child = [sys.executable, "-c", "import {0}.child; print({0}.child.word)"]
        print({0}.late.word, {0}.child.word, subprocess.check_output(child).decode().strip())
    elif len(sys.argv) > 1:
        code = "import app, {0}, sys; app.wait(*sys.argv[1].split()); import {0}.late; print({0}.late.word)"
        sys.exit(subprocess.call([sys.executable, "-c", code, sys.argv[1]]))
    else:
        print("ran")
"""


@dataclass(frozen=True)
class Tools:
    """Programs that have a wheel in common and one of their own each, on a host; launched are none."""

    far: Inside
    store: Store

    def launch(self, *names: str) -> None:
        for name in names:
            assert self.far.run([f"/opt/{name}"]).whole == (0, b"ran\n", b"")

    def views(self) -> dict[str, str]:
        """Tool -> its view's name."""
        place = self.store.base / "v1/views"
        abouts = {name: (place / name / "about").read_text() for name in self.store.names("views")}
        return {text.partition("\ntool ")[2].partition("\n")[0]: name for name, text in abouts.items()}

    def age(self, days: float, *names: str) -> None:
        """Let views, and all layers, be unused for so long; the next launch that unpacks may prune."""
        then = time.time() - days * DAY
        views = self.views()
        layers = [self.store.base / "v1/layers" / name for name in self.store.names("layers")]
        for path in (*layers, *(self.store.base / "v1/views" / views[name] for name in names)):
            os.utime(path, (then, then))
        os.utime(self.store.base / "v1/pruned", (0, 0))

    def age_only(self, name: str, days: float) -> None:
        """The same for one view."""
        then = time.time() - days * DAY
        os.utime(self.store.base / "v1/views" / self.views()[name], (then, then))


@pytest.fixture
def tools(enter: Enter, store: Store, tmp_path: Path) -> Tools:
    binds = {}
    for name in ("one", "two", "three", "new"):
        own: dict[str, str | bytes | None] = {
            f"{SITE}/{name}/__init__.py": "", f"{SITE}/{name}/late.py": "word = 'late'\n",
            f"{SITE}/{name}/child.py": "word = 'child'\n", f"{SITE}/{name}/own.bin": name.encode() * 40_000,
            f"{SITE}/app.py": APP.replace("{0}", name),
        }  # fmt: skip
        binds[slices.write(tmp_path / name, [slices.Wanted({"common": COMMON, name: own})])] = f"/opt/{name}"
    return Tools(enter("bookworm", binds), store)


def test_what_was_not_used_for_long_goes_when_something_is_unpacked(tools: Tools) -> None:
    tools.launch("one", "two", "three")
    layers = len(tools.store.names("layers"))
    tools.age(31, "one")
    tools.age(29, "two")
    tools.launch("two", "three")  # unpacks nothing
    assert tools.views().keys() == {"one", "two", "three"}
    tools.launch("new")
    assert tools.views().keys() == {"two", "three", "new"}
    # a wheel and an application went, another two came; what is shared stayed
    assert len(tools.store.names("layers")) == layers
    assert (tools.store.broken(), tools.store.leftovers()) == ([], [])
    tools.launch("one", "two", "three", "new")
    assert len(tools.store.names("layers")) == layers + 2


def test_it_is_looked_at_once_a_day(tools: Tools) -> None:
    tools.launch("one", "two")
    tools.age(31, "one")
    os.utime(tools.store.base / "v1/pruned")
    tools.launch("three")
    assert "one" in tools.views()
    os.utime(tools.store.base / "v1/pruned", (0, 0))
    tools.launch("new")
    assert "one" not in tools.views()


def test_the_longest_unused_go_until_the_rest_fits(tools: Tools) -> None:
    """Of the layers of three programs, with 300 KB in common and 100 KB each, 600 KB are kept."""
    tools.launch("one", "two", "three")
    for days, name in enumerate(("two", "three", "one"), 2):
        tools.age(days, name)
    (tools.store.base / "v1/limits").write_text("days 90\nsize 750000\n")
    tools.launch("new")
    assert tools.views().keys() == {"two", "new"}
    assert (tools.store.broken(), tools.store.leftovers()) == ([], [])


def test_what_was_used_today_stays_however_much_it_is(tools: Tools) -> None:
    tools.launch("one", "two")
    tools.age(0.9, "one", "two")
    (tools.store.base / "v1/limits").write_text("days 0\nsize 0\n")
    tools.launch("new")
    assert tools.views().keys() == {"one", "two", "new"}


def test_what_was_installed_stays(tools: Tools) -> None:
    tools.launch("one", "two")
    (tools.store.base / "v1/views" / tools.views()["one"] / "installed").symlink_to("1")
    tools.age(400, "one", "two")
    tools.launch("new")
    assert tools.views().keys() == {"one", "new"}


def test_a_use_is_noted_twice_a_day(tools: Tools, user_home: Path) -> None:
    tools.launch("one")
    (view,) = (tools.store.base / "v1/views").iterdir()
    for days, noted in ((0.4, False), (0.6, True), (-3, True)):
        then = time.time() - days * DAY
        os.utime(view, (then, then))
        ended, lines = traced(tools.far, user_home, "exec /opt/one", "-e", "trace=utimensat")
        assert ended.whole == (0, b"ran\n", b"")
        assert sum("/tree/.." in line for line in lines) == noted
        assert abs(view.stat().st_mtime - (time.time() if noted else then)) < 60


def test_a_view_in_use_is_kept_while_others_go(tools: Tools) -> None:
    """Twenty processes that run, half of them children of the program's interpreter, import what they never touched."""
    tools.launch("one", "two")
    script = """
        cd ~
        for i in 0 1 2 3 4 5 6 7 8 9; do /opt/one ~ 0$i >out.0$i 2>err.0$i & done
        for i in 0 1 2 3 4 5 6 7 8 9; do /opt/one "$HOME 1$i" >out.1$i 2>err.1$i & done
        while test $(ls ready.* 2>/dev/null | wc -l) != 20; do sleep 0.05; done
        touch -d '400 days ago' .cache/fatpar/v1/views/* .cache/fatpar/v1/layers/*
        touch -d '400 days ago' .cache/fatpar/v1/pruned
        /opt/new
        touch go
        wait
        cat out.* err.*
    """
    ended = tools.far.run(["sh", "-c", script])
    assert ended.whole == (0, b"ran\n" + 10 * b"late child child\n" + 10 * b"late\n", b"")
    assert tools.views().keys() == {"one", "new"}


def test_where_nothing_tells_what_runs_nothing_goes(tools: Tools) -> None:
    tools.launch("one")
    tools.age(400, "one")
    tools.far.root("""python3 -c "import ctypes; assert ctypes.CDLL(None).umount2(b'/proc', 2) == 0" """)
    tools.launch("new")
    assert tools.views().keys() == {"one", "new"}


def test_launches_prune_no_store_of_an_administrator(tools: Tools) -> None:
    tools.far.root("mkdir /var/lib/fatpar; /opt/one; cd /var/lib/fatpar/v1; touch -d '400 days ago' views/* layers/*")
    tools.far.root(
        "/opt/new; cd /var/lib/fatpar/v1; test $(ls views | wc -l) = 2; test ! -e pruned; rm -r ../../fatpar"
    )


def test_a_layer_that_another_store_s_view_leans_on_counts_as_used(tools: Tools) -> None:
    """That store cannot be seen from here; but whoever looks for a layer notes it."""
    tools.launch("one")
    tools.age(400)
    layers = list((tools.store.base / "v1/layers").iterdir())
    tools.launch("two")
    used = [path.name for path in layers if path.stat().st_mtime > time.time() - DAY]
    assert len(used) == 1


def test_what_was_noted_by_a_clock_that_was_wrong_counts_from_today(tools: Tools) -> None:
    tools.launch("one", "two")
    tools.age(-5000, "one")
    os.utime(tools.store.base / "v1/pruned", (2e9 + 1e9, 2e9 + 1e9))
    tools.age_only("two", 40)
    tools.launch("new")
    assert tools.views().keys() == {"one", "new"}
    view = tools.store.base / "v1/views" / tools.views()["one"]
    assert abs(view.stat().st_mtime - time.time()) < 600


def test_days_beyond_all_reason_are_many(tools: Tools) -> None:
    tools.launch("one")
    for text in ("days 4294967296\n", "days -1\n"):
        (tools.store.base / "v1/limits").write_text(text)
        limits, stores = new("struct limits *"), new("struct stores *")
        lib().storesonly(stores, os.fsencode(tools.store.base))
        stores.list[0].fd = os.open(tools.store.base / "v1", os.O_RDONLY)
        lib().limitsread(stores.list, limits)
        assert limits.days == 36500
        os.close(stores.list[0].fd)


# What processes use ---------------------------------------------------------------------------------------------


def test_uses_are_those_of_this_very_process() -> None:
    """It has mapped none; a child that is told a view's path has one."""
    name, layer = "0123456789abcdef" * 2, "0123456789abcdef" * 4
    code = "import sys, time; print(); sys.stdout.flush(); time.sleep(60)"
    launcher = "76543210fedcba98" * 4
    paths = (
        f"/s/v1/views/{name}/tree/bin/python", f"/s/v1/layers/{layer}/tree", "/s/v1/views/0123456789",
        f"/s/v1/launchers/{launcher}",
    )  # fmt: skip
    for argv, lone in ((paths, False), (paths[1:], True)):
        with subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE) as child:
            assert child.stdout
            child.stdout.readline()
            uses = new("struct uses *")
            assert lib().usesread(uses, os.geteuid()) == 0
            child.kill()
        assert bool(lib().usesfind(uses, name.encode())) == (not lone)
        found = lib().usesfind(uses, layer.encode())
        assert found
        assert bool(found.lone) == lone
        assert lib().usesfind(uses, launcher.encode())
        assert not lib().usesfind(uses, b"0123456789")
        lib().usesfree(uses)


def test_two_processes_with_one_layer_of_which_one_shows_its_view() -> None:
    """The other one's is lone, whichever comes first."""
    view, layer = "fedcba9876543210" * 2, "fedcba9876543210" * 4
    code = "import sys, time; print(); sys.stdout.flush(); time.sleep(60)"
    paths = [f"/s/v1/views/{view}/tree", f"/s/v1/layers/{layer}/tree"]
    for order in (paths, paths[1:]), (paths[1:], paths):
        children = [subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE) for argv in order]
        for child in children:
            assert child.stdout
            child.stdout.readline()
        uses = new("struct uses *")
        assert lib().usesread(uses, os.geteuid()) == 0
        assert lib().usesfind(uses, layer.encode()).lone
        lib().usesfree(uses)
        for child in children:
            child.kill()
            child.communicate()


def test_a_view_of_another_store_says_what_it_leans_on(tmp_path: Path) -> None:
    view, layer = "fedcba9876543210" * 2, "0123456789abcdef" * 4
    place = tmp_path / "a store" / "v1/views" / view
    place.mkdir(parents=True)
    (place / "about").write_text(f"archive x\nlayer {layer} name\n")
    code = "import sys, time; print(); sys.stdout.flush(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, f"{place}/tree"], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        uses = new("struct uses *")
        assert lib().usesread(uses, os.geteuid()) == 0
        child.kill()
    found = lib().usesfind(uses, layer.encode())
    assert found
    assert not found.lone
    lib().usesfree(uses)


def test_of_a_process_that_hides_it_is_known_when_it_began() -> None:
    """A process that changes its user hides what it has loaded from that user, too."""
    reading, writing = os.pipe()
    children = []
    for work in ("hide", "look"):
        children.append(os.fork())
        if children[-1] == 0:
            os.setresgid(4242, 4242, 4242)
            os.setresuid(4242, 4242, 4242)
            if work == "look":
                time.sleep(2)
                uses = new("struct uses *")
                lib().usesread(uses, 4242)
                os.write(writing, str(uses.hidden).encode())
            time.sleep(60)
            os._exit(1)
    began = int(os.read(reading, 100))
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert abs(began - (time.time() - 2)) < 5
