"""Signatures: who vouches for an archive, by an SSH key. OpenSSH's ssh-keygen makes and checks them.

What is signed is the archive as it was without its signature, every byte of it; ``abi/FORMAT.md``, section 4.1, has it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from packer import files, native, reader
from packer.archive import sealed
from packer.errors import PackError, UsageError
from packer.patch import blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packer.reader import Archive

NAMESPACE = "fatpar"
"""Of the signature: one that was made for mail or a commit is none of an archive."""

MAX_BLOCK = 1 << 16
"""Bytes of a signature block."""

_KEYGEN = "ssh-keygen"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
_LINE = 70
"""Characters of a line between these."""

_CERTIFICATE = "-cert-v01@openssh.com"
_KEY_FIELDS = {"ssh-rsa": 2, "ssh-ed25519": 1, "ecdsa": 2, "sk-ssh-ed25519": 2, "sk-ecdsa": 3}
"""Strings of a public key behind its type; in a certificate they stand behind its nonce (PROTOCOL.certkeys)."""


@dataclass(frozen=True)
class Signer:
    """Whose signature an archive has."""

    key_type: str
    """As in a public key's file: ``ssh-ed25519``."""
    fingerprint: str
    """As ``ssh-keygen -l`` writes it: ``SHA256:...``."""
    identity: str | None = None
    """The name by which the allowed signers have the key; None: nobody was asked who vouches for it."""

    def __str__(self) -> str:
        key = f"{self.key_type} key {self.fingerprint}"
        return f"{self.identity} with {key}" if self.identity else key

    @property
    def json(self) -> dict[str, str | None]:
        """As JSON values; ``docs/json.md`` has their form."""
        return {"key_type": self.key_type, "fingerprint": self.fingerprint, "identity": self.identity}


class Parts(NamedTuple):
    """A signature's parts, as PROTOCOL.sshsig has them."""

    key: bytes
    namespace: bytes
    reserved: bytes
    digest: bytes
    signature: bytes


# What the block says ----------------------------------------------------------------------------------------------


def block_of(archive: Archive) -> bytes:
    """Read the signature block; empty: not signed."""
    trailer = archive.pointer.trailer
    size = min(int(trailer.signature_size), MAX_BLOCK + 1)
    return archive.read(trailer.index_offset + trailer.index_size, size)


def stated(block: bytes) -> Signer:
    """Say whose signature a block is by its own words, which nobody has checked.

    :raises PackError: if it is none of this form, or not the only way to write it: no byte of a file may be changed.
    """
    if not block.startswith(_BEGIN.encode()):
        raise PackError("it is signed in a way that this packer does not know", hint="get a newer packer")
    parts = _parts(block)
    if parts is None or len(block) > MAX_BLOCK:
        raise PackError("the signature block is damaged", hint="get the file again")
    if parts.namespace != NAMESPACE.encode():
        word = parts.namespace.decode("ascii", "backslashreplace")
        raise PackError(f"its signature was made for another purpose: its namespace is {word!r}, not {NAMESPACE!r}")
    key_type, plain = _plain_key(parts.key)
    fingerprint = base64.b64encode(hashlib.sha256(plain).digest()).decode().rstrip("=")
    return Signer(key_type, f"SHA256:{fingerprint}")


def stated_in(block: bytes, path: Path) -> Signer:
    """Do the same for the block of a file, which an error names."""
    try:
        return stated(block)
    except PackError as error:
        raise PackError(f"{path}: {error}", error.hint) from None


def _parts(block: bytes) -> Parts | None:
    """Take a block apart; None unless putting it together again gives the same bytes."""
    try:
        raw = base64.b64decode("".join(block.decode("ascii").split("\n")[1:-2]), validate=True)
        parts = Parts._make(_strings(raw[10:], 5))
    except (ValueError, struct.error):
        return None
    written = b"SSHSIG" + struct.pack(">I", 1) + b"".join(struct.pack(">I", len(one)) + one for one in parts)
    return parts if not parts.reserved and armored(written) == block else None


