"""The command ``packer run``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from packer import cli_fat

if TYPE_CHECKING:
    from typing import NoReturn

EPILOG = """examples:
  packer run -- --help                      the project in this directory, as its packed file would run here
  packer run --slice cp39 -- words.txt      its slice for CPython 3.9
  packer run --fresh script.py -r requirements.txt

The slice is packed with the least compression, and kept until something that it is made of changes: the project, files
named on the command line, options. What comes from an index stays as it was, without --fresh.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
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
    cli_fat.add_what(command)
    cli_fat.add_index(command)
    command.add_argument("--abis", metavar="WORDS", help="as for packer fat")
    cli_fat.add_building(command)
    command.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing but errors, and what the program does"
    )
    command.set_defaults(run=_run, arguments=None, json=False)


def _run(options: argparse.Namespace) -> NoReturn:
    from packer import develop, progress
    from packer.job import job_of

    config, _ = cli_fat.config_of(options)
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
