"""The second launch goes by the first one's decision; and when something changed in between, it decides anew.

Which slice ran is told by the application itself. Not here: another CPU, since no host of the tests has one; and a
reboot, which test_store_crash.py plays."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.hosts import USER, Result, require_host
from support.layers import SITE
from support.process import Inside, Store, traced

from packer.model import Need, NeedKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .conftest import Enter, Pack

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
APP = "import sys\n\n\ndef main():\n    print('%d.%d' % sys.version_info[:2])\n"

PY39 = "/mnt/python3.9"
"""Where bullseye's Python 3.9 is bound, whole: ``bin/python3.9`` and ``lib/python3.9``."""


@pytest.fixture(scope="module")
def tool(pack: Pack) -> Path:
    return pack("tool", {"app.py": APP})


def binds(tool: Path) -> dict[Path, str]:
    """The archive, and a Python 3.9 that runs with the newer C library of any other host."""
    usr = require_host("bullseye").root / "usr"
    return {
        tool: TOOL,
        usr / "bin/python3.9": f"{PY39}/bin/python3.9",
        usr / "lib/python3.9": f"{PY39}/lib/python3.9",
    }


def says(far: Inside, expected: str, **conditions: object) -> None:
    """The application runs and was started by this Python, now and the next time."""
    for _ in range(2):
        done = far.run([TOOL], **conditions)  # type: ignore[arg-type]
        assert done.whole == (0, expected.encode() + b"\n", b"")


@pytest.fixture
def ready(user_home: Path) -> Path:
    """The user's home, made."""
    user_home.mkdir()
    os.chown(user_home, USER, USER)
    return user_home


# It is used -----------------------------------------------------------------------------------------------------


def launched(lines: Sequence[str]) -> list[str]:
    """The system calls from the launcher's execution to the interpreter's."""
    start = next(number for number, line in enumerate(lines) if line.startswith(f'execve("{TOOL}"'))
    end = next(number for number, line in enumerate(lines) if re.match(r'execve\(".*/tree/bin/python"', line))
    return list(lines[start : end + 1])


def paths(lines: Sequence[str]) -> list[str]:
    """System call and first path of each line."""
    found = [re.match(r'(\w+)\((?:AT_FDCWD, )?"([^"]*)"', line) for line in lines]
    return [f"{match[1]} {match[2]}" for match in found if match]


def test_a_second_launch_reads_the_trailer_and_the_plan_and_nothing_else(
    tool: Path, enter: Enter, user_home: Path, store: Store
) -> None:
    """Everything it does with files; it makes none, lists no directory, runs nothing."""
    far = enter("bookworm", {tool: TOOL})
    done, lines = traced(far, user_home, f"exec {TOOL}", "-e", "trace=%file")
    assert done.whole == (0, b"3.11\n", b"")
    assert len(launched(lines)) > 100
    done, lines = traced(far, user_home, f"exec {TOOL}", "-e", "trace=%file,%desc,%process")
    assert done.whole == (0, b"3.11\n", b"")
    lines = launched(lines)
    (view_name,), (plan_name,) = store.names("views"), store.names("plans")
    tree = f"/home/u/.cache/fatpar/v1/views/{view_name}/tree"
    base = "/home/u/.cache/fatpar"
    seen = [line for line in paths(lines) if not line.endswith(" /var/lib/fatpar")]
    assert seen == [
        f"execve {TOOL}",
        "open /proc/self/exe",
        "open /proc/sys/kernel/random/boot_id",
        "stat /", "stat /",
        f"openat {base}",
        "stat /usr/lib/x86_64-linux-gnu/libc.so.6",
        "stat /usr/bin", "stat /usr/bin/python3.11", "stat /usr/lib/python3.11",
        "stat /usr/local/bin", "stat /usr/libexec",
        f"stat {tree}/bin/python", f"stat {base}/v1/layers", f"stat {tree}/..", f"access {tree}/boot/tool.py",
            f"access {tree.removesuffix('/tree')}/shim.so",
        f"execve {tree}/bin/python",
    ]  # fmt: skip
    steps = [match[1] for line in lines if (match := re.match(r'openat\(\d+, "([^"]*)"', line))]
    assert steps == ["v1", "plans", plan_name]
    reads = [line for line in lines if line.startswith(("read(", "pread64("))]
    assert len(reads) == 3
    assert reads[0].endswith(f", 128, {tool.stat().st_size - 128}) = 128")
    others = {line.split("(")[0] for line in lines} - {"open", "openat", "stat", "access", "execve", "read", "pread64"}
    assert others <= {"fcntl", "mmap", "fstat", "close", "arch_prctl", "lseek"}


