"""The archive's own file: it goes away while the application runs, it is replaced, it arrives damaged."""

from __future__ import annotations

import random
import shutil
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.layers import SITE

from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.process import Store

    from .conftest import Enter, Pack

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"

# It goes away ---------------------------------------------------------------------------------------------------

LATE = """\
import os, sys


def main():
    what, path = sys.argv[1:]
    if what == "deleted":
        os.unlink(path)
    elif what == "truncated":
        open(path, "wb").close()
    elif what == "overwritten":
        with open(path, "r+b") as file:
            file.write(b"x" * 100000)
    else:
        os.rename(path, path + ".old")
        open(path, "w").close()
    import late
    import late.part
    sys.stdout.write(late.word + late.part.word + late.data() + "\\n")
"""

LATE_MODULES = {
    "app.py": LATE,
    "late/__init__.py": "import os\nword = 'one '\ndef data():\n"
    "    with open(os.path.join(os.path.dirname(__file__), 'data.txt')) as file:\n        return file.read()\n",
    "late/part.py": "word = 'two '\n",
    "late/data.txt": "three",
}


@pytest.mark.parametrize("what", ["deleted", "truncated", "overwritten", "replaced"])
@pytest.mark.parametrize(("host", "tag"), [("bookworm", "cp311"), ("bullseye", "cp27mu")], ids=["3.11", "2.7"])
def test_an_application_goes_on_without_its_file(pack: Pack, enter: Enter, host: str, tag: str, what: str) -> None:
    """Modules and data that it had not looked at before are there, on the first launch and on later ones."""
    tool = pack("tool", LATE_MODULES, tags=[tag])
    far = enter(host, {tool: TOOL})
    for _ in range(2):
        far.root(f"cp {TOOL} /home/u/tool; chown 4242 /home/u/tool; chmod 755 /home/u/tool")
        assert far.run(["/home/u/tool", what, "/home/u/tool"]).whole == (0, b"one two three\n", b"")


def test_an_archive_may_be_deleted_while_it_unpacks_itself(enter: Enter, tmp_path: Path) -> None:
    numbers = random.Random(1)
    data = {f"{SITE}/data/{number}": numbers.randbytes(5000) for number in range(1500)}
    app = "import os\n\n\ndef main():\n    print(len(os.listdir(os.path.dirname(__file__) + '/data')))\n"
    tool = slices.write(tmp_path / "tool", [slices.Wanted({"data": data, "app": {f"{SITE}/app.py": app}})])
    far = enter("bookworm", {tool: TOOL})
    begun = "ls ~/.cache/fatpar/v1/layers/.tmp-* >/dev/null 2>&1"
    script = f"cp {TOOL} ~/tool; ~/tool & while ! {begun}; do :; done; rm ~/tool; wait $!"
    assert far.run(["sh", "-c", script]).whole == (0, b"1500\n", b"")


def test_an_archive_that_is_replaced_is_the_new_one_at_once(pack: Pack, enter: Enter, store: Store) -> None:
    """And the old one again when it is put back; nothing is unpacked twice."""
    one, two = (pack("tool", {"app.py": f"def main():\n    print({word!r})\n"}) for word in ("old", "new"))
    far = enter("bookworm", {one: "/opt/one", two: "/opt/two"})
    for number, word in enumerate(("one", "two", "one", "two")):
        far.root(f"cp /opt/{word} /opt/next; mv /opt/next {TOOL}")
        assert far.run([TOOL]).whole == (0, b"old\n" if word == "one" else b"new\n", b"")
        assert len(store.names("views")) == min(number, 1) + 1


DENIED = (
    b"tool: open the program's own file: Permission denied\n"
    b"tool: hint: whoever executes it has to be able to read it, too: chmod a+r\n"
)


def test_a_file_that_cannot_be_read_is_told(pack: Pack, enter: Enter) -> None:
    """The kernel executes a file without read permission; the launcher cannot read what is appended."""
    tool = pack("tool", {"app.py": "def main():\n    pass\n"})
    far = enter("bookworm", {tool: "/opt/kept"})
    far.root(f"cp /opt/kept {TOOL}; chmod 711 {TOOL}")
    assert far.run([TOOL]).whole == (125, b"", DENIED)


# It arrives damaged ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(pack: Pack) -> Path:
    """Its one blob is compressed."""
    return pack("tool", {"app.py": "def main():\n    print('ran')\n", "data.txt": "some text\n" * 1000})


def flipped(offset: int) -> Callable[[Path, Path], None]:
    """One bit of another value, that far behind the first blob's start, or before the end of the file."""

    def damage(sound: Path, damaged: Path) -> None:
        content = bytearray(sound.read_bytes())
        with reading(sound) as found:
            start = int(found.records("blob")[0].offset)
        content[offset if offset < 0 else start + offset] ^= 0x10
        damaged.write_bytes(content)

    return damage


