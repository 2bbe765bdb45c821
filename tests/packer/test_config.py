"""``[tool.packer]``: every key arrives, every mistake is named, the command line wins."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from packer.config import Config, merge, read
from packer.errors import UsageError

WHOLE = """\
[project]
name = "mytool"

[tool.other]
abis = 3

[tool.packer]
requirements = [".", "httpie>=3"]
requirement = ["requirements.txt"]
constraint = ["lock/constraints.txt"]
include = ["data:share", "/etc/x:y"]
abis = ["manylinux2014", "cp39"]
arch = ["x86_64"]
entry = "mytool.cli:main"
index-url = "https://example.invalid/simple"
extra-index-url = ["https://example.invalid/more"]
find-links = ["wheels", "https://example.invalid/wheels", "/abs", "file:///x"]
runtime = ["cp39=pythons/3.9", "cp311=/opt/python", "cp313"]
level-wheels = ["v3=wheels-v3"]
no-index = true
fast = true
output = "dist/mytool"

[tool.packer.labels]
team = "payments"

[tool.packer.tool]
mytool = "mytool.cli:main"
helper = "helper"
"""


def project(root: Path, text: str) -> Path:
    (root / "pyproject.toml").write_text(text, "utf-8")
    return root


def test_every_key_arrives_and_paths_count_from_the_file(tmp_path: Path) -> None:
    assert read(project(tmp_path, WHOLE)) == Config(
        inputs=(".", "httpie>=3"),
        requirement=(tmp_path / "requirements.txt",),
        constraint=(tmp_path / "lock/constraints.txt",),
        include=(f"{tmp_path}/data:share", "/etc/x:y"),
        abis="manylinux2014,cp39",
        arch=("x86_64",),
        entry="mytool.cli:main",
        tool=("mytool=mytool.cli:main", "helper=helper"),
        index_url="https://example.invalid/simple",
        extra_index_url=("https://example.invalid/more",),
        runtime=(f"cp39={tmp_path}/pythons/3.9", "cp311=/opt/python", "cp313"),
        level_wheels=(f"v3={tmp_path}/wheels-v3",),
        find_links=(f"{tmp_path}/wheels", "https://example.invalid/wheels", "/abs", "file:///x"),
        no_index=True,
        fast=True,
        label=("team=payments",),
        output=tmp_path / "dist/mytool",
    )


def test_in_the_working_directory_paths_stay_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, WHOLE))
    config = read(Path())
    assert config is not None
    assert config.output == Path("dist/mytool")
    assert config.find_links[0] == "wheels"


def test_abis_may_be_written_as_on_the_command_line(tmp_path: Path) -> None:
    config = read(project(tmp_path, "[tool.packer]\nabis = 'manylinux2014,cp39'\nmodule = 'x'\n"))
    assert config == Config(abis="manylinux2014,cp39", module="x")


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[tool.other]\nx = 1\n", "[tool.packer]\n"])
def test_a_file_without_settings_says_nothing(text: str, tmp_path: Path) -> None:
    assert read(project(tmp_path, text)) == Config()


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("abi = 'cp39'", "[tool.packer] abi: there is no such key", "did you mean abis?"),
        ("console_script = 'x'", "[tool.packer] console_script: there is no such key", "did you mean console-script?"),
        ("inputs = ['.']", "[tool.packer] inputs: there is no such key", None),
        ("abis = 39", "[tool.packer] abis: must be a string, is 39", ""),
        ("abis = ['cp39', 3]", "[tool.packer] abis: must be a string, is 3", ""),
        ("arch = 'x86_64'", "[tool.packer] arch: must be a list of strings, is 'x86_64'", ""),
        ("output = ['x']", "[tool.packer] output: must be a string, is ['x']", ""),
        ("no-index = 'yes'", "[tool.packer] no-index: must be true or false, is 'yes'", ""),
        ("no-index = 1", "[tool.packer] no-index: must be true or false, is 1", ""),
        ("find-links = 'wheels'", "[tool.packer] find-links: must be a list of strings, is 'wheels'", ""),
        ("tool = ['a=b']", "[tool.packer] tool: must be a table, is ['a=b']", ""),
        ("label = {}", "[tool.packer] label: there is no such key", "did you mean labels?"),
        ("labels = {a = true}", "[tool.packer] labels.a: must be a string, is True", ""),
        ("tool = {a = 1}", "[tool.packer] tool.a: must be a string, is 1", ""),
        (
            "entry = 'a:b'\nconsole-script = 'c'",
            "[tool.packer] entry and console-script: only one of them can say what runs",
            "",
        ),
    ],
    ids=lambda value: str(value).split("\n")[0],
)
def test_a_mistake_names_file_key_and_what_is_right(text: str, message: str, hint: str | None, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read(project(tmp_path, f"[tool.packer]\n{text}\n"))
    assert str(error.value) == f"{tmp_path}/pyproject.toml: {message}"
    if hint is None:
        assert error.value.hint.startswith("known are abis, accept, arch, build-in, bundle, bytecode, cc, ")
    else:
        assert error.value.hint == hint


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\npacker = 'x'"])
def test_tables_that_are_none_are_mistakes(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pyproject\.toml: \[tool(\.packer)?\]: must be a table, is"):
        read(project(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*pyproject\.toml: .*line 2, column 1"):
        read(project(tmp_path, "a = 1\n= 2\n"))
    (tmp_path / "pyproject.toml").write_bytes(b"a = '\xff'\n")
    with pytest.raises(UsageError, match=r"cannot read .*pyproject\.toml: .*utf-8"):
        read(tmp_path)
    (tmp_path / "pyproject.toml").unlink()
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*pyproject\.toml: Is a directory"):
        read(tmp_path)


def test_the_command_line_wins_option_by_option() -> None:
    written = Config(inputs=(".",), abis="cp39", arch=("aarch64",), index_url="https://a.invalid", fast=True)
    spoken = Config(abis="cp313", arch=("x86_64",), output=Path("x"))
    assert merge(spoken, written) == Config(
        inputs=(".",), abis="cp313", arch=("x86_64",), index_url="https://a.invalid", fast=True, output=Path("x")
    )


def test_the_command_line_can_say_everything() -> None:
    one = Config(*((f"same={field.name} a",) for field in fields(Config)))  # type: ignore[arg-type]
    other = Config(*((f"same={field.name} b",) for field in fields(Config)))  # type: ignore[arg-type]
    assert merge(one, other) == one
    assert merge(Config(), other) == other


def test_labels_are_said_one_by_one() -> None:
    spoken, written = Config(label=("a=1", "b=2")), Config(label=("b=3", "c=4=5"))
    assert merge(spoken, written).label == ("a=1", "b=2", "c=4=5")
    assert merge(Config(), written).label == written.label


@pytest.mark.parametrize("spoken", [Config(entry="a:b"), Config(module="a"), Config(tool=("x=y",))])
def test_what_runs_is_taken_from_one_place(spoken: Config) -> None:
    written = Config(console_script="c", tool=("c=d",), abis="cp39")
    merged = merge(spoken, written)
    assert merged.console_script is None
    assert (merged.entry, merged.module, merged.tool) == (spoken.entry, spoken.module, spoken.tool)
    assert merged.abis == "cp39"
