"""Runs of the packer that are killed, or whose disk fails, where they touch the files of their place."""

from __future__ import annotations

import random
import re
import shutil
import signal
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .calls import KILL, Case
from .hosts import give_up
from .packing import Ended, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

WORKERS = 2

SAID = {"EIO": "Input/output error|I/O error|cannot be read|damaged", "ENOSPC": "No space left on device"}
"""Error -> how the packer tells it; where Python or the launcher's code could not read its own files, too."""

_READ, _NEW = ("EIO",), ("EIO", "ENOSPC")
ERRORS: Mapping[str, tuple[str, ...]] = {
    "openat": _NEW, "mkdir": _NEW, "mkdirat": _NEW, "write": _NEW, "rename": _NEW, "renameat": _NEW, "fsync": _NEW,
    "symlinkat": _NEW, "linkat": _NEW, "chmod": _NEW, "fchmod": _NEW, "utimensat": _NEW,
    "unlink": _READ, "unlinkat": _READ,
    "rmdir": _READ, "read": _READ, "pread64": _READ, "getdents64": _READ, "close": _NEW,
}  # fmt: skip
"""Calls that touch files, and what their disk can do to them."""

REMOVING = ("unlink", "unlinkat", "rmdir", "getdents64")
"""What is to be removed and cannot be stays."""

Choice: TypeAlias = "Callable[[list[Case]], list[Case]]"


@dataclass(frozen=True)
class Command:
    """What the packer does in a place with ``script.py``, ``old``, ``new`` and ``patch``, and ``out`` as it was."""

    arguments: tuple[str, ...]
    output: str = "out"


COMMANDS = {
    "fat": Command(("fat", "script.py", "--fast", "-q", "-o", "out")),
    "patch": Command(("patch", "old", "patch", "-q", "-o", "out")),
    "extract": Command(("extract", "new", "out-directory"), "out-directory"),
}


def snapshot(path: Path) -> object:
    """A file's bytes, a directory's files, or None."""
    if path.is_dir():
        return {str(one.relative_to(path)): one.is_dir() or one.read_bytes() for one in sorted(path.rglob("*"))}
    return path.read_bytes() if path.exists() else None


class Runs:
    """One command, over and over, each time in a new place."""

    def __init__(self, root: Path, command: Command) -> None:
        self.command = command
        self._root = root
        self._model = Place(root / "model")
        work = self._model.work
        # a program of text is enough to have blobs, an index and a patch
        lines = "".join(f"def f{number}(x):\n    return x + {number}\n\n\n" for number in range(300))
        for name in ("old", "new"):
            (work / "script.py").write_text(f"{lines}print({name!r})\n")
            self._model.packed("fat", "script.py", "--fast", "-q", "-o", "out")
            (work / "out").rename(work / name)
        self._model.packed("diff", "old", "new", "-q", "-o", "patch")
        self.old = None if command.output == "out-directory" else (work / "old").read_bytes()
        self._model.packed(*command.arguments)
        self.new = snapshot(work / command.output)
        assert command.output == "out-directory" or self.new == (work / "new").read_bytes()

    def place(self, name: str) -> Place:
        """A place with the inputs and an old output, whose cache is empty."""
        place = Place(self._root / name)
        for one in ("script.py", "old", "new", "patch"):
            shutil.copy2(self._model.work / one, place.work)
        if self.old is not None:
            shutil.copy2(self._model.work / "old", place.work / "out")
        return place

    def cases(self) -> list[Case]:
        """Everything that can happen to the calls that touch the place's files."""
        place = self.place("counted")
        self._traced(place, ["--seccomp-bpf", "-e", f"trace={','.join(ERRORS)}"])
        numbers: Counter[tuple[str, str]] = Counter()
        found = set()
        for line in (place.root / "trace").read_text(errors="replace").splitlines():
            match = re.match(r"(\d+) +(\w+)\(", line)
            if match:
                numbers[match[1], match[2]] += 1
                # not what is only looked at, as the directories that Python searches for modules
                looked_at = f"{match[2]}(3<{place.work}>" in line or ("openat" in line and "O_RDONLY" in line)
                if str(place.root) in line and not looked_at:
                    found.add((match[2], numbers[match[1], match[2]]))
        shutil.rmtree(place.root)
        return [Case(call, number, fault) for call, number in sorted(found) for fault in (KILL, *ERRORS[call])]

    def _traced(self, place: Place, options: Sequence[str]) -> Ended:
        if not shutil.which("strace"):
            give_up("strace is not installed")
        trace = place.root / "trace"
        prefix = ["strace", "-f", "-y", "-s", "0", "-o", str(trace), *options]
        return place.run(*self.command.arguments, prefix=prefix)

    def check(self, case: Case) -> str:
        """Let something happen to a run, and see that what follows is right: how it ended."""
        place = self.place(str(case).replace(" ", "-"))
        # stopping at these calls alone is quicker, but there strace 6.1 forgets signals
        ended = self._traced(place, [*([] if case.fault == KILL else ["--seccomp-bpf"]), *case.options])
        trace = (place.root / "trace").read_text(errors="replace")
        (place.root / "trace").unlink()
        if not _hit(trace, case, place):
            shutil.rmtree(place.root)
            return "missed"
        how = self.judge(place, ended, case, _unclosed(trace, case, place))
        shutil.rmtree(place.root)
        return how

    def judge(self, place: Place, ended: Ended, case: Case, spared: Sequence[str] = ()) -> str:
        """See that the output is the old or the new one, that the error is told, and that the next run works.

        :param spared: empty directories that may be left.
        """
        output = place.work / self.command.output
        found = snapshot(output)
        assert found in (self.old, self.new), f"half an output: {ended}"
        if case.fault == KILL:
            assert ended.status == -signal.SIGKILL, ended
            how = "killed"
        elif ended.status == 0:
            assert (ended.whole, found) == ((0, "", ""), self.new), ended
            how = "ran"
        else:
            judge_error(ended)
            assert re.search(SAID[case.fault], ended.stderr), ended
            how = str(ended.status)
        left = self._left(place)
        if case.fault == KILL:
            # what is hidden, or named after the process, and in nobody's way
            assert all(re.match(r"work/\.out\.tmp-|work/out-directory\.tmp-\d+|tmp/", name) for name in left), left
        elif case.call not in REMOVING:
            assert [name for name in left if name not in spared] == [], left
        if output.is_dir():
            shutil.rmtree(output)
        place.packed(*self.command.arguments)
        assert snapshot(output) == self.new, "the next run makes something else"
        return how

    def _left(self, place: Place) -> list[str]:
        mine = {f"work/{name}" for name in ("script.py", "old", "new", "patch", "out", "out-directory")}
        given = {"work", "tmp", "cache", *mine}
        return [name for name in place.left() if name not in given and not name.startswith("work/out-directory/")]

    def every(self, choose: Choice) -> Counter[tuple[str, str, str]]:
        """Check the cases that are chosen of all there are: how many by call, fault and how the run ended."""
        chosen = choose(self.cases())

        def check(case: Case) -> str:
            try:
                return self.check(case)
            except Exception:
                return f"WRONG\n{''.join(traceback.format_exc().splitlines(True)[-4:])}"

        with ThreadPoolExecutor(WORKERS) as pool:
            outcomes = list(pool.map(check, chosen))
        wrong = [f"{case}: {said}" for case, said in zip(chosen, outcomes, strict=True) if said.startswith("WRONG")]
        assert not wrong, f"{len(wrong)} of {len(chosen)}\n" + "\n".join(wrong)
        return Counter((case.call, case.fault, said) for case, said in zip(chosen, outcomes, strict=True))

    def killed(self, times: int, seed: int) -> Counter[str]:
        """Kill at random moments: how often what output was there then."""
        moments = random.Random(seed)
        states: Counter[str] = Counter()
        for number in range(times):
            place = self.place(f"moment{number}")
            process = place.start(*self.command.arguments)
            try:
                process.wait(moments.uniform(0.05, 1.2))
            except Exception:
                process.kill()
            stdout, stderr = process.communicate()
            ended = Ended(process.returncode, stdout, stderr)
            found = snapshot(place.work / self.command.output)
            if ended.status:
                self.judge(place, ended, Case("", 0, KILL))
            states["new" if found == self.new else "old"] += 1
            shutil.rmtree(place.root)
        return states


def judge_error(ended: Ended) -> None:
    """One message, perhaps with a hint, and no traceback."""
    assert (ended.status, ended.stdout) == (1, ""), ended
    assert re.fullmatch(r"packer: (?!hint: ).+\n(packer: hint: .+\n)?", ended.stderr), ended


def _unclosed(trace: str, case: Case, place: Place) -> list[str]:
    """The temporary directory whose close failed, and those above it.

    ``shutil.rmtree`` closes a directory before it removes it, and that of CPython 3.11 does not go on to the
    latter if the former fails. What was in it is gone by then. No filesystem of a disk fails there.
    """
    match = re.search(r"close\(\d+<([^>]+)>\) .*\(INJECTED\)", trace) if case.call == "close" else None
    path = Path(match[1]) if match else place.root
    temporary = place.root / "tmp"
    return [
        str(one.relative_to(place.root)) for one in (path, *path.parents) if temporary in one.parents and one.is_dir()
    ]


def _hit(trace: str, case: Case, place: Place) -> bool:
    """Whether it happened to a file of the place."""
    lines = trace.splitlines()
    if case.fault != KILL:
        return any("(INJECTED)" in line and str(place.root) in line for line in lines)
    last = [line for line in lines if f"{case.call}(" in line and "+++" not in line]
    return bool(last) and str(place.root) in last[-1] and "+++ killed by SIGKILL +++" in trace


# A disk that is full ------------------------------------------------------------------------------------------------

FULL = """\
disk=$1 options=$2
shift 2
cp -a "$disk" "$disk.kept"
mount -t tmpfs -o "$options" full "$disk"
cp -a "$disk.kept/." "$disk/"
cd "$PWD"
status=0
"$@" || status=$?
cp -a "$disk" "$disk.result"
exit $status
"""
"""Run a command with a small filesystem over a directory, and keep what is on it then."""

PAGE = 4096


def on_small_disk(runs: Runs, which: str, pages: int | None) -> tuple[Ended, str]:
    """Run with a filesystem that has little room.

    :param which: directory of the place: ``work``, ``tmp`` or ``cache``.
    :param pages: free; None: no file more can be made.
    :return: how it ended, and as :meth:`Runs.judge` says it.
    """
    place = runs.place(f"{which}-{pages}")
    disk = place.root / which
    there = [path for path in disk.rglob("*") if path.is_file()]
    used = sum(-(-path.stat().st_size // PAGE) for path in there)
    options = f"nr_inodes={len(there) + 1}" if pages is None else f"size={(used + pages) * PAGE}"
    ended = place.run(
        *runs.command.arguments, prefix=["unshare", "--mount", "sh", "-euc", FULL, "sh", str(disk), options]
    )
    shutil.rmtree(disk)
    shutil.rmtree(place.root / f"{which}.kept")
    (place.root / f"{which}.result").rename(disk)
    how = runs.judge(place, ended, Case("", 0, "ENOSPC"))
    shutil.rmtree(place.root)
    return ended, how
