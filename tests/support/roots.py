"""The root filesystems tests run in: which there are, where they lie, and which of them are finished.

``tests/hosts/build.py`` makes them, :mod:`hosts` beside this file enters them. Standard library only: building must
not need the test environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

MERGED_USR = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
"""mmdebstrap's own hook: without it a bookworm root gets its merged /usr from usrmerge, which pulls in all of perl.
Bullseye stays unmerged, as machines that were upgraded to it are; so both layouts are among the hosts."""


SCRIPT = Path(__file__).resolve().parents[1] / "hosts" / "musl.sh"

FETCH = """fetch() {
	mkdir "$1/packages" && cd "$1/packages" && shift && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -q "$@" &&
	for package in *.deb; do dpkg-deb -x "$package" .. || return; done && cd .. && rm -r packages
}; fetch "$1\""""
"""Extracts packages, without what they depend on."""

CRATES = (
    "autocfg", "cfg-if", "indoc", "libc", "lock-api", "memoffset", "once-cell", "parking-lot", "parking-lot-core",
    "proc-macro2", "pyo3", "pyo3-build-config", "pyo3-ffi", "pyo3-macros", "pyo3-macros-backend", "quote", "scopeguard",
    "smallvec", "syn", "target-lexicon", "unicode-ident", "unindent",
)  # fmt: skip
"""Debian's, that a module of pyo3 takes."""


@dataclass(frozen=True)
class Definition:
    """What a root filesystem is made of."""

    suite: str
    """Debian suite, by a name that does not move from release to release (sid never moves)."""
    packages: tuple[str, ...]
    """Beside the essential ones."""
    options: tuple[str, ...] = (
        "--variant=essential",
        # Testing and unstable expire within a week, and a mirror may be older than that.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        f"--hook-dir={MERGED_USR}",
        # An installer writes it; without it nothing in the root finds localhost.
        '--customize-hook=echo "127.0.0.1 localhost" > "$1/etc/hosts"',
    )

    source: str = ""
    """Below a Debian archive, the sources of a CPython that is compiled for the root by ``tests/hosts/musl.sh``."""
    sha256: str = ""
    """Of that file."""

    @property
    def digest(self) -> str:
        """Hex SHA-256 that changes when a root made from this would be another one."""
        compiled_by = (SCRIPT.read_text(),) if self.source else ()
        return hashlib.sha256(json.dumps([asdict(self), *compiled_by]).encode()).hexdigest()


DEFINITIONS = {
    "bullseye": Definition("bullseye", ("python3", "python2.7")),
    # libstdc++6 is on every Debian that has apt, and native wheels expect it; the other roots show what is without.
    "bookworm": Definition("bookworm", ("python3", "libstdc++6")),
    "trixie": Definition("trixie", ("python3", "libstdc++6")),
    "forky": Definition("forky", ("python3",)),
    # No python3: sid's default is not yet 3.15, and a host whose only Python has no plain name is worth having.
    "sid": Definition("sid", ("python3.15",)),
    "bookworm-minimal": Definition("bookworm", ("python3-minimal",)),
    "bookworm-nopython": Definition("bookworm", ()),
    # Debian has musl, but nothing that is linked with it
    "musl": Definition(
        "trixie",
        ("busybox-static", "musl"),
        ("--variant=extract",),
        "pool/main/p/python3.13/python3.13_3.13.5.orig.tar.xz",
        "93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640",
    ),
    # a machine that ssh reaches
    "sshd": Definition("bookworm", ("python3", "openssh-server")),
    # another machine, under an emulator: what is extracted needs none to be made
    "arm64": Definition(
        "bookworm",
        ("python3", "libstdc++6", "bash", "coreutils", "dash"),
        (
            "--variant=extract",
            "--architectures=arm64",
            f"--hook-dir={MERGED_USR}",
            '--customize-hook=echo "127.0.0.1 localhost" > "$1/etc/hosts"',
        ),
    ),
    # no host, but what tests/torture starts a machine with: a kernel, and what makes its disks
    "kernel": Definition(
        "bookworm", ("linux-image-cloud-amd64", "busybox-static", "e2fsprogs", "xfsprogs"), ("--variant=extract",)
    ),
    # no host either: Rust's standard library for arm64, for a compiler that is bookworm's; and pyo3 with the crates
    # that it is made of. Only these, since what they depend on is a compiler
    "rust": Definition(
        "bookworm",
        (),
        (
            "--variant=custom",
            "--skip=check/qemu",  # nothing of it is run
            "--architectures=arm64",
            f"--customize-hook={FETCH} libstd-rust-dev {' '.join(f'librust-{crate}-dev' for crate in CRATES)}",
        ),
    ),
    # the kernels that come with other releases, 5.10 and 6.12: what is needed of a kernel selects
    "kernel-bullseye": Definition("bullseye", ("linux-image-cloud-amd64",), ("--variant=extract",)),
    "kernel-trixie": Definition("trixie", ("linux-image-cloud-amd64",), ("--variant=extract",)),
}

MACHINES = {"arm64": "aarch64"}
"""Of roots that an emulator is needed for."""


def cache() -> Path:
    """The directory of all roots: ``$FATPAR_TEST_HOSTS``, else ``.cache/hosts`` of the repository."""
    named = os.environ.get("FATPAR_TEST_HOSTS")
    return Path(named).resolve() if named else Path(__file__).resolve().parents[2] / ".cache" / "hosts"


def root_of(name: str) -> Path:
    """The tree of a host, finished or not."""
    return cache() / name / "root"


def stamp_of(name: str) -> Path:
    """The file that makes a root a finished one: its definition's digest, written after everything else."""
    return cache() / name / "stamp"


def finished(name: str) -> bool:
    """Whether the root is there, whole, and made from today's definition."""
    try:
        return stamp_of(name).read_text() == DEFINITIONS[name].digest
    except FileNotFoundError:
        return False


def mounts_below(directory: Path) -> list[str]:
    """Mount points of this mount namespace at or below a directory; field 5 of proc(5)'s mountinfo."""
    resolved = str(directory.resolve())
    escaped = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point) for point in escaped]
    return [point for point in points if point == resolved or point.startswith(f"{resolved}/")]
