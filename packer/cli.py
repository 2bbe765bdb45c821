"""The command line. Only the files cli*.py print, and only :func:`main` decides the exit status."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packer
from packer import (
    cli_fat,
    cli_hosts,
    cli_libraries,
    cli_lock,
    cli_matrix,
    cli_profile,
    cli_run,
    cli_sbom,
    cli_store,
    signals,
)
from packer.errors import PackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


EPILOG = """examples:
  packer fat httpie --abis manylinux2014,cp39,cp311,cp313      one file, three Pythons
  packer fat . -c mytool                                       the project in this directory
  packer fat script.py -r requirements.txt --abis cp39,cp313   a program of one file
  packer explain ./http                                        what would run here, and why

exit status: 0 done, 1 could not be done, 2 wrong usage, 128 + number of the signal that ended it: 130 interrupted
"""

SIGNERS = """SIGNERS is a file of allowed signers as ssh-keygen(1) and git know it, a name and a public key per line:

  release@example.com namespaces="fatpar" ssh-ed25519 AAAA...

example:
  ssh-keygen -t ed25519 -f release-key
  echo "release@example.com namespaces=\\"fatpar\\" $(cat release-key.pub)" > signers
  packer sign mytool --key release-key
  packer verify mytool --allowed-signers signers --identity release@example.com
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with signals.ending():
            options = _parse(arguments)
            status: int = options.run(options)
            print(end="", flush=True)
            return status
    except PackError as error:
        _complain(str(error), error.hint)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as interrupt:
        number = signal.Signals(interrupt.args[0] if interrupt.args else signal.SIGINT)
        _complain("interrupted" if number == signal.SIGINT else f"ended by {number.name}")
        return 128 + number
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the machine's doing, as a full disk
            where = f"{error.filename}: " if error.filename is not None else ""
            _complain(f"{where}{error.strerror or error}")
        _forget_output()
        return 1


