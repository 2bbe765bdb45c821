"""Runs of the fuzzers, and what a corpus covers. ``fuzz.h`` says what they are, ``seeds.py`` where they start."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fuzz import seeds
from support.hosts import USER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
FUZZER = ROOT / "build" / "test" / "fuzz"
REPLAY = ROOT / "build" / "test" / "fuzz-replay"
KEPT = ROOT / ".cache" / "fuzz"
"""What long runs found, for the next one and for ``renew.py``."""

MEASURED = {
    "archive": ("archive", "explain", "select", "tables"),
    "elf": ("elffile",),
    "plan": ("plan",),
    "unpack": ("control", "decode", "filter", "layers", "object", "stock", "tree", "unpack", "view"),
}
"""Files of ``launcher/`` whose coverage must not fall, by the target that is there for them."""


def require() -> None:
    """Skip the test where the fuzzers were not built."""
    for path in (FUZZER, REPLAY):
        if not path.exists():
            pytest.skip(f"{path.relative_to(ROOT)} is not built: cmake --build build --target launcher-fuzz")


@dataclass(frozen=True)
class Run:
    """What a run of a fuzzer came to."""

    target: str
    status: int
    output: str
    finds: Mapping[Path, bytes]
    """Inputs that the code does not stand, with their paths."""

    def number(self, name: str) -> int:
        """One of libFuzzer's figures, 0 where it did not get to them."""
        found = re.findall(rf"{name}:\s+(\d+)", self.output)
        return int(found[-1]) if found else 0

    @property
    def executions(self) -> int:
        """Inputs that were run."""
        return self.number("stat::number_of_executed_units")

    @property
    def edges(self) -> int:
        """Edges of the code that were reached."""
        return self.number(r"\bcov")

    @property
    def report(self) -> str:
        """All that is needed to see a find again."""
        command = f"FUZZ={self.target} {FUZZER.relative_to(ROOT)}"
        lines = [f"{command} ended with {self.status}", *self.output.splitlines()[-60:]]
        for path, content in self.finds.items():
            lines += [f"{command} {path}", base64.b64encode(content).decode()]
        return "\n".join(lines)


def run(target: str, seconds: int, finds: Path, kept: Path | None = None, **variables: str) -> Run:
    """Run a fuzzer, as nobody who could do harm.

    :param finds: a directory for what it finds.
    :param kept: a directory of inputs from runs before, which gets what this one adds.
    """
    with _workplace() as work:
        for name in ("seeds", "corpus", "finds", "tmp"):
            (work / name).mkdir()
        seeds.write(target, work / "seeds", machine=True)
        for path in kept.iterdir() if kept and kept.exists() else ():
            shutil.copy(path, work / "corpus")
        options = [
            f"-max_total_time={seconds}", f"-max_len={seeds.LONGEST[target]}", f"-artifact_prefix={work}/finds/",
            "-timeout=25", "-rss_limit_mb=2560", "-print_final_stats=1", "-close_fd_mask=1",
        ]  # fmt: skip
        done = _start([FUZZER, *options, work / "corpus", work / "seeds"], target, work, variables)
        found = {finds / path.name: path.read_bytes() for path in (work / "finds").iterdir()}
        if kept:
            kept.mkdir(parents=True, exist_ok=True)
            for path in (work / "corpus").iterdir():
                shutil.copy(path, kept)
    for path, content in found.items():
        path.write_bytes(content)
    return Run(target, done.returncode, done.stdout, found)


@contextmanager
def _workplace() -> Iterator[Path]:
    """A directory, in memory where that is possible: unpacking thousands of times is nothing for a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def _start(
    command: Sequence[Path | str], target: str, work: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program of this directory; root gives its rights and the work directory away."""
    if root := os.geteuid() == 0:
        for path in (work, *work.rglob("*")):
            os.chown(path, USER, USER)
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "FUZZ": target, "TMPDIR": str(work / "tmp"), **variables},
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        user=USER if root else None,
        group=USER if root else None,
        extra_groups=[] if root else None,
        timeout=1800,  # a replay has no other end where an input is never done with
        check=False,
    )


def new_inputs(target: str, found: Path) -> list[bytes]:
    """Of what was found, the inputs that reach what the seeds and the inputs kept so far do not."""
    with _workplace() as work:
        (work / "known").mkdir()
        (work / "tmp").mkdir()
        known = seeds.write(target, work / "known", machine=False)
        shutil.copytree(found, work / "found")
        # edges alone: how often one is passed would keep hundreds
        options = ["-merge=1", "-use_counters=0", f"-max_len={seeds.LONGEST[target]}", "-close_fd_mask=1"]
        done = _start([FUZZER, *options, work / "known", work / "found"], target, work, {})
        if done.returncode:
            raise RuntimeError(done.stdout)
        return [path.read_bytes() for path in sorted({*(work / "known").iterdir()} - {*known})]


# Coverage -------------------------------------------------------------------------------------------------------

Coverage = dict[str, tuple[float, float]]
"""File of ``launcher/`` -> parts of its lines and branches that are reached, in percent."""


def covered(target: str) -> Coverage:
    """What the seeds, and what is in ``corpus/``, reach: the same each time."""
    with _workplace() as work:
        for name in ("inputs", "counts", "tmp"):
            (work / name).mkdir()
        inputs = seeds.write(target, work / "inputs", machine=False)
        for path in REPLAY.parent.glob(f"{REPLAY.name}-*.gcno"):
            shutil.copy(path, work / "counts")
        counts = {"GCOV_PREFIX": str(work / "counts"), "GCOV_PREFIX_STRIP": str(len(REPLAY.parent.parts) - 1)}
        done = _start([REPLAY, *inputs], target, work, counts)
        if done.returncode:
            raise RuntimeError(f"{target}: {done.returncode}: {done.stdout}")
        return {name: _percent(work / "counts", name) for name in MEASURED[target]}


def _percent(counts: Path, name: str) -> tuple[float, float]:
    command = ["gcov", "--json-format", "--stdout", "--branch-probabilities", f"{REPLAY.name}-{name}.gcda"]
    said = subprocess.run(command, cwd=counts, capture_output=True, text=True, check=True).stdout
    lines = next(one["lines"] for one in json.loads(said)["files"] if one["file"] == f"launcher/{name}.c")
    branches = [branch for line in lines for branch in line["branches"]]
    return _part(lines), _part(branches)


def _part(counted: Sequence[Mapping[str, int]]) -> float:
    return 100 * sum(one["count"] > 0 for one in counted) / len(counted)
