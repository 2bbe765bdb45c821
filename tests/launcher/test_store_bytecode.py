"""Bytecode that an archive brings: a launch puts it beside its layer, where interpreters take it for their own.

The bytecode here is of other code than the modules, so that what a program prints tells which of the two was run.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import layers, sanitized, slices, vectors
from support.hosts import USER, require_host
from support.layers import SITE
from support.packing import run_program
from support.process import Inside, Store, traced
from support.skips import skip_optional

from packer import bytecode, pythons
from packer.layers import read
from packer.model import LayerKind
from packer.reader import reading
from packer.targets import running_target

if TYPE_CHECKING:
    from support.layers import Content

    from .conftest import Enter

TOOL, PLAIN = "/opt/tool", "/opt/plain"
OTHER = "00000000-0000-4000-8000-000000000000"
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
FILE_TIME = 315532800
TAGS = {"cp39": ("bullseye", "cpython-39"), "cp311": ("bookworm", "cpython-311"), "cp313": ("trixie", "cpython-313")}
PYC = "cpython-311.pyc"

COMPILE = """\
import sys
from importlib._bootstrap_external import _code_to_timestamp_pyc
source = sys.stdin.buffer.read()
sys.stdout.buffer.write(_code_to_timestamp_pyc(compile(source, "bytecode", "exec"), 315532800, len(source)))
"""

PART: dict[str, Content] = {
    f"{SITE}/part/__init__.py": "",
    f"{SITE}/part/one.py": "word = 'text'\n",
    f"{SITE}/part/deep/two.py": "word = 'text'\n",
}
APP = "from part.one import word\nfrom part.deep import two\n\n\ndef main():\n    print(word, two.word)\n"
PLAIN_APP = "def main():\n    print('plain')\n"
LATER = """\
import sys


def main():
    if sys.argv[1:]:
        from part.one import word
        from part.deep import two
        print(word, two.word)
"""

TEXT, CODE = (0, b"text text\n", b""), (0, b"code code\n", b"")


@functools.cache
def compiled(source: str, tag: str = "cp311") -> bytes:
    """The bytecode of a module by a host's interpreter."""
    done = require_host(TAGS[tag][0]).run(["python3", "-I", "-c", COMPILE], input=source.encode())
    assert (done.status, done.stderr) == (0, b"")
    return done.stdout


def wanted(tag: str = "cp311") -> slices.Wanted:
    """A program whose bytecode says another word than its text."""
    made = {path: compiled(text.replace("text", "code"), tag) for path, text in PART.items() if isinstance(text, str)}
    app = {f"{SITE}/app.py": compiled(APP, tag)}
    return slices.Wanted({"part": PART, "app": {f"{SITE}/app.py": APP}}, tag, bytecode={"part": made, "app": app})


def write(directory: Path, *tags: str) -> Path:
    return slices.write(directory / "tool", [wanted(tag) for tag in tags or ("cp311",)])


def write_plain(directory: Path, app: str = PLAIN_APP) -> Path:
    """An archive with the same layer and no bytecode; its program does not import it."""
    return slices.write(directory / "plain", [slices.Wanted({"part": PART, "app": {f"{SITE}/app.py": app}})])


def beside(store: Store, path: str = f"{SITE}/part/one.py") -> Path:
    """The directory of bytecode of the layer that holds a file."""
    (found,) = (store.base / "v1/layers").glob(f"[!.]*/tree/{path}")
    return found.parents[len(Path(path).parts)] / "pyc" / SITE


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


PART_PYC = [f"part/__init__.{PYC}", f"part/deep/two.{PYC}", f"part/one.{PYC}"]


# Put beside its layer -------------------------------------------------------------------------------------------