def _forget_output() -> None:
    """Let what cannot be written now not be tried again at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _complain(message: str, hint: str = "") -> None:
    for line in (f"{message}\nhint: {hint}" if hint else message).splitlines():
        print(f"packer: {line}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; argparse by itself takes no inputs behind options when there are some before them."""
    parser = _parser()
    arguments, own = cli_profile.split(sys.argv[1:] if arguments is None else arguments)
    options, more = parser.parse_known_args(arguments)
    if "inputs" not in options or any(word.startswith("-") for word in more):
        parser.parse_args(arguments)
    elif more:
        options.inputs += more
    if own is not None:
        options.arguments = own
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="packer",
        description="Pack a Python program for many Pythons and Linux hosts into one executable file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"packer (fatpar) {packer.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    cli_fat.add(commands)
    cli_lock.add(commands)
    for name, run, text in (
        ("inspect", _inspect, "show what is in an archive"),
        ("verify", _verify, "check every digest of an archive, and who signed it"),
        ("extract", _extract, "unpack an archive for people to look at"),
        ("explain", _explain, "say which slice runs on a host, and why the others do not"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("file", type=Path, metavar="FILE")
        command.set_defaults(run=run)
        if name == "extract":
            command.add_argument("directory", type=Path, metavar="DIR", help="must not exist")
        if name == "explain":
            command.add_argument(
                "--host", metavar="NAME|FILE", help="a described host: see packer hosts list (default: this machine)"
            )
        if name == "inspect":
            command.add_argument(
                "--sizes", action="store_true", help="show where its bytes are: in slices, layers, files"
            )
            command.add_argument("--html", type=Path, metavar="OUT", help="write a page that shows where its bytes are")
        if name == "verify":
            _add_signers(command)
        if name in ("inspect", "verify", "explain"):
            command.add_argument("--json", action="store_true", help="print JSON, its form numbered by its key version")
    _add_sign(commands)
    _add_patches(commands)
    _add_runtime(commands)
    cli_libraries.add(commands)
    cli_sbom.add(commands)
    cli_store.add(commands)
    cli_profile.add(commands)
    cli_run.add(commands)
    cli_hosts.add(commands)
    cli_matrix.add(commands)
    return parser


def _add_signers(verify: argparse.ArgumentParser) -> None:
    verify.formatter_class = argparse.RawDescriptionHelpFormatter
    verify.epilog = SIGNERS
    verify.add_argument(
        "--allowed-signers", type=Path, metavar="SIGNERS",
        help="refuse the archive unless somebody in this file signed it, every byte",
    )  # fmt: skip
    verify.add_argument("--identity", metavar="NAME", help="who of them must have (default: any)")
    verify.add_argument(
        "--require-signature", action="store_true",
        help="refuse an archive that is not signed; takes --allowed-signers, which alone does the same",
    )  # fmt: skip


def _add_sign(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "sign an archive with an SSH key"
    command = commands.add_parser(
        "sign", help=text, description=f"{text[0].upper()}{text[1:]}. OpenSSH does the work: it asks for passphrases, "
        "and knows agents, certificates\nand keys in hardware.",
        epilog=SIGNERS, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("file", type=Path, metavar="FILE")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--key", type=Path, metavar="KEY", help="a private key, or a public one whose private one is in an agent"
    )
    what.add_argument(
        "--remove", action="store_true", help="take the signature away: what is left is the archive as it was packed"
    )
    command.add_argument("--replace", action="store_true", help="sign again what is signed already")
    command.add_argument("-o", "--output", type=Path, metavar="OUT", help="the file to write (default: FILE itself)")
    command.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    command.add_argument("--json", action="store_true", help="print what came of it as JSON")
    command.set_defaults(run=_sign)


def _add_runtime(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    runtime = commands.add_parser(
        "runtime",
        help="capture interpreters for archives to carry",
        description="Capture interpreters for archives to carry: packer fat --bundle takes them.",
    )
    verbs = runtime.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = verbs.add_parser("add", help="capture one", description="Capture an interpreter.")
    add.add_argument(
        "source", type=Path, metavar="SOURCE",
        help="an executable, a prefix as pyenv and uv make them, or an archive of python-build-standalone",
    )  # fmt: skip
    add.set_defaults(run=_runtime_add)
    every = verbs.add_parser("list", help="list those that were added", description="List those that were added.")
    every.set_defaults(run=_runtime_list)
    show = verbs.add_parser("show", help="say what one consists of and needs", description="Say what one consists of.")
    show.add_argument("name", metavar="TAG|SOURCE", help="Python ABI tag of what was added, or what add takes")
    show.set_defaults(run=_runtime_show)
    for verb in (add, every, show):
        verb.add_argument("--json", action="store_true", help="print JSON, its form numbered by its key version")


def _add_patches(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, run, inputs, out, text in (
        ("diff", _diff, ("OLD", "NEW"), "PATCH", "write what makes one archive from another"),
        ("patch", _patch, ("OLD", "PATCH"), "NEW", "make an archive from an older one and a patch"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for word in inputs:
            command.add_argument(word.lower(), type=Path, metavar=word)
        write: argparse._ActionsContainer = command
        if name == "diff":
            write = command.add_mutually_exclusive_group(required=True)
            write.add_argument(
                "--contents", action="store_true",
                help="write nothing; say what came, went or has another version: distributions, compiled libraries, "
                "interpreters, slices, tools",
            )  # fmt: skip
        write.add_argument("-o", "--output", type=Path, metavar=out, required=name == "patch", help="the file to write")
        command.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
        command.add_argument("--json", action="store_true", help="print what came of it as JSON")
        command.set_defaults(run=run)


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, sort_keys=True))


def _inspect(options: argparse.Namespace) -> int:
    from packer import inspect, sizes, sizes_html, sizes_text

    found = sizes.measure(options.file) if options.sizes or options.html else None
    if found and options.html:
        sizes_html.write(options.html, options.file, found)
    if options.json:
        more = {"sizes": sizes_text.as_json(found)} if found and options.sizes else {}
        _print_json(inspect.describe(options.file) | more)
    elif found and options.sizes:
        print(f"{options.file}: {found.total:,} bytes\n\n{sizes_text.table(found)}")
    elif not options.html:
        print(inspect.table(inspect.describe(options.file)))
    return 0


def _runtime_add(options: argparse.Namespace) -> int:
    from packer import job, progress, runtimes

    with progress.showing(quiet=options.json) as bar:
        bar.say(f"capturing {options.source}")
        captured = runtimes.add(options.source, job.cache())
    return _tell_runtime(options, [runtimes.describe(captured, str(options.source))])


def _runtime_list(options: argparse.Namespace) -> int:
    from packer import job, runtimes

    found = [runtimes.describe(captured, source) for captured, source in runtimes.added(job.cache())]
    if options.json:
        _print_json({"version": 1, "runtimes": found})
    elif not found:
        print("packer: none was added; packer fat --bundle takes what is on this machine", file=sys.stderr)
    for one in () if options.json else found:
        print(f"{one['tag']:8} {one['python']:8} {one['size']:>12,}  {one['source']}")
    return 0


def _runtime_show(options: argparse.Namespace) -> int:
    from packer import job, runtimes

    found = runtimes.named(options.name, job.cache())
    return _tell_runtime(options, [runtimes.describe(captured, source) for captured, source in found])


def _tell_runtime(options: argparse.Namespace, described: Sequence[Mapping[str, Any]]) -> int:
    from packer import runtimes

    if options.json:
        _print_json({"version": 1, "runtimes": described})
    else:
        print("\n\n".join(map(runtimes.text, described)))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from packer import inspect

    if options.allowed_signers is None and (options.require_signature or options.identity is not None):
        word = "--require-signature" if options.require_signature else "--identity"
        raise UsageError(
            f"{word} takes --allowed-signers: who may sign is for you to say",
            hint='it is a file with a line for each: NAME namespaces="fatpar" PUBLIC KEY; see packer verify --help',
        )
    found = inspect.verified(options.file, options.allowed_signers, options.identity)
    if options.json:
        _print_json(inspect.verified_json(options.file, found))
        return 0
    print(f"{options.file}: {found.blobs} blobs and {found.layers} layers are as they were packed")
    if found.signer and found.signer.identity:
        print(f"{options.file}: signed by {found.signer}")
    elif found.signer and found.checked:
        print(f"{options.file}: signed by {found.signer}, for which nobody vouched: see --allowed-signers")
    elif found.signer:
        said = f"{options.file}: signed by {found.signer}, as it says: no ssh-keygen is there to check it"
        print(f"packer: warning: {said}", file=sys.stderr)
    return 0


def _sign(options: argparse.Namespace) -> int:
    from packer import signature

    if options.remove:
        signed = signature.remove(options.file, options.output)
    else:
        signed = signature.sign(options.file, options.key, options.output, again=options.replace)
    if options.json:
        _print_json(signature.signed_json(signed))
    elif not options.quiet:
        print(
            f"{signed.path}: {signed.size:,} bytes, {f'signed by {signed.signer}' if signed.signer else 'not signed'}"
        )
    return 0


def _extract(options: argparse.Namespace) -> int:
    from packer import inspect

    inspect.extract(options.file, options.directory)
    return 0


def _explain(options: argparse.Namespace) -> int:
    from packer import explain

    judged = explain.judge(options.file, options.host)
    if options.json:
        _print_json(judged.json)
    else:
        print(judged.text, end="")
    return 0 if judged.fits else 1


def _diff(options: argparse.Namespace) -> int:
    if options.contents:
        return cli_libraries.contents(options)
    from packer import diff, progress

    with progress.showing(quiet=options.quiet) as bar:
        made = diff.diff(options.old, options.new, options.output, bar)
    if options.json:
        _print_json(made)
    elif not options.quiet:
        print(f"{options.output}: {made['size']:,} bytes for {options.new}, {made['new_size']:,} bytes")
    return 0


def _patch(options: argparse.Namespace) -> int:
    from packer import patch, progress

    with progress.showing(quiet=options.quiet) as bar:
        made = patch.apply(options.old, options.patch, options.output, bar)
    if options.json:
        _print_json({"version": 1, "file": str(made.path), "size": made.size, "id": made.archive_id})
    elif not options.quiet:
        print(f"{options.output}: {made.size:,} bytes, archive {made.archive_id}")
    return 0
