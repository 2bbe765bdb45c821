"""packer/hosttrust.py, run by every CPython that can be carried: whom OpenSSL trusts where it knows nobody."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.skips import skip_optional

from packer import facts, hosttrust, pythons

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where a bundle may be on this host: the second of them is there."""
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    found = [tmp_path / name for name in ("first", "second", "third")]
    found[1].touch()
    found[2].touch()
    monkeypatch.setattr(hosttrust, "PLACES", tuple(map(str, found)))
    return found


def find(file: Path | str = "/nowhere", directory: Path | str = "/nowhere") -> str | None:
    hosttrust.find((NAMES[0], str(file), NAMES[1], str(directory)))  # type: ignore[no-untyped-call]
    return os.environ.get(NAMES[0])


def test_the_first_bundle_that_is_there(places: list[Path]) -> None:
    assert find() == str(places[1])


def test_openssl_s_own_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    assert find(tmp_path / "cert.pem") is None


def test_openssl_s_own_directory_is_enough_if_it_has_certificates(tmp_path: Path, places: list[Path]) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "a1b2c3d4.0").touch()
    assert find(directory=tmp_path / "certs") is None
    (tmp_path / "certs" / "a1b2c3d4.0").rename(tmp_path / "certs" / "bundle.crt")
    assert find(directory=tmp_path / "certs") == str(places[1])


def test_a_directory_that_cannot_be_listed_is_openssl_s_own_business(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> list[str]:
        raise PermissionError

    monkeypatch.setattr(os, "listdir", refuse)
    assert find(directory="/etc") is None


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_says_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/mine")
    assert find() == ("/mine" if name == NAMES[0] else None)


def test_a_host_without_any(places: list[Path]) -> None:
    for place in places[1:]:
        place.unlink()
    assert find() is None


@pytest.mark.native
@pytest.mark.parametrize("tag", [tag for tag, one in facts.pythons().items() if one.abi.version >= (3, 6)])
def test_every_python_that_can_be_carried_runs_it(tag: str) -> None:
    here = [one for one in pythons.find() if one.tag == tag]
    if not here:
        skip_optional(f"no {tag} interpreter is here")
    directory = Path(hosttrust.__file__).parent
    code = f"import sys; sys.path[:0] = [{str(directory)!r}]; import hosttrust; hosttrust.find(('A', '/', 'B', '/'))"
    assert subprocess.run([here[0].path, "-I", "-S", "-B", "-c", code], check=True).returncode == 0
