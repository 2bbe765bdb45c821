"""Of what an archive was made: packer, lock, revision, labels. The manifest states it, and it is the same whenever, and
wherever, the same is packed again."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import packer
from packer import native
from packer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packer.revision import Revision

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_LONGEST = 1024
"""Bytes of a label's text."""
_MOST = 32768
"""Bytes of all labels: they are half of ``MAX_SUMMARY`` at most."""


def labels(words: Iterable[str]) -> dict[str, str]:
    """Read words ``NAME=TEXT``.

    :raises UsageError: if one is no such thing, or two have one name.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            hint = "NAME is letters, digits and ._/-, and begins with a letter or digit: --label team=payments"
            raise UsageError(f"not a label: {word!r}: write NAME=TEXT", hint)
        if name in found:
            raise UsageError(f"two labels are called {name!r}")
        if len(native.encoded(text)) > _LONGEST or not (text.isprintable() and text):
            raise UsageError(f"label {name}: its text must be one line of at most {_LONGEST} bytes that can be shown")
        found[name] = text
    if sum(len(native.encoded(name + text)) for name, text in found.items()) > _MOST:
        raise UsageError(f"labels: together they are longer than {_MOST} bytes")
    return found


def epoch() -> int | None:
    """Read SOURCE_DATE_EPOCH.

    :raises UsageError: if it is no number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not re.fullmatch(r"[0-9]{1,12}", text):
        raise UsageError(f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds since 1970")
    return int(text) if text else None


def said(lock: str, epoch: int | None, revision: Revision | None, labels: Mapping[str, str]) -> dict[str, Any]:
    """Give what of it the manifest states: what there is.

    :param lock: digest of the lock file, or empty.
    :param epoch: SOURCE_DATE_EPOCH.
    """
    found: dict[str, Any] = {"packer": packer.__version__, "launcher": {"zstd": _zstd()}}
    found |= {"lock": lock} if lock else {}
    found |= {"source_date_epoch": epoch} if epoch is not None else {}
    if revision:
        found["revision"] = {"system": "git", "id": revision.id, "modified": revision.modified}
    return found | ({"labels": dict(labels)} if labels else {})


def _zstd() -> str:
    """Give the version of the zstd that is in this packer's launchers: its own library is built from the same."""
    return native.text(native.lib().archivezstd())


def lines(manifest: Mapping[str, Any]) -> list[str]:
    """Write what a manifest states as lines ``KEY: TEXT``; what makes no sense is left out."""
    found = [f"{key}: {manifest[key]}" for key in ("packer", "lock", "source_date_epoch") if _plain(manifest.get(key))]
    revision = manifest.get("revision")
    if isinstance(revision, dict) and _plain(revision.get("id")):
        found.append(f"revision: {revision['id']}{' with changes' if revision.get('modified') is True else ''}")
    given = manifest.get("labels")
    given = given if isinstance(given, dict) else {}
    return found + [f"label {name}: {text}" for name, text in sorted(given.items()) if _plain(text)]


def _plain(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
