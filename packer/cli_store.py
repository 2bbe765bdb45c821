"""The commands that look after stores: ``packer install`` and ``packer store``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from packer.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Mapping, Sequence, Sized

    from packer.store import Contents, Limits


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them."""
    _add_install(commands)
    _add_store(commands)


def _add_install(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    install = commands.add_parser(
        "install",
        help="make an archive ready in a store before anybody starts it",
        description="Unpack the slice that fits this machine into a store, compile its modules and see to it that all "
        "of it is on disk: for images, and for machines that many users share. Launches prune no store of what was "
        "installed.",
    )
    install.add_argument("file", type=Path, metavar="FILE")
    install.add_argument(
        "--store", type=Path, metavar="DIR",
        help="where to; launches find one of another name by FATPAR_STORE (default: /var/lib/fatpar, the machine's)",
    )  # fmt: skip
    install.add_argument(
        "--allowed-signers", type=Path, metavar="FILE",
        help="install it only if one of those in this file has signed it, as packer verify does",
    )  # fmt: skip
    install.add_argument("--identity", metavar="NAME", help="only if it was this one of them")
    install.add_argument("--json", action="store_true", help="print what came of it as JSON")
    install.set_defaults(run=_install)


def _add_store(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    store = commands.add_parser(
        "store",
        help="look at stores, check them, make room in them",
        description="Look at the stores of this user and this machine, check them, make room in them.",
    )
    verbs = store.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run, text in (
        ("ls", _store_ls, "list the programs that were made ready, the one used last first"),
        ("du", _store_du, "list the layers, the largest first, and how many programs share each; and the launchers"),
        (
            "verify",
            _store_verify,
            "compute the digest of every layer and launcher, follow the links of every view; not of bytecode",
        ),
        (
            "repair",
            _store_repair,
            "remove what verify finds and what killed launches left; launches make it anew",
        ),
        ("prune", _store_prune, "remove what is beyond the limits; never what a program uses, or used within a day"),
        ("limits", _store_limits, "show what launches keep a store within, or set it"),
    ):
        verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        verb.add_argument(
            "--store", type=Path, metavar="DIR", help="this one (default: all that a launch would look into)"
        )
        verb.add_argument("--json", action="store_true", help="print JSON, its form numbered by its key version")
        verb.set_defaults(run=run)
        if name == "ls":
            verb.add_argument(
                "--libraries", action="store_true",
                help="list compiled libraries instead: each version that is there, and which programs use it",
            )  # fmt: skip
        if name in ("prune", "limits"):
            verb.add_argument("--size", metavar="SIZE", help="of all layers, as 5G (default: as limits shows)")
            verb.add_argument("--days", type=int, metavar="N", help="without use (default: as limits shows)")
        if name == "repair":
            verb.add_argument(
                "--bytecode", action="store_true",
                help="remove all bytecode, too, which has no digests: for a program that crashes or says EOFError",
            )  # fmt: skip
        if name == "prune":
            verb.add_argument("--installed", action="store_true", help="what packer install made ready, too")
            verb.add_argument("--dry-run", action="store_true", help="remove nothing, say what would be")


def _bases(options: argparse.Namespace, *, writable: bool) -> list[Path]:
    """The stores that a command is about; of those that nobody named, only what this user may look after."""
    from packer import store

    found = store.bases(options.store)
    if options.store or not writable:
        return found
    ours = [one for one in found if store.is_ours(one)]
    for one in found:
        if one not in ours:
            print(f"packer: {one} is not this user's: passed over", file=sys.stderr)
    return ours


def _print(value: Mapping[str, object]) -> None:
    print(json.dumps(value, indent=2, sort_keys=True))


def _install(options: argparse.Namespace) -> int:
    from packer import install, progress

    if options.identity and not options.allowed_signers:
        raise UsageError("--identity needs --allowed-signers", hint="packer verify --help says what is in that file")
    trust = install.Trust(options.allowed_signers, options.identity) if options.allowed_signers else None
    with progress.showing(quiet=options.json) as bar:
        made = install.install(options.file, options.store or install.SYSTEM_STORE, trust, bar)
    if options.json:
        _print({"version": 1, **vars(made), "store": str(made.store)})
    else:
        for warning in made.warnings:
            print(f"packer: warning: {warning}", file=sys.stderr)
        print(f"{options.file}: {made.slice} is ready in {made.store}, {_count(made.layers, 'layer')}")
    return 0


def _store_ls(options: argparse.Namespace) -> int:
    from packer import store
    from packer.native import printable

    found = [store.contents(base) for base in store.bases(options.store)]
    if options.libraries:
        return _store_libraries(found, as_json=options.json)
    if options.json:
        _print(store.as_json(found))
        return 0
    for one in found:
        print(f"{one.base}: {_count(one.views, 'program')}, {_count(one.layers, 'layer')}, {_total(one):,} bytes")
        sizes = {layer.digest: layer.size for layer in one.layers}
        for view in one.views:
            size = sum(sizes.get(digest, 0) for digest in view.layers)
            tools = ", ".join(view.tools[:3]) + (" ..." if len(view.tools) > 3 else "")
            names = f"{printable(tools)}  {printable(view.slice)}"
            print(f"  {_day(view.used)}  {size:>13,}  {names}{'  installed' if view.installed else ''}")
    return _no_store(found)


def _store_libraries(found: Sequence[Contents], *, as_json: bool) -> int:
    from packer import agreement, cli_libraries
    from packer.native import shown

    kept = cli_libraries.kept()
    said = [{"store": str(one.base), "libraries": agreement.in_store(one, kept)} for one in found]
    if as_json:
        _print({"version": 1, "stores": said})
        return 0
    for one in shown(said):
        print(f"{one['store']}: {_count(one['libraries'], 'version')} of libraries")
        for library in one["libraries"]:
            name = f"{library['library']} {library['version'] or 'unknown'}"
            tools = ", ".join(library["tools"]) or "no program"
            print(f"  {name:28}  {tools}  ({', '.join(library['sources'])})")
    return _no_store(found)


def _store_du(options: argparse.Namespace) -> int:
    from packer import store
    from packer.native import printable

    found = [store.contents(base) for base in store.bases(options.store)]
    if options.json:
        _print(store.as_json(found))
        return 0
    for one in found:
        print(f"{one.base}: {_total(one):,} bytes")
        for layer in one.layers:
            print(f"  {layer.size:>13,}  {len(layer.views):>3}  {printable(layer.name) or layer.digest}")
        for launcher in one.launchers:
            print(f"  {launcher.size:>13,}       launcher {launcher.digest[:16]}")
    return _no_store(found)


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _total(one: Contents) -> int:
    return sum(layer.size for layer in one.layers) + sum(launcher.size for launcher in one.launchers)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def _no_store(found: Collection[object]) -> int:
    if not found:
        print("packer: there is no store yet", file=sys.stderr)
    return 0


def _store_verify(options: argparse.Namespace) -> int:
    return _store_faults(options, repair=False)


def _store_repair(options: argparse.Namespace) -> int:
    return _store_faults(options, repair=True)


def _store_faults(options: argparse.Namespace, *, repair: bool) -> int:
    from packer import progress, store

    with progress.showing(quiet=options.json) as bar:
        found = {
            base: store.repair(base, bar, bytecode=options.bytecode) if repair else store.verify(base, bar)
            for base in _bases(options, writable=repair)
        }
    faults = [{"store": str(base), **vars(fault)} for base, some in found.items() for fault in some]
    if options.json:
        _print({"version": 1, "faults": faults})
    else:
        for one in faults:
            print(f"{one['store']}/v1/{one['kind']}/{one['name']}: {one['why']}{': removed' if repair else ''}")
        if not faults:
            said = "bytecode is removed" if repair and options.bytecode else "bytecode was not looked at"
            print("\n".join(f"{base}: all is as it was made; {said}" for base in found))
    return 1 if faults and not repair else _no_store(found)


def _store_prune(options: argparse.Namespace) -> int:
    from packer import store

    pruned = {}
    for base in _bases(options, writable=True):
        wanted = _limits(options, store.limits(base))
        pruned[base] = store.prune(base, wanted, installed=options.installed, dry=options.dry_run)
    if options.json:
        _print({"version": 1, "stores": [{"store": str(base), **vars(one)} for base, one in pruned.items()]})
        return 0
    for base, one in pruned.items():
        removed = f"{_count(one.views, 'program')} and {_count(one.layers, 'layer')}"
        if one.launchers:
            removed += f" and {_count(one.launchers, 'launcher')}"
        said = f"{removed}, {one.size:,} bytes"
        print(f"{base}: {'would remove' if options.dry_run else 'removed'} {said}")
    return _no_store(pruned)


def _store_limits(options: argparse.Namespace) -> int:
    from packer import store

    found = {}
    for base in _bases(options, writable=True):
        found[base] = _limits(options, store.limits(base))
        if options.size is not None or options.days is not None:
            store.set_limits(base, found[base])
    if options.json:
        _print({"version": 1, "stores": [{"store": str(base), **vars(one)} for base, one in found.items()]})
        return 0
    for base, one in found.items():
        print(f"{base}: {one.size:,} bytes, {one.days} days without use")
    return _no_store(found)


def _limits(options: argparse.Namespace, now: Limits) -> Limits:
    from packer import native, store

    if options.days is not None and options.days < 0:
        raise UsageError(f"not a number of days: {options.days}")
    most = native.lib().MOST_DAYS
    if options.days is not None and options.days > most:
        raise UsageError(f"too many days: {options.days}", hint=f"{most} are as good as never")
    size = now.size if options.size is None else store.size_of(options.size)
    return store.Limits(size, now.days if options.days is None else options.days)
