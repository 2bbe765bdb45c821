"""How long programs take to start under Python 3.15 with lazy imports, against a venv of the same wheels.

All are run in turn in one root filesystem, through chroot(8), by its interpreter: the venv's command as it is and with
``-X lazy_imports=all``, and the packed program without lazy imports, with those that a profile was checked with, and
with all. Second launches, files in the page cache. Needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pip
from measure import Archive, Command, Findings, alternate, machine, pack_fat, run, table, tell, time_once

from packer import profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from measure import Times
    from rich.table import Table

INSIDE = "mnt"
"""Where, in the root filesystem, everything is."""

CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot"

SUM = "import pandas\n\nprint(pandas.__version__, pandas.DataFrame({'a': [1, 2]})['a'].sum())\n"


@dataclass(frozen=True)
class Program:
    """A program, and a run of it."""

    name: str
    requirements: tuple[str, ...]
    command: str
    """One that its wheels install; of a program of one file its name."""
    arguments: tuple[str, ...] = ()
    script: str = ""
    """Text of a program of one file."""
    platform: str = "manylinux2014"


PROGRAMS = (
    Program("http", ("httpie",), "http", ("--version",)),
    Program("http-offline", ("httpie",), "http", ("--offline", "GET", "http://localhost/x", "a==b")),
    Program("pandas", ("pandas",), "use-pandas", (), SUM, "manylinux_2_28"),
    Program("sphinx-build", ("sphinx",), "sphinx-build", ("--version",)),
)


@dataclass(frozen=True)
class Place:
    """Where everything is made and run."""

    root: Path
    work: Path
    """It is the root filesystem's ``/mnt``."""
    abi: str

    @property
    def python(self) -> str:
        """The interpreter's name in the root filesystem."""
        return f"/usr/bin/python3.{self.abi[3:]}"

    def command(self, *words: str) -> Command:
        """Run a program inside."""
        given = {"HOME": f"/{INSIDE}/home", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        given["FATPAR_STORE"] = f"/{INSIDE}/store"
        return Command((CHROOT, str(self.root), *words), given)

    def said(self, *words: str) -> str:
        """Run a program inside that has to succeed; what it prints."""
        command = self.command(*words)
        done = subprocess.run(command.argv, env=command.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command.argv)}\n{done.stdout}{done.stderr}failed with {done.returncode}")
        return done.stdout


def forms(program: Program, place: Place, checked: Path | None) -> dict[str, tuple[str, ...]]:
    """Make a program's forms: their command lines inside."""
    directory = place.work / program.name
    directory.mkdir()
    inputs = list(program.requirements)
    source = directory / f"{program.command}.py"
    if program.script:
        source.write_text(program.script)
        inputs.insert(0, str(source))
    command = program.command
    modes = ["off", "all", *(["profile"] if checked else [])]
    made = {
        mode: pack_fat(
            directory / f"{program.name}-{mode}", inputs, place.abi, script=None if program.script else command,
            platforms=program.platform, lazy_imports=mode, profile=checked if mode == "profile" else None, fast=True,
        )
        for mode in modes
    }  # fmt: skip
    own = make_venv(directory, made["off"], place)
    start = f"/{INSIDE}/{program.name}/{source.name}" if program.script else f"{own}/bin/{command}"
    plain = {
        "venv": (f"{own}/bin/python", start),
        "venv, -X lazy_imports=all": (f"{own}/bin/python", "-X", "lazy_imports=all", start),
    }
    packed = {
        f"fatpar, --lazy-imports {mode}": (f"/{INSIDE}/{program.name}/{archive.path.name}",)
        for mode, archive in made.items()
    }
    return {name: (*words, *program.arguments) for name, words in {**plain, **packed}.items()}


