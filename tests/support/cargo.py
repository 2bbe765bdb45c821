"""Rust for tests: Debian's, which compiles for the other machine, too, with what the root ``rust`` brings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import roots
from .hosts import give_up

RELEASE = "rustc 1.63.0"
"""Of the root's library; a compiler reads only what its own release has made."""


def rust(directory: Path) -> dict[str, str | None]:
    """Variables of an environment in which Rust is found; ``directory`` is made, for the compiler's libraries."""
    path = os.environ.get("PATH", os.defpath)
    # Debian's own first: rustup puts another release before it
    cargo, rustc = (shutil.which(tool, path=f"/usr/bin:{path}") for tool in ("cargo", "rustc"))
    if not cargo or not rustc:
        give_up("cargo is not installed")
    if not roots.finished("rust"):
        give_up("root rust is not built or is out of date: run tests/hosts/build.py rust")
    release = subprocess.run([rustc, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if release != RELEASE:
        give_up(f"the compiler is {release}, and {RELEASE} is what Debian's library for arm64 is for")
    libraries = directory / "sysroot" / "lib" / "rustlib"
    libraries.mkdir(parents=True)
    own = subprocess.run([rustc, "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip()
    for sysroot in (Path(own), roots.root_of("rust") / "usr"):
        for library in (sysroot / "lib" / "rustlib").iterdir():
            if not (libraries / library.name).exists():
                (libraries / library.name).symlink_to(library)
    compiler = directory / "bin" / "rustc"
    compiler.parent.mkdir()
    (compiler.parent / "cargo").symlink_to(cargo)
    compiler.write_text(f'#!/bin/sh\nexec {rustc} --sysroot {directory}/sysroot "$@"\n')
    compiler.chmod(0o755)
    return {"PATH": f"{compiler.parent}:{path}", "CARGO_HOME": str(directory / "home")}


def debian_crates(variables: dict[str, str | None]) -> None:
    """Have cargo take crates from the root ``rust`` instead of a registry."""
    home = Path(str(variables["CARGO_HOME"]))
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(f"""\
[source.crates-io]
replace-with = "debian"

[source.debian]
directory = "{roots.root_of("rust")}/usr/share/cargo/registry"
""")
