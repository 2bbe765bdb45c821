"""SSH keys for tests of signatures, made by the real ssh-keygen."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

NAME = "release@example.com"


def keygen(*words: str | Path, **options: str | bytes) -> str:
    """Run ssh-keygen, which has to succeed; what it writes."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not installed: apt-get install openssh-client")
    done = subprocess.run(["ssh-keygen", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a pair of keys.

    :param kind: as ``-t`` takes it, with a size behind a space.
    :return: the private one; the public one is beside it.
    """
    name, *size = kind.split()
    keygen("-q", "-t", name, *(["-b", *size] if size else []), "-N", passphrase, "-C", "", "-f", path)
    return path


def public(key: Path) -> str:
    """The text of a public key."""
    return key.with_name(f"{key.name}.pub").read_text().strip()


def fingerprint(key: Path) -> str:
    """What ssh-keygen says of a key."""
    return keygen("-l", "-f", key).split()[1]


def allow(path: Path, key: Path, name: str = NAME, options: str = 'namespaces="fatpar"') -> Path:
    """Write a file of allowed signers with one in it."""
    path.write_text(f"# who may sign\n{name} {options} {public(key)}\n")
    return path
