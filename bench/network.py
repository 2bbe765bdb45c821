"""What packed programs do when the network filesystem that they were started from goes away.

    sudo python bench/network.py

One program (``tests/support/survivor.py``) with one set of wheels is packed by every tool and started from an sshfs
mount. When it is up, the server is killed or frozen; then the program uses modules, native code, data, source, workers
and children that it has not used before. Needs root, sshfs and an sftp-server; tools that cannot be had are named.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Archive, Findings, machine, pack_fat, run, table, tell

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from support import netfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.table import Table

SURVIVOR = Path(netfs.__file__).with_name("survivor.py")
WHEELS = ("regex==2025.11.3", "markupsafe==3.0.3", "jinja2==3.1.6", "pygments==2.19.2", "certifi==2025.10.5")
IMPORTED = ("regex", "markupsafe", "jinja2", "pygments", "certifi")
PYTHON = "/usr/bin/python3"

USER = 4242
STALL = 15.0
"""Seconds without a new line after which a program hangs."""

CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


class AbsentError(Exception):
    """A tool that cannot be had here."""


# The tools' forms of the program ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where everything is made."""

    work: Path
    archive: Archive
    survivor: Path
    """The program as a wheel."""

    @property
    def served(self) -> Path:
        """What the server has."""
        return self.work / "served"

    @property
    def mount(self) -> Path:
        """Where it is mounted."""
        return self.work / "mount"

    @property
    def wheels(self) -> list[str]:
        """The program's and all others."""
        (wheels,) = self.archive.wheels.values()
        return [*map(str, wheels)]

    def venv(self, directory: Path, *more: str) -> Path:
        """An environment of these wheels."""
        run([PYTHON, "-m", "venv", "--without-pip", str(directory)])
        pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin/python"), "install", "--quiet"]
        run([*pip, "--no-index", "--no-deps", *self.wheels])
        if more:
            run([*pip, *more])
        return directory


@dataclass(frozen=True)
class Form:
    """How a program is started."""

    argv: tuple[str, ...]
    """What lies on the network filesystem is named as it is mounted."""
    image: Path | None = None
    """To be mounted by squashfuse first, at ``work/image``."""


def plain_venv(place: Place) -> Form:
    place.venv(place.served / "venv")
    return Form((str(place.mount / "venv/bin/python"), "-m", "survivor"))


def fatpar(place: Place) -> Form:
    shutil.copy(place.archive.path, place.served / "fatpar")
    return Form((str(place.mount / "fatpar"),))


def pex(*options: str) -> Callable[[Place], Form]:
    def make(place: Place) -> Form:
        name = "-".join(["pex", *(option.strip("-") for option in options)])
        words = [word for wheel in place.wheels for word in ("--pre-resolved-dist", wheel)]
        command = [str(tools(place, "pex") / "bin/pex"), "--no-index", "survivor", *IMPORTED, "-e", "survivor:main"]
        command += [*options, "--python", PYTHON, *words, "-o", str(place.served / name)]
        run(command, PEX_ROOT=str(place.work / "pex-build"))
        return Form((str(place.mount / name),))

    return make


def shiv(place: Place) -> Form:
    output = str(place.served / "shiv")
    command = [str(tools(place, "shiv", "pip", "setuptools") / "bin/shiv"), "--quiet", "-e", "survivor:main"]
    run([*command, "-p", PYTHON, "-o", output, "--no-deps", "--no-index", *place.wheels])
    return Form((str(place.mount / "shiv"),))


def zipapp(place: Place) -> Form:
    tree = place.work / "zipapp"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    run([*command, "--target", str(tree), *place.wheels])
    run(
        [
            PYTHON,
            "-m",
            "zipapp",
            str(tree),
            "-c",
            "-m",
            "survivor:main",
            "-p",
            PYTHON,
            "-o",
            str(place.served / "zipapp"),
        ]
    )
    return Form((str(place.mount / "zipapp"),))


