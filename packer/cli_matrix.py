"""The command that says on which hosts a program runs: ``packer matrix``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from packer.errors import PackError, UsageError

if TYPE_CHECKING:
    from packer.results import Matrix

DESCRIPTION = """Say for many kinds of hosts which slice of an archive runs there, with which Python, or why none does.

  --predict   judge hosts that are described, without having them; packer hosts list names those that come along
  --plan      the same before anything is packed, for the slices that --abis stands for, by their tags alone
  --run       run the archive on hosts that can be had, and compare what is seen with what was predicted
  --merge     put the results of shards together
  --emit      with --run: print the definition of jobs that share the hosts and merge what they see"""

EPILOG = """examples:
  packer matrix ./http --predict                                  all known hosts of its machine
  packer matrix ./http --predict --hosts bullseye,router.toml --required bullseye
  packer matrix --plan --abis manylinux2014,cp39,cp311 --bundle cp311
  packer matrix ./http --run hosts.toml --html http.html -- --version
  packer matrix ./http --run hosts.toml --shard 2/4 --json > 2.json
  packer matrix --merge 1.json 2.json 3.json 4.json --junit junit.xml
  packer matrix ./http --run hosts.toml --rerun-failed all.json   only hosts with something wrong
  packer matrix ./http --run hosts.toml --emit github --shards 4 > .github/workflows/matrix.yml

What would have to be added for hosts without a slice is found by trying: an older policy, a Python that the host
has, another C library or machine, an interpreter brought along. Whether wheels exist for that, only the index knows.

exit status: 0 nothing is wrong; 1 a required host has no slice, a host selects another slice than predicted, a case
failed, a host could not be used, or something could not be read; 2 wrong usage, HOSTS.toml included
"""


_TIMEOUT = 120.0
_LONGEST = 86400.0
"""Seconds that a launch may take at most: a day."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    matrix = commands.add_parser(
        "matrix", help="say on which hosts a program runs, and try it on those that can be had",
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] [FILE] (--predict | --plan | --run HOSTS.toml | --merge RESULT.json...) [options] "
        "[-- ARGUMENTS...]",
    )  # fmt: skip
    matrix.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a packed program")
    _add_modes(matrix)
    _add_hosts(matrix)
    _add_plan(matrix)
    _add_run(matrix)
    _add_output(matrix)
    matrix.set_defaults(run=_matrix, arguments=None)


def _add_modes(matrix: argparse.ArgumentParser) -> None:
    group = matrix.add_argument_group("what is done")
    modes = group.add_mutually_exclusive_group(required=True)
    modes.add_argument("--predict", action="store_true", help="judge hosts by their descriptions")
    modes.add_argument("--plan", action="store_true", help="judge what is to be packed; takes no FILE")
    modes.add_argument(
        "--run", dest="hosts_file", type=Path, metavar="HOSTS.toml",
        help="run FILE on the hosts that this file names; ARGUMENTS are the program's (docs/matrix.md)",
    )  # fmt: skip
    modes.add_argument(
        "--merge", type=Path, nargs="+", metavar="RESULT.json", help="read what --json printed in each shard"
    )


def _add_hosts(matrix: argparse.ArgumentParser) -> None:
    group = matrix.add_argument_group("hosts")
    group.add_argument(
        "--hosts", action="append", metavar="NAME|FILE,...",
        help="described hosts, by name or file, or all (default: all named ones of the archive's machines); may be "
        "repeated",
    )  # fmt: skip
    group.add_argument(
        "--required", action="append", metavar="NAME,...",
        help="hosts on which it is a failure that no slice runs; may be repeated (default: with --predict and --plan "
        "none, with --run all but those that say required = false)",
    )  # fmt: skip


def _add_plan(matrix: argparse.ArgumentParser) -> None:
    group = matrix.add_argument_group(
        "what is planned, as for packer fat (default: what the project in this directory says)"
    )
    group.add_argument("--abis", metavar="WORDS", help="policies, Python tags and full tags")
    group.add_argument("--arch", action="append", metavar="ARCH", help="x86_64 or aarch64 (default: this machine's)")
    group.add_argument("--bundle", metavar="TAGS", help="Python tags for which an interpreter is carried, or all")
    group.add_argument("--libc", choices=("host", "bundled"), help="bundled: carry C libraries, too")


