"""The command line. Only the files cli*.py print, and only :func:`main` decides the exit status."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packer
from packer import cli_hosts, cli_libraries, cli_lock, cli_matrix, cli_profile, cli_store
from packer.errors import PackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from packer.config import Config
    from packer.pack import Packed

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
        with _ended_by_signals():
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


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let other signals end the block as Ctrl-C does, so that it can clean up, which no further one disturbs."""

    def end(number: int, _frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {one: signal.getsignal(one) for one in numbers if signal.getsignal(one) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    _add_fat(commands)
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
    cli_store.add(commands)
    cli_profile.add(commands)
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


def _add_fat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fat = commands.add_parser(
        "fat",
        help="pack a program",
        description="Pack a program: requirements, a project directory or a script go in, one executable file comes\n"
        "out. Without any, the project in the working directory is packed. All options but --timeout, --json and\n"
        "--quiet can stand in [tool.packer] of its pyproject.toml, under the same names.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fat.set_defaults(run=_fat)
    _add_what(fat)
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
    out = fat.add_argument_group("output")
    out.add_argument("-o", "--output", type=Path, metavar="OUT", help="the file to write (default: the tool's name)")
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
    effort = out.add_mutually_exclusive_group()
    effort.add_argument(
        "--fast", action="store_true", default=None, help="compress less: quick to pack, about a third larger"
    )
    effort.add_argument(
        "--small", action="store_true", default=None, help="compress as much as can be: takes longer, a little smaller"
    )
    out.add_argument("--json", action="store_true", help="print what came of it as JSON")
    out.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def _add_what(fat: argparse.ArgumentParser) -> None:
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


def seconds(text: str) -> float:
    """Read a number of seconds; for argparse."""
    with contextlib.suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")


def _fat(options: argparse.Namespace) -> int:
    from packer import pack, progress
    from packer.job import job_of

    job, notes = job_of(config_of(options), options.timeout)
    if not options.quiet:
        for note in notes:
            print(f"packer: {note}", file=sys.stderr)
    with progress.showing(quiet=options.quiet) as bar:
        packed = pack.pack(job, bar)
    _report(options, packed)
    return 0


def config_of(options: argparse.Namespace) -> Config:
    """Give what the command line says and, where it names nothing to pack or one project, what the project says."""
    from packer.config import Config, merge, read
    from packer.job import project_of

    said: dict[str, Any] = {field.name: getattr(options, field.name, None) for field in fields(Config)}
    lists = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
    spoken = Config(**{name: value for name, value in said.items() if value is not None} | lists)
    if spoken.requirement or len(spoken.inputs) > 1:
        return spoken
    project = project_of(spoken.inputs[0]) if spoken.inputs else Path()
    written = read(project) if project else None
    if written is None:
        return spoken
    if not spoken.inputs and not written.inputs:
        written = replace(written, inputs=(str(project),))
    return merge(spoken, written)


def _report(options: argparse.Namespace, packed: Packed) -> None:
    from packer.inspect import describe

    if options.json:
        _print_json(describe(packed.written.path))
        return
    if options.quiet:
        return
    for note in packed.notes:
        print(f"packer: {note}", file=sys.stderr)
    for warning in packed.warnings:
        print(f"packer: warning: {warning}", file=sys.stderr)
    slices = ", ".join(one.name for one in packed.slices)
    print(f"{packed.written.path}: {packed.written.size:,} bytes for {slices}")


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
