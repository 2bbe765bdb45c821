"""What first launches of packed programs leave when they are killed, when the disk is full, and when files go missing.

    sudo python bench/kills.py [TOOL...] [--moments 20]

One program, that imports what its dozen distributions have (two of them with extension modules) and compares every
file with their records, is packed by every tool. Each launch has a file system of its own, a tmpfs, which is the only
place that it can write to: cache, home and all temporary directories. Then a first launch is killed, by SIGKILL to its
process at moments spread over its duration, and by strace at calls that create, rename or remove files, in whichever
of its processes that is; and a later launch, undisturbed, shows whether the cache is sound. Needs root and strace.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import chosen_python
from measure import Findings, machine, pack_fat, run, table, tell
from rivals import MAKERS, AbsentError, Place, Program, Tool, hide_packages, make_tools, workplace, write_wheel

from packer import targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

REQUIRED = ("regex==2025.11.3", "requests==2.32.5", "rich==14.2.0", "jinja2==3.1.6")
MODULES = ("regex", "requests", "rich", "jinja2", "markupsafe", "pygments", "certifi", "charset_normalizer", "idna",
    "urllib3", "markdown_it", "mdurl")  # fmt: skip

UNPACKERS = ("fatpar", "pex", "pex --venv --sh-boot", "shiv", "PyInstaller onefile", "zipapp")
"""squashfuse is not among them: it unpacks nothing, and what mounts an image is each user's own script."""

PROGRAM = f"""
import base64, hashlib, importlib, importlib.metadata

def main():
    for name in {MODULES!r}:
        importlib.import_module(name)
    import regex, markupsafe._speedups
    assert regex.fullmatch(r"(?:cats|cat){{e<=1}}", "cut")
    found = {{one.metadata["Name"].lower(): one for one in importlib.metadata.distributions()}}
    good, wrong = 0, []
    for name, one in sorted(found.items()):
        for file in one.files or ():
            if file.hash is None or ".." in file.parts:
                continue
            try:
                data = file.locate().read_bytes()
            except OSError:
                data = b""
            digest = base64.urlsafe_b64encode(hashlib.new(file.hash.mode, data).digest()).rstrip(b"=").decode()
            good += digest == file.hash.value
            if digest != file.hash.value:
                wrong.append(str(file))
    print(sorted(found), good, sorted(wrong))
"""

USER = 4242
AMPLE = "2g"
PATIENCE = 120.0
"""Seconds after which a launch hangs."""
TOGETHER = 32

CREATING = ("open", "openat", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat",
    "symlink", "symlinkat", "unlink", "unlinkat", "rmdir")  # fmt: skip

ONLY_ROOM = """
for one in /tmp /var/tmp /dev/shm; do mount --bind "$0/tmp" "$one" || exit 99; done
if [ "$1" = sealed ]; then
    for one in cache home; do mount --bind "$0/$one" "$0/$one" && mount -o remount,bind,ro "$0/$one" || exit 99; done
fi
shift
cd "$0/home" && exec setpriv --reuid=4242 --regid=4242 --clear-groups "$@"
"""
"""In a mount namespace of its own: make the room the only place that can be written to, and become the user."""