@pytest.mark.hosts
@pytest.mark.parametrize("mask", [0o022, 0o077], ids=lambda mask: f"{mask:03o}")
def test_a_first_launch_puts_it_beside_its_layer(enter: Enter, store: Store, tmp_path: Path, mask: int) -> None:
    far = enter("bookworm", {write(tmp_path): TOOL})
    assert far.run([TOOL], umask=mask).whole == CODE
    pyc = beside(store)
    assert names(pyc) == PART_PYC
    assert names(beside(store, f"{SITE}/app.py")) == [f"app.{PYC}"]
    for path in (pyc.parent.parent.parent, *pyc.parent.parent.parent.rglob("*")):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (USER, USER)
        assert oct(status.st_mode & 0o7777) == ("0o755" if path.is_dir() else "0o644")
        if not path.is_dir():
            assert status.st_mtime_ns == FILE_TIME * 10**9
    assert store.broken() == store.leftovers() == []
    # it is the interpreter's: used again, and nothing is added or written anew
    (view,) = (store.base / "v1/views").iterdir()
    assert [(path.name, path.is_symlink()) for path in view.rglob("*.pyc")] == [(f"app.{PYC}", True)]
    before = {path: path.lstat().st_ino for path in (store.base / "v1").rglob("*.pyc")}
    assert len(before) == 5
    assert far.run([TOOL], umask=mask).whole == CODE
    assert {path: path.lstat().st_ino for path in (store.base / "v1").rglob("*.pyc")} == before


@pytest.mark.hosts
def test_a_layer_that_is_there_already_gets_it(enter: Enter, store: Store, tmp_path: Path) -> None:
    far = enter("bookworm", {write(tmp_path): TOOL, write_plain(tmp_path): PLAIN})
    assert far.run([PLAIN]).whole == (0, b"plain\n", b"")
    pyc = beside(store)
    since = pyc.stat().st_ino
    assert names(pyc) == []
    assert far.run([TOOL], umask=0o077).whole == CODE
    assert (names(pyc), pyc.stat().st_ino) == (PART_PYC, since)
    assert {oct((pyc / name).stat().st_mode & 0o7777) for name in PART_PYC} == {"0o644"}
    assert {(pyc / name).stat().st_mtime_ns for name in PART_PYC} == {FILE_TIME * 10**9}
    assert store.broken() == store.leftovers() == []


@pytest.mark.hosts
def test_what_an_interpreter_kept_is_as_good(enter: Enter, store: Store, tmp_path: Path) -> None:
    far = enter("bookworm", {write(tmp_path): TOOL, write_plain(tmp_path, APP): PLAIN})
    assert far.run([PLAIN]).whole == TEXT
    before = {name: (beside(store) / name).stat().st_ino for name in PART_PYC}
    # one that is no longer there brings them all: they are of one making then
    assert far.run([TOOL]).whole == TEXT
    assert {name: (beside(store) / name).stat().st_ino for name in PART_PYC} == before
    far.root("rm -r /home/u/.cache/fatpar/v1/views /home/u/.cache/fatpar/v1/plans")
    (beside(store) / PART_PYC[1]).unlink()
    assert far.run([TOOL]).whole == CODE


@pytest.mark.hosts
def test_several_pythons_keep_theirs_beside_one_layer(enter: Enter, store: Store, tmp_path: Path) -> None:
    """Of three archives, on three hosts that share a home."""
    for tag, (host, _) in TAGS.items():
        (tmp_path / tag).mkdir()
        far = enter(host, {write(tmp_path / tag, tag): TOOL})
        assert far.run([TOOL]).whole == CODE, tag
    cache_tags = [cache_tag for _, cache_tag in TAGS.values()]
    assert names(beside(store)) == sorted(
        name.replace("cpython-311", cache_tag) for name in PART_PYC for cache_tag in cache_tags
    )
    assert store.broken() == store.leftovers() == []


@pytest.mark.hosts
def test_of_an_archive_for_several_pythons_a_host_gets_its_own(enter: Enter, store: Store, tmp_path: Path) -> None:
    far = enter("bullseye", {write(tmp_path, *TAGS): TOOL})
    assert far.run([TOOL]).whole == CODE
    assert names(beside(store)) == [name.replace("311", "39") for name in PART_PYC]


