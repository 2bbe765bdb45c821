"""Where the store is: the first directory that can be trusted, written to, executed from, and has room."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.hosts import USER
from support.layers import SITE
from support.process import Inside, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .conftest import Enter, Pack

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
APP = "import sys\n\n\ndef main():\n    print(sys.prefix.rpartition('/v1/views/')[0])\n"
PLACES = "/home /root /var/tmp /var/lib /dev/shm /run /srv /tmp"

SYSTEM = "/var/lib/fatpar"
HOME, VAR_TMP, RUN, SHM = "/home/u/.cache/fatpar", "/var/tmp/fatpar-4242", "/run/u/fatpar", "/dev/shm/fatpar-4242"


@pytest.fixture(scope="module")
def tool(pack: Pack) -> Path:
    """Some 600 KB in 120 files."""
    modules = {"app.py": APP, **{f"data/{number}.txt": f"{number}\n" * 1000 for number in range(120)}}
    return pack("tool", modules)


@dataclass(frozen=True)
class Place:
    """A host as it is found, and the store that is chosen there."""

    expected: str
    env: Mapping[str, str | None] = field(default_factory=dict)
    given: str = "true"
    """Shell commands of root beforehand."""
    user: int = USER
    tmpfs: Mapping[str, str] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether a store before the expected one has no room."""
        return any("size=" in options or "nr_inodes=" in options for options in self.tmpfs.values())


NO_HOME: dict[str, str | None] = {"HOME": None}
NAMED = {"FATPAR_STORE": "/srv/x"}