# Running --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a launch ended."""

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def said(self) -> tuple[int, bytes]:
        """What tells whether it did its work."""
        return self.status, self.stdout

    @property
    def complaint(self) -> str:
        """In what form it failed."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        if any(line.startswith("Traceback") for line in lines):
            return "traceback"
        return "no word" if not lines else f"{len(lines)} line{'s' * (len(lines) > 1)}"


class Room:
    """A file system of its own for a cache, a home and temporary files."""

    def __init__(self, place: Place, tool: Tool, size: str = AMPLE) -> None:
        self.path, self.tool = place.work / "room", tool
        self.path.mkdir(exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(self.path)])
        for name in ("cache", "home", "tmp"):
            (self.path / name).mkdir()
            os.chown(self.path / name, USER, USER)
        self.environment = {**place.environment, "HOME": str(self.path / "home"), "TMPDIR": str(self.path / "tmp")}
        if tool.variable and tool.variable != "TMPDIR":
            self.environment[tool.variable] = str(self.path / "cache/store")

    def close(self) -> None:
        """Throw it away."""
        for _ in range(100):
            if subprocess.run(["umount", str(self.path)], check=False, stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.05)
        run(["umount", "--lazy", str(self.path)])

    def change(self, options: str) -> None:
        """Remount it."""
        run(["mount", "-o", f"remount,{options}", str(self.path)])

    def start(self, *before: str, sealed: bool = False, other: Tool | None = None) -> subprocess.Popen[bytes]:
        """Start the program.

        :param before: a program that starts it, and its options.
        :param other: another program instead.
        :param sealed: cache and home cannot be written to.
        """
        words = ["unshare", "--mount", "sh", "-c", ONLY_ROOM, str(self.path), "sealed" if sealed else "open"]
        return subprocess.Popen(
            [*words, *before, *(other or self.tool).argv], env=self.environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def launch(self, *before: str, sealed: bool = False, other: Tool | None = None) -> Ended:
        """Run the program to its end."""
        start = time.monotonic()
        return finish(self.start(*before, sealed=sealed, other=other), start)

    def grow_old(self) -> None:
        """Let all that is there be two days older."""
        then = time.time() - 2 * 24 * 3600
        for directory, directories, names in os.walk(self.path):
            for name in (*directories, *names):
                os.utime(Path(directory, name), (then, then), follow_symlinks=False)

    @property
    def used(self) -> int:
        """Bytes of the file system that are taken."""
        state = os.statvfs(self.path)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def files(self) -> dict[str, int]:
        """All files but bytecode that is in its place, which is there or not as a launch came so far: path -> bytes."""
        found = {}
        for directory, _, names in os.walk(self.path):
            for name in names:
                if not name.endswith(".pyc"):
                    path = Path(directory, name)
                    found[str(path.relative_to(self.path))] = path.lstat().st_size
        return found


def finish(process: subprocess.Popen[bytes], start: float) -> Ended:
    """Wait for a program, and end it if it hangs."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return Ended(process.returncode, out, err, time.monotonic() - start)


def members(session: int) -> list[int]:
    """Processes that a launch has left running."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def wait_for(session: int) -> None:
    """Let what is left of a launch end, or end it."""
    deadline = time.monotonic() + PATIENCE
    while members(session) and time.monotonic() < deadline:
        time.sleep(0.02)
    for one in members(session):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


# One tool -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normal:
    """What an undisturbed first launch and another one do."""

    said: tuple[int, bytes]
    seconds: float
    peak: int
    """Most bytes that were taken at a time."""
    files: int
    size: int
    """Files that are left."""
    later: int
    """Files that are left after another program's first launch two days later."""


@dataclass
class Tally:
    """What came of disturbed launches."""

    cases: int = 0
    first: int = 0
    """Disturbed launches that did their work all the same."""
    works: int = 0
    """Next launches that did."""
    again: int = 0
    """Launches after those that did."""
    orphans: int = 0
    """Cases where a process of the launch went on after the one that was started was killed."""
    left: list[tuple[int, int]] = field(default_factory=list)
    """Files and bytes beyond what an undisturbed launch leaves, of those cases with any."""
    swept: int = 0
    """Cases where nothing of that is left after another program's first launch two days later."""
    complaints: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    """Of what is left."""

    def json(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "complaints": dict(self.complaints), "names": dict(self.names.most_common(5))}