def cut(size: int) -> Callable[[Path, Path], object]:
    return lambda sound, damaged: damaged.write_bytes(sound.read_bytes()[:-size])


def sealed(offset: int, value: bytes) -> Callable[[Path, Path], object]:
    """Another value in the trailer, and a checksum that is right: a later packer's."""

    def change(sound: Path, damaged: Path) -> None:
        content = bytearray(sound.read_bytes())
        trailer = content[-128:]
        trailer[offset : offset + len(value)] = value
        trailer[116:120] = zlib.crc32(trailer[:116]).to_bytes(4, "little")
        damaged.write_bytes(content[:-128] + trailer)

    return change


def tool_of_binutils(*command: str) -> Callable[[Path, Path], object]:
    def damage(sound: Path, damaged: Path) -> None:
        shutil.copy(sound, damaged)
        subprocess.run([*command, str(damaged)], check=True)

    return damage


FOREIGN = (
    "tool: not a fatpar archive: it does not end in a trailer\n"
    "tool: hint: strip, objcopy and downloads that broke off take a file's end away: get it again\n"
)
BAD = "tool: archive is damaged: {}\n"
NEWER = "tool: archive is newer than its reader: format version {}, features {}; known are version 1, features 0x0\n"

DAMAGES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "a-bit-of-a-blob": (flipped(40), BAD.format("blob 0: Data corruption detected")),
    "a-bit-of-a-blob-s-head": (flipped(0), BAD.format("blob 0: it is not one frame")),
    "a-bit-of-the-index": (flipped(-150), BAD.format("the index's digest is wrong")),
    "a-bit-of-the-trailer": (flipped(-100), BAD.format("the trailer's checksum is wrong")),
    "a-bit-of-the-magic": (flipped(-1), FOREIGN),
    "a-byte-is-missing": (cut(1), FOREIGN),
    "the-trailer-is-missing": (cut(128), FOREIGN),
    "half-of-it-is-missing": (cut(2000), FOREIGN),
    "a-byte-was-added": (lambda sound, damaged: damaged.write_bytes(sound.read_bytes() + b"\n"), FOREIGN),
    "bytes-are-missing-in-the-middle": (
        lambda sound, damaged: damaged.write_bytes(sound.read_bytes()[:-300] + sound.read_bytes()[-200:]),
        BAD.format("the index is not where the trailer says: the file was cut or added to"),
    ),
    "strip": (tool_of_binutils("strip"), FOREIGN),
    "objcopy": (tool_of_binutils("objcopy"), FOREIGN),
    "another-version": (sealed(112, b"\2\0\0\0"), NEWER.format(2, "0x0")),
    "a-feature-it-does-not-know": (sealed(104, b"\1\0\0\0"), NEWER.format(1, "0x1")),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_archive_is_refused_and_nothing_is_published(
    sound: Path, enter: Enter, store: Store, tmp_path: Path, name: str
) -> None:
    damage, message = DAMAGES[name]
    damaged = tmp_path / "tool"
    damage(sound, damaged)
    damaged.chmod(0o755)
    far = enter("bookworm", {damaged: TOOL})
    for _ in range(2):
        assert far.run([TOOL]).whole == (125, b"", message.encode())
    assert store.names("layers") == store.names("views") == store.names("plans") == store.leftovers() == []


def test_a_bit_of_a_file_is_found_out_by_the_layer_s_digest(
    pack: Pack, enter: Enter, store: Store, tmp_path: Path
) -> None:
    """Data that could not be made smaller: they decode, whatever their bits are."""
    noise = random.Random(1).randbytes(300_000)
    damaged = tmp_path / "tool"
    flipped(150_000)(pack("tool", {"app.py": "def main():\n    print('ran')\n", "noise.bin": noise}), damaged)
    damaged.chmod(0o755)
    message = BAD.format("layer modules-1.0-py2.py3-none-any has the wrong digest")
    assert enter("bookworm", {damaged: TOOL}).run([TOOL]).whole == (125, b"", message.encode())
    assert store.names("layers") == store.names("views") == store.names("plans") == store.leftovers() == []


def test_a_damaged_archive_runs_as_long_as_what_it_unpacked_is_there(sound: Path, enter: Enter, tmp_path: Path) -> None:
    """A second launch reads the trailer only: the rest of the file may be on a server that is gone."""
    damaged = tmp_path / "tool"
    flipped(40)(sound, damaged)
    damaged.chmod(0o755)
    far = enter("bookworm", {sound: "/opt/sound/tool", damaged: TOOL})
    assert far.run([TOOL]).status == 125
    assert far.run(["/opt/sound/tool"]).whole == (0, b"ran\n", b"")
    assert far.run([TOOL]).whole == (0, b"ran\n", b"")
    assert far.run([TOOL], env={"FATPAR": "verify"}).status == 125
