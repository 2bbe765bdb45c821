"""The commands about described hosts: ``packer hosts``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer.hosts import Described, Python

EPILOG = """examples:
  packer hosts list                                            those that come with the packer, and your own
  packer explain ./http --host ubuntu-22.04                    what of an archive runs there
  packer hosts add builder --from-machine                      describe the machine this runs on
  docker export $(docker create debian:12) > debian.tar
  packer hosts add our-image --from-root debian.tar            describe what a container image has
  packer hosts add rescue --from-root /mnt/root --kernel 5.10 --cpu x86-64-v2
  packer hosts remove rescue                                   one of your own

Your own lie in $XDG_CONFIG_HOME/fatpar/hosts (~/.config/fatpar/hosts); docs/hosts.md tells how they are written.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them."""
    hosts = commands.add_parser(
        "hosts",
        help="show the hosts that are known by name, describe others",
        description="Show the described hosts that packer explain --host knows by name, and describe others.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = hosts.add_subparsers(title="commands", metavar="COMMAND", required=True)
    every = verbs.add_parser(
        "list", help="list them",
        description="List the hosts that are known by name. What has ? behind it was not looked up.",
    )  # fmt: skip
    every.set_defaults(run=_list)
    show = verbs.add_parser("show", help="print a description", description="Print the description of a host.")
    show.add_argument("name", metavar="NAME|FILE", help="a name that packer hosts list prints, or a file")
    show.set_defaults(run=_show)
    _add_add(verbs)
    remove = verbs.add_parser(
        "remove", help="remove one of your own", description="Remove a host of your own; one of the same name that "
        "comes with the packer is known again.",
    )  # fmt: skip
    remove.add_argument("name", metavar="NAME", help="what it is called")
    remove.set_defaults(run=_remove)
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="print JSON, its form numbered by its key version")


def _add_add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = verbs.add_parser(
        "add", help="describe a machine or a root filesystem",
        description="Write the description of a host, as the launcher's own code sees it. In a root filesystem that\n"
        "code runs as nobody; of the programs there it runs Pythons before 3.11, to ask for their version.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("name", metavar="NAME", help="what it is to be called")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--from-machine", action="store_true", help="describe the machine that this runs on")
    where.add_argument(
        "--from-root", type=Path, metavar="DIR|FILE",
        help="describe a root filesystem: its directory, a tar file of it, an image as docker save or skopeo write it",
    )  # fmt: skip
    command.add_argument(
        "--kernel", metavar="RELEASE", default="",
        help="of a root filesystem's host, as 5.10.0 (default: that of its modules, else this machine's)",
    )  # fmt: skip
    command.add_argument(
        "--cpu", metavar="LEVEL", help="of a root filesystem's host, as x86-64-v2 (default: this machine's)"
    )
    command.add_argument(
        "--library", action="append", default=[], dest="sonames", metavar="SONAME",
        help="look for this library besides those that policies name; may be repeated",
    )  # fmt: skip
    command.add_argument(
        "--static", action="store_true", help="the root filesystem may have nothing in it: static programs run there"
    )
    command.add_argument("--replace", action="store_true", help="describe again what is known by this name already")
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the file to write (default: NAME among your own hosts)"
    )
    command.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    command.set_defaults(run=_add)


def _list(options: argparse.Namespace) -> int:
    from packer import hosts

    known = hosts.every()
    if options.json:
        _print_json({"version": 1, "hosts": [_as_json(name, one) for name, one in known.items()]})
        return 0
    rows = [("name", "is", "machine", "C library", "Linux", "CPU", "Pythons")]
    rows += [(name, one.title, one.machine, *_cells(one)) for name, one in known.items()]
    _print_table(rows)
    return 0


def _cells(one: Described) -> tuple[str, str, str, str]:
    """Show what may be assumed; what is has ``?`` behind it."""
    signs = dict.fromkeys(one.assumed, "?")
    shown = ", ".join(f"{python(p)}{signs.get(f'{p.abi}.version', '')}" for p in one.pythons) or "none"
    return (
        libc(one) + signs.get("libc", ""), one.kernel + signs.get("kernel", ""), cpu(one) + signs.get("cpu", ""), shown,
    )  # fmt: skip


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    from packer import native

    shown = [[native.printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def libc(host: Described) -> str:
    """Name a host's C library: ``glibc 2.36``."""
    return "none" if host.family == "none" else f"{host.family} {host.libc[0]}.{host.libc[1]}"


