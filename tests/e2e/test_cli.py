"""The command line: what is wrong is told in one message, and nothing is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import archives, index
from support.packing import ROOT, Ended, Place, run_program, wait_for, watched

import packer
from packer import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("offline")]

CP311 = "cp311-manylinux_2_17_x86_64"
ANOTHER = "hint: name another file with -o"
KNOWN = "known: cp27m, cp27mu, *"


def fat(place: Place, shelf: Path, *words: str | Path, **options: Any) -> Ended:
    """Pack for one Python, without network."""
    return place.run("fat", "--no-index", "--find-links", shelf, "--abis", "manylinux2014,cp311", *words, **options)


class TestHelp:
    @pytest.mark.parametrize(
        "words", [[], ["fat"], ["inspect"], ["verify"], ["sign"], ["extract"], ["explain"]], ids=" ".join
    )
    def test_help_fits_a_terminal(self, place: Place, words: list[str]) -> None:
        status, stdout, stderr = place.run(*words, "--help", env={"COLUMNS": "120"}).whole
        assert (status, stderr) == (0, "")
        assert stdout.startswith(f"usage: packer {' '.join(words)}".rstrip())
        assert max(map(len, stdout.splitlines())) <= 120

    def test_version(self, place: Place) -> None:
        assert place.run("--version").whole == (0, f"packer (fatpar) {packer.__version__}\n", "")

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            ([], "packer: error: the following arguments are required: COMMAND"),
            (["pack"], "packer: error: argument COMMAND: invalid choice: 'pack' "),
            (["verify"], "packer verify: error: the following arguments are required: FILE"),
            (["inspect", "a", "b"], "packer: error: unrecognized arguments: b"),
            (["fat", "x", "--fast", "y", "--fest"], "packer: error: unrecognized arguments: y --fest"),
            (["fat", "--timeout", "0"], "packer fat: error: argument --timeout: not a number of seconds: '0'"),
            (["fat", "--timeout", "soon"], "packer fat: error: argument --timeout: not a number of seconds: 'soon'"),
            (["fat", "-e", "a:b", "-m", "c"], "packer fat: error: argument -m/--module: not allowed with argument -e"),
        ],
    )  # fmt: skip
    def test_wrong_usage(self, place: Place, words: list[str], complaint: str) -> None:
        status, stdout, stderr = place.run(*words).whole
        assert (status, stdout) == (2, "")
        assert stderr.splitlines()[-1].startswith(complaint)


BAD = {
    "unknown-abi": (
        ["hello", "--abis", "manylinux2014,cp399"], 2,
        ["abis: unknown word: 'cp399'", f"hint: did you mean cp39? {KNOWN}"],
    ),
    "no-abi-at-all": (
        ["hello", "--abis", ""], 2, ["abis: a word is missing before, between or after the commas", f"hint: {KNOWN}"],
    ),
    "unknown-architecture": (
        ["hello", "--arch", "sparc"], 2, ["arch: unknown word: 'sparc'", "hint: known: x86_64, aarch64"],
    ),
    "nothing": ([], 2, [
        "nothing to pack: no requirement, project directory or script", "hint: see packer fat --help",
    ]),
    "unknown-requirement": (
        ["no-such-thing"], 1,
        [f"{CP311}: no file fits no-such-thing: no index or directory has a distribution called no-such-thing"],
    ),
    "unknown-version": (
        ["hello==9"], 1, [f"{CP311}: no file fits hello==9: the newest that has a file for {CP311} is 1.0"],
    ),
    "no-requirement": (["hello=9"], 1, [f"{CP311}: pip: Invalid requirement: 'hello=9': *"]),
    "no-wheel-for-the-abi": (["native"], 1, [f"{CP311}: no file fits native: native 1.0 has wheels for cp39"]),
    "other-python": (["demanding"], 1, [f"{CP311}: demanding 1.0 needs Python >=4, and this is 3.11.*"]),
    "no-requirements-file": (["-r", "no.txt"], 2, ["cannot read no.txt: there is no such file or directory"]),
    "no-constraints-file": (
        ["hello", "--constraint", "no.txt"], 2, ["cannot read no.txt: there is no such file or directory"],
    ),
    "no-project": (["./nowhere"], 2, ["cannot read nowhere: there is no such file or directory"]),
    "no-project-with-extras": (["sub/no[a,b]"], 2, ["cannot read sub/no: there is no such file or directory"]),
    "no-wheel": (["x-1-py3-none-any.whl"], 2, ["cannot read x-1-py3-none-any.whl: there is no such file or directory"]),
    "no-shelf": (["hello", "--find-links", "nowhere"], 2, ["cannot read nowhere: there is no such file or directory"]),
    "no-script": (["nowhere.py"], 2, ["no script nowhere.py: there is no such file"]),
    "directory-without-project": (["./directory"], 2, [
        "directory is no project: it has neither pyproject.toml nor setup.py",
        "hint: name the directory of the project",
    ]),
    "no-include": (
        ["hello", "--include", "nowhere:x"], 2, ["cannot include nowhere: there is no such file or directory"],
    ),
    "include-out-of-place": (
        ["hello", "--include", "file:../x"], 2,
        ["not an --include: 'file:../x': write SRC:DEST, DEST relative to the program's modules"],
    ),
    "include-with-a-link-out": (
        ["hello", "--include", "links:x"], 1,
        ["cannot pack {work}/links/out: it is a link to /etc/passwd, which is not packed with it"],
    ),
    "include-that-cannot-be-read": (
        ["hello", "--include", "secret:x"], 1, ["cannot read {work}/secret: Permission denied"],
    ),
    "unknown-command": (
        ["hello", "-c", "hullo"], 2,
        [f"{CP311}: no command 'hullo': none of the wheels installs it", "hint: there is hello"],
    ),
    "unknown-tool": (
        ["hello", "--tool", "x=y"], 2,
        [f"{CP311}: no command 'y': none of the wheels installs it", "hint: there is hello"],
    ),
    "malformed-tool": (
        ["hello", "--tool", "x"], 2, ["not a tool: 'x': write NAME=module:function or NAME=console_script"],
    ),
    "several-commands": (
        ["several"], 2,
        ["which command shall the archive be?", "hint: say it with -c, -m or -e; there is one, two"],
    ),
    "no-commands": (
        ["native", "--abis", "manylinux2014,cp39"], 2,
        ["which command shall the archive be?", "hint: say it with -c, -m or -e; what is asked for installs none"],
    ),
    "malformed-entry": (["hello", "-e", "hello.main"], 2, ["not an entry point: 'hello.main': write module:function"]),
    "unknown-entry-module": (
        ["hello", "-e", "hullo:main"], 1, [f"no module hullo to begin with: no wheel of {CP311} has it"],
    ),
    "unknown-entry-function": (
        ["hello", "-e", "hello:mein"], 2, [f"{CP311}: no function mein in hello", "hint: did you mean main?"],
    ),
    "malformed-module": (["hello", "-m", "a-b"], 2, ["not a module name: 'a-b'"]),
    "unknown-module": (
        ["hello", "-m", "hullo"], 1, [f"no module hullo to begin with: no wheel of {CP311} has it"],
    ),
    "output-is-a-directory": (
        ["hello", "-o", "directory"], 1, ["cannot write directory: it is a directory", ANOTHER],
    ),
    "output-is-a-device": (
        ["hello", "-o", "/dev/null"], 1, ["cannot write /dev/null: it is a device or the like", ANOTHER],
    ),
    "output-is-a-link-to-a-device": (
        ["hello", "-o", "null"], 1, ["cannot write null: it is a device or the like", ANOTHER],
    ),
    "output-is-a-directory-of-the-tools-name": (
        ["several", "-c", "one", "-o", "one"], 1, ["cannot write one: it is a directory", ANOTHER],
    ),
    "output-in-no-directory": (
        ["hello", "-o", "no/where"], 1,
        ["cannot write no/where: No such file or directory", ANOTHER],
    ),
    "output-below-a-file": (
        ["hello", "-o", "file/x"], 1, ["cannot write file/x: Not a directory", ANOTHER],
    ),
    "output-in-a-directory-of-others": (
        ["hello", "-o", "theirs/x"], 1, ["cannot write theirs/x: Permission denied", ANOTHER],
    ),
    "output-name-too-long": (
        ["hello", "-o", "x" * 250], 1, [f"cannot write {'x' * 250}: File name too long", ANOTHER],
    ),
}  # fmt: skip


@pytest.fixture
def filled(place: Place) -> Place:
    """A place with files that stand in the way."""
    for name in ("directory", "one", "theirs", "links"):
        (place.work / name).mkdir()
    (place.work / "theirs").chmod(0o555)
    (place.work / "file").touch()
    (place.work / "secret").touch(0o000)
    (place.work / "links/out").symlink_to("/etc/passwd")
    (place.work / "null").symlink_to("/dev/null")
    return place


@pytest.mark.parametrize(("words", "status", "lines"), BAD.values(), ids=BAD)
def test_bad_input_gives_one_clear_message_and_leaves_nothing(
    filled: Place, shelf: Path, words: list[str], status: int, lines: list[str]
) -> None:
    before = filled.left()
    abis = () if "--abis" in words else ("--abis", "manylinux2014,cp311")
    ended = filled.run("fat", "--no-index", "--find-links", shelf, *abis, *words)
    said = ended.stderr.splitlines()
    expected = [f"packer: {line.replace('{work}', str(filled.work))}" for line in lines]
    assert (ended.status, ended.stdout, len(said)) == (status, "", len(expected)), ended.stderr
    for line, wanted in zip(said, expected, strict=True):
        # what stands for the * is pip's, or a list that grows
        assert line.startswith(wanted[:-1]) if wanted.endswith("*") else line == wanted, ended.stderr
    assert filled.left() == before


def test_errors_of_all_slices_are_told_each_once(place: Place, shelf: Path) -> None:
    ended = place.run("fat", "native", "--no-index", "--find-links", shelf, "--abis", "manylinux2014,cp39,cp310,cp311")
    assert ended.whole == (1, "", (
        "packer: cp310-manylinux_2_17_x86_64: no file fits native: native 1.0 has wheels for cp39\n"
        "packer: cp311-manylinux_2_17_x86_64: no file fits native: native 1.0 has wheels for cp39\n"
    ))  # fmt: skip


def test_an_index_that_cannot_be_reached(place: Place) -> None:
    index_url = "http://127.0.0.1:9"
    ended = place.run("fat", "hello", "--abis", "manylinux2014,cp311", "--index-url", index_url)
    assert ended.whole == (1, "", (
        f"packer: {CP311}: cannot read {index_url}/hello/: connection error: [Errno 111] Connection refused\n"
        "packer: hint: is the network there?\n"
    ))  # fmt: skip


def test_a_locale_that_cannot_name_a_file(place: Place, shelf: Path) -> None:
    wheel = index.wheel(place.work, "names", files={"names.py": "", "\u20ac.txt": ""})
    ended = fat(place, shelf, wheel, "-m", "names", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    said = "packer: names-1.0-py3-none-any.whl: the locale's encoding, ascii, cannot name one of its files\n"
    assert ended.whole == (1, "", f"{said}packer: hint: set LC_ALL=C.UTF-8\n")


def test_a_time_limit(place: Place, shelf: Path) -> None:
    ended = fat(place, shelf, "hello", "--timeout", "0.01")
    assert ended.whole == (1, "", (
        f"packer: {CP311}: pip took longer than 0.01 seconds and was stopped\npacker: hint: see --timeout\n"
    ))  # fmt: skip
    assert place.left() == ["cache", "tmp", "work"]


def test_no_home(place: Place, shelf: Path) -> None:
    ended = fat(place, shelf, "hello", env={"HOME": None, "XDG_CACHE_HOME": None})
    said = "packer: no place for the cache: HOME is not set\npacker: hint: set XDG_CACHE_HOME\n"
    assert ended.whole == (2, "", said)


def test_a_cache_that_cannot_be_made(place: Place, shelf: Path) -> None:
    (place.root / "cache").chmod(0o555)
    ended = fat(place, shelf, "hello")
    said = f"packer: cannot make the cache {place.root}/cache/fatpar-packer: Permission denied\n"
    assert ended.whole == (1, "", f"{said}packer: hint: set XDG_CACHE_HOME\n")


class TestOutput:
    def test_the_file_that_is_running_is_replaced(self, place: Place, shelf: Path, running_tag: str) -> None:
        source = (
            "import sys\n\n\ndef main():\n    print('ready', flush=True)\n    sys.stdin.read()\n    print('done')\n"
        )
        index.wheel(place.work, "waiting", scripts=["waiting=waiting:main"], files={"waiting.py": source})
        words = (
            "fat",
            place.work / "waiting-1.0-py3-none-any.whl",
            "--no-index",
            "--abis",
            f"manylinux2014,{running_tag}",
        )
        place.packed(*words)
        tool = place.work / "waiting"
        inode = tool.stat().st_ino
        environment = {"PATH": os.environ["PATH"], "FATPAR_STORE": str(place.root / "store")}
        with subprocess.Popen(
            [tool], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            place.packed(*words)
            assert tool.stat().st_ino != inode
            assert running.communicate(timeout=60)[0] == "done\n"
        assert run_program(tool, store=place.root / "store").stdout == "ready\ndone\n"

    def test_a_link_at_the_output_is_replaced(self, place: Place, shelf: Path) -> None:
        (place.work / "kept").write_text("kept")
        (place.work / "hello").symlink_to("kept")
        assert fat(place, shelf, "hello").status == 0
        assert not (place.work / "hello").is_symlink()
        assert (place.work / "kept").read_text() == "kept"

    def test_quiet(self, place: Place, shelf: Path) -> None:
        assert fat(place, shelf, "hello", "--quiet").whole == (0, "", "")
        assert place.run("fat", "hello", "-q", "--no-index", "--find-links", shelf).whole == (0, "", "")

    def test_what_is_said(self, place: Place, shelf: Path, running_tag: str) -> None:
        ended = place.run("fat", "hello", "--no-index", "--find-links", shelf)
        size = f"{(place.work / 'hello').stat().st_size:,}"
        platform = ended.stdout.strip().rpartition("-")[2]
        assert ended.whole == (0, f"hello: {size} bytes for {running_tag}-{platform}\n", (
            f"packer: no --abis: packing for the running Python, {running_tag}\n"
            f"packer: no platform named: packing for this machine's, {platform}\n"
        ))  # fmt: skip

    def test_a_full_disk(self, place: Place, shelf: Path) -> None:
        """The file is written to a filesystem with room for less than the launcher."""
        (place.work / "small").mkdir()
        mount = 'mount -t tmpfs -o size=100k small small && "$@"; status=$?; ls -A small; exit $status'
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")
        prefix = ("unshare", "--mount", "sh", "-c", mount, "sh")
        ended = fat(place, shelf, "hello", "-o", "small/hello", prefix=prefix)
        assert ended.whole == (1, "", (
            "packer: cannot write small/hello: No space left on device\npacker: hint: name another file with -o\n"
        ))  # fmt: skip

    @pytest.mark.parametrize(
        ("size", "said"),
        [
            (8000, r"big-1.0-py3-none-any.whl: cannot install it: No space left on device: \S+"),
            (100, r"\S+: pip could not write what it found: .*\npacker: hint: is the cache's disk full\?"),
        ],
    )
    def test_a_full_cache(self, place: Place, shelf: Path, size: int, said: str) -> None:
        big = index.wheel(place.work, "big", scripts=["big=big:main"], files={"big.py": "#" * 5_000_000})
        left = "ls -A ../cache/fatpar-packer/tmp"
        mount = f'mount -t tmpfs -o size={size}k small ../cache && "$@"; status=$?; {left}; exit $status'
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")
        ended = fat(place, shelf, big, prefix=("unshare", "--mount", "sh", "-c", mount, "sh"))
        assert (ended.status, ended.stdout) == (1, "")
        assert re.fullmatch(f"packer: {said}\n", ended.stderr)

    def test_a_limit_on_file_size(self, place: Place, shelf: Path) -> None:
        """Writing fails in the middle, also for whoever may not mount."""
        ended = fat(place, shelf, "hello", prefix=("prlimit", "--fsize=100000"))
        said = "packer: cannot write hello: File too large\npacker: hint: name another file with -o\n"
        assert ended.whole == (1, "", said)
        assert list(place.work.iterdir()) == []


@pytest.fixture(scope="session")
def running_tag() -> str:
    return f"cp{sys.version_info[0]}{sys.version_info[1]}"


# Archives that are none ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("archive")
    (directory / "work").mkdir()
    modules = {"app.py": "def main():\n    print('hello')\n", "data.txt": "x" * 1000}
    return archives.write(directory / "app", directory / "work", modules, tags=["cp311", "cp39"]).read_bytes()


FOREIGN = "not a fatpar archive: it is no file of at least 128 bytes"
CUT = "archive is damaged: the index is not where the trailer says: the file was cut or added to"


def flipped(content: bytes, at: int) -> bytes:
    at %= len(content)
    return content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]


def trailer_of(content: bytes) -> Any:
    trailer = native.ffi().new("struct trailer *")
    native.ffi().memmove(trailer, content[-128:], 128)
    return trailer


def with_version(content: bytes, version: int) -> bytes:
    trailer = trailer_of(content)
    trailer.version = version
    trailer.checksum = zlib.crc32(bytes(native.ffi().buffer(trailer))[:116])
    return content[:-128] + bytes(native.ffi().buffer(trailer))


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", FOREIGN),
    "text": (lambda _: b"text\n" * 100, "not a fatpar archive: it does not end in a trailer"),
    "only-the-launcher": (
        lambda _: native.data("launcher-x86_64").read_bytes(), "not a fatpar archive: it does not end in a trailer",
    ),
    "cut-by-a-byte": (lambda content: content[:-1], "not a fatpar archive: it does not end in a trailer"),
    "cut-in-half": (lambda content: content[: len(content) // 2], "not a fatpar archive: it does not end in a trailer"),
    "cut-in-the-middle": (lambda content: content[:1000] + content[2000:], CUT),
    "added-to": (lambda content: content + b"\n", "not a fatpar archive: it does not end in a trailer"),
    "flip-in-the-trailer": (
        lambda content: flipped(content, -128), "archive is damaged: the trailer's checksum is wrong",
    ),
    "flip-in-the-index": (lambda content: flipped(content, -300), "archive is damaged: the index's digest is wrong"),
    "newer": (
        lambda content: with_version(content, 2),
        "archive is newer than its reader: format version 2, features 0x0; known are version 1, features 0x0",
    ),
}  # fmt: skip

COMMANDS = {
    "inspect": ["inspect"], "inspect-json": ["inspect", "--json"], "verify": ["verify"], "explain": ["explain"],
    "explain-host": ["explain", "--host", "bookworm"], "extract": ["extract"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
class TestDamaged:
    def run(self, place: Place, command: list[str], path: str) -> tuple[int, str, str]:
        before = place.left()
        ended = place.run(*command, path, *(["out"] if command == ["extract"] else []))
        assert place.left() == before
        return ended.whole

    def test_every_damage_is_told_apart(self, place: Place, command: list[str], archive: bytes) -> None:
        for name, (damage, complaint) in DAMAGES.items():
            (place.work / name).write_bytes(damage(archive))
            assert self.run(place, command, name) == (1, "", f"packer: {name}: {complaint}\n")

    def test_what_is_no_file_is_told(self, place: Place, command: list[str]) -> None:
        (place.work / "directory").mkdir()
        os.mkfifo(place.work / "pipe")
        (place.work / "secret").touch(0o000)
        for name, complaint in (
            ("directory", f"packer: directory: {FOREIGN}\n"),
            ("pipe", f"packer: pipe: {FOREIGN}\n"),
            ("secret", "packer: cannot read secret: Permission denied\n"),
            ("nothing", "packer: cannot read nothing: No such file or directory\n"),
            ("\udcff", "packer: cannot read \\udcff: No such file or directory\n"),
        ):
            assert self.run(place, command, name) == (1, "", complaint)


@pytest.mark.parametrize("command", ["verify", "extract"])
def test_a_flip_in_a_blob_is_found(place: Place, archive: bytes, command: str) -> None:
    (place.work / "app").write_bytes(flipped(archive, trailer_of(archive).index_offset - 10))
    before = place.left()
    ended = place.run(command, "app", *(["out"] if command == "extract" else []))
    assert (ended.status, ended.stdout) == (1, "")
    assert re.fullmatch(r"packer: app: archive is damaged: .*\n", ended.stderr)
    assert place.left() == before


class TestExtract:
    @pytest.fixture
    def app(self, place: Place, archive: bytes) -> Place:
        (place.work / "app").write_bytes(archive)
        (place.work / "theirs").mkdir(0o555)
        (place.work / "there").mkdir()
        return place

    @pytest.mark.parametrize(
        ("directory", "complaint"),
        [
            ("there", "extract to there: it exists already"),
            ("app", "extract to app: it exists already"),
            ("no/where", "make directory no/where.tmp-N: No such file or directory"),
            ("theirs/x", "make directory theirs/x.tmp-N: Permission denied"),
        ],
    )
    def test_a_directory_that_cannot_be_made(self, app: Place, directory: str, complaint: str) -> None:
        before = app.left()
        ended = app.run("extract", "app", directory)
        said = re.sub(r"tmp-\d+", "tmp-N", ended.stderr)
        assert (ended.status, ended.stdout, said) == (1, "", f"packer: app: {complaint}\n")
        assert app.left() == before

    def test_a_full_disk(self, app: Place) -> None:
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")
        mount = 'mount -t tmpfs -o size=4k small there && "$@"; status=$?; ls -A there; exit $status'
        ended = app.run("extract", "app", "there/out", prefix=("unshare", "--mount", "sh", "-c", mount, "sh"))
        assert (ended.status, ended.stdout) == (1, "")
        assert re.fullmatch(r"packer: app: .*: No space left on device\n", ended.stderr)


# Signals ----------------------------------------------------------------------------------------------------------

SIGNALS = {
    "ctrl-c": (signal.SIGINT, True, 130, "packer: interrupted\n"),
    "sigint-to-packer-alone": (signal.SIGINT, False, 130, "packer: interrupted\n"),
    "sigterm": (signal.SIGTERM, False, 143, "packer: ended by SIGTERM\n"),
    "hang-up": (signal.SIGHUP, True, 129, "packer: ended by SIGHUP\n"),
}


@pytest.mark.parametrize(("number", "group", "status", "complaint"), SIGNALS.values(), ids=SIGNALS)
class TestSignals:
    """Whatever the packer is doing, a signal ends it soon, with all its children, and leaves nothing."""

    def check(
        self, place: Place, words: list[str | Path], ready: Callable[[], object], number: int, group: bool
    ) -> tuple[int, str, str]:
        before = place.left()
        with watched(place.start("fat", "--abis", "manylinux2014,cp311", *words)) as process:
            wait_for(ready, process)
            os.kill(-process.pid if group else process.pid, number)
            stdout, stderr = process.communicate(timeout=60)  # none of them would have been done by then
            assert place.processes() == []
        assert place.left() == before
        return process.returncode, stdout, stderr

    def test_while_resolving(self, place: Place, number: int, group: bool, status: int, complaint: str) -> None:
        with silent_index() as (url, asked):
            found = self.check(place, ["hello", "--index-url", url], asked, number, group)
        assert found == (status, "", complaint)

    def test_while_building(self, place: Place, number: int, group: bool, status: int, complaint: str) -> None:
        """The build's own children, which could be compilers, end too."""
        backend = "import subprocess\ndef build_wheel(*_):\n    subprocess.run(['sleep', '600'])\n"
        index.project(place.work / "project", "project", backend=backend)
        (place.work / "project" / "__pycache__").mkdir()  # the build makes it, as any Python does
        ready = lambda: any(line.startswith("sleep ") for line in place.processes())  # noqa: E731
        words: list[str | Path] = ["./project", "-m", "project", "--no-index", "-o", "out"]
        assert self.check(place, words, ready, number, group) == (status, "", complaint)

    def test_while_installing(self, place: Place, number: int, group: bool, status: int, complaint: str) -> None:
        files = {f"big/m{number}.py": "" for number in range(20_000)}
        big = index.wheel(place.work, "big", files=files)
        words: list[str | Path] = [big, "-m", "big", "-o", "out", "--no-index"]
        ready = lambda: list((place.root / "cache/fatpar-packer/tmp").glob("install-*/wheel/tree/lib"))  # noqa: E731
        assert self.check(place, words, ready, number, group) == (status, "", complaint)

    def test_while_compressing(self, place: Place, number: int, group: bool, status: int, complaint: str) -> None:
        (place.work / "script.py").touch()
        (place.work / "noise").write_bytes(os.urandom(64 << 20))
        words: list[str | Path] = ["script.py", "--include", "noise:noise", "-o", "out"]
        ready = lambda: [path for path in place.work.glob(".out.*") if path.stat().st_size > 0]  # noqa: E731
        assert self.check(place, words, ready, number, group) == (status, "", complaint)


