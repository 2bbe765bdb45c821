"""packer/reproduce.py: the first difference of two archives is named, and what is not the same is not written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import archives, index

from packer import progress, reproduce
from packer.config import Config
from packer.errors import PackError
from packer.packchild import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

SLICE = "cp311-manylinux_2_17_x86_64"
LAYER = f"{SLICE}: modules-1.0-py2.py3-none-any"


def written(root: Path, name: str, modules: Mapping[str, str], **more: Any) -> Path:
    (root / name).mkdir()
    tags = more.pop("tags", ("cp311",))
    return archives.write(root / f"{name}.fat", root / name, modules, tools={"t": "a:main"}, tags=tags, **more)


@pytest.mark.parametrize(
    ("other", "more", "said"),
    [
        ({"a.py": "1", "b.py": "2"}, {}, None),
        ({"a.py": "1", "b.py": "22"}, {}, f"{LAYER}: lib/python/site-packages/b.py differs at byte 1"),
        ({"a.py": "1", "b.py": "3"}, {}, f"{LAYER}: lib/python/site-packages/b.py differs at byte 0"),
        ({"a.py": "1"}, {}, f"{LAYER}: lib/python/site-packages/b.py is only in the first"),
        ({"a.py": "1", "a2.py": "", "b.py": "3"}, {}, f"{LAYER}: lib/python/site-packages/a2.py is only in the second"),
        (
            {"a.py": "1", "b.py": "2"}, {"tags": ("cp311", "cp39")},
            f"slices {SLICE}, and then {SLICE}, cp39-manylinux_2_17_x86_64",
        ),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(
    other: Mapping[str, str], more: dict[str, Any], said: str | None, tmp_path: Path
) -> None:
    one = written(tmp_path, "one", {"a.py": "1", "b.py": "2"})
    found = next(reproduce._differences(one, written(tmp_path, "other", other, **more), tmp_path), None)
    assert found == said


def test_modes_count(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("")
    (tmp_path / "other/x").chmod(0o755)
    (tmp_path / "one/x").chmod(0o644)
    assert [*reproduce._files(tmp_path / "one", tmp_path / "other")] == ["x has another mode, or leads elsewhere"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the working directory, which is new."""
    index.forget_pip_configuration(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return index.project(tmp_path / "project", "project")


def pack_twice(name: str) -> Path:
    config = Config(inputs=("./project",), module="project", no_index=True, output=Path(name), fast=True)
    request = Request(Path.cwd(), config, None, (), 60, twice=True)
    job, _ = reproduce.job_of(request)
    made = reproduce.packed(job, request, progress.Quiet())
    assert made.notes[-1] == "packed twice, the same bytes"
    return made.written.path


def test_what_is_the_same_is_written(project: Path) -> None:
    assert pack_twice("tool") == Path("tool")
    assert Path("tool").stat().st_mode & 0o111


def test_what_a_build_takes_from_where_it_is_built_is_found(project: Path) -> None:
    backend = project / "backend.py"
    said = "    files = dict(FILES)\n"
    text = backend.read_text().replace(said, f"{said}    files['made'] = time.tzname[0]\n")
    backend.write_text(f"import time\n{text}")
    Path("tool").write_text("the one before")
    with pytest.raises(PackError) as caught:
        pack_twice("tool")
    assert " packed again it is not the same: " in str(caught.value)
    assert "project-1.0" in str(caught.value)
    assert "site-packages/made differs at byte" in str(caught.value)
    assert Path("tool").read_text() == "the one before"
    assert sorted(path.name for path in Path().iterdir()) == ["cache", "project", "tool"]