@pytest.mark.hosts
def test_python_2_gets_none(enter: Enter, store: Store, tmp_path: Path) -> None:
    """Of an archive that has some for another Python."""
    old = slices.Wanted({"part": {**PART, f"{SITE}/part/deep/__init__.py": ""}, "app": {f"{SITE}/app.py": PLAIN_APP}})
    two = slices.Wanted(old.wheels, "cp27mu")
    made = {f"{SITE}/part/one.py": compiled("word = 'code'\n", "cp39")}
    three = slices.Wanted(old.wheels, "cp39", bytecode={"part": made})
    far = enter("bullseye", {slices.write(tmp_path / "tool", [two, three]): TOOL})
    assert far.run([TOOL]).whole == (0, b"plain\n", b"")
    assert names(beside(store).parents[2]) == []


@pytest.mark.hosts
def test_a_layer_of_a_store_that_cannot_be_written_to_does_without(enter: Enter, store: Store, tmp_path: Path) -> None:
    far = enter("bookworm", {write(tmp_path): TOOL, write_plain(tmp_path): PLAIN})
    far.root(f"mkdir /var/lib/fatpar; {PLAIN}")
    before = far.root("find /var/lib/fatpar -printf '%p %T@ %C@\\n' | sort")
    for _ in range(2):
        assert far.run([TOOL]).whole == TEXT
    assert far.root("find /var/lib/fatpar -printf '%p %T@ %C@\\n' | sort") == before
    # of its own layers the user has all
    assert names(beside(store, f"{SITE}/app.py")) == [f"app.{PYC}"]
    # root, who can write there, has it from then on, and so have others
    far.root(TOOL)
    far.root("rm -r /home/u/.cache/fatpar/v1/plans")
    assert far.run([TOOL]).whole == CODE


# What is in the way ---------------------------------------------------------------------------------------------

IN_THE_WAY = {
    "file-of-somebody-else": (f"echo x > part/one.{PYC}", CODE),
    "file-nobody-may-write-to": (f"echo x > part/one.{PYC}; chown 4242 part/one.{PYC}; chmod 0 part/one.{PYC}", CODE),
    "link": (f"ln -s /etc/hostname part/one.{PYC}", CODE),
    "directory": (f"mkdir part/one.{PYC}", (0, b"text code\n", b"")),
    "file-for-a-directory": ("rmdir part/deep; echo x > part/deep", (0, b"code text\n", b"")),
    "directory-of-somebody-else": ("chown 0 part/deep; chmod 755 part/deep", (0, b"code text\n", b"")),
    "no-directory": ("rmdir part/deep", CODE),
    "nothing-at-all": ("rm -r ../../../../pyc", TEXT),
    "link-for-all-of-it": ("cd ../../../..; rm -r pyc; ln -s /tmp pyc", TEXT),
}


