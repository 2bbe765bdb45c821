"""``packer sign`` and ``packer verify``: as a release does it, and as a user gets it wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import archives, keys
from support.keys import NAME
from support.packing import ROOT, Place, run_program, wait_for, watched

from packer import cli, inspect, signature

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

PASSPHRASE = "open sesame"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, running_tag: str) -> bytes:
    """An archive that runs here."""
    root = tmp_path_factory.mktemp("archive")
    (root / "work").mkdir()
    modules = {"app.py": "def main():\n    print('hello')\n"}
    return archives.write(root / "app", root / "work", modules, tags=[running_tag]).read_bytes()


@pytest.fixture(scope="module")
def running_tag() -> str:
    return f"cp{sys.version_info[0]}{sys.version_info[1]}"


@pytest.fixture
def desk(place: Place, archive: bytes) -> Place:
    """A place with an archive, ``app``, a key, and the file of those who may sign."""
    (place.work / "app").write_bytes(archive)
    (place.work / "app").chmod(0o755)
    keys.make(place.work / "key")
    keys.allow(place.work / "signers", place.work / "key")
    return place


def documented(section: str) -> set[str]:
    text = (ROOT / "docs" / "json.md").read_text("utf-8").split(f"\n## {section}\n")[1].partition("\n## ")[0]
    return {
        word for row in re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE) for word in re.findall("`([^`]+)`", row)
    }


def test_a_release(desk: Place) -> None:
    """Packed, signed, verified, run: and nobody who runs it notices."""
    who = f"ssh-ed25519 key {keys.fingerprint(desk.work / 'key')}"
    plain = (desk.work / "app").read_bytes()
    counts = "app: 1 blobs and 2 layers are as they were packed\n"
    assert desk.run("verify", "app").whole == (0, counts, "")
    store = desk.root / "store"
    assert run_program(desk.work / "app", store=store).stdout == "hello\n"
    objects = sorted(path.name for path in (store / "v1").glob("*/*"))

    status, stdout, stderr = desk.run("sign", "app", "--key", "key").whole
    size = (desk.work / "app").stat().st_size
    assert (status, stdout, stderr) == (0, f"app: {size:,} bytes, signed by {who}\n", "")
    words = ("verify", "app", "--require-signature", "--allowed-signers", "signers")
    assert desk.run(*words).whole == (0, f"{counts}app: signed by {NAME} with {who}\n", "")
    nobody = f"app: signed by {who}, for which nobody vouched: see --allowed-signers\n"
    assert desk.run("verify", "app").whole == (0, counts + nobody, "")
    assert re.search(r"\d+ +\S+ % +signature\n", desk.packed("inspect", "app", "--sizes").stdout)

    done = run_program(desk.work / "app", store=store)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert sorted(path.name for path in (store / "v1").glob("*/*")) == objects
    done = run_program(desk.work / "app", store=store, env={"FATPAR": "verify"})
    assert (done.returncode, done.stdout) == (0, counts.partition(" ")[2])
    assert cli.main(["sign", "--remove", str(desk.work / "app"), "-o", str(desk.work / "back"), "-q"]) == 0
    assert (desk.work / "back").read_bytes() == plain
    assert sorted(os.listdir(desk.work)) == ["app", "back", "key", "key.pub", "signers"]
    assert os.listdir(desk.root / "tmp") == []


def test_json(desk: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(desk.work)

    def printed(*words: str) -> Any:
        assert cli.main([*words, "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    signed = printed("sign", "app", "--key", "key", "-o", "out")
    assert set(signed) == documented("sign")
    assert set(signed["signature"]) == documented("signature")
    described = inspect.describe(desk.work / "out")
    assert (signed["id"], signed["size"], signed["file"]) == (described["id"], described["size"], "out")
    found = printed("verify", "out")
    assert set(found) == documented("verify")
    assert (found["signature"], found["signature_checked"]) == (described["signature"], True)
    found = printed("verify", "out", "--allowed-signers", "signers")
    assert found["signature"] == {**described["signature"], "identity": NAME}
    monkeypatch.setenv("PATH", "/nonexistent")
    found = printed("verify", "out")
    assert (found["signature"], found["signature_checked"]) == (described["signature"], False)
    found = printed("verify", "app")
    assert (found["signature"], found["signature_checked"]) == (None, False)


def test_mistakes(desk: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(desk.work)
    monkeypatch.setenv("TMPDIR", str(desk.root / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    desk.packed("sign", "app", "--key", "key", "-o", "signed")
    keys.make(desk.work / "closed", passphrase=PASSPHRASE)
    (desk.work / "directory").mkdir()
    content = (desk.work / "signed").read_bytes()
    (desk.work / "changed").write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    before = desk.left()
    who = f"ssh-ed25519 key {keys.fingerprint(desk.work / 'key')}"
    another = "hint: name another file with -o"
    takes = "takes --allowed-signers: who may sign is for you to say"
    line = 'hint: it is a file with a line for each: NAME namespaces="fatpar" PUBLIC KEY; see packer verify --help'
    signed_by_others = "it was changed after it was signed, or the signature was taken from another file"
    for words, status, lines in (
        (("verify", "app", "--allowed-signers", "signers"), 1,
         ["app is not signed", "hint: whoever makes it signs it: packer sign"]),
        (("verify", "signed", "--require-signature"), 2, [f"--require-signature {takes}", line]),
        (("verify", "signed", "--identity", NAME), 2, [f"--identity {takes}", line]),
        (("verify", "signed", "--allowed-signers", "none"), 1, ["cannot read none: No such file or directory"]),
        (("verify", "signed", "--allowed-signers", "signers", "--identity", "x"), 1,
         [f"signed is signed by {NAME}, not by x: {who}"]),
        (("verify", "changed"), 1,
         [f"changed: its signature is not that of this file: {signed_by_others}", "hint: get the file again"]),
        (("sign", "signed", "--key", "key"), 1, [f"signed is signed already: {who}", "hint: --replace signs it again"]),
        (("sign", "app", "--key", "none"), 2,
         ["cannot read none: there is no such file", "hint: ssh-keygen -t ed25519 makes a key"]),
        (("sign", "app", "--key", "closed"), 1,
         ["cannot sign with closed: it has a passphrase, and there is no terminal to ask for it",
          "hint: load it into an agent before: ssh-add closed"]),
        (("sign", "app", "--remove"), 1, ["app is not signed"]),
        (("sign", "key", "--key", "key"), 1, ["key: not a fatpar archive: it does not end in a trailer"]),
        (("sign", "app", "--key", "key", "-o", "directory"), 1, ["cannot write directory: it is a directory", another]),
        (("sign", "app", "--key", "key", "-o", "/dev/null"), 1,
         ["cannot write /dev/null: it is a device or the like", another]),
    ):  # fmt: skip
        said = "".join(f"packer: {one}\n" for one in lines)
        assert (cli.main(words), *capfd.readouterr()) == (status, "", said)
    for wrong in (["sign", "app"], ["sign", "app", "--key", "key", "--remove"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(wrong)
        assert caught.value.code == 2
    assert desk.left() == before


def test_a_directory_of_others(desk: Place) -> None:
    (desk.work / "theirs").mkdir()
    (desk.work / "theirs/app").write_bytes((desk.work / "app").read_bytes())
    (desk.work / "theirs").chmod(0o555)
    before = desk.left()
    said = "packer: cannot write theirs/app: Permission denied\npacker: hint: name another file with -o\n"
    assert desk.run("sign", "theirs/app", "--key", "key").whole == (1, "", said)
    assert desk.left() == before


def test_a_full_disk(desk: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    (desk.work / "small").mkdir()
    mount = 'mount -t tmpfs -o size=100k small small && "$@"; status=$?; ls -A small; exit $status'
    ended = desk.run(
        "sign", "app", "--key", "key", "-o", "small/app", prefix=("unshare", "--mount", "sh", "-c", mount, "sh")
    )
    said = "packer: cannot write small/app: No space left on device\npacker: hint: name another file with -o\n"
    assert ended.whole == (1, "", said)


def test_an_agent_has_the_key(desk: Place) -> None:
    """Then the private key may be on another machine."""
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", desk.root / "agent"], stdout=subprocess.DEVNULL)
    try:
        wait_for((desk.root / "agent").exists, agent)  # type: ignore[arg-type]
        environment = {**os.environ, "SSH_AUTH_SOCK": str(desk.root / "agent")}
        subprocess.run(["ssh-add", "-q", desk.work / "key"], env=environment, check=True)
        (desk.work / "key").unlink()
        desk.packed("sign", "app", "--key", "key.pub", env={"SSH_AUTH_SOCK": str(desk.root / "agent")})
    finally:
        agent.kill()
        agent.wait()
    assert signature.check(desk.work / "app", desk.work / "signers").identity == NAME


# At a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """The packer at a terminal of its own, which asks for a passphrase."""

    def __init__(self, place: Place, *words: str) -> None:
        self.ours, theirs = pty.openpty()
        # the leader of its session, as Place.start makes it, takes the first terminal that it opens for its own
        shell = 'exec "$@" <"$0" 2>"$0"'
        prefix = ("sh", "-c", shell, os.ttyname(theirs))
        self.process = place.start(*words, prefix=prefix)
        os.close(theirs)
        self.shown = b""

    def read(self, word: bytes) -> None:
        """Read up to a word; all there is, if it does not come."""
        while word not in self.shown:
            try:
                self.shown += os.read(self.ours, 1024)
            except OSError:  # nobody has the other end open: not yet, or no more
                if self.process.poll() is not None:
                    return
                time.sleep(0.01)


@pytest.fixture
def asked(desk: Place) -> Iterator[Terminal]:
    """One that has asked."""
    keys.make(desk.work / "closed", passphrase=PASSPHRASE)
    terminal = Terminal(desk, "sign", "app", "--key", "closed")
    with watched(terminal.process):
        terminal.read(b"passphrase")
        assert b"passphrase" in terminal.shown, terminal.shown
        yield terminal
    os.close(terminal.ours)


def test_a_passphrase_is_asked_for(desk: Place, asked: Terminal) -> None:
    os.write(asked.ours, f"{PASSPHRASE}\n".encode())
    asked.read(b"\0")
    stdout, _ = asked.process.communicate(timeout=60)
    assert (asked.process.returncode, stdout.partition(" bytes, ")[2]) == (
        0, f"signed by ssh-ed25519 key {keys.fingerprint(desk.work / 'closed')}\n",
    )  # fmt: skip
    keys.allow(desk.work / "signers", desk.work / "closed")
    assert signature.check(desk.work / "app", desk.work / "signers").identity == NAME


def test_a_wrong_passphrase(desk: Place, archive: bytes, asked: Terminal) -> None:
    os.write(asked.ours, b"wrong\n")
    asked.read(b"\0")
    assert asked.process.wait(60) == 1
    assert b"incorrect passphrase" in asked.shown
    assert b"packer: cannot sign with closed: ssh-keygen failed, as it says above\r\n" in asked.shown
    assert (desk.work / "app").read_bytes() == archive


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm", "hang-up"])
def test_nothing_is_left_of_what_is_interrupted(desk: Place, archive: bytes, asked: Terminal, how: str) -> None:
    names = ["app", "closed", "closed.pub", "key", "key.pub", "signers"]
    assert sorted(os.listdir(desk.work)) != names  # what is being written
    if how == "ctrl-c":
        os.write(asked.ours, b"\x03")
    else:
        asked.process.send_signal(signal.SIGTERM if how == "sigterm" else signal.SIGHUP)
    asked.read(b"\0")
    assert asked.process.wait(60) == {"ctrl-c": 130, "sigterm": 143, "hang-up": 129}[how]
    assert desk.processes() == []
    assert sorted(os.listdir(desk.work)) == names
    assert os.listdir(desk.root / "tmp") == []
    assert (desk.work / "app").read_bytes() == archive