def pyinstaller(kind: str) -> Callable[[Place], Form]:
    def make(place: Place) -> Form:
        if not shutil.which("objdump"):
            raise AbsentError("PyInstaller needs objdump, of Debian's binutils")
        environment = place.work / "pyinstaller"
        if not environment.exists():
            place.venv(environment, "pyinstaller")
        name = f"pyinstaller-{kind}"
        command = [str(environment / "bin/python"), "-m", "PyInstaller", f"--{kind}", "--log-level=ERROR"]
        command += ["--name", name, *(word for one in IMPORTED for word in ("--collect-all", one))]
        for option in ("work", "spec"):
            command += [f"--{option}path", str(place.work / f"{name}-{option}")]
        run([*command, "--distpath", str(place.served), str(SURVIVOR)])
        return Form((str(place.mount / name / (name if kind == "onedir" else "")),))

    return make


def squashfs(place: Place) -> Form:
    for name in ("mksquashfs", "squashfuse"):
        if not shutil.which(name):
            raise AbsentError(f"{name} is not installed")
    tree = place.venv(place.work / "tree")
    run(["mksquashfs", str(tree), str(place.served / "squashfs"), "-quiet", "-no-progress", "-comp", "zstd"])
    return Form((str(place.work / "image/bin/python"), "-m", "survivor"), place.mount / "squashfs")


def tools(place: Place, *requirements: str) -> Path:
    """A throw-away environment with a tool of the package index."""
    directory = place.work / f"tool-{requirements[0]}"
    if not directory.exists():
        run([PYTHON, "-m", "venv", "--without-pip", str(directory)])
        run([sys.executable, "-m", "pip", "--python", str(directory / "bin/python"), "install", "-q", *requirements])
    return directory


FORMS: dict[str, Callable[[Place], Form]] = {
    "venv": plain_venv,
    "fatpar": fatpar,
    "pex": pex(),
    "pex --venv": pex("--venv"),
    "shiv": shiv,
    "zipapp": zipapp,
    "PyInstaller onefile": pyinstaller("onefile"),
    "PyInstaller onedir": pyinstaller("onedir"),
    "squashfuse": squashfs,
}


def write_wheel(directory: Path) -> Path:
    """Make the wheel of the program."""
    files = {
        "survivor.py": SURVIVOR.read_text(),
        "survivor-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: survivor\nVersion: 1\n",
        "survivor-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "survivor-1.dist-info/RECORD"
    wheel = directory / "survivor-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(record, "".join(f"{name},,\n" for name in (*files, record)))
    return wheel


# A run ----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How far a program came."""

    steps: dict[str, str] = field(default_factory=dict)
    """Step -> ``ok`` and its result, or its error; empty if it never ended."""
    status: int | None = None
    """None: it hung."""
    stderr: str = ""

    def told(self, line: str) -> None:
        """Take a line of its output."""
        name, _, rest = line.rstrip("\n").partition(" ")
        self.steps[name] = "" if rest == "..." else rest

    def json(self) -> dict[str, Any]:
        """All of it, but for the whole of stderr."""
        return {"steps": self.steps, "status": self.status, "stderr": self.stderr[-400:]}


class Memory:
    """A group of processes whose cached file pages can be taken away, as a machine that is short of memory does."""

    def __init__(self) -> None:
        self.path = next((one for one in CGROUPS if (one / "cgroup.procs").exists()), None)
        if self.path:
            self.path = Path(tempfile.mkdtemp(prefix="bench-network-", dir=self.path))

    def command(self, words: Sequence[str]) -> list[str]:
        """A command line that enters the group first."""
        if not self.path:
            return [*words]
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.path / "cgroup.procs"), *words]

    def drop(self) -> bool:
        """Take them; tells whether that is possible here."""
        for name, text in (("memory.force_empty", "0"), ("memory.reclaim", "1G")):
            if self.path and (self.path / name).exists():
                with suppress(OSError):  # some pages cannot be taken
                    (self.path / name).write_text(text)
                return True
        return False

    def close(self) -> None:
        """Remove the group, once its processes have ended."""
        for _ in range(50):
            if not self.path or not self.path.exists():
                return
            with suppress(OSError):
                self.path.rmdir()
            time.sleep(0.1)


