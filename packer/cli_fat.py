"""The command ``packer fat``, and what others have of it: how options become what is packed."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import cli_workspace
from packer.errors import UsageError

if TYPE_CHECKING:
    from packer.config import Config
    from packer.pack import Packed


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fat = commands.add_parser(
        "fat",
        help="pack a program",
        description="Pack a program: requirements, a project directory or a script go in, one executable file comes\n"
        "out. Without any, the project in the working directory is packed. All options but --timeout, --json,\n"
        "--quiet and --verify-reproducible can stand in [tool.packer] of its pyproject.toml, under the same names.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fat.set_defaults(run=_fat)
    add_what(fat)
    where = fat.add_argument_group("where it runs")
    where.add_argument(
        "--abis", metavar="WORDS",
        help="platform policies, Python tags and full tags, separated by commas, most preferred first: "
        "manylinux2014,cp313,cp39 or cp314-manylinux_2_28; manylinux2014_x86_64_v3 is for CPUs that have AVX2 and the "
        "rest of x86-64-v3; a policy without a Python means every CPython still "
        "supported (default: the running Python on this machine's platform)",
    )  # fmt: skip
    where.add_argument(
        "--arch", action="append", metavar="ARCH,...",
        help="x86_64, aarch64, or both in one file (default: this machine's)",
    )  # fmt: skip
    where.add_argument(
        "--bundle", metavar="TAGS",
        help="carry an interpreter for these Python tags, or for all, which runs on hosts where no slice fits that "
        "uses the host's Python",
    )  # fmt: skip
    where.add_argument(
        "--runtime", action="append", metavar="TAG=SOURCE",
        help="what is carried for a Python tag: an executable, a prefix, or an archive of python-build-standalone "
        "(default: what packer runtime add was given, or an interpreter of this machine); may be repeated",
    )  # fmt: skip
    where.add_argument(
        "--libc", choices=("host", "bundled"),
        help="bundled: for each slice that carries its interpreter add one that brings its C library too, the last "
        "resort of hosts whose own is too old or of another family (default: host)",
    )  # fmt: skip
    add_index(fat)
    add_building(fat)
    out = fat.add_argument_group("output")
    out.add_argument("-o", "--output", type=Path, metavar="OUT", help="the file to write (default: the tool's name)")
    out.add_argument(
        "--verify-reproducible", action="store_true",
        help="pack twice, the second time elsewhere, with nothing cached, as another locale, time zone and mask; write "
        "the archive only if both are the same, else name the first difference",
    )  # fmt: skip
    out.add_argument(
        "--bytecode", choices=("all", "used", "none"),
        help="whose bytecode is packed: of all modules, of those that --profile-run or --profile tells, or of none; "
        "what is not packed is made on the host when it is first imported (default: none; used with --profile-run or "
        "--profile)",
    )  # fmt: skip
    out.add_argument(
        "--profile-run", action="append", metavar="ARGUMENTS",
        help="run the program with these arguments, quoted as one word, to see what it imports; may be repeated",
    )  # fmt: skip
    out.add_argument(
        "--profile", type=Path, metavar="PROFILE.json",
        help="what packer profile recorded: whose bytecode is packed, unless --bytecode says otherwise, and which "
        "imports are lazy, if that was checked",
    )  # fmt: skip
    out.add_argument(
        "--lazy-imports", choices=("all", "profile", "off"),
        help="under Python 3.15 and later import modules when they are first used: all of them, which may break a "
        "program, or those with which the check of --profile succeeded (default: profile where that was checked)",
    )  # fmt: skip
    out.add_argument(
        "--exclude", action="append", metavar="PATTERN",
        help="leave out of all wheels what matches, as 'pandas/tests/*'; * matches / too; may be repeated",
    )  # fmt: skip
    out.add_argument(
        "--trim", action="store_true", default=None,
        help="leave out what nobody runs: directories called tests inside of packages, and static libraries",
    )  # fmt: skip
    out.add_argument(
        "--plain-imports", action="store_true", default=None,
        help="bring no table of modules: each is looked for in directories, as in a virtual environment",
    )  # fmt: skip
    out.add_argument(
        "--label", action="append", metavar="NAME=TEXT",
        help="state it in the archive, for those who find it: packer inspect and FATPAR=list show it; may be repeated",
    )  # fmt: skip
    effort = out.add_mutually_exclusive_group()
    effort.add_argument(
        "--fast", action="store_true", default=None, help="compress less: quick to pack, about a third larger"
    )
    effort.add_argument(
        "--small", action="store_true", default=None, help="compress as much as can be: takes longer, a little smaller"
    )
    out.add_argument("--json", action="store_true", help="print what came of it as JSON")
    out.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    cli_workspace.add(fat)


def add_index(fat: argparse.ArgumentParser) -> None:
    index = fat.add_argument_group("where wheels come from, as in pip")
    index.add_argument("--index-url", metavar="URL")
    index.add_argument("--extra-index-url", action="append", metavar="URL")
    index.add_argument("--find-links", action="append", metavar="DIR|URL")
    index.add_argument("--no-index", action="store_true", default=None)
    index.add_argument(
        "--level-wheels", action="append", metavar="LEVEL=DIR",
        help="wheels for a CPU level, as v3=wheels-v3, which slices for that level prefer to others of the same "
        "version; may be repeated",
    )  # fmt: skip
    index.add_argument(
        "--accept", action="append", metavar="DISTRIBUTION",
        help="pack a wheel although its files need more of a host than its tag claims; its slices then ask hosts for "
        "what they need; may be repeated",
    )  # fmt: skip
    index.add_argument("--constraint", action="append", type=Path, metavar="FILE")
    index.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="SECONDS",
        help="for resolving and downloading one slice (default: 600)",
    )  # fmt: skip


def add_what(fat: argparse.ArgumentParser) -> None:
    what = fat.add_argument_group("what is packed")
    what.add_argument(
        "inputs", nargs="*", metavar="REQUIREMENT|PROJECT_DIR|SCRIPT.py",
        help="requirements, wheels and directories as pip takes them, or a program of one file",
    )  # fmt: skip
    what.add_argument(
        "-r", "--requirement", action="append", type=Path, metavar="FILE", help="a requirements file; may be repeated"
    )
    what.add_argument(
        "--lock", type=Path, metavar="PYLOCK.toml",
        help="take the wheels that packer lock, or another tool, locked, and nothing else: requirements only say which "
        "of them the program is; without --abis for the slices it was made for",
    )  # fmt: skip
    what.add_argument(
        "--include", action="append", metavar="SRC:DEST",
        help="a file or directory, and where it goes beside the program's modules; may be repeated",
    )  # fmt: skip
    runs = fat.add_argument_group("what it runs")
    default = runs.add_mutually_exclusive_group()
    default.add_argument("-e", "--entry", metavar="MODULE:FUNCTION", help="call a function")
    default.add_argument("-m", "--module", metavar="MODULE", help="run a module, as python -m does")
    default.add_argument(
        "-c", "--console-script", metavar="NAME",
        help="run a command that a wheel installs (default: the only one, or the one named as the requirement)",
    )  # fmt: skip
    runs.add_argument(
        "--tool", action="append", metavar="NAME=MODULE:FUNCTION|NAME=COMMAND",
        help="let the archive be this tool when it is called NAME; may be repeated, the first is the default",
    )  # fmt: skip


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


def seconds(text: str) -> float:
    """Read a number of seconds; for argparse."""
    with contextlib.suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")


def _fat(options: argparse.Namespace) -> int:
    from packer import progress, reproduce
    from packer.packchild import Request

    if options.workspace is not None:
        return cli_workspace.pack(options, spoken(options))
    if options.jobs is not None:
        raise UsageError("-j is for --workspace: one archive is packed on all processors anyway")
    request = Request(Path.cwd(), spoken(options), None, (), options.timeout, options.verify_reproducible)
    job, notes = reproduce.job_of(request)
    if not options.quiet:
        for note in notes:
            print(f"packer: {note}", file=sys.stderr)
    with progress.showing(quiet=options.quiet) as bar:
        packed = reproduce.packed(job, request, bar)
    _report(options, packed)
    return 0


def config_of(options: argparse.Namespace) -> tuple[Config, Path | None]:
    """Give what the command line says and, where it names nothing to pack or one project, what the project says.

    :return: also the directory of the latter.
    """
    from packer.job import with_project

    return with_project(spoken(options))


def spoken(options: argparse.Namespace) -> Config:
    """Give what the command line says."""
    from packer.config import Config

    said: dict[str, Any] = {field.name: getattr(options, field.name, None) for field in fields(Config)}
    lists = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
    return Config(**{name: value for name, value in said.items() if value is not None} | lists)


def _report(options: argparse.Namespace, packed: Packed) -> None:
    import json

    from packer.inspect import describe

    if options.json:
        print(json.dumps(describe(packed.written.path), indent=2, sort_keys=True))
        return
    if options.quiet:
        return
    for note in packed.notes:
        print(f"packer: {note}", file=sys.stderr)
    for warning in packed.warnings:
        print(f"packer: warning: {warning}", file=sys.stderr)
    slices = ", ".join(one.name for one in packed.slices)
    print(f"{packed.written.path}: {packed.written.size:,} bytes for {slices}")
