"""The options that say how wheels are built, and the command ``packer run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_building(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    build = command.add_argument_group("how wheels are built of sources")
    build.add_argument(
        "--cc", choices=("zig", "host"),
        help="what compiles native code: zig, for the C library of the slice's policy, or this machine's compiler "
        "(default: zig where this machine's C library is newer than the slice's policy, or another)",
    )  # fmt: skip
    build.add_argument(
        "--build-in", metavar="IMAGE", help="build in a container of this image, by its interpreters and its compiler"
    )
    build.add_argument(
        "--interpreter", action="append", type=Path, metavar="PATH",
        help="a Python that builds for its ABI, before those that are found on this machine; may be repeated",
    )  # fmt: skip