def make_venv(directory: Path, archive: Archive, place: Place) -> str:
    """Make a virtual environment with an archive's wheels, installed and compiled by pip; its path inside."""
    inside = f"/{INSIDE}/{directory.name}"
    wheels = directory / "wheels"
    wheels.mkdir()
    for wheel in archive.wheels[place.abi]:
        shutil.copy(wheel, wheels)
    place.said(place.python, "-m", "venv", "--without-pip", f"{inside}/venv")
    files = [f"{inside}/wheels/{wheel.name}" for wheel in sorted(wheels.iterdir())]
    start = (
        f"import sys; sys.path.insert(0, '/{INSIDE}/pip'); from pip._internal.cli.main import main; sys.exit(main())"
    )
    place.said(f"{inside}/venv/bin/python", "-c", start, "install", "-q", "--no-index", "--no-deps", *files)
    return f"{inside}/venv"


def show(program: Program, times: Mapping[str, Times]) -> Table:
    """A row per form."""
    title = f"{' '.join((program.name, *program.arguments))}: milliseconds, median (least)"
    shown = table(title, "", "wall", "CPU", "wall / venv's", "CPU / venv's")
    wall, cpu = (statistics.median(values) for values in (times["venv"].wall, times["venv"].cpu))
    for name, one in times.items():
        ratios = (statistics.median(one.wall) / wall, statistics.median(one.cpu) / cpu)
        shown.add_row(name, _ms(one.wall), _ms(one.cpu), *(f"{ratio:.2f}" for ratio in ratios))
    return shown


def _ms(seconds: tuple[float, ...]) -> str:
    return f"{statistics.median(seconds) * 1e3:.1f} ({min(seconds) * 1e3:.1f})"


def measure(
    programs: Sequence[Program], place: Place, profiles: Mapping[str, Path], runs: int, *, quiet: bool
) -> Findings:
    """Make everything and time it."""
    (place.work / "home").mkdir()
    shutil.copytree(Path(pip.__file__).parent, place.work / "pip/pip")
    found = Findings({"python": place.said(place.python, "-VV").strip()}, quiet)
    for program in programs:
        commands = forms(program, place, profiles.get(program.name))
        said = {name: place.said(*words) for name, words in commands.items()}
        if len(set(said.values())) > 1:
            sys.exit(f"{program.name} says different things: {said}")
        ready = {name: place.command(*words) for name, words in commands.items()}
        for command in ready.values():
            time_once(command)
        times = alternate({name: partial(_same, command) for name, command in ready.items()}, runs)
        found.add(program.name, {name: one.json() for name, one in times.items()}, show(program, times))
    return found


def _same(command: Command, _: int) -> Command:
    return command


def _profile(word: str) -> tuple[str, Path]:
    name, _, path = word.partition("=")
    if name not in {program.name for program in PROGRAMS} or not path:
        raise argparse.ArgumentTypeError(f"not PROGRAM=PROFILE.json: {word!r}")
    profile.read(Path(path))
    return name, Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="a root filesystem with Python 3.15")
    parser.add_argument("--abi", default="cp315", help="Python ABI tag (default: cp315)")
    parser.add_argument("--runs", type=int, default=20, help="launches per form (default: 20)")
    parser.add_argument(
        "--profile", action="append", default=[], type=_profile, metavar="PROGRAM=PROFILE.json",
        help="what packer profile --check wrote for a program; may be repeated",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    parser.add_argument("program", nargs="*", choices=[[], *(program.name for program in PROGRAMS)])
    options = parser.parse_args()
    if "FATPAR_BENCH_MOUNTS" not in os.environ:  # mounts of our own, which end with us
        words = ["unshare", "--mount", "--", sys.executable, *sys.argv]
        os.execvpe(words[0], words, {**os.environ, "FATPAR_BENCH_MOUNTS": "1"})
    before = machine()
    programs = [program for program in PROGRAMS if program.name in (options.program or {program.name})]
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        root = options.root.resolve()
        os.chmod(work, 0o755)
        run(["mount", "--bind", work, str(root / INSIDE)])
        for name in ("proc", "dev"):
            run(["mount", "--rbind", f"/{name}", str(root / name)])
        place = Place(root, Path(work), options.abi)
        found = measure(programs, place, dict(options.profile), options.runs, quiet=options.json)
        run(["umount", str(root / INSIDE)])
    tell(found.values, [], before, as_json=options.json)


if __name__ == "__main__":
    main()