def _add_run(matrix: argparse.ArgumentParser) -> None:
    group = matrix.add_argument_group("running")
    group.add_argument("--at-once", type=_count, metavar="N", help="hosts at the same time (default: the processors)")
    group.add_argument("--shard", type=_shard, metavar="I/N", help="only the I-th of N parts of the hosts")
    group.add_argument(
        "--rerun-failed", type=Path, metavar="RESULT.json",
        help="only hosts that have something wrong in this result; the rest is taken from it",
    )  # fmt: skip
    group.add_argument("--timeout", type=_seconds, metavar="SECONDS", help=f"for one launch (default: {_TIMEOUT:g})")
    group.add_argument(
        "--emit", choices=("github", "gitlab", "buildkite", "kubernetes"),
        help="run nothing; print the definition of jobs that do, for this service",
    )  # fmt: skip
    group.add_argument("--shards", type=_count, metavar="N", help="with --emit: how many jobs (default: 4)")
    group.add_argument(
        "--setup", action="append", metavar="COMMAND",
        help="with --emit: a shell command with which each job begins, so that packer and FILE are there (default: "
        "python3 -m pip install fatpar); may be repeated",
    )  # fmt: skip


def _add_output(matrix: argparse.ArgumentParser) -> None:
    group = matrix.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON, its form numbered by its key version")
    group.add_argument("--html", type=Path, metavar="OUT", help="write a page to look at")
    group.add_argument("--junit", type=Path, metavar="OUT", help="write JUnit XML, for services that show tests")


def _count(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"not a number from 1 on: {text!r}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0 < seconds <= _LONGEST:
        return seconds
    raise argparse.ArgumentTypeError(f"not a number of seconds up to {_LONGEST:g}: {text!r}")


def _shard(text: str) -> tuple[int, int]:
    first, _, of = text.partition("/")
    if first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of):
        return int(first), int(of)
    raise argparse.ArgumentTypeError(f"not a shard: {text!r}; the second of four is 2/4")


_FOR = {
    "hosts": ("predict", "plan"), "abis": ("plan",), "arch": ("plan",), "bundle": ("plan",), "libc": ("plan",),
    "at_once": ("run",), "shard": ("run",), "rerun_failed": ("run",), "arguments": ("run", "emit"),
    "timeout": ("run", "emit"), "required": ("predict", "plan", "run", "emit"), "shards": ("emit",), "setup": ("emit",),
    **dict.fromkeys(("json", "html", "junit"), ("predict", "plan", "run", "merge")),
}  # fmt: skip
"""Which options are for which modes; that a run is only described (``--emit``) is one of its own."""


def _mode(options: argparse.Namespace) -> str:
    """Give the mode, and refuse what would have no effect in it."""
    mode = next(name for name in ("predict", "plan", "merge", "hosts_file") if getattr(options, name))
    mode = "run" if mode == "hosts_file" else mode
    if options.emit:
        if mode != "run":
            raise UsageError("--emit is for --run")
        mode = "emit"
    for name, those in _FOR.items():
        if getattr(options, name) not in (None, False) and mode not in those:
            said = "--" if name == "arguments" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{said} is for --{' and --'.join(those)}{', not for --emit' if options.emit else ''}")
    takes_file = mode in ("predict", "run", "emit")
    if takes_file and options.file is None:
        raise UsageError(f"--{mode}: of which archive?", hint=f"packer matrix FILE --{mode} ...")
    if options.file is not None and not takes_file:
        raise UsageError(f"--{mode} takes no FILE: what is {options.file}?")
    return mode


def _matrix(options: argparse.Namespace) -> int:
    mode = _mode(options)
    if mode == "emit":
        return _emit(options)
    for path, option in ((options.html, "--html"), (options.junit, "--junit")):
        _refuse(options, path, option)
    found = {"predict": _predict, "plan": _plan, "run": _run, "merge": _merge}[mode](options)
    _report(options, found)
    return 0 if found.passed else 1


def _refuse(options: argparse.Namespace, path: Path | None, option: str) -> None:
    """Find out before long work whether a report can be written; it must replace nothing that is read."""
    from packer import files

    if path is None:
        return
    files.refuse_unwritable(path, option=option)
    for read in (options.file, options.hosts_file, options.rerun_failed, *(options.merge or ())):
        if read and path.exists() and read.exists() and path.samefile(read):
            raise PackError(f"cannot write {path}: it is read", hint=f"name another file with {option}")