LOSSES: dict[str, Callable[[netfs.NetworkFilesystem], None]] = {
    "well": lambda net: None,
    "killed": lambda net: net.kill(),
    "frozen": lambda net: net.freeze(),
}


def run_once(place: Place, form: Form, loss: str, *, dropped: bool) -> Outcome:
    """A first launch, in a home of its own.

    :param dropped: whether what the kernel has cached for the program is taken away at the same time.
    """
    memory, outcome = Memory(), Outcome()
    home = Path(tempfile.mkdtemp(prefix="home-", dir=place.work))
    os.chown(home, USER, USER)
    try:
        with ExitStack() as stack:
            net = stack.enter_context(netfs.mounted(place.served, place.mount))
            if form.image:
                stack.enter_context(image(form.image, place.work / "image", memory))
            words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *form.argv]
            environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
            with (home / "stderr").open("w+b") as stderr:
                process = subprocess.Popen(
                    memory.command(words), cwd=home, env=environment, text=True, start_new_session=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                )  # fmt: skip
                try:
                    follow(process, outcome, lambda: lose(net, memory, loss, dropped=dropped))
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    net.client.kill()
                    process.wait(30)
                stderr.seek(0)
                outcome.stderr = stderr.read().decode(errors="replace")
    finally:
        memory.close()
    if outcome.status is not None and outcome.status >= 0:
        shown = 'raise RuntimeError("the end")' in outcome.stderr
        outcome.steps["traceback"] = "ok" if shown else (outcome.stderr.strip().splitlines() or ["nothing"])[-1]
    return outcome


def lose(net: netfs.NetworkFilesystem, memory: Memory, loss: str, *, dropped: bool) -> None:
    if dropped and not memory.drop():
        raise AbsentError("no memory cgroup")
    LOSSES[loss](net)


@contextmanager
def image(path: Path, mount: Path, memory: Memory) -> Iterator[None]:
    """Have a squashfs image mounted."""
    mount.mkdir(exist_ok=True)
    command = memory.command(["squashfuse", "-f", "-o", "allow_other", str(path), str(mount)])
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            while not os.path.ismount(mount):
                if server.poll() is not None:
                    raise AbsentError("squashfuse does not mount")
                time.sleep(0.01)
            yield
        finally:
            server.kill()
            subprocess.run(["umount", "--lazy", str(mount)], check=False)


def follow(process: subprocess.Popen[str], outcome: Outcome, at_up: Callable[[], None]) -> None:
    """Read what a program says until it ends or stalls."""
    assert process.stdin
    assert process.stdout
    lines, ended = process.stdout, threading.Event()
    heard = [time.monotonic()]
    up = threading.Event()

    def read() -> None:
        for line in lines:
            heard[0] = time.monotonic()
            if line.startswith("up "):
                up.set()
            else:
                outcome.told(line)
        ended.set()
        up.set()

    threading.Thread(target=read, daemon=True).start()
    if not up.wait(60) or ended.is_set():
        outcome.status = process.poll()
        return
    at_up()
    heard[0] = time.monotonic()
    with suppress(BrokenPipeError):
        process.stdin.write("\n")
        process.stdin.flush()
    while time.monotonic() - heard[0] < STALL:
        if ended.wait(0.1):
            with suppress(subprocess.TimeoutExpired):
                outcome.status = process.wait(5)
            return


# What it came to ------------------------------------------------------------------------------------------------