@pytest.mark.hosts
@pytest.mark.parametrize(("given", "expected"), IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_what_cannot_be_put_there_is_compiled(
    enter: Enter, store: Store, tmp_path: Path, given: str, expected: tuple[int, bytes, bytes]
) -> None:
    far = enter("bookworm", {write(tmp_path): TOOL, write_plain(tmp_path): PLAIN})
    assert far.run([PLAIN]).status == 0
    inside = f"/home/u/.cache/fatpar/{beside(store).relative_to(store.base)}"
    far.root(f"cd {inside}; {given}")
    before = far.root("ls -lR --time-style=full-iso /etc/hostname /tmp")
    assert far.run([TOOL]).whole == expected
    assert far.root("ls -lR --time-style=full-iso /etc/hostname /tmp") == before
    assert far.run([TOOL]).whole == expected
    assert store.broken() == store.leftovers() == []


# What is wrong --------------------------------------------------------------------------------------------------


def changed(path: Path, layer: str, place: int, content: bytes) -> Path:
    """An archive with other bytes in a layer's record, counted from its digest on, and right digests around it."""
    with reading(path) as archive:
        (digest,) = (bytes(one.digest) for one in archive.records("layer") if archive.string(one.name) == layer)
    file = path.read_bytes()
    raw = vectors.index_of(file)
    assert raw.count(digest) == 1
    at = raw.index(digest) + place
    path.write_bytes(vectors.with_index(file, raw[:at] + content + raw[at + len(content) :]))
    return path


NAME = "part-1.0-py3-none-any cpython-311"


@pytest.mark.hosts
@pytest.mark.parametrize("before", [False, True], ids=["with-its-layer", "alone"])
def test_what_is_damaged_is_not_put_anywhere(enter: Enter, store: Store, tmp_path: Path, before: bool) -> None:
    tool = changed(write(tmp_path), NAME, 0, bytes(32))
    far = enter("bookworm", {tool: TOOL, write_plain(tmp_path): PLAIN})
    if before:
        assert far.run([PLAIN]).status == 0
    layers_before = store.names("layers")
    said = f"tool: archive is damaged: layer {NAME} has the wrong digest\n"
    for _ in range(2):
        assert far.run([TOOL]).whole == (125, b"", said.encode())
        if before:
            assert set(layers_before) <= set(store.names("layers"))
            assert names(beside(store)) == []
        else:
            assert store.names("layers") == []
        assert store.leftovers() == store.broken() == []
        assert len(store.names("views")) == int(before)
    done = far.run([TOOL], env={"FATPAR": "verify"})
    assert done.whole == (125, b"", said.encode())


# Killed, and crashed --------------------------------------------------------------------------------------------


@pytest.mark.hosts
def crash(store: Store, but: str = "") -> None:
    """Make it look as if the machine had been started again since.

    :param but: what is marked so stays marked so.
    """
    for kind in ("layers", "views"):
        for name in store.names(kind):
            link = store.base / "v1" / kind / name / "made"
            if os.readlink(link) == but:
                continue
            link.unlink()
            link.symlink_to(OTHER)
            os.lchown(link, USER, USER)
    for name in store.names("plans"):
        (store.base / "v1/plans" / name).unlink()


@pytest.mark.hosts
@pytest.mark.parametrize("content", [b"", b"cut", b"zeros"])
def test_after_a_crash_it_is_put_there_anew_and_layers_are_kept(
    enter: Enter, store: Store, tmp_path: Path, content: bytes
) -> None:
    far = enter("bookworm", {write(tmp_path): TOOL})
    assert far.run([TOOL]).whole == CODE
    since = {name: (store.base / "v1/layers" / name / "tree").stat().st_ctime_ns for name in store.names("layers")}
    for _ in range(2):
        crash(store)
        for name in PART_PYC:
            path = beside(store) / name
            whole = path.read_bytes()
            path.write_bytes({b"": b"", b"cut": whole[:-9], b"zeros": bytes(len(whole))}[content])
            os.chown(path, USER, USER)
        far.root(f"touch /home/u/.cache/fatpar/{beside(store).relative_to(store.base)}/old.{PYC}")
        assert far.run([TOOL]).whole == CODE
        assert names(beside(store)) == PART_PYC
        assert {name: (store.base / "v1/layers" / name / "tree").stat().st_ctime_ns for name in since} == since
        # as the bytecode was on disk before it was put there
        assert {store.made("layers", name) for name in since} == {"durable"}
        assert store.leftovers() == store.broken() == []


def durable(far: Inside, store: Store) -> None:
    """Launch the plain program before and after a crash."""
    assert far.run([PLAIN]).status == 0
    crash(store)
    assert far.run([PLAIN]).status == 0
    assert {store.made("layers", name) for name in store.names("layers")} == {"durable"}


@pytest.mark.hosts
def test_beside_a_durable_layer_it_is_put_when_it_is_on_disk(
    enter: Enter, store: Store, tmp_path: Path, user_home: Path
) -> None:
    """Nobody would look at it after a crash."""
    far = enter("bookworm", {write(tmp_path): TOOL, write_plain(tmp_path): PLAIN})
    durable(far, store)
    ended, lines = traced(far, user_home, f"exec {TOOL}", "-e", "trace=syncfs,renameat")
    assert ended.whole == CODE
    calls = [line for line in lines if "syncfs(" in line or ".pyc" in line]
    assert ["syncfs" in line for line in calls] == [True] + [False] * len(PART_PYC)
    assert store.made("layers", beside(store).parents[3].name) == "durable"


@pytest.mark.hosts
def test_what_may_not_be_on_disk_does_not_outlast_a_crash(
    enter: Enter, store: Store, tmp_path: Path, user_home: Path
) -> None:
    """Not for a program either whose view survived earlier crashes."""
    far = enter("bookworm", {write(tmp_path): TOOL, write_plain(tmp_path, LATER): PLAIN})
    durable(far, store)
    ended, _ = traced(far, user_home, f"exec {TOOL}", "-e", "inject=syncfs:error=EIO")
    assert ended.whole == CODE
    layer = beside(store).parents[3].name
    assert store.made("layers", layer) == BOOT
    crash(store, but="durable")
    for path in beside(store).rglob("*.pyc"):
        path.write_bytes(path.read_bytes()[:20])
    assert far.run([PLAIN, "more"]).whole == TEXT
    assert store.made("layers", layer) == "durable"
    assert store.leftovers() == store.broken() == []


@pytest.mark.hosts
def test_after_a_crash_an_interpreter_s_is_removed_too(enter: Enter, store: Store, tmp_path: Path) -> None:
    """What was cut short behind its head an interpreter would take for good, and fail."""
    far = enter("bookworm", {write_plain(tmp_path, APP): PLAIN})
    assert far.run([PLAIN]).whole == TEXT
    crash(store)
    for path in (store.base / "v1/layers").rglob("*.pyc"):
        path.write_bytes(path.read_bytes()[:20])
    assert far.run([PLAIN]).whole == TEXT
    assert names(beside(store)) == PART_PYC
    assert store.leftovers() == store.broken() == []


# Many, and by other ways ----------------------------------------------------------------------------------------

MANY = 110
FEW = "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of many wheels, each with bytecode."""
    sources_ = {f"part{number}": f"word = 'text'  # {number}\n" for number in range(MANY)}
    code = compiled("word = 'code'\n")
    made = {
        name: {f"{SITE}/{name}.py": code[:12] + len(source).to_bytes(4, "little") + code[16:]}
        for name, source in sources_.items()
    }
    first_letters = " + ".join(f"{one}.word[0]" for one in sources_)
    app = f"import {', '.join(sources_)}\n\n\ndef main():\n    print({first_letters})\n"
    wheels: dict[str, dict[str, Content]] = {name: {f"{SITE}/{name}.py": text} for name, text in sources_.items()}
    wheels["app"] = {f"{SITE}/app.py": app}
    return slices.write(tmp_path_factory.mktemp("many") / "tool", [slices.Wanted(wheels, bytecode=made)])


@pytest.mark.hosts
def test_where_few_files_may_be_open_there_are_more_layers_than_that(
    many: Path, enter: Enter, store: Store, tmp_path: Path
) -> None:
    far = enter("bookworm", {many: TOOL})
    expected = (0, b"c" * MANY + b"\n", b"")
    assert far.run([TOOL], before=FEW).whole == expected
    assert len(store.names("layers")) == MANY + 2
    # and beside layers that are there
    far.root("cd /home/u/.cache/fatpar/v1; rm -r views plans; find layers -name '*.pyc' -delete")
    assert far.run([TOOL], before=FEW).whole == expected
    assert store.leftovers() == store.broken() == []


@pytest.mark.hosts
def test_where_few_files_may_be_open_it_can_be_looked_at(many: Path, enter: Enter, user_home: Path) -> None:
    far = enter("bookworm", {many: TOOL})
    done = far.run([TOOL], before=FEW, env={"FATPAR": "verify"})
    assert (done.status, done.stderr) == (0, b"")
    done = far.run([TOOL, "/home/u/out"], before=FEW, env={"FATPAR": "extract"})
    assert done.whole == (0, b"", b"")
    assert len(os.listdir(user_home / "out")) == 2 * MANY + 3


@pytest.mark.hosts
def test_it_is_listed_verified_and_extracted(enter: Enter, user_home: Path, tmp_path: Path) -> None:
    far = enter("bookworm", {write(tmp_path, "cp39", "cp311"): TOOL})
    listed = far.run([TOOL], env={"FATPAR": "list"}).stdout.decode()
    sizes = [sum(map(len, made.values())) for made in wanted("cp39").bytecode.values()]
    assert f"  bytecode    {sizes[0]:>10}  part-1.0-py3-none-any cpython-39\n" in listed
    assert listed.count("  bytecode ") == 4
    verified = far.run([TOOL], env={"FATPAR": "verify"})
    assert (verified.status, verified.stderr) == (0, b"")
    assert verified.stdout.endswith(b" blobs and 7 layers are as they were packed\n")
    assert far.run([TOOL, "/home/u/out"], env={"FATPAR": "extract"}).whole == (0, b"", b"")
    out = user_home / "out" / NAME / SITE
    assert names(out) == PART_PYC
    for path, content in wanted().bytecode["part"].items():
        assert (out.parents[2] / f"{path.removesuffix('.py')}.{PYC}").read_bytes() == content
    assert not list((user_home / "out/part-1.0-py3-none-any").rglob("__pycache__"))


def test_the_packer_s_own_is_what_the_interpreter_would_have_kept(tmp_path: Path) -> None:
    """By the sanitized launcher and the Python that runs this test."""
    python = running_target().python
    interpreter = next((one for one in pythons.find() if one.tag == python.tag), None)
    if not interpreter:
        skip_optional(f"no {python.tag} interpreter is here")
    tree: dict[str, Content] = {
        f"{SITE}/app.py": "import package.many, single\n\n\ndef main():\n    print(package.many.two())\n",
        f"{SITE}/single.py": "KNOWN = {'a', 'b'}\n",
        f"{SITE}/package/__init__.py": "",
        f"{SITE}/package/many.py": "def two():\n    return 2\n",
    }
    layers.write_tree(tree, tmp_path / "layer")
    of = read("app-1.0-py3-none-any", LayerKind.WHEEL, [(tmp_path / "layer/lib", "lib")])
    made = bytecode.compile_layers([of], python, interpreter, tmp_path / "cache")[of.digest]
    tag = bytecode.cache_tag(python)
    packed = {
        entry.path.replace(f".{tag}.pyc", ".py"): entry.source.read_bytes() for entry in made.entries if entry.source
    }
    assert packed.keys() == tree.keys()
    launcher = sanitized.require(sanitized.LAUNCHER)
    tool = slices.write(
        tmp_path / "tool", [slices.Wanted({"app": tree}, python.tag, bytecode={"app": packed})], launcher
    )
    bare = slices.write(tmp_path / "bare", [slices.Wanted({"app": tree}, python.tag)], launcher)
    kept: list[dict[str, bytes]] = []
    for path in (tool, bare):
        store = Store(tmp_path / f"{path.name}.store")
        done = run_program(path, store=store.base)
        assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
        pyc = beside(store, f"{SITE}/app.py")
        own = [one.is_symlink() for one in (store.base / "v1/views").rglob("*.pyc")]
        assert own == [path == tool] * 2
        kept.append({name: (pyc / name).read_bytes() for name in names(pyc)})
    assert len(kept[0]) == 4
    assert len(kept[1]) == 2  # of the package: modules beside it are the view's own
    # what is in both is the same but for file names, which the interpreter keeps whole
    assert {name: kept[0][name][:16] for name in kept[1]} == {name: content[:16] for name, content in kept[1].items()}
