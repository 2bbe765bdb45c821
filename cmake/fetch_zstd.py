"""Put zstd's single-file source into a directory, out of the source distribution that the pin file names.

The distribution is looked for in $FATPAR_ZSTD_SDIST (a file), then in the cache, then fetched with pip, which knows
the user's index, mirrors, proxy and certificates. Wherever it comes from, its digest is checked before it is opened.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FILES = ("zstd.c", "zstd.h", "zstd_errors.h", "LICENSE")


def read_pin(pin: Path) -> tuple[str, str, str]:
    """Return distribution, version and SHA-256 (hex) of the one requirement in a pip requirements file."""
    found = re.search(r"^(\S+)==(\S+)[\s\\]+--hash=sha256:([0-9a-f]{64})", pin.read_text(), re.MULTILINE)
    if not found:
        sys.exit(f"{pin}: no requirement `name==version --hash=sha256:digest`")
    return found[1], found[2], found[3]


def is_pinned(sdist: Path, sha256: str) -> bool:
    """Tell whether a file is there and has this digest."""
    return sdist.is_file() and hashlib.sha256(sdist.read_bytes()).hexdigest() == sha256


def download(pin: Path, name: str, destination: Path) -> None:
    """Let pip fetch the sdist; it checks the digest itself before it looks inside."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:
        options = ["--quiet", "--no-deps", "--no-binary", name, "--require-hashes", "--requirement", str(pin)]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", scratch]
        if subprocess.run(command, check=False).returncode:
            sys.exit("cannot fetch the zstd source: pip failed\nhint: name a local copy in FATPAR_ZSTD_SDIST")
        Path(scratch, destination.name).replace(destination)


def find_sdist(pin: Path, cache: Path) -> tuple[Path, str]:
    """Return the pinned sdist, its digest checked, fetched where that is needed; and the folder all in it lies in."""
    name, version, sha256 = read_pin(pin)
    given = os.environ.get("FATPAR_ZSTD_SDIST")
    sdist = Path(given) if given else cache / f"{name}-{version}.tar.gz"
    if not given and not is_pinned(sdist, sha256):
        download(pin, name, sdist)
    if not is_pinned(sdist, sha256):
        sys.exit(f"{sdist}: is not {name} {version} with the sha256 {sha256}")
    return sdist, f"{name}-{version}"


def extract(sdist: Path, folder: str, destination: Path) -> None:
    """Write FILES of ``folder/zstd/`` in the sdist to ``destination``."""
    destination.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sdist) as archive:
        for name in FILES:
            member = archive.extractfile(f"{folder}/zstd/{name}")
            if member is None:
                sys.exit(f"{sdist}: zstd/{name} is no file")
            replace(destination / name, member.read())


def replace(path: Path, content: bytes) -> None:
    """Write a file at once, for builds that share it; one that is right already keeps its time, which builds go by."""
    if path.is_file() and path.read_bytes() == content:
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
        new.write(content)
    os.chmod(new.name, 0o644)
    os.replace(new.name, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pin", type=Path, required=True, help="requirements file with the one pinned sdist")
    parser.add_argument("--cache", type=Path, required=True, help="directory that keeps the sdist")
    parser.add_argument("destination", type=Path)
    options = parser.parse_args()
    extract(*find_sdist(options.pin, options.cache), options.destination)


if __name__ == "__main__":
    main()
