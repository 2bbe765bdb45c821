"""What a recorded run leaves in a profile: modules in their order, whatever becomes of the process; and the file."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import archives
from support.hosts import require_host

from packer import lazy, profile, recordchild
from packer.errors import PackError
from packer.profile import Module, Profile, Startup

if TYPE_CHECKING:
    from collections.abc import Mapping

SITE = "lib/python/site-packages"

APP = """\
import os
import signal
import subprocess
import sys

import first
import package.inner
import second


def close():
    os.closerange(3, 100)


def main():
    word = sys.argv[1]
    if word == "closed":
        close()
        log = os.open("log", os.O_CREAT | os.O_WRONLY)
        import late
        assert os.fstat(log).st_size == 0
    elif word == "exit":
        import late
        os._exit(0)
    elif word == "kill":
        import late
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "exec":
        import late
        os.execv("/bin/true", ["true"])
    elif word == "child":
        subprocess.run([sys.executable, "-c", "import late"], check=True)
    elif word == "fork":
        child = os.fork()
        if not child:
            import late
            os._exit(0)
        os.waitpid(child, 0)
    elif word == "fails":
        try:
            import not_there
        except ImportError:
            import late
    elif word == "hidden":
        sys.meta_path[:] = sys.meta_path[1:]
        import late
"""

MODULES = {
    "app.py": APP, "first.py": "import third\n", "second.py": "", "third.py": "", "late.py": "", "unused.py": "",
    "package/__init__.py": "", "package/inner.py": "",
}  # fmt: skip

OWN = ["app", "first", "third", "package", "package.inner", "second"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> profile.Stage:
    directory = tmp_path_factory.mktemp("profile")
    (directory / "work").mkdir()
    tag = profile_tag()
    tool = archives.write(directory / "tool", directory / "work", MODULES, tags=[tag])
    (directory / "stage").mkdir()
    return profile.stage(tool, directory / "stage")


def profile_tag() -> str:
    return f"cp{sys.version_info[0]}{sys.version_info[1]}"


def run(place: profile.Stage, word: str, cwd: Path) -> tuple[int, Startup]:
    process = subprocess.Popen([place.program, word], env=profile.environment(place), cwd=cwd)
    process.wait(60)
    made = profile.recorded(place, word, process.pid)
    return process.returncode, made.startups[place.tag]


@pytest.mark.parametrize(
    ("word", "status", "late"),
    [
        ("none", 0, []), ("closed", 0, ["late"]), ("exit", 0, ["late"]), ("kill", -9, ["late"]), ("exec", 0, ["late"]),
        ("child", 0, ["late"]), ("fork", 0, ["late"]), ("fails", 0, ["late"]),
    ],
)  # fmt: skip
def test_modules_in_the_order_in_which_they_are_imported(
    place: profile.Stage, tmp_path: Path, word: str, status: int, late: list[str]
) -> None:
    ended, startup = run(place, word, tmp_path)
    assert ended == status
    ours = [one for one in startup.modules if one.path is not None]
    assert [one.name for one in ours] == [*OWN, *late]
    paths = {one.name: one.path for one in ours}
    assert paths["package"] == f"{SITE}/package/__init__.py"
    assert paths["package.inner"] == f"{SITE}/package/inner.py"
    names = [one.name for one in startup.modules]
    assert (
        names.index("sys") < names.index("os") < names.index("app") < names.index("subprocess") < names.index("first")
    )
    assert Module("os", None) in startup.modules
    assert (startup.runs, place.tag) == ((word,), profile_tag())


def test_what_the_recorder_does_not_see_is_told_by_its_bytecode(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "stage").mkdir()
    tool = archives.write(tmp_path / "tool", tmp_path / "work", MODULES, tags=[profile_tag()])
    _, startup = run(profile.stage(tool, tmp_path / "stage"), "hidden", tmp_path)
    assert startup.modules[-1] == Module("late", f"{SITE}/late.py")
    assert "unused" not in [one.name for one in startup.modules]


HOSTS = {"bullseye": "python3", "bookworm": "python3", "trixie": "python3", "forky": "python3", "sid": "python3.15"}


@pytest.mark.hosts
@pytest.mark.parametrize("host", HOSTS)
def test_every_python_can_be_recorded(host: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    child = Path(recordchild.__file__)
    code = "exec(open('/opt/child.py').read(), {'directory': '/mnt'}); import wave, not_there"
    result = require_host(host).run([HOSTS[host], "-I", "-c", code], binds={child: "/opt/child.py", tmp_path: "/mnt"})
    assert b"No module named 'not_there'" in result.stderr
    assert result.status == 1
    (log,) = tmp_path.iterdir()
    texts = log.read_bytes().split(b"\0")
    found = dict(zip(texts[::2], texts[1::2], strict=False))
    assert found[b""].startswith(b"3.")
    assert found[b"wave"].endswith(b"/wave.py")
    assert b"not_there" not in found


def test_the_recorder_is_python_3_5() -> None:
    ast.parse(Path(recordchild.__file__).read_text(), feature_version=(3, 5))


class TestFile:
    ONE = Profile(
        {"cp311": Startup("3.11.2", ("--help", "'a b'"), (Module("os", None), Module("a", f"{SITE}/a.py")))},
        {"cp315": lazy.Checked(("a",), ("b", "c"), "3.15.2", ("true",))},
    )

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        profile.write(tmp_path / "p.json", self.ONE)
        assert profile.read(tmp_path / "p.json") == self.ONE

    def test_two_are_merged(self) -> None:
        another = Profile(
            {
                "cp311": Startup("3.11.3", ("--help", ""), (Module("b", "b.py"), Module("a", f"{SITE}/a.py"))),
                "cp39": Startup("3.9.2", (), (Module("c", f"{SITE}/c.py"),)),
            },
            {"cp315": lazy.Checked(("d",), ("c", "e"), "3.15.3", ("false",))},
        )
        made = profile.merged(self.ONE, another)
        assert made.startups["cp311"].python == "3.11.3"
        assert made.startups["cp311"].runs == ("--help", "'a b'", "")
        assert made.modules == ("os", "a", "b", "c")
        assert made.paths == (f"{SITE}/a.py", "b.py", f"{SITE}/c.py")
        assert made.lazy["cp315"] == lazy.Checked(("a", "d"), ("b", "c", "e"), "3.15.3", ("true", "false"))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is no profile: Expecting"),
            ("[]", "is no profile: "),
            ({"version": 1}, "is no profile: 'abis' is missing"),
            ({"version": 2}, "is a profile of a newer packer: version 2"),
            ({"version": 0, "abis": {}}, "is no profile: its version is 0"),
            ({"version": 1, "abis": {"cp311": {"modules": [{"name": 1, "path": None}]}}}, "is no profile: 1 is no "),
            ({"version": 1, "abis": {"cp315": {"lazy": {"eager": "x"}}}}, "is no profile: 'x' is no list"),
        ],
    )  # fmt: skip
    def test_what_is_no_profile(self, tmp_path: Path, content: str | Mapping[str, Any], message: str) -> None:
        path = tmp_path / "p.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(PackError) as caught:
            profile.read(path)
        assert str(caught.value).startswith(f"{path} {message}")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(PackError, match=r"cannot read .*: No such file"):
            profile.read(tmp_path / "p.json")
