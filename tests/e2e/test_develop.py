"""``packer run``: a program as its packed file would run here, kept until something that it is made of changes."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from unittest.mock import ANY

import pytest
from support import index
from support.packing import Place, watched

from packer import targets

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("offline")]

TAG = targets.running_target().python.tag
SLICE = targets.running_target().name

SCRIPT = """import os, signal, sys

print(sys.argv[1:], sys.version_info[:2], os.environ.get("WORD"), os.getcwd())
print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), signal.getsignal(signal.SIGINT) == signal.default_int_handler)
sys.exit(7)
"""


@pytest.fixture(autouse=True)
def own_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATPAR_STORE", str(place.root / "store"))


def kept(place: Place) -> list[Path]:
    return sorted((place.root / "cache/fatpar-packer/run").glob("*/*/*"))


def printing(project: Path, number: int) -> Path:
    """Make a project whose module prints a number."""
    index.project(project, "hello")
    backend = project / "backend.py"
    backend.write_text(backend.read_text().replace("X = 1", f"print({number})"))
    return backend


def test_it_is_the_program_that_runs(place: Place) -> None:
    """Its words, its environment, its directory, its status, its process: nothing of the packer is left of them."""
    (place.work / "tool.py").write_text(SCRIPT)
    for _ in range(2):
        ended = place.run("run", "tool.py", "--", "-a", "x y", "--", "--slice", env={"WORD": "w"})
        words = f"{['-a', 'x y', '--', '--slice']} {sys.version_info[:2]} w {place.work}"
        assert ended.whole == (7, f"{words}\n0 True\n", "")
    assert [path.name for path in kept(place)] == ["tool"]
    assert list(place.work.iterdir()) == [place.work / "tool.py"]


def test_a_signal_reaches_the_program(place: Place) -> None:
    (place.work / "tool.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    assert place.run("run", "tool.py").status == -signal.SIGTERM


def test_a_change_is_seen_and_nothing_else_packs_anew(place: Place) -> None:
    project = place.work / "project"
    backend = printing(project, 1)

    def said(*words: str) -> tuple[str, int]:
        """What it prints, and how many programs have been packed."""
        return place.packed("run", "--no-index", "-m", "hello", *words, cwd=project).stdout, len(kept(place))

    assert [said(), said()] == [("1\n", 1)] * 2
    backend.write_text(backend.read_text().replace("print(1)", "print(2)"))
    assert [said(), said()] == [("2\n", 2)] * 2
    (project / "__pycache__").mkdir()
    (project / "__pycache__/backend.pyc").write_text("")
    assert said() == ("2\n", 2)
    assert said("--fresh") == ("2\n", 2)
    backend.write_text(backend.read_text().replace("print(2)", "print(1)"))
    assert said() == ("1\n", 2)


def test_a_change_of_a_project_that_it_needs_is_seen(place: Place) -> None:
    helper = printing(place.work / "helper", 1)
    index.project(place.work / "app", "app", requires=[f"hello @ file://{helper.parent}"])
    words = ("run", "--no-index", "-m", "hello", "app")
    assert place.packed(*words).stdout == "1\n"
    helper.write_text(helper.read_text().replace("print(1)", "print(2)"))
    assert place.packed(*words).stdout == "2\n"
    assert len(kept(place)) == 2


def test_a_project_says_which_slices_there_are(place: Place) -> None:
    project = place.work / "project"
    printing(project, 1)
    table = f'\n[tool.packer]\nabis = ["manylinux2014", "cp315", "{TAG}"]\n'
    with (project / "pyproject.toml").open("a") as file:
        file.write(table)
    assert place.packed("run", "-m", "hello", "--no-index", "project").stdout == "1\n"
    assert place.packed("run", "-m", "hello", "--no-index", "--slice", TAG, "project").stdout == "1\n"
    ended = place.run("run", "-m", "hello", "--no-index", "--slice", "cp27", "project")
    assert ended.status == 2
    assert re.match(
        r"packer: --slice cp27: no slice for this machine is called so\n"
        rf"packer: hint: there are cp315-\S+, {TAG}-\S+; --abis names others\n",
        ended.stderr,
    )


def test_what_cannot_run_here_is_said(place: Place) -> None:
    (place.work / "tool.py").write_text("")
    arch = {"x86_64": "aarch64", "aarch64": "x86_64"}[os.uname().machine]
    ended = place.run("run", "--abis", f"{TAG}-manylinux2014_{arch}", "tool.py")
    assert ended.status == 2
    assert ended.stderr.startswith(
        f"packer: no slice has an interpreter on this machine: {TAG}-manylinux_2_17_{arch}\n"
    )
    missing = place.run("run", "missing.py")
    assert (missing.status, missing.stderr) == (2, "packer: no script missing.py: there is no such file\n")


def test_two_at_once(place: Place) -> None:
    """Each builds while the other does, and nothing is kept yet."""
    backend = printing(place.work / "project", 1)
    (place.root / "building").mkdir()
    waits = f"""
import os, time
directory = {str(place.root / "building")!r}
open(os.path.join(directory, str(os.getpid())), "w").close()
while len(os.listdir(directory)) < 2:
    time.sleep(0.01)
"""
    backend.write_text(waits + backend.read_text())
    both = [place.start("run", "--no-index", "-m", "hello", "project") for _ in range(2)]
    with watched(both[0]), watched(both[1]):
        assert [process.communicate(timeout=120) for process in both] == [("1\n", ANY)] * 2
        assert [process.returncode for process in both] == [0, 0]
    assert [path.name for path in kept(place)] == ["hello"]
    assert list((place.root / "cache/fatpar-packer/tmp").iterdir()) == []
