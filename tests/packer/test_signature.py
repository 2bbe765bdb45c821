"""packer/signature.py: who signed an archive, and that not a byte of it is another."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import archives, keys
from support.keys import NAME

from packer import inspect, native, patch, signature
from packer.diff import diff
from packer.errors import PackError, UsageError
from packer.progress import Quiet
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ["ed25519", "ecdsa 256", "ecdsa 521", "rsa 2048"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an archive, ``plain``, the same one ``signed`` by ``key``, and ``signers`` who may."""
    room = tmp_path_factory.mktemp("signed")
    (room / "work").mkdir()
    write(room / "plain", room / "work", "hello")
    signature.sign(room / "plain", keys.make(room / "key"), room / "signed")
    keys.allow(room / "signers", room / "key")
    return room


def write(output: Path, work: Path, word: str) -> Path:
    modules = {"app.py": f"def main():\n    print({word!r})\n", "data.txt": "x" * 1000}
    return archives.write(output, work, modules, tags=["cp311", "cp39"])


def trailer_of(content: bytes) -> Any:
    record = native.ffi().new("struct trailer *")
    native.ffi().memmove(record, content[-128:], 128)
    return record


def resealed(content: bytes, **values: Any) -> bytes:
    """The same file with other values in its trailer, by somebody who knows how it is made."""
    record = trailer_of(content)
    for name, value in values.items():
        setattr(record, name, value)
    record.checksum = zlib.crc32(bytes(native.ffi().buffer(record))[:116])
    return content[:-128] + bytes(native.ffi().buffer(record))


def with_block(plain: bytes, block: bytes) -> bytes:
    return resealed(plain[:-128] + block + plain[-128:], signature_size=len(block))


def block_of(content: bytes) -> bytes:
    return content[-128 - trailer_of(content).signature_size : -128]


def refusal(path: Path, signers: Path, identity: str | None = None) -> str:
    """Why an archive is not accepted."""
    with pytest.raises(PackError) as caught:
        signature.check(path, signers, identity)
    return str(caught.value).replace(f"{path.parent}/", "").replace(f"{signers.parent}/", "")


def refused(content: bytes, room: Path, work: Path, signers: str = "signers") -> str:
    (work / "changed").write_bytes(content)
    return refusal(work / "changed", room / signers)


# Sound signatures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_every_kind(room: Path, tmp_path: Path, kind: str) -> None:
    key = keys.make(tmp_path / "key", kind)
    signed = signature.sign(room / "plain", key, tmp_path / "out")
    signers = keys.allow(tmp_path / "signers", key)
    found = signature.check(tmp_path / "out", signers)
    key_type = keys.public(key).split()[0]
    assert found == signature.Signer(key_type, keys.fingerprint(key), NAME)
    assert found == signature.check(tmp_path / "out", signers, NAME)
    assert (signed.size, signed.signer) == (
        (tmp_path / "out").stat().st_size,
        signature.Signer(key_type, found.fingerprint),
    )


def test_a_certificate(room: Path, tmp_path: Path) -> None:
    """The line names who certifies; the key itself is in no file on the host."""
    authority, key = keys.make(tmp_path / "authority", "ecdsa 256"), keys.make(tmp_path / "key")
    keys.keygen("-q", "-s", authority, "-I", "id", "-n", NAME, f"{key}.pub")
    signature.sign(room / "plain", tmp_path / "key-cert.pub", tmp_path / "out")
    signers = keys.allow(tmp_path / "signers", authority, options='cert-authority,namespaces="fatpar"')
    found = signature.check(tmp_path / "out", signers, NAME)
    assert (found.key_type, found.fingerprint) == ("ssh-ed25519-cert-v01@openssh.com", keys.fingerprint(key))
    assert signature.check(tmp_path / "out", signers) == found
    said = (
        f"out is signed by {NAME}, not by another@example.com: ssh-ed25519-cert-v01@openssh.com key {found.fingerprint}"
    )
    assert refusal(tmp_path / "out", signers, "another@example.com") == said


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    """Of keys in hardware, too, which are made up here: a public key is all that a fingerprint is of."""

    def packed(*strings: bytes) -> str:
        return base64.b64encode(b"".join(struct.pack(">I", len(one)) + one for one in strings)).decode()

    point = base64.b64decode(keys.public(keys.make(tmp_path / "point", "ecdsa 256")).split()[1])[-65:]
    made = {
        "sk-ssh-ed25519@openssh.com": (bytes(range(32)), b"ssh:"),
        "sk-ecdsa-sha2-nistp256@openssh.com": (b"nistp256", point, b"ssh:"),
    }
    for number, (name, fields) in enumerate(made.items()):
        (tmp_path / f"made{number}.pub").write_text(f"{name} {packed(name.encode(), *fields)}\n")
    for number, kind in enumerate(KINDS):
        keys.make(tmp_path / f"key{number}", kind)
    authority = keys.make(tmp_path / "authority")
    paths = [path for path in tmp_path.glob("*.pub") if path.stem != "authority"]
    keys.keygen("-q", "-s", authority, "-I", "id", "-n", NAME, *paths)
    paths += tmp_path.glob("*-cert.pub")
    assert len(paths) == 2 * (len(KINDS) + len(made) + 1)
    for path in paths:
        name, text = path.read_text().split()[:2]
        block = signature.armored(
            b"SSHSIG\0\0\0\1" + base64.b64decode(packed(base64.b64decode(text), b"fatpar", b"", b"", b""))
        )
        assert signature.stated(block) == signature.Signer(name, keys.fingerprint(path))