def armored(raw: bytes) -> bytes:
    """Write a signature as it stands in a block."""
    lines = textwrap.wrap(base64.b64encode(raw).decode(), _LINE)
    return f"{_BEGIN}{''.join(f'{line}{chr(10)}' for line in lines)}{_END}".encode()


def _strings(raw: bytes, count: int) -> list[bytes]:
    """Read strings as the SSH protocol has them: each with its length before it.

    :raises ValueError: if there are not so many.
    """
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from(">I", raw)
        if size > len(raw) - 4:
            raise ValueError
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found


def _plain_key(key: bytes) -> tuple[str, bytes]:
    """Give the type of a key, and what its fingerprint is of: of a certificate the key in it."""
    try:
        key_type = _strings(key, 1)[0].decode("ascii")
        name = key_type.removesuffix(_CERTIFICATE)
        if name == key_type:
            return key_type, key
        family = next(family for family in _KEY_FIELDS if name == family or name.startswith(f"{family}-sha2-"))
        plain = f"{name}@openssh.com" if name.startswith("sk-") else name
        fields = [plain.encode(), *_strings(key, 2 + _KEY_FIELDS[family])[2:]]
    except (ValueError, struct.error, StopIteration):
        raise PackError("the signature block is damaged: it has no key", hint="get the file again") from None
    return key_type, b"".join(struct.pack(">I", len(one)) + one for one in fields)


# What is signed ---------------------------------------------------------------------------------------------------


def message(archive: Archive) -> Iterator[bytes]:
    """Give the bytes that are signed, a part of them at a time: the archive without its signature."""
    trailer = archive.pointer.trailer
    yield from blocks(archive.read, 0, trailer.index_offset + trailer.index_size)
    yield _trailer(archive, 0)


def _trailer(archive: Archive, size: int) -> bytes:
    """Give the trailer with a signature of another size."""
    record: Any = native.ffi().new("struct trailer *")
    record[0] = archive.pointer.trailer
    record.signature_size = size
    return sealed(record)


# Checking ---------------------------------------------------------------------------------------------------------


def check(path: Path, allowed_signers: Path, identity: str | None = None) -> Signer:
    """See that somebody who is allowed to signed an archive, every byte of it.

    :param allowed_signers: a file as ssh-keygen(1) and git know it.
    :param identity: who of them must have; default: any.
    :return: who it was.
    :raises PackError: if it is no archive, not signed, changed since, or signed by somebody else.
    """
    with reader.reading(path) as archive:
        return checked(archive, path, allowed_signers, identity)


def checked(archive: Archive, path: Path, allowed_signers: Path | None, identity: str | None = None) -> Signer:
    """Do the same for an archive that is open.

    :param path: its name, for errors.
    :param allowed_signers: None: only see that the signature is this file's, whoever made it.
    """
    block = block_of(archive)
    if not block:
        raise PackError(f"{path} is not signed", hint="whoever makes it signs it: packer sign")
    signer = stated_in(block, path)
    with tempfile.TemporaryDirectory(prefix="fatpar-") as directory:
        file = Path(directory, "signature")
        file.write_bytes(block)
        if allowed_signers is None:
            return _intact(archive, path, signer, file)
        return _vouched(archive, path, signer, file, allowed_signers, identity)


def _intact(archive: Archive, path: Path, signer: Signer, file: Path) -> Signer:
    ended = _keygen("check-novalidate", ["-n", NAMESPACE, "-s", str(file)], message(archive))
    if ended.status:
        raise _changed(path, ended)
    return signer


def _changed(path: Path, ended: _Ended) -> PackError:
    if "incorrect signature" not in ended.stderr:
        return PackError(f"{path}: its signature cannot be checked: {ended.last}")
    why = "it was changed after it was signed, or the signature was taken from another file"
    return PackError(f"{path}: its signature is not that of this file: {why}", hint="get the file again")