@contextmanager
def silent_index() -> Iterator[tuple[str, Callable[[], bool]]]:
    """An index that takes requests and never answers; whether it was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/simple"
        yield url, lambda: bool(select.select([listener], [], [], 0)[0])


def test_a_signal_that_is_ignored_stays_ignored(place: Place) -> None:
    """As nohup wants it."""
    (place.work / "script.py").touch()
    (place.work / "noise").write_bytes(os.urandom(8 << 20))
    words = ("fat", "script.py", "--include", "noise:noise", "-o", "out", "--abis", "cp311")
    with watched(place.start(*words, prefix=("nohup",))) as process:
        wait_for(lambda: list(place.work.glob(".out.*")), process)
        process.send_signal(signal.SIGHUP)
        assert process.wait(120) == 0
    assert (place.work / "out").is_file()


# Where output goes ------------------------------------------------------------------------------------------------


def test_a_reader_that_had_enough(place: Place, archive: bytes) -> None:
    (place.work / "app").write_bytes(archive)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "packer", "inspect", str(place.work / "app")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_output_that_cannot_be_written(place: Place, archive: bytes) -> None:
    (place.work / "app").write_bytes(archive)
    shell = ("sh", "-c", '"$@" >/dev/full', "sh")
    assert place.run("inspect", "app", prefix=shell).whole == (1, "", "packer: No space left on device\n")


def test_names_that_are_no_text(place: Place, archive: bytes) -> None:
    name = "\udcff\u20ac"
    (place.work / name).write_bytes(archive)
    for locale in ("C", "C.UTF-8"):
        ended = place.run("inspect", name, env={"LC_ALL": locale, "PYTHONUTF8": None})
        assert (ended.status, ended.stderr) == (0, "")
        assert ended.stdout.startswith("\\xff")
    assert json.loads(place.run("inspect", "--json", name).stdout)["file"] == name


# Progress -----------------------------------------------------------------------------------------------------------


def on_terminal(place: Place, *words: str | Path, env: dict[str, str | None]) -> tuple[int, str]:
    """Run with a terminal as standard error; what it got."""
    ours, theirs = pty.openpty()
    with watched(place.start(*words, stderr=theirs, env=env)) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            shown += more
        status = process.wait(60)
    os.close(ours)
    return status, shown.decode()


def screen(text: str) -> list[str]:
    """What is left on a terminal, as far as a progress bar goes: lines that were not wiped."""
    lines: list[str] = [""]
    row = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            continue
        elif token.startswith("\x1b["):
            if token.endswith("A"):
                row -= int(token[2:-1] or 1)
            elif token.endswith("K"):
                lines[row] = ""
        else:
            lines[row] += token
    return [line for line in lines if line.strip()]


class TestProgress:
    WORDS = ("fat", "hello", "--abis", "manylinux2014,cp311", "--no-index")

    def test_a_terminal_shows_it_and_has_nothing_left_in_the_end(self, place: Place, shelf: Path) -> None:
        status, shown = on_terminal(place, *self.WORDS, "--find-links", shelf, env={"TERM": "xterm", "COLUMNS": "100"})
        assert status == 0
        assert "resolving" in shown
        assert "compressing" in shown or "measuring" in shown
        assert screen(shown) == []

    def test_an_error_stands_alone_in_the_end(self, place: Place, shelf: Path) -> None:
        words = (*self.WORDS, "nosuch[a-thing]", "--find-links", shelf)
        status, shown = on_terminal(place, *words, env={"TERM": "xterm", "COLUMNS": "100"})
        said = "no file fits nosuch[a-thing]: no index or directory has a distribution called nosuch"
        assert (status, screen(shown)) == (1, [f"packer: {CP311}: {said}"])

    def test_names_in_brackets_are_no_markup(self, place: Place) -> None:
        index.project(place.work / "[bold]source", "source")
        words = ("fat", "./[bold]source", "-m", "source", *self.WORDS[2:], "-o", "out")
        status, shown = on_terminal(place, *words, env={"TERM": "xterm", "COLUMNS": "200"})
        assert (status, screen(shown)) == (0, [])
        assert "building [bold]source with " in shown

    def test_no_colour_where_none_is_wanted(self, place: Place, shelf: Path) -> None:
        words = (*self.WORDS, "--find-links", shelf)
        coloured = re.compile(r"\x1b\[(3\d|9\d|38)[;m\d]*m")
        _, shown = on_terminal(place, *words, env={"TERM": "xterm-256color", "COLUMNS": "100"})
        assert coloured.search(shown)
        _, shown = on_terminal(place, *words, env={"TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": "1"})
        assert "resolving" in shown
        assert not coloured.search(shown)

    def test_quiet_shows_nothing(self, place: Place, shelf: Path) -> None:
        assert on_terminal(place, *self.WORDS, "--find-links", shelf, "-q", env={"TERM": "xterm"}) == (0, "")

    def test_a_pipe_gets_nothing(self, place: Place, shelf: Path) -> None:
        ended = place.run(*self.WORDS, "--find-links", shelf, env={"TERM": "xterm", "FORCE_COLOR": "1"})
        assert (ended.status, ended.stderr) == (0, "")
