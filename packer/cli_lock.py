"""The command that writes down which files are packed: ``packer lock``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import cli_fat, cli_workspace
from packer.errors import UsageError

if TYPE_CHECKING:
    from packer.config import Config
    from packer.lock import Changes, Lock

EPILOG = """examples:
  packer lock httpie --abis manylinux2014,cp39,cp313     pylock.toml, for two Pythons
  packer fat --lock pylock.toml -c http                  pack what it says, today and next year
  packer lock httpie --upgrade requests                  the other versions stay as they are
  packer lock httpie requests                            requests, too; what was asked for before has to be named
  packer lock httpie --upgrade-all --as-of 2024-03-01    what was there when that day began (UTC)

The lock is a file as PEP 751 has it, which pip, uv and PDM read, too; packer fat --lock takes theirs. Put it under
version control. A version in it is kept when it is locked again, unless it is upgraded, yanked, or no longer fits
what is required. Requirements, slices and another tool's lock that would go are refused without --drop.
docs/lock.md has the rest.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    lock = commands.add_parser(
        "lock",
        help="write down which files are packed",
        description="Choose wheels for every slice and write them down, with their digests: packer fat --lock packs\n"
        "these, and nothing else. Without any requirement, the project in the working directory is locked; what\n"
        "[tool.packer] of its pyproject.toml says counts as for packer fat.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lock.add_argument(
        "inputs", nargs="*", metavar="REQUIREMENT|PROJECT_DIR", help="requirements, wheels and directories, as pip "
        "takes them",
    )  # fmt: skip
    lock.add_argument(
        "-r", "--requirement", action="append", type=Path, metavar="FILE", help="a requirements file; may be repeated"
    )
    lock.add_argument("--constraint", action="append", type=Path, metavar="FILE")
    lock.add_argument(
        "--abis", metavar="WORDS",
        help="the slices, as for packer fat (default: those of the lock that is there, else the running Python)",
    )  # fmt: skip
    lock.add_argument("--arch", action="append", metavar="ARCH", help="x86_64 or aarch64; may be repeated")
    lock.add_argument(
        "-o", "--output", type=Path, dest="lock", metavar="PYLOCK.toml",
        help="the lock to write, or to write again (default: pylock.toml)",
    )  # fmt: skip
    lock.add_argument(
        "--workspace", nargs="?", const="tools.toml", type=Path, metavar="FILE.toml",
        help="lock what the tools of a file ask for together (default: tools.toml)",
    )  # fmt: skip
    which = lock.add_argument_group("which versions")
    which.add_argument(
        "--as-of", metavar="DATE",
        help="choose as if it were that time: 2024-03-01, when that day began in UTC, or 2024-03-01T12:00:00Z; takes "
        "an index that tells when files were uploaded",
    )  # fmt: skip
    which.add_argument(
        "--upgrade", action="append", default=[], metavar="NAME",
        help="do not keep the version that the lock has of this distribution; may be repeated",
    )  # fmt: skip
    which.add_argument("--upgrade-all", action="store_true", help="keep none")
    lock.add_argument(
        "--drop", action="store_true",
        help="let go what the lock was asked for before and is not now: requirements, slices, or all of a lock that "
        "another tool wrote",
    )  # fmt: skip
    index = lock.add_argument_group("where wheels come from, as in pip")
    index.add_argument("--index-url", metavar="URL")
    index.add_argument("--extra-index-url", action="append", metavar="URL")
    index.add_argument("--find-links", action="append", metavar="DIR|URL")
    index.add_argument("--no-index", action="store_true", default=None)
    cli_fat.add_building(lock)
    lock.add_argument(
        "--timeout", type=cli_fat.seconds, default=600.0, metavar="SECONDS",
        help="for resolving and downloading one slice (default: 600)",
    )  # fmt: skip
    lock.add_argument("--json", action="store_true", help="print what came of it, and what changed, as JSON")
    lock.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    lock.set_defaults(run=_lock)


def _config(options: argparse.Namespace) -> Config:
    if options.workspace is None:
        return cli_fat.config_of(options)[0]
    return cli_workspace.locking(options.workspace, cli_fat.spoken(options))