CASES = {
    "the-home": Place(HOME),
    "the-cache-variable": Place("/home/u/x/y/fatpar", {"XDG_CACHE_HOME": "/home/u/x/y"}),
    "our-own-variable": Place("/home/u/x/y", {"FATPAR_STORE": "/home/u/x/y", "XDG_CACHE_HOME": "/home/u/z"}),
    "variables-that-are-relative": Place(VAR_TMP, {"FATPAR_STORE": "x", "XDG_CACHE_HOME": "./y", "HOME": "z"}),
    "variables-that-are-empty": Place(VAR_TMP, {"FATPAR_STORE": "", "XDG_CACHE_HOME": "", "HOME": ""}),
    "no-home": Place(VAR_TMP, NO_HOME),
    "home-that-is-not-there": Place(VAR_TMP, {"HOME": "/nonexistent"}),
    "home-is-the-root": Place(VAR_TMP, {"HOME": "/"}),
    "home-that-is-not-writable": Place(VAR_TMP, given="chown 0:0 /home/u"),
    "home-of-somebody-else": Place(VAR_TMP, {"HOME": "/home/v"}, "mkdir /home/v; chown 5001 /home/v"),
    "home-that-cannot-be-entered": Place(VAR_TMP, {"HOME": "/root"}, "chmod 700 /root"),
    "cache-that-is-a-file": Place(VAR_TMP, given="touch /home/u/.cache"),
    "cache-of-somebody-else": Place(VAR_TMP, given="mkdir /home/u/.cache; chown 5001 /home/u/.cache"),
    "cache-that-is-a-link": Place(
        HOME, given="mkdir /home/u/elsewhere; chown 4242 /home/u/elsewhere; ln -s elsewhere /home/u/.cache"
    ),
    "run-time-directory": Place(
        RUN, NO_HOME | {"XDG_RUNTIME_DIR": "/run/u"}, "chmod 755 /var/tmp; mkdir -m 700 /run/u; chown 4242 /run/u"
    ),
    "shared-memory": Place(SHM, NO_HOME, "chmod 755 /var/tmp"),
    "store-that-is-a-link": Place(
        VAR_TMP, given="mkdir -p /home/u/.cache /home/u/x; ln -s ../x /home/u/.cache/fatpar; chown -R 4242 /home/u"
    ),
    "store-that-is-a-file": Place(VAR_TMP, given="mkdir /home/u/.cache; touch /home/u/.cache/fatpar"),
    "store-the-group-can-write-to": Place(
        HOME, NAMED, "mkdir -m 775 /srv/x; chown 4242:4242 /srv/x; chmod 775 /srv/x"
    ),
    "store-all-can-write-to": Place(HOME, NAMED, "mkdir /srv/x; chown 4242 /srv/x; chmod 1777 /srv/x"),
    "store-of-somebody-else": Place(HOME, NAMED, "mkdir /srv/x; chown 5001 /srv/x; chmod 755 /srv/x"),
    "version-all-can-write-to": Place(
        HOME, NAMED, "mkdir -p /srv/x/v1; chown -R 4242 /srv/x; chmod 777 /srv/x/v1"
    ),
    "version-that-is-a-link": Place(
        HOME, NAMED, "mkdir -p /srv/x /srv/y; ln -s ../y /srv/x/v1; chown -Rh 4242 /srv/x /srv/y"
    ),
    "trap-in-the-common-directory": Place(
        SHM, NO_HOME, "mkdir -m 777 /var/tmp/fatpar-4242; chown 5001 /var/tmp/fatpar-4242"
    ),
    "trap-with-a-whole-store": Place(
        SHM, NO_HOME,
        "mkdir -p /var/tmp/fatpar-4242/v1/layers /var/tmp/fatpar-4242/v1/views /var/tmp/fatpar-4242/v1/plans;"
        "chown -R 5001 /var/tmp/fatpar-4242; chmod 755 /var/tmp/fatpar-4242",
    ),
    "trap-that-is-a-link": Place(
        SHM, NO_HOME,
        "install -d -o 4242 /home/u/x; ln -s /home/u/x /var/tmp/fatpar-4242; chown -h 5001 /var/tmp/fatpar-4242",
    ),
    "trap-that-dangles": Place(SHM, NO_HOME, "ln -s /home/u/x /var/tmp/fatpar-4242"),
    "noexec": Place(VAR_TMP, tmpfs={"/home/u/.cache": "noexec"}),
    "noexec-store-that-was-asked-for": Place(HOME, NAMED, tmpfs={"/srv": "noexec"}),
    "full": Place(VAR_TMP, tmpfs={"/home/u/.cache": "size=256k"}),
    "full-of-files": Place(VAR_TMP, tmpfs={"/home/u/.cache": "nr_inodes=50"}),
    "two-that-are-full": Place(SHM, tmpfs={"/home/u/.cache": "size=256k", "/var/tmp": "nr_inodes=50"}),
    "almost-full": Place(
        VAR_TMP, given="head -c 600k /dev/zero > /home/u/.cache/x", tmpfs={"/home/u/.cache": "size=1m"}
    ),
    "root": Place("/root/.cache/fatpar", {"HOME": "/root"}, user=0),
    "root-with-a-user-s-home": Place("/var/tmp/fatpar-0", {"HOME": "/home/u"}, user=0),
    "root-with-a-user-s-cache": Place(
        "/var/tmp/fatpar-0", {"HOME": "/home/u"}, "mkdir -p /home/u/.cache/fatpar; chown -R 4242 /home/u", user=0
    ),
    "root-without-a-home": Place("/var/tmp/fatpar-0", NO_HOME, user=0),
    "root-where-an-administrator-made-a-store": Place(SYSTEM, {"HOME": "/root"}, "mkdir /var/lib/fatpar", user=0),
    "store-of-an-administrator": Place(HOME, given="mkdir /var/lib/fatpar"),
}  # fmt: skip


@pytest.mark.parametrize("place", CASES.values(), ids=CASES)
def test_the_store_is_the_first_directory_that_will_do(tool: Path, enter: Enter, place: Place) -> None:
    far = enter("bookworm", {tool: TOOL}, tmpfs=place.tmpfs)
    far.root(place.given)
    before = files(far)
    for _ in range(2):
        done = far.run([TOOL], user=place.user, env=place.env)
        assert done.whole == (0, place.expected.encode() + b"\n", b"")
    base = far.root(f"readlink -f {place.expected}").decode().strip()
    elsewhere = [path for path in files(far) if path not in before and not path.startswith(f"{base}/")]
    # only what turned out to be full was begun
    assert {Path(path).name for path in elsewhere} <= ({"CACHEDIR.TAG", "lock"} if place.full else set())
    assert far.root(f"stat -c '%a %u' {base}").split() in ([b"700", str(place.user).encode()], [b"755", b"0"])


def files(far: Inside) -> list[str]:
    """All that is no directory in places where a store may be."""
    return far.root(f"find {PLACES} ! -type d | sort").decode().split()