def _vouched(archive: Archive, path: Path, signer: Signer, file: Path, allowed: Path, identity: str | None) -> Signer:
    try:
        with allowed.open("rb"):
            pass
    except OSError as error:
        raise PackError(f"cannot read {allowed}: {error.strerror}") from error
    where = ["-s", str(file), "-f", str(allowed)]
    found = _keygen("find-principals", where)
    # a line may name several, as patterns, too, and whom it leaves out: one that the line admits suffices
    names = [name for name in found.stdout.splitlines() if not name.startswith("!")] if found.status == 0 else []
    said = found
    for name in [identity] if identity is not None else names:
        said = _keygen("verify", [*where, "-n", NAMESPACE, "-I", name], message(archive))
        if said.status == 0:
            return replace(signer, identity=name)
        if "incorrect signature" in said.stderr:
            raise _changed(path, said)
    raise _unvouched(path, signer, allowed, names, identity, said)


def _unvouched(
    path: Path, signer: Signer, allowed: Path, names: Sequence[str], identity: str | None, said: _Ended
) -> PackError:
    """Say why a sound signature does not count."""
    if not names and not said.last:
        hint = f'whoever trusts it adds a line to {allowed}: NAME namespaces="{NAMESPACE}" PUBLIC KEY'
        return PackError(f"{path}: nobody in {allowed} vouches for {signer}", hint)
    if names and identity is not None and identity not in names:
        return PackError(f"{path} is signed by {', '.join(names)}, not by {identity}: {signer}")
    why = said.last or f"no line with {' or '.join(names)} admits it"
    return PackError(f"{path}: {allowed} does not admit {signer}: {why}")


# Signing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signed:
    """What became of an archive."""

    path: Path
    size: int
    archive_id: str
    signer: Signer | None
    """None: the signature was taken away."""


def sign(path: Path, key: Path, output: Path | None = None, *, again: bool = False) -> Signed:
    """Sign an archive whose digests are right.

    :param key: a private key, or a public one whose private one an agent has.
    :param output: default: the archive itself, which is replaced when all is done.
    :param again: put the signature in the place of one that is there.
    :raises PackError: if it is no archive, signed already, cannot be written, or ssh-keygen refuses.
    """
    if not key.is_file():
        raise UsageError(f"cannot read {key}: there is no such file", hint="ssh-keygen -t ed25519 makes a key")
    with reader.reading(path) as archive:
        block = block_of(archive)
        if block and not again:
            raise PackError(f"{path} is signed already: {_stated_or_not(block)}", hint="--replace signs it again")
        return _rewritten(archive, path, output, key)


def remove(path: Path, output: Path | None = None) -> Signed:
    """Take the signature away: what is left is the archive as it was before it was signed.

    :raises PackError: if it is no archive, not signed, or cannot be written.
    """
    with reader.reading(path) as archive:
        if not block_of(archive):
            raise PackError(f"{path} is not signed")
        return _rewritten(archive, path, output, None)


def signed_json(signed: Signed) -> dict[str, Any]:
    """Give it as JSON values; ``docs/json.md`` has their form."""
    return {
        "version": 1,
        "file": str(signed.path),
        "size": signed.size,
        "id": signed.archive_id,
        "signature": signed.signer.json if signed.signer else None,
    }


def _stated_or_not(block: bytes) -> str:
    try:
        return str(stated(block))
    except PackError as error:
        return str(error)


def _rewritten(archive: Archive, path: Path, output: Path | None, key: Path | None) -> Signed:
    target = output or (path.resolve() if path.is_symlink() else path)  # what a link leads to is signed
    files.refuse_unwritable(target)
    mode = stat.S_IMODE(os.fstat(archive.pointer.fd).st_mode) & 0o777
    with tempfile.TemporaryDirectory(prefix="fatpar-") as scratch, files.replacing(target, exact=mode) as file:
        file.writelines(message(archive))
        file.flush()
        signer = None
        if key is not None:
            with reader.opened(file.fileno(), str(path)) as unsigned:
                fault = native.ffi().new("struct fault *")
                reader.check(native.lib().controlverify(unsigned.pointer, fault), fault, path)
            block = _made_by(key, Path(file.name), Path(scratch))
            file.seek(-native.ffi().sizeof("struct trailer"), os.SEEK_END)
            file.write(block + _trailer(archive, len(block)))
            file.flush()
        with reader.opened(file.fileno(), str(path)) as written:  # nobody else is to find a mistake
            if key is not None:
                signer = checked(written, path, None)
            return Signed(output or path, written.size, written.id, signer)


