"""The command that writes a bill of materials: ``packer sbom``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EPILOG = """examples:
  packer sbom mytool -o mytool.cdx.json
  packer sbom mytool --format spdx | grype

Which of it is known to be vulnerable, scanners of such files say: docs/sbom.md names some.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    import argparse

    text = "write down what is in an archive, for scanners and lawyers"
    sbom = commands.add_parser(
        "sbom", help=text, description="Write a bill of materials of an archive: distributions, compiled libraries "
        "inside of them,\ninterpreters, the launcher; with digests, licences and package URLs.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sbom.add_argument("file", type=Path, metavar="FILE")
    sbom.add_argument(
        "--format", choices=("cyclonedx", "spdx"), default="cyclonedx",
        help="CycloneDX 1.6 or SPDX 2.3, both as JSON (default: cyclonedx)",
    )  # fmt: skip
    sbom.add_argument("-o", "--output", type=Path, metavar="OUT", help="the file to write (default: standard output)")
    sbom.set_defaults(run=_sbom)


def _sbom(options: argparse.Namespace) -> int:
    from packer import files, sbom
    from packer.cli_libraries import kept

    if options.output:
        files.refuse_unwritable(options.output)
    text = sbom.make(options.file, options.format, kept())
    if options.output is None:
        sys.stdout.write(text)
        return 0
    with files.replacing(options.output) as file:
        file.write(text.encode())
    return 0
