"""packer/pinned.py: what is pinned with digests is resolved once; anything else each time."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from support import index

from packer import facts, resolve
from packer.errors import PackError
from packer.model import Platform, Resolution, Target
from packer.requests import Requests
from packer.targets import running_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CP39, CP311 = (Target(facts.pythons()[tag].abi, Platform("glibc", (2, 17), "x86_64")) for tag in ("cp39", "cp311"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the targets for which pip was run."""
    index.forget_pip_configuration(monkeypatch)
    found: list[str] = []
    run_pip = resolve._run_pip

    def run(arguments: list[str], target: Target, *rest: Any, **more: Any) -> Any:
        found.append(target.python.tag)
        return run_pip(arguments, target, *rest, **more)

    monkeypatch.setattr(resolve, "_run_pip", run)
    return found


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    """``one`` needs ``two``."""
    (tmp_path / "shelf").mkdir()
    return [index.wheel(tmp_path / "shelf", "one", requires=["two"]), index.wheel(tmp_path / "shelf", "two")]


def line(wheel: Path, marker: str = "") -> str:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{wheel.name.partition('-')[0]}==1.0{marker} --hash=sha256:{digest}\n"


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, wheels: list[Path], asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The index, where pip's own configuration has it: a directory that is named is asked each time."""
    assert wheels
    assert not asked
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(f"[global]\nfind-links = {tmp_path / 'shelf'}\nno-index = true\n")


def run(tmp_path: Path, text: str, *targets: Target, **more: Any) -> tuple[Resolution, ...]:
    (tmp_path / "lock.txt").write_text(text)
    requests = Requests(files=(tmp_path / "lock.txt",), **more)
    return resolve.resolve(requests, targets or (CP39,), cache=tmp_path / "cache", progress=lambda _: None)


def test_pip_is_asked_once_for_each_target(tmp_path: Path, wheels: list[Path], asked: list[str]) -> None:
    text = "# made by hand\n\n" + "".join(map(line, wheels)).replace(" --hash", " \\\n    --hash")
    first = run(tmp_path, text)
    shutil.rmtree(tmp_path / "shelf")
    assert run(tmp_path, text) == first
    assert asked == ["cp39"]
    assert [wheel.distribution for wheel in first[0].wheels] == ["two", "one"]
    with pytest.raises(PackError):
        run(tmp_path, text, CP311)
    assert asked == ["cp39", "cp311"]


def test_markers_are_judged_for_each_target(tmp_path: Path, wheels: list[Path], asked: list[str]) -> None:
    text = line(wheels[1]) + line(wheels[0], " ; python_version < '3.10'")
    for _ in range(2):
        found = run(tmp_path, text, CP39, CP311)
        assert [[wheel.distribution for wheel in one.wheels] for one in found] == [["two", "one"], ["two"]]
    assert sorted(asked) == ["cp311", "cp39"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("==1.0", ">=1.0"),
        lambda text: text.replace("==1.0", "==1.*"),
        lambda text: "".join(line.partition(" --hash")[0] + "\n" for line in text.splitlines()),
        lambda text: "--prefer-binary\n" + text,
        lambda text: "# a comment that pip does not join \\\ntwo\n" + text,
        lambda text: text.replace("==1.0", "==1.0 ; python_version < '${NEXT}'"),
    ],
    ids=["newer", "any", "no digest", "option", "comment", "variable"],
)
def test_what_may_be_another_the_next_time_is_asked_for_again(
    tmp_path: Path, wheels: list[Path], asked: list[str], change: Callable[[str], str]
) -> None:
    text = change("".join(map(line, wheels)))
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(str(run(tmp_path, text)))
        except PackError as error:  # pip wants == where there are digests
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert asked == ["cp39", "cp39"]


def test_another_constraint_is_another_question(tmp_path: Path, wheels: list[Path], asked: list[str]) -> None:
    text, constraints = "".join(map(line, wheels)), tmp_path / "constraints.txt"
    run(tmp_path, text)
    constraints.write_text("two<2\n")
    for _ in range(2):
        run(tmp_path, text, constraints=(constraints,))
    assert len(asked) == 2
    constraints.write_text("-c more.txt\n")
    (tmp_path / "more.txt").write_text("two<2\n")
    for _ in range(2):
        run(tmp_path, text, constraints=(constraints,))
    assert len(asked) == 4


def test_other_settings_of_pip_are_another_question(
    tmp_path: Path, wheels: list[Path], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One distribution is missing, which pip does not allow where digests are demanded, but with --no-deps."""
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    (one,) = run(tmp_path, line(wheels[0]))
    assert [wheel.distribution for wheel in one.wheels] == ["one"]
    monkeypatch.delenv("PIP_NO_DEPS")
    with pytest.raises(PackError):
        run(tmp_path, line(wheels[0]))
    assert len(asked) == 2
    run(tmp_path, "".join(map(line, wheels)))
    (tmp_path / "pip.conf").write_text((tmp_path / "pip.conf").read_text() + "# edited\n")
    run(tmp_path, "".join(map(line, wheels)))
    assert len(asked) == 4


def test_a_directory_that_is_named_is_looked_into_each_time(
    tmp_path: Path, wheels: list[Path], asked: list[str]
) -> None:
    for _ in range(2):
        run(tmp_path, "".join(map(line, wheels)), find_links=(str(tmp_path / "shelf"),))
        run(tmp_path, "".join(map(line, wheels)), level_wheels=((1, str(tmp_path / "shelf")),))
    assert len(asked) == 4


def test_a_wheel_that_is_not_what_it_was_is_fetched_again(tmp_path: Path, wheels: list[Path], asked: list[str]) -> None:
    text = "".join(map(line, wheels))
    first = run(tmp_path, text)
    kept = first[0].wheels[0].path
    whole = kept.read_bytes()
    kept.chmod(0o644)
    for damage in (lambda: kept.write_bytes(b"another"), kept.unlink):
        before = len(asked)
        damage()
        assert run(tmp_path, text) == first
        assert (len(asked), kept.read_bytes()) == (before + 1, whole)


def test_what_was_built_is_taken_where_it_would_be_built_alike(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist = index.sdist(tmp_path / "shelf", index.project(tmp_path / "project", "app"), "app")
    running = running_target()
    first = run(tmp_path, line(sdist), running)
    before = len(asked)
    assert run(tmp_path, line(sdist), running) == first
    assert len(asked) == before
    monkeypatch.setenv("APP_FLAVOUR", "sweet")
    (other,) = run(tmp_path, line(sdist), running)
    assert other.wheels[0].path != first[0].wheels[0].path