def test_a_second_launch_makes_nothing_again(tool: Path, enter: Enter, user_home: Path) -> None:
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    before = listing(user_home)
    says(far, "3.11")
    assert listing(user_home) == before


def listing(root: Path) -> list[tuple[str, int, int]]:
    """Path, inode and time of change of everything below."""
    return sorted((str(path), path.lstat().st_ino, path.lstat().st_ctime_ns) for path in root.rglob("*"))


def test_a_plan_that_is_not_whole_or_not_ours_is_passed_over(tool: Path, enter: Enter, store: Store) -> None:
    """Each of them would start another program, or none."""
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    (name,) = store.names("plans")
    plan = store.base / "v1/plans" / name
    whole = plan.read_bytes()
    changed = whole.replace(b"/tree\0", b"/evil\0", 1)
    sealed = changed[:-65] + hashlib.sha256(changed[:-65]).hexdigest().encode() + b"\0"
    for spoilt in (b"", whole[:-1], whole[:100], changed, whole + b"\0"):
        write_plan(plan, spoilt)
        says(far, "3.11")
    # whole, and leads nowhere: tried, and decided anew
    write_plan(plan, sealed)
    says(far, "3.11")
    write_plan(plan, sealed, user=5001)
    says(far, "3.11")
    write_plan(plan, whole, mode=0o666)
    says(far, "3.11")
    assert plan.stat().st_mode & 0o777 == 0o600


def write_plan(path: Path, content: bytes, *, user: int = USER, mode: int = 0o600) -> None:
    path.unlink()
    path.write_bytes(content)
    os.chown(path, user, user)
    path.chmod(mode)


def test_an_old_plan_is_made_anew(tool: Path, enter: Enter, store: Store) -> None:
    """Thirty days old, or from the future."""
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    (name,) = store.names("plans")
    plan = store.base / "v1/plans" / name
    day = 24 * 3600
    for age, anew in ((31 * day, True), (29 * day, False), (-2 * day, True)):
        then = time.time() - age
        os.utime(plan, (then, then))
        before = plan.stat().st_ino, plan.stat().st_mtime
        says(far, "3.11")
        assert ((plan.stat().st_ino, plan.stat().st_mtime) != before) is anew


REMOVALS = {
    "the-store": "rm -rf ../fatpar",
    "all-views": "rm -rf v1/views",
    "all-layers": "rm -rf v1/layers",
    "layers-and-views": "rm -rf v1/layers v1/views",
    "one-layer": "set -- v1/layers/*; for one; do [ -e $one/tree/boot ] || rm -rf $one; done",
    "trees-of-layers": "rm -rf v1/layers/*/tree",
    "the-application": "rm v1/layers/*/tree/boot/*.py",
    "the-interpreter-in-the-view": "rm -rf v1/views/*/tree/bin",
    "a-link-of-the-view": "rm -rf v1/views/*/tree/boot",
}


@pytest.mark.parametrize("what", list(REMOVALS))
def test_what_a_plan_leads_to_was_removed(tool: Path, enter: Enter, store: Store, what: str) -> None:
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    far.root("cd /home/u/.cache/fatpar; " + REMOVALS[what])
    says(far, "3.11")


# Pythons come and go --------------------------------------------------------------------------------------------


def test_a_python_is_added_and_removed_again(tool: Path, enter: Enter) -> None:
    """The archive prefers 3.9 to 3.11."""
    far = enter("bookworm", binds(tool))
    says(far, "3.11")
    for place in ("/usr/local/bin", "/usr/bin"):
        far.root(f"ln -s {PY39}/bin/python3.9 {place}/python3.9")
        says(far, "3.9")
        far.root(f"rm {place}/python3.9")
        says(far, "3.11")


def test_a_python_is_added_under_a_plain_name(tool: Path, enter: Enter) -> None:
    far = enter("bookworm", binds(tool))
    says(far, "3.11")
    far.root(f"ln -s {PY39}/bin/python3.9 /usr/local/bin/python")
    says(far, "3.9")


def test_the_only_python_is_removed_and_comes_back(tool: Path, enter: Enter) -> None:
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    far.root("mv /usr/bin/python3.11 /usr/bin/hidden")
    refused = far.run([TOOL])
    assert (refused.status, refused.stdout) == (126, b"")
    assert refused.stderr.startswith(b"tool: this machine cannot run it: needs CPython cp39, found no Python at all")
    far.root("mv /usr/bin/hidden /usr/bin/python3.11")
    says(far, "3.11")