def _made_by(key: Path, unsigned: Path, scratch: Path) -> bytes:
    """Let ssh-keygen sign a file; it may ask for a passphrase, or for a key to be touched, at the terminal.

    That is why it gets the file by name: with a message on its standard input it would not ask.

    :param scratch: an empty directory for the signature, which ssh-keygen writes beside the name of the file.
    """
    (scratch / "message").symlink_to(unsigned)
    terminal = sys.stderr is not None and sys.stderr.isatty()
    words = ["-q", "-f", str(key), "-n", NAMESPACE, str(scratch / "message")]
    ended = _keygen("sign", words, terminal=terminal)
    if ended.status:
        raise _cannot_sign(key, ended, terminal)
    made = (scratch / "message.sig").read_bytes()
    block = armored(base64.b64decode("".join(made.decode("ascii").strip().split("\n")[1:-1])))
    stated(block)
    return block


def _cannot_sign(key: Path, ended: _Ended, terminal: bool) -> PackError:
    if terminal:
        return PackError(f"cannot sign with {key}: ssh-keygen failed, as it says above")
    if "passphrase" in ended.stderr:
        why = "it has a passphrase, and there is no terminal to ask for it"
        return PackError(
            f"cannot sign with {key}: {why}",
            hint=f"load it into an agent before: ssh-add {str(key).removesuffix('.pub')}",
        )
    open_to_all = re.search(r"Permissions \d+ for .* are too open", ended.stderr)
    return PackError(
        f"cannot sign with {key}: {open_to_all[0] if open_to_all else ended.last}",
        hint="it takes a private key, or a public one whose private one lies beside it or is in an agent",
    )


# ssh-keygen -------------------------------------------------------------------------------------------------------


class _Ended(NamedTuple):
    """What ssh-keygen left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def last(self) -> str:
        """The line that most likely says what went wrong."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith(("No principal matched", "sig_find_principals:"))]
        return told[-1] if told else ""


def available() -> bool:
    """Whether signatures can be made and checked here."""
    return any(os.access(Path(place or ".", _KEYGEN), os.X_OK) for place in os.get_exec_path())


def _keygen(verb: str, words: Sequence[str], fed: Iterable[bytes] = (), *, terminal: bool = False) -> _Ended:
    """Run ``ssh-keygen -Y``.

    :param fed: its standard input.
    :param terminal: it is ours to talk to the user: standard input and error are passed on.
    :raises PackError: if there is none, or one that cannot do it.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(
                [_KEYGEN, "-Y", verb, *words], env={**os.environ, "LC_ALL": "C"},
                stdin=None if verb == "sign" else subprocess.PIPE, stdout=out, stderr=None if terminal else err,
            )  # fmt: skip
        except FileNotFoundError:
            raise PackError("signatures need OpenSSH: there is no ssh-keygen on PATH", _INSTALL) from None
        except OSError as error:
            raise PackError(f"cannot run {_KEYGEN}: {error.strerror}") from error
        _feed(child, fed)
        for file in (out, err):
            file.seek(0)
        ended = _Ended(child.returncode, *(file.read().decode("utf-8", "backslashreplace") for file in (out, err)))
    if re.search(r"option -- '?Y|Unsupported operation for -Y", ended.stderr):
        raise PackError(f"{_KEYGEN} is too old: it knows no -Y {verb}", _INSTALL)
    return ended


_INSTALL = "install OpenSSH 8.2 or newer; Debian has it in the package openssh-client"


def _feed(child: subprocess.Popen[bytes], fed: Iterable[bytes]) -> None:
    """Give a child its input and wait for its end; it is gone when this returns or raises."""
    try:
        if child.stdin is not None:
            try:
                with child.stdin as pipe:
                    for part in fed:
                        pipe.write(part)
            except BrokenPipeError:  # it has refused before it read all; its status tells
                pass
        child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise
