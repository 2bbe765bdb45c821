"""A small shelf of distributions, and locks of it: the samples in ``tests/packer/locks`` were made from its bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from . import index

SAMPLES = Path(__file__).parents[1] / "packer" / "locks"

HOST = "https://index.example"
"""In the samples, in the place of the index that served the shelf."""

PROJECT = """\
[project]
name = "program"
version = "1.0"
requires-python = ">=3.9"
dependencies = ["app[more]>=1"]
"""
"""``pyproject.toml`` of what was locked by uv and PDM."""

MAIN = """\
def main():
    import made, two
    print("two", two.VERSION, "made", made.X)
"""


def fill(directory: Path) -> Path:
    """Make a shelf: ``app`` needs ``two``, newer for some Pythons, ``three`` for old ones, and ``made``, a source."""
    directory.mkdir(parents=True)
    index.wheel(
        directory, "app", tag="py2.py3-none-any", files={"app.py": MAIN}, scripts=["app=app:main"],
        requires=["two>=1", "three; python_version < '3.10'", "made", "four; extra == 'more'"], extras=["more"],
    )  # fmt: skip
    two(directory, "1.0", "py2.py3-none-any")
    for minor in range(10, 17):
        two(directory, "2.0", f"cp3{minor}-cp3{minor}-manylinux_2_17_x86_64")
    index.wheel(directory, "three", files={"three.py": "X = 3\n"})
    index.wheel(directory, "four", files={"four.py": "X = 4\n"})
    project = index.project(directory.parent / "made", "made")
    index.sdist(directory, project, "made")
    return directory


def two(directory: Path, version: str, tag: str) -> Path:
    """Make a wheel whose module tells its version."""
    return index.wheel(directory, "two", version, tag=tag, files={"two.py": f"VERSION = {version!r}\n"})


def sample(name: str, url: str) -> str:
    """Give a sample, for an index that is served."""
    return (SAMPLES / f"pylock.{name}.toml").read_text("utf-8").replace(HOST, url.removesuffix("/simple"))


def made_by(tool: str, program: list[str], url: str, work: Path) -> str:
    """Let another tool lock :data:`PROJECT` in a new directory; give the lock."""
    work.mkdir()
    lines = {
        "pip": [["lock", "app[more]", "--index-url", url, "-o", "pylock.toml"]],
        "uv": [
            ["lock", "--default-index", url],
            ["export", "--default-index", url, "--format", "pylock.toml", "--no-emit-project", "-o", "pylock.toml"],
        ],
        "pdm": [["lock"], ["export", "-f", "pylock", "-o", "pylock.toml"]],
    }  # fmt: skip
    source = f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{url}"\n' if tool == "pdm" else ""
    (work / "pyproject.toml").write_text(PROJECT + source, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PDM_"))}
    environment |= {
        "HOME": str(work), "XDG_CACHE_HOME": str(work / "cache"), "PIP_CONFIG_FILE": os.devnull,
        "UV_PYTHON": sys.executable, "UV_NO_CONFIG": "1", "PDM_CHECK_UPDATE": "0", "PDM_IGNORE_SAVED_PYTHON": "1",
    }  # fmt: skip
    for line in lines[tool]:
        ended = subprocess.run(
            [*program, *line], cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    return (work / "pylock.toml").read_text("utf-8")