def test_a_python_gives_way_to_a_newer_one(tool: Path, enter: Enter) -> None:
    """As when a distribution is upgraded: the name stays, what is behind it is another one."""
    host = require_host("bookworm").root / "usr"
    old = {host / "bin/python3.11": "/mnt/bin/python3.11", host / "lib/python3.11": "/mnt/lib/python3.11"}
    far = enter("trixie", {tool: TOOL, **old}, python="python3.13")
    far.root("mv /usr/bin/python3.13 /mnt/python3.13; ln -sf /mnt/bin/python3.11 /usr/bin/python3")
    says(far, "3.11")
    far.root("mv /mnt/python3.13 /usr/bin/python3.13; ln -sf python3.13 /usr/bin/python3")
    says(far, "3.13")


@pytest.mark.parametrize("keep", ["", "-p"], ids=["new-time", "same-time"])
def test_a_python_is_installed_again(tool: Path, enter: Enter, store: Store, keep: str) -> None:
    """The same bytes in another file: decided anew, and nothing has to be unpacked or linked."""
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    plan = store.base / "v1/plans" / store.names("plans")[0]
    views, inode = store.names("views"), plan.stat().st_ino
    far.root(f"cp {keep} /usr/bin/python3.11 /usr/bin/new; mv /usr/bin/new /usr/bin/python3.11")
    says(far, "3.11")
    assert plan.stat().st_ino != inode
    assert store.names("views") == views


def test_python_2_is_installed_again(pack: Pack, enter: Enter, store: Store) -> None:
    """A view for 2.7 has a copy of the interpreter: it is another one afterwards."""
    tool = pack("tool", {"app.py": APP}, tags=["cp27mu"])
    far = enter("bullseye", {tool: TOOL})
    says(far, "2.7")
    assert len(store.names("views")) == 1
    far.root("cp /usr/bin/python2.7 /usr/bin/new; echo >> /usr/bin/new; mv /usr/bin/new /usr/bin/python2.7")
    says(far, "2.7")
    assert len(store.names("views")) == 2
    sizes = {(path / "tree/bin/python").stat().st_size for path in (store.base / "v1/views").iterdir()}
    assert len(sizes) == 2


def test_part_of_the_standard_library_comes_and_goes(pack: Pack, enter: Enter) -> None:
    tool = pack("tool", {"app.py": APP}, tags=["cp311"], more=[Need(NeedKind.STDLIB, "json")])
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    far.root("mv /usr/lib/python3.11/json /usr/lib/json")
    assert far.run([TOOL]).status == 126
    far.root("mv /usr/lib/json /usr/lib/python3.11/json")
    says(far, "3.11")


# Two slices for one Python --------------------------------------------------------------------------------------


def write_words(output: Path, **wanted: Sequence[Need]) -> Path:
    """An archive of slices for cp311 that print a word each, and have further needs."""

    def app(word: str) -> dict[str, str]:
        return {f"{SITE}/app.py": f"def main():\n    print({word!r})\n"}

    return slices.write(output, [slices.Wanted({word: app(word)}, more=more) for word, more in wanted.items()])


def test_another_kernel_is_another_host(enter: Enter, tmp_path: Path) -> None:
    """As setarch makes one; the plan of either is not the other's."""
    tool = write_words(tmp_path / "tool", new=[Need(NeedKind.KERNEL, number=3 << 16)], old=[])
    far = enter("bookworm", {tool: TOOL})
    for _ in range(2):
        assert far.run([TOOL]).whole == (0, b"new\n", b"")
        assert far.run(["setarch", "--uname-2.6", TOOL]).whole == (0, b"old\n", b"")


def test_another_personality_is_no_other_machine(tool: Path, enter: Enter) -> None:
    """Here uname says i686, and the interpreter is what it is."""
    far = enter("bookworm", {tool: TOOL})
    for _ in range(2):
        assert far.run(["setarch", "i686", TOOL]).whole == (0, b"3.11\n", b"")


def test_a_library_is_added_and_removed_again(enter: Enter, tmp_path: Path) -> None:
    tool = write_words(tmp_path / "tool", present=[Need(NeedKind.LIBRARY, "libextra.so.1")], absent=[])
    far = enter("bookworm", {tool: TOOL})
    says(far, "absent")
    for place in ("/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/lib"):
        far.root(f"cp -L /lib/x86_64-linux-gnu/libz.so.1 {place}/libextra.so.1; ldconfig")
        says(far, "present")
        far.root(f"rm {place}/libextra.so.1; ldconfig")
        says(far, "absent")