class Trial:
    """All that is done to one tool's form of the program."""

    def __init__(self, place: Place, tool: Tool, other: Tool) -> None:
        """Find out what the tool does when nothing disturbs it.

        :param other: its form of another program.
        """
        self.place, self.tool, self.other = place, tool, other
        self.traces = place.work / "traces"
        self.traces.mkdir(exist_ok=True)
        os.chown(self.traces, USER, USER)
        self.normal, self.usual = self._undisturbed()

    @contextmanager
    def room(self, size: str = AMPLE) -> Iterator[Room]:
        """A new one, with nothing in it."""
        room = Room(self.place, self.tool, size)
        try:
            yield room
        finally:
            room.close()

    def _undisturbed(self) -> tuple[Normal, frozenset[str]]:
        with self.room() as room:
            with watched(room) as peak:
                first = room.launch()
            second = room.launch()
            files = room.files()
            room.grow_old()
            room.launch(other=self.other)
            later = len(room.files())
        if first.status or first.said != second.said:
            lines = first.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
            raise AbsentError(f"the program does not work with it: {lines[-1][:120]}")
        usual = frozenset(map(pattern, files))
        return Normal(first.said, first.seconds, max(peak), len(files), sum(files.values()), later), usual

    def _afterwards(self, room: Room, tally: Tally) -> None:
        """Launch it undisturbed, and once more if that did not mend all, and look what is left."""
        works = again = room.launch().said == self.normal.said
        if not works or self._beyond(room)[0] > 0:
            again = room.launch().said == self.normal.said
        tally.cases += 1
        tally.works += works
        tally.again += again
        beyond = self._beyond(room)
        if beyond[0] > 0:
            tally.left.append(beyond)
            tally.names.update(set(map(pattern, room.files())) - self.usual)
            room.grow_old()
            room.launch(other=self.other)
            tally.swept += len(room.files()) <= self.normal.later

    def _beyond(self, room: Room) -> tuple[int, int]:
        """Files and bytes that undisturbed launches would not have left."""
        files = room.files()
        return len(files) - self.normal.files, sum(files.values()) - self.normal.size

    def killed_by_time(self, moments: int) -> Tally:
        """Kill first launches at moments spread over their duration."""
        tally = Tally()
        for number in range(moments):
            with self.room() as room:
                start = time.monotonic()
                process = room.start()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(self.normal.seconds * (number + 0.5) / moments)
                process.kill()
                process.wait()
                tally.orphans += bool(members(process.pid))
                wait_for(process.pid)
                tally.first += finish(process, start).said == self.normal.said
                self._afterwards(room, tally)
        return tally

    def killed_at_calls(self, moments: int) -> Tally:
        """Kill first launches at calls that create, rename or remove files, evenly chosen among all of them."""
        tally, calls = Tally(), self._calls()
        for number in range(min(moments, len(calls))):
            call, ordinal = calls[len(calls) * (2 * number + 1) // (2 * min(moments, len(calls)))]
            with self.room() as room:
                traced = room.launch(*self._strace(call, "-e", f"inject={call}:signal=KILL:when={ordinal}"))
                tally.first += traced.said == self.normal.said
                self._afterwards(room, tally)
        return tally

    def _strace(self, calls: str, *options: str) -> list[str]:
        return ["strace", "-f", "-qq", "-o", str(self.traces / "trace"), "-e", f"trace={calls}", *options]

    def _calls(self) -> list[tuple[str, int]]:
        """In the order of an undisturbed first launch: call, and which of its process' calls of this name it is."""
        with self.room() as room:
            room.launch(*self._strace(",".join(f"?{one}" for one in CREATING)))
        counts: Counter[tuple[str, str]] = Counter()
        found = []
        for line in (self.traces / "trace").read_text(errors="replace").splitlines():
            match = re.match(r"(\d+) +(\w+)\((.*)", line)
            if not match:
                continue
            counts[match[1], match[2]] += 1
            # what is no file of the room does not count, nor what is only opened
            if not match[2].startswith("open") or "O_CREAT" in match[3]:
                found.append((match[2], counts[match[1], match[2]]))
        return found

    def disk_full(self, sizes: int) -> Tally:
        """Launch with too little room, then with enough."""
        tally = Tally()
        for number in range(1, sizes + 1):
            with self.room(str(self.normal.peak * number // (sizes + 1))) as room:
                first = room.launch()
                tally.first += first.said == self.normal.said
                if first.said != self.normal.said:
                    tally.complaints[first.complaint] += 1
                room.change(f"size={AMPLE}")
                self._afterwards(room, tally)
        return tally

    def read_only(self) -> dict[str, str]:
        """Launch where the cache cannot be written to."""
        told = {}
        with self.room() as room:
            told["nothing cached, cache and home read-only"] = self._verdict(room.launch(sealed=True))
        with self.room() as room:
            room.launch()
            room.change("ro")
            told["cached, all read-only"] = self._verdict(room.launch())
        with self.room() as room:
            room.change("ro")
            told["nothing cached, all read-only"] = self._verdict(room.launch())
        return told

    def _verdict(self, ended: Ended) -> str:
        if ended.said == self.normal.said:
            return "works"
        return "wrong output" if ended.status == 0 else f"{ended.status}, {ended.complaint}"

    def at_once(self) -> dict[str, Any]:
        """Launch it many times at once, for the first time."""
        with self.room() as room:
            with watched(room) as peak:
                start = time.monotonic()
                processes = [room.start() for _ in range(TOGETHER)]
                threads = [Collector(process, start) for process in processes]
                for thread in threads:
                    thread.join()
            wrong = [self._verdict(one.ended) for one in threads if one.ended.said != self.normal.said]
            beyond = len(room.files()) - self.normal.files
        return {"work": TOGETHER - len(wrong), "wrong": wrong, "peak": max(peak) / self.normal.peak, "left": beyond}

    def removed(self, number: int, *, directories: bool) -> Tally:
        """Remove a file, or a directory, of a cache that was used, evenly chosen among all of them."""
        tally = Tally()
        for one in range(number):
            with self.room() as room:
                room.launch()
                every = sorted(
                    path for path in (room.path / "cache").rglob("*") if _fits(path, directories=directories)
                )
                if not every:
                    break
                path = every[len(every) * (2 * one + 1) // (2 * number)]
                shutil.rmtree(path) if directories else path.unlink()
                next_one = room.launch()
                tally.cases += 1
                tally.works += next_one.said == self.normal.said
                tally.again += room.launch().said == self.normal.said
                if next_one.said != self.normal.said:
                    tally.complaints["wrong output" if next_one.status == 0 else next_one.complaint] += 1
        return tally


def _fits(path: Path, *, directories: bool) -> bool:
    if path.is_symlink():
        return False
    if directories:
        return path.is_dir() and path.name != "__pycache__"
    return path.is_file() and path.suffix != ".pyc" and path.stat().st_size > 0


def pattern(name: str) -> str:
    """A path without what is by chance."""
    return re.sub(r"[0-9a-f]{8,}|\d{3,}|(?<=_MEI)\w+|(?<=tmp)\w{8}", "*", name)


class Collector(threading.Thread):
    """Waits for one of many programs."""

    def __init__(self, process: subprocess.Popen[bytes], start: float) -> None:
        super().__init__()
        self.process, self.begun = process, start
        self.start()

    def run(self) -> None:
        self.ended = finish(self.process, self.begun)


@contextmanager
def watched(room: Room) -> Iterator[list[int]]:
    """See how much of a room is taken meanwhile."""
    seen, over = [room.used], threading.Event()

    def look() -> None:
        while not over.wait(0.003):
            seen.append(room.used)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


# What it came to ------------------------------------------------------------------------------------------------


def try_all(trial: Trial, options: argparse.Namespace, note: Notes) -> None:
    """Do everything to one tool, and note it."""
    name, normal = trial.tool.name, trial.normal
    note.values[name] = values = {"normal": {**vars(normal), "said": normal.said[0]}}
    if not trial.tool.variable:
        note.absent.append(f"{name}: keeps nothing outside of its file, so that a kill can leave nothing")
    else:
        for how, kill in (("at a moment", trial.killed_by_time), ("at a call", trial.killed_at_calls)):
            tally = kill(options.moments)
            values[how] = tally.json()
            progress(name, how, values[how])
            left = [*cells_of(tally)]
            note.kills.add_row(name, how, f"{tally.cases}", of(tally.works, tally), f"{tally.orphans}", *left)
        full = trial.disk_full(options.sizes)
        values["disk full"] = full.json()
        progress(name, "disk full", values["disk full"])
        said = ", ".join(f"{count} x {what}" for what, count in full.complaints.most_common())
        note.full.add_row(name, of(full.first, full), said, of(full.works, full), *cells_of(full))
    values["read-only"] = told = trial.read_only()
    progress(name, "read-only", told)
    note.sealed.add_row(name, *told.values())
    values["at once"] = once = trial.at_once()
    progress(name, "at once", once)
    note.once.add_row(name, f"{once['work']} of {TOGETHER}", f"{once['peak']:.2f}", f"{max(0, once['left'])}")
    if trial.tool.variable and trial.tool.variable != "TMPDIR":
        files = trial.removed(options.removed, directories=False)
        directories = trial.removed(options.removed, directories=True)
        progress(name, "removed", {"files": files.json(), "directories": directories.json()})
        values["removed"] = {"files": files.json(), "directories": directories.json()}
        said = ", ".join(f"{count} x {what}" for what, count in (files.complaints + directories.complaints).items())
        cells = [of(one, tally) for tally in (files, directories) for one in (tally.works, tally.again)]
        note.removed.add_row(name, *cells, said)


def progress(name: str, what: str, value: object) -> None:
    """Tell at once what took minutes."""
    print(f"{name}: {what}: {value}", file=sys.stderr, flush=True)


def of(count: int, tally: Tally) -> str:
    return f"{count} of {tally.cases}"


def cells_of(tally: Tally) -> list[str]:
    """What is left."""
    files, size = max(tally.left, key=lambda one: one[1], default=(0, 0))
    return [
        of(len(tally.left), tally),
        f"{files:,}",
        f"{size:,}",
        f"{tally.swept} of {len(tally.left)}" if files else "",
    ]


@dataclass
class Notes:
    """Tables that grow."""

    absent: list[str]
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        left = ("left after next launches", "files", "bytes", "swept two days later")
        self.kills = table("a first launch is killed", "tool", "", "killed", "next launch works", "goes on", *left)
        self.full = table(
            "the disk is full at the first launch, then it is not",
            "tool", "works all the same", "else it says", "next launch works", *left,
        )  # fmt: skip
        self.sealed = table(
            "what cannot be written to", "tool", "cache and home, nothing cached", "all, cached", "all, nothing cached"
        )
        self.once = table(
            f"{TOGETHER} first launches at once",
            "tool",
            "work",
            "most disk / one launch's",
            "files left beyond one launch's",
        )
        self.removed = table(
            "something is removed from a used cache",
            "tool", "a file: next launch works", "the one after", "a directory: next launch works", "the one after",
            "else it says",
        )  # fmt: skip
        self.missing = table("not in these tables", "tool")

    def tables(self) -> list[Table]:
        """All of them."""
        for one in self.absent:
            self.missing.add_row(one)
        return [self.kills, self.full, self.sealed, self.once, self.removed, self.missing]


def measure(work: Path, options: argparse.Namespace) -> tuple[Findings, list[Table]]:
    """Make all forms and disturb them."""
    wheel = write_wheel(work, "witness", PROGRAM, REQUIRED)
    program = Program("witness", (str(wheel), *REQUIRED), "witness", "witness:main", (), MODULES)
    archive = pack_fat(work / "witness", program.inputs, options.abi, entry=program.entry)
    place = Place(work, chosen_python(archive.path), options.abi)
    copied = tuple(wheel.name.partition("-")[0].replace("_", "-") for wheel in archive.distinct)
    program = Program(program.name, program.inputs, program.distribution, program.entry, (), MODULES, copied)
    tools, absent = make_tools(program, archive, place, options.tools or UNPACKERS)
    others = make_others(place, [tool.name for tool in tools if tool.variable != "TMPDIR"])
    note = Notes(absent)
    for tool in tools:
        start = time.monotonic()
        try:
            # where each launch is a first one, the program itself will do
            try_all(Trial(place, tool, others.get(tool.name, tool)), options, note)
        except AbsentError as error:
            note.absent.append(f"{tool.name}: {error}")
        print(f"{tool.name}: tried for {time.monotonic() - start:.0f} s", file=sys.stderr)
    return Findings({"tools": note.values, "absent": note.absent}, options.json), note.tables()


def make_others(place: Place, names: Sequence[str]) -> dict[str, Tool]:
    """Make tools' forms of another program, whose first launch may sweep what is left."""
    wheel = write_wheel(place.work, "other", "def main():\n    pass\n")
    program = Program("other", (str(wheel),), "other", "other:main")
    archive = pack_fat(place.work / "other", program.inputs, place.abi, entry=program.entry)
    tools, _ = make_tools(program, archive, place, names)
    return {tool.name: tool for tool in tools}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"of {', '.join(MAKERS)} (default: those that unpack)")
    parser.add_argument("--moments", type=int, default=20, help="kills of each kind, for each tool (default: 20)")
    parser.add_argument("--sizes", type=int, default=8, help="disks that are too small (default: 8)")
    parser.add_argument("--removed", type=int, default=10, help="files, and directories, that go (default: 10)")
    parser.add_argument("--abi", default=targets.running_target().python.tag, help="Python ABI tag")
    parser.add_argument("--directory", type=Path, default=Path("build"), help="where all is made (default: build)")
    parser.add_argument("--keep", type=Path, help="make all here instead, and take what was made here before")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    check(options)
    hide_packages()
    before = machine()
    with workplace(options.directory, options.keep) as work:
        found, tables = measure(work, options)
        tell(found.values, tables, before, as_json=options.json)


def check(options: argparse.Namespace) -> None:
    """Say what is missing before anything is made."""
    if unknown := set(options.tools) - MAKERS.keys():
        sys.exit(f"{', '.join(unknown)}: unknown; there are {', '.join(MAKERS)}")
    missing = [one for one in ("strace", "unshare", "setpriv", "mount") if not shutil.which(one)]
    if os.geteuid() or missing:
        sys.exit(f"file systems cannot be mounted, or calls not stopped at: {', '.join(missing) or 'be root'}")
    place = (options.keep or options.directory).resolve()
    if any(Path(one) in (place, *place.parents) for one in ("/tmp", "/var/tmp", "/dev/shm")):
        sys.exit(f"{place}: launches do not see it, since their /tmp, /var/tmp and /dev/shm are others; name another")


if __name__ == "__main__":
    main()