def verdict(found: Outcome, wanted: Outcome) -> str:
    """In a few words: what is otherwise than it should be.

    :param wanted: the program's outcome where nothing is lost.
    """
    wrong = [step for step, result in wanted.steps.items() if found.steps.get(step, "") and found.steps[step] != result]
    ended = "at its end" if found.steps else "at its start"
    stopped = next((f"in {step}" for step, result in found.steps.items() if not result), ended)
    said = f"{', '.join(wrong) if len(wrong) < 4 else len(wrong)} fail" if wrong else ""
    if found.status is None:
        return ", ".join(filter(None, (said, f"hangs {stopped}")))
    if found.status in (-signal.SIGBUS, -signal.SIGSEGV, 128 + signal.SIGBUS, 128 + signal.SIGSEGV):
        number = -found.status if found.status < 0 else found.status - 128
        return ", ".join(filter(None, (said, f"{signal.Signals(number).name} {stopped}")))
    if not said and (found.status != wanted.status or found.steps.keys() != wanted.steps.keys()):
        return f"ends with {found.status} {stopped}"
    return said or "works"


def first_error(found: Outcome, wanted: Outcome) -> str:
    """The first step that is otherwise, and what it said."""
    for step, result in found.steps.items():
        if result and result != wanted.steps.get(step):
            return f"{step}: {re.sub(r'/[^ ]*/', '', result)[:90]}"
    return ""


CASES = (("killed", False), ("killed", True), ("frozen", False), ("frozen", True))


def measure(work: Path, only: Sequence[str], *, quiet: bool) -> Findings:
    """Make all forms and run them."""
    work.chmod(0o755)
    for name in ("served", "mount"):
        (work / name).mkdir()
    survivor = write_wheel(work)
    abi = run([PYTHON, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])"]).strip()
    archive = pack_fat(work / "packed", [str(survivor), *WHEELS], abi, entry="survivor:main")
    place, found = Place(work, archive, survivor), Findings({"wheels": list(WHEELS)}, quiet)
    results: dict[str, dict[str, Any]] = {}
    cells: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    truth: Outcome | None = None
    for name, make in FORMS.items():
        if only and name not in only:
            continue
        try:
            form = make(place)
            well = run_once(place, form, "well", dropped=False)
            truth = truth or well
            if not all(result.startswith("ok") for result in truth.steps.values()) or len(truth.steps) < 10:
                raise RuntimeError(f"the program does not work where nothing is lost: {truth}")
            cells[name] = [verdict(well, truth)]
            results[name] = {"well": {"verdict": cells[name][0], **well.json()}}
            for loss, dropped in CASES:
                outcome = run_once(place, form, loss, dropped=dropped)
                cells[name].append(verdict(outcome, well))
                case = f"{loss}, memory dropped" if dropped else loss
                results[name][case] = {"verdict": cells[name][-1], **outcome.json()}
                print(f"{name}, {case}: {cells[name][-1]}", file=sys.stderr)
                errors[name] = errors.get(name) or first_error(outcome, well)
        except (AbsentError, SystemExit) as error:
            cells[name] = [f"absent: {str(error).splitlines()[-1][:60]}", "", "", "", ""]
            results[name] = {"absent": str(error)}
    found.add("forms", results, show_cells(cells), show_errors(errors))
    return found


def show_cells(cells: Mapping[str, Sequence[str]]) -> Table:
    """A row per tool."""
    columns = ["well", "killed", "killed, dropped", "frozen", "frozen, dropped"]
    title = "what the program does when its server is killed or frozen, and its cached memory dropped, after it is up"
    shown = table(title, "packed by", *columns)
    for name, row in cells.items():
        shown.add_row(name, *row)
    return shown


def show_errors(errors: Mapping[str, str]) -> Table:
    """What the user sees."""
    shown = table("the first error", "packed by", "step and error")
    for name, error in errors.items():
        shown.add_row(name, error)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("only", nargs="*", metavar="TOOL", help=f"of {', '.join(FORMS)} (default: all)")
    parser.add_argument("--directory", type=Path, default=Path("build"), help="where all is made (default: build)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    reason = netfs.missing()
    if reason:
        sys.exit(f"no network filesystem can be mounted: {reason}")
    before = machine()
    options.directory.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=options.directory.resolve()))
    try:
        found = measure(work, options.only, quiet=options.json)
        tell(found.values, [], before, as_json=options.json)
    finally:
        run(["chmod", "-R", "u+w", str(work)])
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