def _names(said: list[str] | None) -> list[str]:
    return [name.strip() for text in said or () for name in text.split(",") if name.strip()]


def _hosts(options: argparse.Namespace) -> list[str]:
    from packer import hosts

    return [one for name in _names(options.hosts) for one in (hosts.every() if name == "all" else [name])]


def _predict(options: argparse.Namespace) -> Matrix:
    from packer import additions, job, predict, supposed
    from packer.reader import reading

    found = predict.predict(options.file, _hosts(options), _names(options.required))
    with reading(options.file) as archive:
        slices = supposed.packed(archive)
    return additions.of_archive(options.file, slices, found, job.cache())


def _plan(options: argparse.Namespace) -> Matrix:
    from packer import config, job, plan

    spoken = config.Config(
        abis=options.abis, arch=tuple(options.arch or ()), bundle=options.bundle, libc=options.libc
    )  # fmt: skip
    wanted = config.merge(spoken, config.read(Path()) or config.Config()) if options.abis is None else spoken
    planned = plan.plan(wanted, _hosts(options), _names(options.required), job.cache())
    for note in planned.notes:
        print(f"packer: {note}", file=sys.stderr)
    return planned.matrix


def _run(options: argparse.Namespace) -> Matrix:
    from packer import matrixrun, progress

    again = _read(options.rerun_failed) if options.rerun_failed else None
    with progress.showing(quiet=options.json) as bar:
        found: Matrix = matrixrun.run(
            options.file, options.hosts_file, options.arguments or [], required=_names(options.required),
            at_once=options.at_once or os.cpu_count() or 1, shard=options.shard, again=again,
            timeout=options.timeout or _TIMEOUT, progress=bar,
        )  # fmt: skip
    if not found.rows:
        number, count = options.shard
        hosts = f"{options.hosts_file} has {len(found.plan)}"
        print(f"packer: nothing was run: shard {number} of {count} has no hosts: {hosts}", file=sys.stderr)
    return found


def _merge(options: argparse.Namespace) -> Matrix:
    from packer import results

    try:
        return results.merged([_read(path) for path in options.merge])
    except ValueError as error:
        raise PackError(f"cannot merge: {error}", hint="merge all shards of one run of one archive") from None


def _read(path: Path) -> Matrix:
    """Read a result.

    :raises PackError: if it is none.
    """
    import json

    from packer import results

    try:
        said = json.loads(path.read_text("utf-8"))
        if not isinstance(said, dict):
            raise ValueError("it is no JSON object")
        return results.from_json(said)
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError:
        raise PackError(f"{path} is not what packer matrix --json prints: it is nested too deep") from None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise PackError(f"{path} is not what packer matrix --json prints: {what}") from None


def _emit(options: argparse.Namespace) -> int:
    from packer import emit, matrixhosts, matrixrun

    plan = matrixhosts.read(options.hosts_file, places=False)  # the jobs may make them
    matrixrun.planned(plan, options.hosts_file, options.arguments or [], _names(options.required))
    wanted = emit.Wanted(
        str(options.file), str(options.hosts_file), tuple(options.arguments or ()), options.shards or 4,
        tuple(options.setup or emit.SETUP), tuple(_names(options.required)), options.timeout or _TIMEOUT,
    )  # fmt: skip
    print(emit.definition(options.emit, wanted), end="")
    return 0


def _report(options: argparse.Namespace, matrix: Matrix) -> None:
    from packer import files

    if options.html:
        from packer import report_html

        with files.replacing(options.html, option="--html") as stream:
            stream.write(report_html.page(matrix).encode())
    if options.junit:
        from packer import report_junit

        with files.replacing(options.junit, option="--junit") as stream:
            stream.write(report_junit.xml(matrix).encode())
    if options.json:
        import json

        print(json.dumps(matrix.json(), indent=2))  # in their order, which tells of slices what is preferred
        return
    import shutil

    from packer import report_text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    colour = terminal and not os.environ.get("NO_COLOR")
    print(report_text.text(matrix, width=width, colour=colour), end="")