def cpu(host: Described) -> str:
    """Name a host's CPU level: ``x86-64-v2``."""
    from packer import facts

    return next(one.name for one in facts.cpu_levels() if (one.arch, one.number) == (host.machine, host.cpu))


def pythons(host: Described) -> str:
    """Name a host's interpreters: ``cp311 3.11.2``."""
    return ", ".join(map(python, host.pythons)) or "none"


def python(one: Python) -> str:
    """Name an interpreter: ``cp311 3.11.2``."""
    return f"{one.abi} {'.'.join(map(str, one.version))}"


def _show(options: argparse.Namespace) -> int:
    from packer import hosts

    host = hosts.find(options.name)
    if options.json:
        _print_json({"version": 1, "host": _as_json(options.name, host)})
        return 0
    sys.stdout.write(hosts.place(options.name).read_text("utf-8"))
    return 0


def _as_json(name: str, host: Described) -> dict[str, Any]:
    from packer import hosts

    return {
        "name": name, "title": host.title, "file": str(hosts.place(name)), "machine": host.machine,
        "cpu": cpu(host), "kernel": host.kernel, "libc": libc(host),
        "libraries": {soname: list(nodes) for soname, nodes in host.libraries.items()},
        "pythons": [
            {
                "path": one.path, "abi": one.abi, "version": ".".join(map(str, one.version)),
                "lacks": list(one.lacks),
            } for one in host.pythons
        ],
        "also": list(host.also), "assumed": list(host.assumed),
    }  # fmt: skip


def _add(options: argparse.Namespace) -> int:
    from packer import files, hostread, hosts
    from packer.errors import UsageError

    name = options.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise UsageError(f"{name!r} cannot be a host's name", hint="letters, digits and . _ + - can stand in one")
    if options.from_machine and (options.kernel or options.cpu):
        raise UsageError("--kernel and --cpu are for --from-root: this machine tells its own")
    if options.from_machine and options.static:
        raise UsageError("--static is for --from-root: this machine has programs")
    if not options.output and not options.replace and name in hosts.named():
        known = hosts.named()[name]
        raise UsageError(
            f"there is a host {name} already: {known}",
            hint="--replace lets this one stand for it; or choose another name",
        )
    level = _level(options.cpu)
    output = options.output or hosts.folder() / f"{name}.toml"
    if not options.output:
        output.parent.mkdir(parents=True, exist_ok=True)
    files.refuse_unwritable(output)
    if options.from_machine:
        text = hostread.of_machine(name, options.sonames)
    else:
        text = hostread.of_root(
            name, options.from_root, kernel=options.kernel, cpu=level, more=options.sonames, bare=options.static
        )
    with files.replacing(output) as file:
        file.write(text.encode())
    _report(options, name, output)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from packer import hosts
    from packer.errors import PackError, UsageError

    path = hosts.own().get(options.name)
    if path is None:
        why = "it comes with the packer" if options.name in hosts.shipped() else "there is none"
        raise UsageError(f"no host of your own is called {options.name!r}: {why}")
    try:
        path.unlink()
    except OSError as error:
        raise PackError(f"cannot remove {path}: {error.strerror}") from error
    if options.json:
        _print_json({"version": 1, "removed": str(path)})
    else:
        print(f"removed {path}")
    return 0


def _level(name: str | None) -> int:
    from packer import facts
    from packer.errors import UsageError

    if name is None:
        return 0
    known = {one.name: one.number for one in facts.cpu_levels()}
    if name not in known:
        raise UsageError(f"--cpu: {name!r} is no CPU level", hint=f"known are {', '.join(known)}")
    return known[name]


def _report(options: argparse.Namespace, name: str, output: Path) -> None:
    from packer import hosts

    host = hosts.find(str(output))
    if host.assumed and not options.quiet:
        what = " and ".join({"cpu": "CPU", "kernel": "kernel"}[key] for key in host.assumed)
        named = " and ".join(f"--{key}" for key in host.assumed)
        print(
            f"packer: warning: {what} are taken from this machine, so that predictions may be too optimistic: "
            f"say {named}", file=sys.stderr,
        )  # fmt: skip
    if options.json:
        _print_json({"version": 1, "host": _as_json(name, host) | {"file": str(output)}})
        return
    if options.quiet:
        return
    if host.family == "none":
        print("packer: no C library was found there, so that only static programs run", file=sys.stderr)
    print(f"{output}: {host.title}, {libc(host)}, Linux {host.kernel}, {cpu(host)}, Python {pythons(host)}")


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, sort_keys=True))