def test_a_plan_elsewhere_is_not_asked_for_where_the_first_store_has_none_that_holds(
    tool: Path, enter: Enter, tmp_path: Path
) -> None:
    """A launch without a home went to /var/tmp; what is in the home goes on being used all the same."""
    other = slices.write(tmp_path / "other", [slices.Wanted({"app": {f"{SITE}/app.py": "def main():\n    pass\n"}})])
    far = enter("bookworm", {tool: TOOL, other: "/opt/other"})
    assert far.run([TOOL]).whole == (0, HOME.encode() + b"\n", b"")
    assert far.run([TOOL], env={"HOME": None}).whole == (0, VAR_TMP.encode() + b"\n", b"")
    assert far.run([TOOL]).whole == (0, HOME.encode() + b"\n", b"")
    assert far.run(["/opt/other"]).whole == (0, b"", b"")
    for _ in range(2):
        assert far.run([TOOL]).whole == (0, HOME.encode() + b"\n", b"")


def test_no_store_at_all_is_told_in_one_line_with_every_reason(tool: Path, enter: Enter) -> None:
    far = enter("bookworm", {tool: TOOL}, tmpfs={"/mnt": "noexec", "/run": "size=256k", "/srv": "size=1m,mode=755"})
    far.root(
        "mkdir -m 777 /srv/all /var/lib/fatpar; chown 0:0 /home/u; chmod 755 /dev/shm;"
        "mkdir -m 755 /var/tmp/fatpar-4242; chown 5001 /var/tmp/fatpar-4242"
    )
    env = {"FATPAR_STORE": "/srv/all", "XDG_CACHE_HOME": "/mnt", "XDG_RUNTIME_DIR": "/run"}
    before = files(far)
    for _ in range(2):
        done = far.run([TOOL], env=env)
        assert (done.status, done.stdout) == (125, b"")
        assert re.sub(r"\d+ MB are", "N MB are", done.stderr.decode()) == (
            "tool: no directory to unpack to:"
            " /srv/all (others can write to it),"
            " /var/lib/fatpar (others can write to it),"
            " /mnt/fatpar (its filesystem is mounted noexec),"
            " /home/u/.cache/fatpar (Permission denied),"
            " /var/tmp/fatpar-4242 (it belongs to somebody else),"
            " /run/fatpar (N MB are needed, N MB are free),"
            " /dev/shm/fatpar-4242 (Permission denied)\n"
            "tool: hint: set FATPAR_STORE to a directory of your own,"
            " on a filesystem with room that is not mounted noexec\n"
        )
    assert files(far) == before
    assert far.root("ls -A /run") == b""  # what was made there before it turned out to be too small


TRAPS = {
    "common-directory": ({"HOME": None}, "/var/tmp/fatpar-4242"),
    "home": ({}, HOME),
    "named": ({"FATPAR_STORE": "/srv/x"}, "/srv/x"),
    "administrator-s": ({}, "/var/lib/fatpar"),
}


@pytest.mark.parametrize(("env", "place"), TRAPS.values(), ids=TRAPS)
def test_a_whole_store_that_somebody_else_prepared_is_not_used(
    pack: Pack, enter: Enter, env: Mapping[str, str | None], place: str
) -> None:
    """It holds the very view that the user's launch will look for, and in it another application."""
    tool = pack("tool", {"app.py": "def main():\n    print('right')\n"})
    far = enter("bookworm", {tool: TOOL})
    far.root("mkdir /home/5001; chown 5001 /home/5001")
    assert far.run([TOOL], user=5001, env={"FATPAR_STORE": "/home/5001/x"}).stdout == b"right\n"
    far.root(
        "cd /home/5001/x/v1; app=$(ls layers/*/tree/lib/python/site-packages/app.py);"
        "echo 'def main(): print(\"wrong\")' > $app;"
        "find . -name '*.pyc' -delete; rm plans/*;"
        "for made in layers/*/made views/*/made; do ln -sf durable $made; done; chown -R 5001 /home/5001;"
        f"mkdir -p $(dirname {place}); mv /home/5001/x {place}; chmod 755 {place}"
    )
    for _ in range(2):
        assert far.run([TOOL], env=env).whole == (0, b"right\n", b"")
    assert far.run([TOOL], user=5001, env={"FATPAR_STORE": place}).stdout == b"wrong\n"


# What is in it --------------------------------------------------------------------------------------------------

