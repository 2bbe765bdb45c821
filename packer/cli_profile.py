"""The command that records what a program imports: ``packer profile``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer.lazycheck import Found

EPILOG = """examples:
  packer profile ./http -- --offline GET http://localhost        one run, at this terminal
  packer profile ./http --run=--version --run=--help -o http.profile.json
  packer profile ./http --check 'pytest tests/cli'               with lazy imports, under Python 3.15 or later
  packer fat httpie -c http --profile http.profile.json          the bytecode of what starts, and lazy imports

A check runs its command by sh, several times; $TOOL is the program. It has to end with 0.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    profile = commands.add_parser(
        "profile",
        help="record what a program imports when it starts, and whether its imports can be lazy",
        description="Run a packed program as it would be on this machine, and record which modules it imports, in\n"
        "their order. What is recorded is added to what the profile has already.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] [-o PROFILE.json] [--run ARGUMENTS] [--check COMMAND] [--timeout SECONDS] [-q] FILE "
        "[-- ARGUMENTS...]",
    )
    profile.add_argument("file", type=Path, metavar="FILE", help="a packed program")
    profile.add_argument(
        "-o", "--output", type=Path, metavar="PROFILE.json", help="the profile (default: FILE's name and .profile.json)"
    )
    profile.add_argument(
        "--run", action="append", default=[], dest="more", metavar="ARGUMENTS",
        help="run it with these arguments, quoted as one word; may be repeated (default without --check: one run "
        "with what follows --)",
    )  # fmt: skip
    profile.add_argument(
        "--check", action="append", default=[], metavar="COMMAND",
        help="try lazy imports: run this, the program's own tests say, with every import lazy; if it fails, find the "
        "modules that have to stay eager; may be repeated",
    )  # fmt: skip
    profile.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="for one run of a check (default: 600)"
    )
    profile.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    profile.set_defaults(run=_profile, arguments=None)


def split(arguments: Sequence[str]) -> tuple[Sequence[str], list[str] | None]:
    """Take what follows ``--`` from the words of the command, which argparse would read."""
    if arguments[:1] not in (["profile"], ["matrix"], ["run"]) or "--" not in arguments:
        return arguments, None
    place = arguments.index("--")
    return arguments[:place], list(arguments[place + 1 :])


def _profile(options: argparse.Namespace) -> int:
    import shlex

    from packer import files, lazy, lazycheck, profile
    from packer.errors import PackError, UsageError

    def tell(text: str) -> None:
        if not options.quiet:
            print(f"packer: {text}", file=sys.stderr, flush=True)

    try:
        runs = [shlex.split(run) for run in options.more]
    except ValueError as error:
        raise UsageError(f"--run: {error}") from None
    if options.arguments is not None or not (runs or options.check):
        runs.append(options.arguments or [])
    if not options.timeout > 0:
        raise UsageError("--timeout: it has to be more than nothing")
    output = options.output or Path(f"{options.file.name}.profile.json")
    files.refuse_unwritable(output)
    known = profile.read(output) if output.exists() else profile.Profile()
    with files.working() as work:
        place = profile.stage(options.file.absolute(), work)
        for run in runs:
            made = profile.record_here(place, run, tell)
            if not made.startups:
                raise PackError(f"{options.file}: nothing was imported by {place.tag}: does another program run?")
            known = profile.merged(known, made)
            profile.write(output, known)
        found = None
        if options.check:
            before = known.lazy.get(place.tag, lazy.Checked())
            found = lazycheck.check(place, options.check, before, options.timeout, tell)
            known = profile.merged(known, profile.Profile(lazy={place.tag: found.checked}))
            profile.write(output, known)
    if not options.quiet:
        _report(output, place.tag, known.startups.get(place.tag), found)
    return 0


def _report(output: Path, tag: str, startup: object, found: Found | None) -> None:
    from packer.profile import Startup

    if isinstance(startup, Startup):
        ours = sum(one.path is not None for one in startup.modules)
        print(f"{output}: {tag}: {len(startup.modules)} modules, {ours} of them packed, in {len(startup.runs)} runs")
    if found is None:
        return
    print(f"{output}: {tag}: lazy imports work with CPython {found.checked.python}; {found.deferred} modules were not "
          f"imported at all; {found.runs} runs of the check")  # fmt: skip
    for culprit in found.culprits:
        print(f"{output}: {tag}: {culprit} has to stay eager")
    others = [name for name in found.checked.eager if name not in found.culprits]
    if others:
        print(f"{output}: {tag}: with what leads to them: {', '.join(others)}")