def _lock(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from packer import files, job, lock, locking, progress

    config = _config(options)
    path = config.lock or Path(lock.NAME)
    lock.refuse_name(path)
    files.refuse_unwritable(path)
    old = lock.read(path) if path.exists() else None
    if old and not old.own and not options.drop:
        raise UsageError(
            f"{path} was written by {old.content.created_by}: what it was asked for is not known, and it would be lost",
            hint=f"-o {path.with_name('pylock.NAME.toml')} writes another file, --drop replaces this one",
        )
    wanted, notes = job.locking_of(config, path, old)
    upgrade = None if options.upgrade_all else locking.refuse_unknown(old, path, options.upgrade)
    requests = replace(wanted.requests, as_of=job.as_of(options.as_of) if options.as_of else "")
    if not options.quiet:
        for note in notes:
            print(f"packer: {note}", file=sys.stderr)
    with progress.showing(quiet=options.quiet) as bar:
        bar.say("resolving")
        made, more = locking.make(
            replace(wanted, requests=requests, upgrade=upgrade), cache=job.cache(), progress=bar.say,
            limit=options.timeout,
        )  # fmt: skip
    if old and not options.drop:
        _refuse_dropping(options, old, made)
    changes = lock.changes(old, made)
    written = lock.write(made)
    _report(options, made, changes, (*more,), written=written)
    return 0


def _refuse_dropping(options: argparse.Namespace, old: Lock, made: Lock) -> None:
    """Refuse to lock less than before.

    :raises UsageError: naming what would go, and how it stays.
    """
    from packer import job, lock

    roots, slices = lock.lost(old, made)
    if not roots and not slices:
        return
    spoken = cli_fat.spoken(options)
    told = Path(options.workspace) if options.workspace else None
    words = ["--workspace", str(told)] if told else list(spoken.inputs)
    project = None if told else job.with_project(spoken)[1]
    if project is not None:
        told = project / "pyproject.toml"
    elif not told:
        words += [word for name, word in lock.roots(old) if name in roots]
    for option, files in (("-r", spoken.requirement), ("--constraint", spoken.constraint)):
        words += [word for path in files for word in (option, str(path))]
    every = ",".join(dict.fromkeys([*old.texts("slices"), *made.texts("slices")]))
    words += [*(["--abis", every] if slices else []), *(["-o", str(options.lock)] if options.lock else [])]
    command = shlex.join(["packer", "lock", *words, *job.index_of(spoken)])
    keeping = f"{command} keeps all of it"
    if told and roots:
        keeping = f"{told} no longer asks for all of it"
    raise UsageError(
        f"{old.path}: {', '.join([*roots.values(), *slices])} would go: asked for before, and not now",
        hint=f"{keeping}; --drop lets it go",
    )


def _report(
    options: argparse.Namespace, made: Lock, changes: Changes, notes: tuple[str, ...], *, written: bool
) -> None:
    if options.json:
        print(json.dumps(described(made, changes), indent=2, sort_keys=True))
        return
    if options.quiet:
        return
    for note in notes:
        print(f"packer: {note}", file=sys.stderr)
    for name, versions in changes.added.items():
        print(f"added {name} {', '.join(versions)}".rstrip())
    for name, versions in changes.removed.items():
        print(f"removed {name} {', '.join(versions)}".rstrip())
    for name, (before, after) in changes.changed.items():
        print(f"changed {name} {', '.join(before)} -> {', '.join(after)}")
    for name in changes.refreshed:
        print(f"changed {name}: the same versions, but other files or slices")
    packages, slices = len(made.content.packages), ", ".join(made.texts("slices"))
    done = f"{packages} packages for {slices}" if written else "as it was"
    print(f"{made.path}: {done}")


def described(made: Lock, changes: Changes) -> dict[str, Any]:
    """Say it as ``--json`` does."""
    from packer import lock

    return {
        "version": 1,
        "file": str(made.path),
        "sha256": lock.digest(made.path),
        "slices": list(made.texts("slices")),
        "packages": [
            {"name": one.name, "version": str(one.version) if one.version else None} for one in made.content.packages
        ],
        "added": [{"name": name, "versions": list(versions)} for name, versions in changes.added.items()],
        "removed": [{"name": name, "versions": list(versions)} for name, versions in changes.removed.items()],
        "changed": [
            {"name": name, "before": list(before), "after": list(after)}
            for name, (before, after) in changes.changed.items()
        ],
        "refreshed": list(changes.refreshed),
    }