MIXED = {
    "bin/run": "#!/bin/sh\n",
    f"{SITE}/app.py": APP,
    f"{SITE}/pkg/__init__.py": "",
    f"{SITE}/pkg/data/empty": None,
    f"{SITE}/pkg/data/link": "->../__init__.py",
}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=lambda mask: f"{mask:03o}")
def test_modes_and_times_are_the_same_whatever_the_umask(enter: Enter, store: Store, tmp_path: Path, mask: int) -> None:
    tool = slices.write(tmp_path / "tool", [slices.Wanted({"mixed": MIXED})])
    far = enter("bookworm", {tool: TOOL})
    assert far.run([TOOL], umask=mask).whole == (0, f"{HOME}\n".encode(), b"")
    (view,) = store.names("views")
    trees = [store.base / "v1/layers" / name / "tree" for name in store.names("layers")]
    trees.append(store.base / "v1/views" / view / "tree")
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}
    seen = {
        (kinds[stat.S_IFMT(path.lstat().st_mode)], oct(path.lstat().st_mode & 0o7777))
        for tree in trees for path in (tree, *tree.rglob("*")) if not path.is_symlink()
    }  # fmt: skip
    assert seen == {("file", "0o444"), ("file", "0o555"), ("directory", "0o555")}
    files_of_layers = [
        path for tree in trees[:-1] for path in tree.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert len(files_of_layers) == 4
    assert {path.stat().st_mtime_ns for path in files_of_layers} == {315532800 * 10**9}
    (run,) = (path for path in files_of_layers if path.name == "run")
    assert run.stat().st_mode & 0o777 == 0o555
    assert {oct(path.stat().st_mode & 0o7777) for path in (store.base / "v1", *(store.base / "v1").glob("*/"))} == {
        "0o755"
    }
    assert {oct(path.stat().st_mode & 0o7777) for path in (store.base / "v1/plans").iterdir()} == {"0o600"}
    assert oct(store.base.stat().st_mode & 0o7777) == "0o700"


def test_backup_programs_are_told_that_it_is_a_cache(tool: Path, enter: Enter, store: Store) -> None:
    """The tag's first line is fixed by https://bford.info/cachedir/."""
    enter("bookworm", {tool: TOOL}).run([TOOL])
    assert (store.base / "CACHEDIR.TAG").read_text() == (
        "Signature: 8a477f597d28d172789f06886806bc55\n# This directory holds unpacked programs; it can be removed.\n"
    )


def shared(tmp_path: Path) -> tuple[Path, Path]:
    """Two archives that have one wheel in common, and a wheel of their own each."""
    common = {f"{SITE}/common.py": "word = 'common'\n"}
    text = "import common, sys\n\n\ndef main():\n    print(common.word, common.__file__, {!r})\n"
    apps = [{f"{SITE}/app.py": text.format(name)} for name in ("one", "two")]
    one, two = (
        slices.write(tmp_path / name, [slices.Wanted({"common": common, name: app})])
        for name, app in zip(("one", "two"), apps, strict=True)
    )
    return one, two


def test_a_layer_of_two_archives_is_there_once(enter: Enter, store: Store, tmp_path: Path) -> None:
    one, two = shared(tmp_path)
    far = enter("bookworm", {one: "/opt/one", two: "/opt/two"})
    assert far.run(["/opt/one"]).status == 0
    before = {name: (store.base / "v1/layers" / name).stat().st_ino for name in store.names("layers")}
    assert len(before) == 3
    assert far.run(["/opt/two"]).status == 0
    after = {name: (store.base / "v1/layers" / name).stat().st_ino for name in store.names("layers")}
    assert len(after) == 5
    assert before.items() <= after.items()
    assert len(store.names("views")) == 2


def test_an_empty_layer_is_one_too(enter: Enter, store: Store, tmp_path: Path) -> None:
    """Its files have no bytes, so that nothing is missing as far as room goes."""
    nothing = {f"{SITE}/pkg/__init__.py": "", f"{SITE}/pkg/more": None}
    app = {f"{SITE}/app.py": "import pkg\n\n\ndef main():\n    print(pkg.__file__ is not None)\n"}
    one = slices.write(tmp_path / "one", [slices.Wanted({"app": app})])
    two = slices.write(tmp_path / "two", [slices.Wanted({"app": app, "nothing": nothing})])
    far = enter("bookworm", {one: "/opt/one", two: "/opt/two"})
    assert far.run(["/opt/one"]).status == 1
    layers = len(store.names("layers"))
    assert far.run(["/opt/two"]).whole == (0, b"True\n", b"")
    assert len(store.names("layers")) == layers + 2


# Several stores -------------------------------------------------------------------------------------------------

READ_ONLY = """\
c = ctypes.CDLL(None, use_errno=True)
path = b"/var/lib/fatpar"
bind, remount, read_only = 4096, 32, 1
if c.mount(path, path, None, bind, None) or c.mount(None, path, None, bind | remount | read_only, None):
    raise OSError(ctypes.get_errno())
"""


@pytest.mark.parametrize("writable", [True, False], ids=["of-root", "on-a-read-only-filesystem"])
def test_what_an_administrator_unpacked_serves_everybody(
    tool: Path, enter: Enter, store: Store, writable: bool
) -> None:
    """A user then keeps nothing but his plan."""
    far = enter("bookworm", {tool: TOOL})
    far.root(f"mkdir /var/lib/fatpar; {TOOL}")
    if not writable:
        assert far.run(["true"], user=0, before=READ_ONLY).status == 0
    before = files(far)
    for user, home in ((USER, "/home/u"), (0, "/root")):
        for _ in range(2):
            assert far.run([TOOL], user=user, env={"HOME": home}).whole == (0, b"/var/lib/fatpar\n", b"")
    new = set(files(far)) - set(before)
    assert store.names("layers") == store.names("views") == []
    assert len(store.names("plans")) == 1
    assert {path for path in new if not path.startswith("/root/")} == {
        f"{HOME}/CACHEDIR.TAG", f"{HOME}/v1/plans/{store.names('plans')[0]}"
    }  # fmt: skip


def test_what_an_administrator_unpacked_serves_where_nothing_can_be_written(tool: Path, enter: Enter) -> None:
    far = enter("bookworm", {tool: TOOL})
    far.root(f"mkdir /var/lib/fatpar; {TOOL}; chown 0 /home/u; chmod 755 /var/tmp /dev/shm")
    before = files(far)
    for _ in range(2):
        assert far.run([TOOL]).whole == (0, b"/var/lib/fatpar\n", b"")
    assert files(far) == before


def test_a_layer_of_an_administrator_s_store_is_used_by_another_archive(
    enter: Enter, store: Store, tmp_path: Path
) -> None:
    one, two = shared(tmp_path)
    far = enter("bookworm", {one: "/opt/one", two: "/opt/two"})
    far.root("mkdir /var/lib/fatpar; /opt/one")
    done = far.run(["/opt/two"])
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"site-packages/common.py two\n")
    assert done.stdout.startswith(b"common /home/u/.cache/fatpar/v1/views/")
    assert len(store.names("layers")) == 2
    links = [path.readlink() for path in (store.base / "v1/views").rglob("*") if path.is_symlink()]
    elsewhere = [path for path in links if path.is_absolute() and "layers" in path.parts]
    assert [path.parts[:5] for path in elsewhere] == [("/", "var", "lib", "fatpar", "v1")]


def test_a_named_store_does_not_lean_on_another(tool: Path, enter: Enter) -> None:
    """Whoever names one, to put it into an image say, gets it whole; and without it there is the old one."""
    far = enter("bookworm", {tool: TOOL})
    for _ in range(2):
        assert far.run([TOOL]).stdout == f"{HOME}\n".encode()
        assert far.run([TOOL], env={"FATPAR_STORE": "/home/u/named"}).stdout == b"/home/u/named\n"
    links = far.root("find /home/u/named -type l -lname '/home/*'")
    assert links == b""


def test_a_store_of_another_version_is_not_touched(tool: Path, enter: Enter, store: Store) -> None:
    far = enter("bookworm", {tool: TOOL})
    far.root(f"mkdir -p {HOME}/v2/layers; touch {HOME}/v2/x; chown -R 4242 /home/u/.cache; chmod 700 {HOME}")
    before = far.root(f"find {HOME}/v2 -printf '%p %T@ %C@\\n'")
    assert far.run([TOOL]).status == 0
    assert far.root(f"find {HOME}/v2 -printf '%p %T@ %C@\\n'") == before
    assert len(store.names("views")) == 1
