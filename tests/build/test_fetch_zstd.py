"""Where the zstd source comes from, and that only the pinned one is taken."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "cmake" / "fetch_zstd.py"
FILES = {"zstd.c": b"code", "zstd.h": b"header", "zstd_errors.h": b"errors", "LICENSE": b"terms"}


@dataclass(frozen=True)
class Setting:
    """A machine without any package index, a pin, and the sdist that satisfies it."""

    pin: Path
    sdist: Path
    cache: Path
    destination: Path

    def fetch(self, **environment: str) -> tuple[int, str]:
        """Run the script; returns exit status and stderr."""
        command = [
            sys.executable,
            str(SCRIPT),
            "--pin",
            str(self.pin),
            "--cache",
            str(self.cache),
            str(self.destination),
        ]
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
        done = subprocess.run(
            command, env={**os.environ, **offline, **environment}, stderr=subprocess.PIPE, text=True, check=False
        )
        return done.returncode, done.stderr

    @property
    def fetched(self) -> dict[str, bytes]:
        """Name -> content of the files in the destination."""
        return {path.name: path.read_bytes() for path in self.destination.glob("*")}


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A setting whose sdist is nowhere the script looks by itself."""
    sdist = tmp_path / "copy.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"some-1.0/zstd/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    pin = tmp_path / "pin.txt"
    pin.write_text(f"# why\nsome==1.0 --hash=sha256:{hashlib.sha256(sdist.read_bytes()).hexdigest()}\n")
    return Setting(pin, sdist, tmp_path / "cache", tmp_path / "out")


def test_named_copy_is_taken(setting: Setting) -> None:
    assert setting.fetch(FATPAR_ZSTD_SDIST=str(setting.sdist)) == (0, "")
    assert setting.fetched == FILES


def test_cached_copy_is_taken(setting: Setting) -> None:
    setting.cache.mkdir()
    setting.sdist.rename(setting.cache / "some-1.0.tar.gz")
    assert setting.fetch() == (0, "")
    assert setting.fetched == FILES


def test_copy_with_another_digest_is_refused(setting: Setting) -> None:
    content = bytearray(setting.sdist.read_bytes())
    content[-1] ^= 1
    setting.sdist.write_bytes(content)
    status, error = setting.fetch(FATPAR_ZSTD_SDIST=str(setting.sdist))
    assert status == 1
    assert error.startswith(f"{setting.sdist}: is not some 1.0 with the sha256 ")
    assert setting.fetched == {}


def test_damaged_cache_is_fetched_again_not_used(setting: Setting) -> None:
    setting.cache.mkdir()
    (setting.cache / "some-1.0.tar.gz").write_bytes(b"cut short")
    status, error = setting.fetch()
    assert status == 1
    assert error.endswith("cannot fetch the zstd source: pip failed\nhint: name a local copy in FATPAR_ZSTD_SDIST\n")
    assert setting.fetched == {}


@pytest.mark.network
def test_pinned_source_comes_from_the_index_without_a_compiler(tmp_path: Path) -> None:
    pin = SCRIPT.with_name("zstd-source.txt")
    command = [
        sys.executable,
        str(SCRIPT),
        "--pin",
        str(pin),
        "--cache",
        str(tmp_path / "cache"),
        str(tmp_path / "out"),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "FATPAR_ZSTD_SDIST"}
    subprocess.run(command, env={**environment, "PATH": str(tmp_path)}, check=True)
    assert "ZSTD_DCtx_refPrefix" in (tmp_path / "out" / "zstd.h").read_text()