def test_what_is_signed_is_the_archive_as_it_was(room: Path, tmp_path: Path) -> None:
    """An ed25519 signature depends on nothing else, so ssh-keygen makes the same one of the unsigned file."""
    plain, signed = (room / "plain").read_bytes(), (room / "signed").read_bytes()
    (tmp_path / "plain").write_bytes(plain)
    keys.keygen("-q", "-Y", "sign", "-n", "fatpar", "-f", room / "key", tmp_path / "plain")
    assert block_of(signed) == (tmp_path / "plain.sig").read_bytes()
    assert signed == with_block(plain, block_of(signed))
    removed = signature.remove(room / "signed", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == plain
    assert (removed.signer, removed.size) == (None, len(plain))
    with reading(room / "signed") as archive:
        parts = list(signature.message(archive))
    assert b"".join(parts) == plain
    assert max(map(len, parts)) <= 1 << 20


def test_the_archive_is_the_same_one(room: Path) -> None:
    plain, signed = inspect.describe(room / "plain"), inspect.describe(room / "signed")
    assert signed["id"] == plain["id"]
    assert plain["signature"] is None
    said = {"key_type": "ssh-ed25519", "fingerprint": keys.fingerprint(room / "key"), "identity": None}
    assert signed["signature"] == said
    line = f"signed: ssh-ed25519 key {said['fingerprint']}, not checked: packer verify does that\n"
    assert line in inspect.table(signed)


def test_a_patch_between_signed_archives_brings_the_signature(room: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    new = write(tmp_path / "new", tmp_path / "work", "good-bye")
    signature.sign(new, room / "key")
    said = diff(room / "signed", new, tmp_path / "patch", Quiet())
    assert said["literal"] == len(block_of(new.read_bytes())) + 128
    patch.apply(room / "signed", tmp_path / "patch", tmp_path / "out", Quiet())
    assert (tmp_path / "out").read_bytes() == new.read_bytes()
    assert signature.check(tmp_path / "out", room / "signers").identity == NAME


def test_the_command_without_a_packer(room: Path, tmp_path: Path) -> None:
    """docs/security.md has it for hosts that have nothing but OpenSSH."""
    text = (Path(__file__).parents[2] / "docs/security.md").read_text("utf-8")
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", text, re.DOTALL)
    (tmp_path / "check").write_text(script)

    def run(file: Path, name: str = NAME) -> int:
        words = ["sh", str(tmp_path / "check"), str(file), str(room / "signers"), name]
        return subprocess.run(words, capture_output=True, cwd=tmp_path).returncode

    assert run(room / "signed") == 0
    assert run(room / "signed", "another@example.com") != 0
    assert run(room / "plain") != 0
    content = (room / "signed").read_bytes()
    for at in (100, len(content) - 500, len(content) - 300, len(content) - 20):
        (tmp_path / "changed").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert run(tmp_path / "changed") != 0, at
    (tmp_path / "changed").write_bytes(content + b"\0")
    assert run(tmp_path / "changed") != 0


# Changed files ----------------------------------------------------------------------------------------------------

CHANGED = (
    "changed: its signature is not that of this file: it was changed after it was signed, or the signature was taken "
    "from another file"
)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_flip_anywhere_is_refused(room: Path, tmp_path: Path) -> None:
    content = (room / "signed").read_bytes()
    record = trailer_of(content)
    index, end = int(record.index_offset), len(content)
    block = end - 128 - int(record.signature_size)
    blob = int(record.front_size)
    for at in (0, 1000, 100_000, blob - 1, blob, index - 1):  # launcher, padding, blob
        assert refused(flipped(content, at), room, tmp_path) == CHANGED
    for at in (index, block - 1):
        assert "the index's digest is wrong" in refused(flipped(content, at), room, tmp_path)
    for at in range(end - 128, end):
        assert "archive" in refused(flipped(content, at), room, tmp_path)
    lines = [at for at in range(block, end - 128) if content[at : at + 1] == b"\n"]
    for at in {*range(block, end - 128, 9), *lines, end - 130, end - 129}:
        assert refused(flipped(content, at), room, tmp_path), at


def test_blobs_and_trailer_of_somebody_who_knows_the_format(room: Path, tmp_path: Path) -> None:
    """Checksums that were made right again do not help."""
    content = (room / "signed").read_bytes()
    record = trailer_of(content)
    for values in (
        {"ignore": 1}, {"front_size": 0}, {"front_digest": bytes(32)}, {"index_raw_size": record.index_raw_size},
    ):  # fmt: skip
        changed = resealed(content, **values)
        assert changed == content or refused(changed, room, tmp_path)
    assert refused(resealed(content, ignore=1), room, tmp_path) == CHANGED
    assert refused(resealed(content, front_size=0), room, tmp_path) == CHANGED
    launcher = resealed(flipped(content, 5000), front_digest=hashlib.sha256(
        flipped(content, 5000)[: record.front_size]).digest())  # fmt: skip
    (tmp_path / "sound").write_bytes(launcher)
    inspect.verify(tmp_path / "sound")
    assert refused(launcher, room, tmp_path) == CHANGED


def other_namespace(plain: bytes, block: bytes, room: Path, work: Path) -> bytes:
    (work / "message").write_bytes(plain)
    keys.keygen("-q", "-Y", "sign", "-n", "file", "-f", room / "key", work / "message")
    return with_block(plain, (work / "message.sig").read_bytes())


def moved(plain: bytes, block: bytes, room: Path, work: Path) -> bytes:
    (work / "work").mkdir()
    return with_block(write(work / "other", work / "work", "other").read_bytes(), block)


def unarmoured(block: bytes) -> bytes:
    return base64.b64decode(b"".join(block.split(b"\n")[1:-2]))


DAMAGED = "changed: the signature block is damaged"
UNKNOWN = "changed: it is signed in a way that this packer does not know"
TRICKS: dict[str, tuple[Callable[[bytes, bytes, Path, Path], bytes], str]] = {
    "not-signed": (lambda plain, _block, _room, _work: plain, "changed is not signed"),
    "from-another-archive": (moved, CHANGED),
    "for-another-purpose": (
        other_namespace, "changed: its signature was made for another purpose: its namespace is 'file', not 'fatpar'",
    ),
    "cut": (
        lambda plain, block, *_: with_block(plain, block)[:-1],
        "changed: not a fatpar archive: it does not end in a trailer",
    ),
    "cut-before-the-trailer": (
        lambda plain, block, *_: with_block(plain, block)[:-200] + with_block(plain, block)[-128:],
        "changed: archive is damaged: the index is not where the trailer says: the file was cut or added to",
    ),
    "appended": (
        lambda plain, block, *_: with_block(plain, block) + b"more",
        "changed: not a fatpar archive: it does not end in a trailer",
    ),
    "appended-with-a-trailer": (
        lambda plain, block, *_: with_block(plain, block) + b"more" + with_block(plain, block)[-128:],
        "changed: archive is damaged: the index is not where the trailer says: the file was cut or added to",
    ),
    "longer-block": (lambda plain, block, *_: with_block(plain, block + b"more"), DAMAGED),
    "block-with-nul": (lambda plain, block, *_: with_block(plain, block + b"\0"), DAMAGED),
    "something-before-it": (lambda plain, block, *_: with_block(plain, b"\n" + block), UNKNOWN),
    "other-lines": (lambda plain, block, *_: with_block(plain, block.replace(b"\n", b"\r\n")), UNKNOWN),
    "shorter-lines": (
        lambda plain, block, *_: with_block(plain, block[:60] + b"\n" + block[60:]), DAMAGED,
    ),
    "two-of-them": (lambda plain, block, *_: with_block(plain, block + block), DAMAGED),
    "reserved": (
        lambda plain, block, *_: with_block(plain, signature.armored(
            unarmoured(block).replace(b"\0\0\0\6fatpar\0\0\0\0", b"\0\0\0\6fatpar\0\0\0\1x"))), DAMAGED,
    ),
    "behind-the-signature": (
        lambda plain, block, *_: with_block(plain, signature.armored(unarmoured(block) + b"x")), DAMAGED,
    ),
    "other-version": (
        lambda plain, block, *_: with_block(plain, signature.armored(
            unarmoured(block).replace(b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\2"))), DAMAGED,
    ),
    "no-key": (
        lambda plain, block, *_: with_block(plain, signature.armored(
            b"SSHSIG\0\0\0\1" + bytes(4) + b"\0\0\0\6fatpar" + bytes(12))),
        "changed: the signature block is damaged: it has no key",
    ),
    "too-large": (
        lambda plain, block, *_: with_block(plain, signature.armored(
            b"SSHSIG\0\0\0\1" + struct.pack(">I", 60_000) + bytes(60_000) + b"\0\0\0\6fatpar" + bytes(12))), DAMAGED,
    ),
    "another-scheme": (lambda plain, block, *_: with_block(plain, b"untrusted comment: minisign"), UNKNOWN),
    "other-key-in-it": (
        lambda plain, block, *_: with_block(plain, signature.armored(
            unarmoured(block)[:40] + bytes([unarmoured(block)[40] ^ 1]) + unarmoured(block)[41:])),
        "changed: *",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("trick", "said"), TRICKS.values(), ids=TRICKS)
def test_tricks(room: Path, tmp_path: Path, trick: Callable[..., bytes], said: str) -> None:
    plain, block = (room / "plain").read_bytes(), block_of((room / "signed").read_bytes())
    found = refused(trick(plain, block, room, tmp_path), room, tmp_path)
    assert found.startswith(said[:-1]) if said.endswith("*") else found == said


# Who may sign -----------------------------------------------------------------------------------------------------


def test_who_is_not_allowed(room: Path, tmp_path: Path) -> None:
    signers = tmp_path / "signers"
    key, other = room / "key", keys.make(tmp_path / "other")
    who = f"ssh-ed25519 key {keys.fingerprint(key)}"
    for options, said in (  # behind the colons OpenSSH has the word
        ('valid-before="20200101"', f"signers does not admit {who}: signers:2: "),
        ('valid-after="29990101"', f"signers does not admit {who}: signers:2: "),
        ('namespaces="git"', f"signers does not admit {who}: "),
        ("cert-authority", f"nobody in signers vouches for {who}"),
    ):
        keys.allow(signers, key, options=options)
        assert refusal(room / "signed", signers).startswith(f"signed: {said}")
        assert refusal(room / "signed", signers, NAME).startswith("signed: ")
    for options in ('namespaces="git,fatpar"', ""):
        keys.allow(signers, key, options=options)
        assert signature.check(room / "signed", signers, NAME).identity == NAME
    keys.allow(signers, key, options='valid-before="29990101"')
    if re.match(r"OpenSSH_([1-7]|8\.[0-7])", subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr):
        assert refusal(room / "signed", signers, NAME)
    else:
        assert signature.check(room / "signed", signers, NAME).identity == NAME
    keys.allow(signers, other)
    assert refusal(room / "signed", signers) == f"signed: nobody in signers vouches for {who}"
    assert refusal(room / "signed", signers, NAME) == f"signed: nobody in signers vouches for {who}"
    signers.write_text("")
    assert refusal(room / "signed", signers) == f"signed: nobody in signers vouches for {who}"
    signers.unlink()
    assert refusal(room / "signed", signers) == "cannot read signers: No such file or directory"


def test_names(room: Path, tmp_path: Path) -> None:
    signers = keys.allow(tmp_path / "signers", room / "key", "a@example.com,b@example.com")
    assert signature.check(room / "signed", signers).identity == "a@example.com"
    assert signature.check(room / "signed", signers, "b@example.com").identity == "b@example.com"
    said = "signed is signed by a@example.com, b@example.com, not by c@example.com: ssh-ed25519 key "
    assert refusal(room / "signed", signers, "c@example.com").startswith(said)
    assert refusal(room / "signed", signers, "").startswith(
        "signed is signed by a@example.com, b@example.com, not by : "
    )
    keys.allow(signers, room / "key", "*@example.com")
    assert signature.check(room / "signed", signers, "c@example.com").identity == "c@example.com"
    assert signature.check(room / "signed", signers).identity == "*@example.com"
    keys.allow(signers, room / "key", "!c@example.com,*@example.com")
    assert signature.check(room / "signed", signers).identity == "*@example.com"
    assert refusal(room / "signed", signers, "c@example.com")


# Signing ----------------------------------------------------------------------------------------------------------


def test_signing_again_takes_a_word(room: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "app", keys.make(tmp_path / "other")
    path.write_bytes((room / "signed").read_bytes())
    with pytest.raises(PackError, match="is signed already: ssh-ed25519 key SHA256:"):
        signature.sign(path, other)
    assert path.read_bytes() == (room / "signed").read_bytes()
    signature.sign(path, other, again=True)
    assert signature.check(path, keys.allow(tmp_path / "signers", other)).fingerprint == keys.fingerprint(other)
    signature.sign(path, room / "key", again=True)
    assert path.read_bytes() == (room / "signed").read_bytes()


def test_what_is_damaged_is_not_signed(room: Path, tmp_path: Path) -> None:
    content = (room / "plain").read_bytes()
    path = tmp_path / "app"
    for changed, said in (
        (flipped(content, 5000), "the launcher has the wrong digest"),
        (flipped(content, trailer_of(content).index_offset - 1), "blob 0 has the wrong digest"),
        (flipped(content, len(content) - 200), "the index's digest is wrong"),
        (b"#!/bin/sh\n" * 100, "not a fatpar archive: it does not end in a trailer"),
    ):
        path.write_bytes(changed)
        with pytest.raises(PackError, match=said):
            signature.sign(path, room / "key")
        assert (path.read_bytes(), list(tmp_path.iterdir())) == (changed, [path])


def test_keys_that_are_none(room: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for key, error, said in (
        (tmp_path / "none", UsageError, f"cannot read {tmp_path}/none: there is no such file"),
        (tmp_path / "text", PackError, f"cannot sign with {tmp_path}/text: "),
    ):
        with pytest.raises(error, match=re.escape(said)):
            signature.sign(room / "plain", key, tmp_path / "out")
    key = keys.make(tmp_path / "key")
    key.chmod(0o644)
    with pytest.raises(PackError, match=f"cannot sign with {key}: Permissions 0644 for '{key}' are too open"):
        signature.sign(room / "plain", key, tmp_path / "out")
    key.unlink()
    with pytest.raises(PackError, match=f"cannot sign with {key}.pub: .*{key}"):
        signature.sign(room / "plain", Path(f"{key}.pub"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.pub", "text"]


def test_a_link_and_modes_stay(room: Path, tmp_path: Path) -> None:
    path = tmp_path / "app-1.0"
    path.write_bytes((room / "plain").read_bytes())
    path.chmod(0o555)
    (tmp_path / "app").symlink_to("app-1.0")
    signature.sign(tmp_path / "app", room / "key")
    assert (tmp_path / "app").is_symlink()
    assert path.read_bytes() == (room / "signed").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o555


# ssh-keygen -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("unknown option -- Y\nusage: ssh-keygen [-q]", "ssh-keygen is too old: it knows no -Y "),
        ("ssh-keygen: invalid option -- 'Y'", "ssh-keygen is too old: it knows no -Y "),
        ('Unsupported operation for -Y: "find-principals"', "ssh-keygen is too old: it knows no -Y find-principals"),
    ],
)
def test_an_old_openssh(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str) -> None:
    script = tmp_path / "ssh-keygen"
    script.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}\nEND\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(PackError, match=said) as caught:
        signature.check(room / "signed", room / "signers")
    assert "OpenSSH 8.2" in caught.value.hint


def test_no_openssh(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for run in (
        lambda: signature.check(room / "signed", room / "signers"),
        lambda: signature.sign(room / "plain", room / "key", tmp_path / "out"),
    ):
        with pytest.raises(PackError, match="signatures need OpenSSH: there is no ssh-keygen on PATH"):
            run()
    assert list(tmp_path.iterdir()) == []
    found = inspect.verified(room / "signed")
    assert (found.checked, str(found.signer)) == (False, f"ssh-ed25519 key {keys_fingerprint(room)}")


def keys_fingerprint(room: Path) -> str:
    """Without ssh-keygen."""
    return str(inspect.describe(room / "signed")["signature"]["fingerprint"])