def test_the_c_library_is_upgraded(enter: Enter, tmp_path: Path) -> None:
    """A node that only the new one has; the interpreter itself stays the same file."""
    tool = write_words(tmp_path / "tool", new=[Need(NeedKind.NODE, "libc.so.6", "GLIBC_2.38")], old=[])
    new = require_host("trixie").root / "usr/lib/x86_64-linux-gnu"
    names = ("libc.so.6", "ld-linux-x86-64.so.2", "libm.so.6")
    far = enter("bookworm", {tool: TOOL, **{new / name: f"/mnt/{name}" for name in names}})
    says(far, "old")
    directory = "/usr/lib/x86_64-linux-gnu"
    copies = "".join(f"cp /mnt/{name} {directory}/new-{name};" for name in names)
    moves = "".join(f"os.rename('{directory}/new-{name}', '{directory}/{name}');" for name in names)
    far.root(copies)
    assert far.run(["true"], user=0, before=f"os.chmod('{directory}', 0o755);{moves}").status == 0
    says(far, "new")


# Pythons on PATH ------------------------------------------------------------------------------------------------


def test_interpreters_on_path_are_found_where_the_system_has_none_that_fits(pack: Pack, enter: Enter) -> None:
    tool = pack("tool", {"app.py": APP}, tags=["cp39"])
    far = enter("bookworm", binds(tool))
    base = "/usr/bin:/bin"
    refused = far.run([TOOL], env={"PATH": base})
    assert refused.status == 126
    says(far, "3.9", env={"PATH": f"{base}:{PY39}/bin"})
    says(far, "3.9", env={"PATH": f"{PY39}/bin:{base}"})
    # the plans just made are for another PATH
    assert far.run([TOOL], env={"PATH": base}).whole == refused.whole
    # a relative entry would mean another interpreter in every directory
    assert far.run([TOOL], env={"PATH": f"bin:{base}"}, cwd=PY39).whole == refused.whole
    assert far.run([TOOL], env={"PATH": None}).status == 126


def test_an_interpreter_in_a_directory_on_path_comes_and_goes(pack: Pack, enter: Enter) -> None:
    tool = pack("tool", {"app.py": APP}, tags=["cp39"])
    far = enter("bookworm", binds(tool))
    env = {"PATH": "/home/u/bin:/opt/python/bin:/usr/bin:/bin"}
    far.root("mkdir /home/u/bin /opt/python /opt/python/bin")
    assert far.run([TOOL], env=env).status == 126
    far.root(f"ln -s {PY39}/bin/python3.9 /opt/python/bin/python3")
    says(far, "3.9", env=env)
    far.root(f"rm /opt/python/bin/python3; ln -s {PY39}/bin/python3.9 /home/u/bin/python3.9")
    says(far, "3.9", env=env)
    far.root("rm /home/u/bin/python3.9")
    assert far.run([TOOL], env=env).status == 126


def test_a_system_interpreter_wins_over_path_as_soon_as_it_is_there(pack: Pack, enter: Enter, store: Store) -> None:
    app = "import os, sys\ndef main():\n    print(os.path.realpath(sys.executable))\n"
    tool = pack("tool", {"app.py": app}, tags=["cp39"])
    far = enter("bookworm", binds(tool))
    env = {"PATH": f"{PY39}/bin:/usr/bin:/bin"}
    says(far, f"{PY39}/bin/python3.9", env=env)
    far.root(f"cp {PY39}/bin/python3.9 /usr/local/bin/; ln -s {PY39}/lib/python3.9 /usr/local/lib/python3.9")
    says(far, "/usr/local/bin/python3.9", env=env)
    far.root("rm /usr/local/bin/python3.9")
    says(far, f"{PY39}/bin/python3.9", env=env)


SHIM = "#!/bin/sh\necho the shim was run >&2\nexit 1\n"


