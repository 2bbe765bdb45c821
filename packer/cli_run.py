"""The options that say how wheels are built, and the command ``packer run``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from packer.config import Config

EPILOG = """examples:
  packer run -- --help                      the project in this directory, as its packed file would run here
  packer run --slice cp39 -- words.txt      its slice for CPython 3.9
  packer run --fresh script.py -r requirements.txt

The slice is packed with the least compression, and kept until something that it is made of changes: the project, files
named on the command line, options. What comes from an index stays as it was, without --fresh.
"""


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


def add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    shared: Sequence[Callable[[argparse.ArgumentParser], None]],
    configured: Callable[[argparse.Namespace], Config],
) -> None:
    """Declare ``packer run``.

    :param shared: declare the options that it has from ``packer fat``.
    :param configured: what was said, with what the project says.
    """
    command = commands.add_parser(
        "run",
        help="run a program as its packed file would run here",
        description="Run a program as a slice of its packed file would run on this machine: what packer fat takes and\n"
        "[tool.packer] of the project says, is packed for one slice, kept, and executed in the place of this process.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] [--slice NAME] [--fresh] [OPTIONS of packer fat] "
        "[REQUIREMENT|PROJECT_DIR|SCRIPT.py ...] [-- ARGUMENTS...]",
    )
    command.add_argument(
        "--slice", metavar="NAME",
        help="a slice's name or Python tag (default: the first that has an interpreter on this machine)",
    )  # fmt: skip
    command.add_argument("--fresh", action="store_true", help="resolve and pack anew")
    for declare in shared:
        declare(command)
    command.add_argument("--abis", metavar="WORDS", help="as for packer fat")
    add_building(command)
    command.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing but errors, and what the program does"
    )
    command.set_defaults(run=lambda options: _run(options, configured(options)), arguments=None, json=False)


def _run(options: argparse.Namespace, config: Config) -> NoReturn:
    from packer import develop, progress
    from packer.job import job_of

    job, _ = job_of(config, options.timeout)
    target = develop.choose(job.targets, options.slice)
    job = develop.job_for(job, target)
    program = None if options.fresh else develop.kept(job, config)
    if program is None:
        with progress.showing(quiet=options.quiet) as bar:
            program = develop.pack(job, config, bar)
    sys.stdout.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    os.execv(program, [str(program), *(options.arguments or [])])
