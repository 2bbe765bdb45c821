"""The commands about what is compiled in archives, and what runs of them: ``audit``, ``diff --contents``, ``ps``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from packer.cache import Cache

AUDIT = """With several archives, or with --libraries, it compares their compiled libraries instead: a table of versions
that fits the terminal (or COLUMNS), with ! before what is there in several; which copies these are, what a slice has
more than once, and what is not as pinned.

TOOLS.toml has a table of pins; a name is that of a library, of a project, or a pattern for paths of files:

  [libraries]
  openssl = "3.0.*"             # every copy, those that are linked statically, too
  libpq = ">=15"
  "numpy.libs/*" = "same"       # the same files in all archives and slices

exit status: 0, also if libraries differ; 1 if something is not as pinned, or could not be done; 2 wrong usage
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them."""
    import argparse

    text = "measure what an archive needs of a host, file by file, and compare it with wheels' tags"
    audit = commands.add_parser(
        "audit", help=f"{text}; or compare the libraries of several", description=f"{text[0].upper()}{text[1:]}.",
        epilog=AUDIT, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    audit.add_argument("files", nargs="+", type=Path, metavar="FILE")
    audit.add_argument("--libraries", type=Path, metavar="TOOLS.toml", help="refuse libraries that are not as pinned")
    audit.add_argument("--json", action="store_true", help="print JSON, its form numbered by its key version")
    audit.set_defaults(run=_audit)
    running = commands.add_parser(
        "ps",
        help="list the packed programs that run on this machine",
        description="List the processes of packed programs on this machine. Who is not root sees only his own.",
    )
    running.add_argument("--json", action="store_true", help="print JSON, its form numbered by its key version")
    running.set_defaults(run=_ps)


def kept() -> Cache:
    """What was read of layers before."""
    from packer import cache, job

    return cache.Cache(job.cache() / "read")


def _print(value: Mapping[str, object]) -> None:
    print(json.dumps(value, indent=2, sort_keys=True))


def _audit(options: argparse.Namespace) -> int:
    if len(options.files) > 1 or options.libraries:
        return _compare(options.files, options.libraries, as_json=options.json)
    from packer import audit

    audited = audit.audit(options.files[0])
    if options.json:
        _print(audited)
    else:
        print(audit.text(audited))
    return 0


def _compare(files: Sequence[Path], pinned: Path | None, *, as_json: bool) -> int:
    from packer import agreement, libraries

    found = agreement.audit(files, libraries.read_pins(pinned) if pinned else {}, kept())
    for name in found["unmatched"]:
        print(f"packer: warning: {pinned}: {name}: there is no such library in any of them", file=sys.stderr)
    if as_json:
        _print(found)
    else:
        print(agreement.text(found, shutil.get_terminal_size().columns))
    return 1 if found["drift"] else 0


def contents(options: argparse.Namespace) -> int:
    """Run ``packer diff --contents``."""
    from packer import contents

    compared = contents.compare(options.old, options.new, kept())
    if options.json:
        _print(compared)
    else:
        print(contents.text(compared))
    return 0


def _ps(options: argparse.Namespace) -> int:
    from packer import running

    found = running.processes()
    if options.json:
        _print(running.as_json(found))
        return 0
    print(running.table(found))
    if found.hidden:
        print(f"packer: {running.unseen(found.hidden)}", file=sys.stderr)
    return 0