def test_shims_of_pyenv_are_not_run_and_lead_to_its_versions(pack: Pack, enter: Enter) -> None:
    app = "import os, sys\ndef main():\n    print(os.path.realpath(sys.executable))\n"
    tool = pack("tool", {"app.py": app}, tags=["cp39"])
    usr = require_host("bullseye").root / "usr"
    root = "/opt/pyenv"
    place = {
        tool: TOOL,
        usr / "bin/python3.9": f"{root}/versions/3.9.2/bin/python3.9",
        usr / "lib/python3.9": f"{root}/versions/3.9.2/lib/python3.9",
    }
    far = enter("bookworm", place)
    shims = " ".join(f"{root}/shims/{name}" for name in ("python", "python3", "python3.9"))
    far.root(f"mkdir {root}/shims; for shim in {shims}; do printf '{SHIM}' > $shim; chmod 755 $shim; done")
    env = {"PATH": f"{root}/shims:/usr/bin:/bin"}
    says(far, f"{root}/versions/3.9.2/bin/python3.9", env=env)
    # another version is added that comes first, and removed again
    far.root(
        f"mkdir -p {root}/versions/3.9.1/bin; cp {root}/versions/3.9.2/bin/python3.9 {root}/versions/3.9.1/bin/;"
        f"ln -s ../3.9.2/lib {root}/versions/3.9.1/lib"
    )
    says(far, f"{root}/versions/3.9.1/bin/python3.9", env=env)
    far.root(f"rm -r {root}/versions/3.9.1")
    says(far, f"{root}/versions/3.9.2/bin/python3.9", env=env)


@pytest.mark.parametrize("mark", ["bin/pyvenv.cfg", "pyvenv.cfg", "conda-meta/history"])
def test_interpreters_of_environments_are_not_used(pack: Pack, enter: Enter, mark: str) -> None:
    """Somebody's environment is his: a view in it would see its packages, and go when it goes."""
    tool = pack("tool", {"app.py": APP}, tags=["cp39"])
    far = enter("bookworm", binds(tool))
    far.root(
        f"mkdir -p /opt/env/bin; cp {PY39}/bin/python3.9 /opt/env/bin; mkdir /opt/env/lib; "
        f"ln -s {PY39}/lib/python3.9 /opt/env/lib/; mkdir -p $(dirname /opt/env/{mark}); touch /opt/env/{mark}"
    )
    assert far.run([TOOL], env={"PATH": "/opt/env/bin:/usr/bin:/bin"}).status == 126
    far.root(f"rm /opt/env/{mark}; rmdir /opt/env/conda-meta 2>/dev/null || :")
    says(far, "3.9", env={"PATH": "/opt/env/bin:/usr/bin:/bin"})


# One store, several hosts and users -----------------------------------------------------------------------------


def test_two_root_filesystems_share_a_store(tool: Path, enter: Enter, store: Store) -> None:
    """In turn, as containers with one home do: each gets its own view, and the layers are there once."""
    first, second = enter("bookworm", {tool: TOOL}), enter("trixie", {tool: TOOL})
    says(first, "3.11")
    before = {name: (store.base / "v1/layers" / name).stat().st_ctime_ns for name in store.names("layers")}
    for _ in range(2):
        says(second, "3.13")
        says(first, "3.11")
    assert {name: (store.base / "v1/layers" / name).stat().st_ctime_ns for name in store.names("layers")} == before
    assert len(before) == len(store.names("views")) == 2
    assert store.broken() == store.leftovers() == []


def test_root_filesystems_with_one_python_share_a_view(tool: Path, ready: Path, store: Store) -> None:
    for name in ("bookworm", "bookworm-minimal"):
        result = require_host(name).run([TOOL], binds={tool: TOOL, ready: "/home/u"})
        assert result == Result(0, b"3.11\n", b"")
    assert len(store.names("views")) == 1


def test_each_user_goes_by_a_plan_of_his_own(tool: Path, enter: Enter, store: Store) -> None:
    """A store of another user is not trusted: neither its plans nor its layers."""
    far = enter("bookworm", {tool: TOOL})
    far.root("mkdir /home/5001; chown 5001:5001 /home/5001; chmod 755 /home/u")
    says(far, "3.11")
    shared = {"FATPAR_STORE": "/home/u/.cache/fatpar"}
    far.root("chmod 755 /home/u/.cache /home/u/.cache/fatpar")
    before = listing(store.base)
    says(far, "3.11", user=5001, env=shared)
    assert listing(store.base) == before
    mine = Store(Path(f"/proc/{far.pid}/root/home/5001/.cache/fatpar"))
    assert mine.names("layers") == store.names("layers")
    assert {path.stat().st_uid for path in (mine.base / "v1/plans").iterdir()} == {5001}
    assert set(mine.names("plans")).isdisjoint(store.names("plans"))


def test_root_does_not_trust_a_user_s_store(tool: Path, enter: Enter, store: Store) -> None:
    far = enter("bookworm", {tool: TOOL})
    says(far, "3.11")
    before = listing(store.base)
    says(far, "3.11", user=0, env={"HOME": "/home/u"})
    assert listing(store.base) == before
