"""packer/workspace.py: every key arrives, every mistake is named; packer/share.py: what archives have in common."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from support import archives

from packer import cli_workspace, share, workspace
from packer.config import Config
from packer.errors import PackError, UsageError

WHOLE = """\
output = "dist"

[settings]
abis = ["manylinux2014", "cp39"]
trim = true
find-links = ["wheels"]
exclude = ["*/tests/*"]
labels = { team = "payments" }

[libraries]
openssl = "3.0.15"

[tools.http]
requirements = ["httpie", "./plugin"]
console-script = "http"

[tools.admin]
entry = "admin.cli:main"
exclude = []
trim = false
labels = { tier = "2" }
output = "elsewhere/admin-tool"
"""


def written(root: Path, text: str) -> Path:
    (root / "tools.toml").write_text(text)
    return root / "tools.toml"


def test_every_key_arrives(tmp_path: Path) -> None:
    """Paths in settings stay as they are: packing is done in the file's directory."""
    found = workspace.read(written(tmp_path, WHOLE))
    shared: dict[str, Any] = {"abis": "manylinux2014,cp39", "find_links": ("wheels",)}
    http = Config(
        inputs=("httpie", "./plugin"), console_script="http", trim=True, exclude=("*/tests/*",),
        label=("team=payments",), **shared,
    )  # fmt: skip
    # an empty list says nothing, as in pyproject.toml
    admin = Config(
        entry="admin.cli:main", trim=False, label=("tier=2", "team=payments"), exclude=("*/tests/*",), **shared
    )
    assert found.tools == (
        workspace.Tool("http", http, tmp_path / "dist/http"),
        workspace.Tool("admin", admin, tmp_path / "elsewhere/admin-tool"),
    )
    assert (found.path, found.directory) == (tmp_path / "tools.toml", tmp_path)
    assert found.pins == {"openssl": "3.0.15"}


def test_tools_are_chosen_by_name_and_the_command_line_wins(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    spoken = Config(abis="cp313", label=("team=x",), fast=True)
    (one,) = workspace.read(path, ["admin"], spoken).tools
    assert (one.name, one.config.abis, one.config.fast) == ("admin", "cp313", True)
    assert one.config.label == ("team=x", "tier=2")
    with pytest.raises(UsageError) as caught:
        workspace.read(path, ["amdin"])
    assert (str(caught.value), caught.value.hint) == (
        f"{path}: tool amdin: there is no such key", "did you mean admin?",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "no tools: write a table [tools.NAME] for each", ""),
        ("[tool.x]\n[tools.x]", "tool: there is no such key", "did you mean tools?"),
        ("as_one = 'x'\n[tools.x]", "as_one: there is no such key", "did you mean as-one?"),
        ("tools = 1", "[tools]: must be a table, is 1", ""),
        ("[tools]\nx = 1", "[tools.x]: must be a table, is 1", ""),
        ("[tools.'a/b']", "not a tool's name: 'a/b': it must be able to name a file and a command", ""),
        ("[tools.x]\nabi = 'cp39'", "[tools.x] abi: there is no such key", "did you mean abis?"),
        ("[tools.x]\ntrim = 1", "[tools.x] trim: must be true or false, is 1", ""),
        ("[settings]\ntrims = true\n[tools.x]", "[settings] trims: there is no such key", "did you mean trim?"),
        ("[settings]\nentry = 'a:b'\n[tools.x]", "[settings] entry: that is for each tool to say", ""),
        ("[settings]\nconsole-script = 'a'\n[tools.x]", "[settings] console-script: that is for each tool to say", ""),
        ("[settings]\noutput = 'x'\n[tools.x]", "[settings] output: that is for each tool to say", ""),
        ("output = 3\n[tools.x]", "output: must be a string, is 3", ""),
        ("libraries = 3\n[tools.x]", "[libraries]: must be a table, is 3", ""),
        ("libraries = {a = 3}\n[tools.x]", "[libraries] a: must be a string, is 3", ""),
        ("[tools.x]\noutput = 'y'\n[tools.y]", "[tools.y] output: {}/y is where x goes", ""),
        ("as-one = ''\n[tools.x]", "as-one: must be a string, is ''", ""),
        ("as-one = 'a b'\n[tools.x]", "not a tool's name: 'a b': it must be able to name a file and a command", ""),
        (
            "as-one = 'k'\n[tools.x]\nlabels = {a = 'b'}",
            "[tools.x] labels: as-one makes one archive, which has one for all tools", "write it below [settings]",
        ),
        (
            "as-one = 'k'\n[tools.x]\nmodule = 'm'", "[tools.x] module m: as-one takes functions and commands alone",
            "write entry = 'MODULE:FUNCTION' or console-script",
        ),
        (
            "as-one = 'k'\n[tools.x]\nrequirements = ['s.py']",
            "[tools.x] a script: as-one takes functions and commands alone",
            "write entry = 'MODULE:FUNCTION' or console-script",
        ),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:40],
)  # fmt: skip
def test_a_mistake_names_file_key_and_what_is_right(text: str, message: str, hint: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        workspace.read(path)
    assert (str(caught.value), caught.value.hint) == (f"{path}: {message.format(tmp_path)}", hint)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = """\
otput = "dist"
[settings]
trims = true
[libraries]
a = 3
[tools.x]
abi = "cp39"
trim = 1
[tools.y]
requirements = ["y.py"]
[tools.z]
output = "y"
[tools.w]
output = "y/w"
[tools.v]
output = "y.py"
[tools.u]
output = "there"
[tools.t]
output = "tools.toml"
"""
    (tmp_path / "there").mkdir()
    (tmp_path / "y.py").write_text("")
    path = written(tmp_path, text)

    def check(tool: workspace.Tool) -> None:
        if tool.name in ("y", "u"):
            raise PackError("it cannot be", "say more")

    with pytest.raises(UsageError) as caught:
        workspace.read(path, check=check)
    assert str(caught.value).replace(f"{path}: ", "").replace(f"{tmp_path}/", "").splitlines() == [
        "otput: there is no such key (did you mean output?)",
        "[settings] trims: there is no such key (did you mean trim?)",
        "[libraries] a: must be a string, is 3",
        "[tools.x] abi: there is no such key (did you mean abis?)",
        "[tools.x] trim: must be true or false, is 1",
        "[tools.z] output: y is where y goes",
        "[tools.w] output: y/w and y of y: a file has nothing inside",
        '[tools.v] output: y.py is what tools are made from (output = "FILE" names another)',
        '[tools.u] output: there is a directory (output = "FILE" names another)',
        '[tools.t] output: tools.toml is what tools are made from (output = "FILE" names another)',
        "[tools.y], [tools.u] it cannot be (say more)",
    ]
    assert caught.value.hint == ""


def test_outputs_that_nobody_can_write_are_among_the_mistakes(tmp_path: Path) -> None:
    outputs = {"v": "/dev/null", "w": "circle", "x": "/proc/no/v", "y": "tools.toml/y", "z": "new/deep/z"}
    path = written(tmp_path, "".join(f"[tools.{name}]\noutput = '{to}'\n" for name, to in outputs.items()) + "[a]\n")
    (tmp_path / "circle").symlink_to("circle")
    options = Namespace(workspace=str(path), verify_reproducible=False, timeout=60.0, quiet=True)
    with pytest.raises(UsageError) as caught:
        cli_workspace.pack(options, Config(inputs=("v", "w", "x", "y", "z")))
    said = str(caught.value).replace(f"{path}: ", "").replace(f"{tmp_path}/", "").splitlines()
    other = " (name another file with output)"
    assert said[1:5] == [
        f"[tools.v] output: cannot write /dev/null: it is a device or the like{other}",
        f"[tools.w] output: cannot write circle: Too many levels of symbolic links{other}",
        f"[tools.x] output: cannot write /proc/no: No such file or directory{other}",
        f"[tools.y] output: cannot write tools.toml/y: Not a directory{other}",
    ]
    assert said[0].startswith("a: there is no such key")
    assert said[5].startswith("[tools.v], [tools.w], [tools.x], [tools.y], [tools.z] nothing to pack")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["circle", "tools.toml"]


def test_a_requirement_is_no_file_that_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("packed before")
    (one,) = workspace.read(written(tmp_path, "[tools.x]\nrequirements = ['x']")).tools
    assert one.output == tmp_path / "x"


def test_a_file_that_is_not_there_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*tools\.toml: there is no such file"):
        workspace.read(tmp_path / "tools.toml")
    with pytest.raises(UsageError, match=r"cannot read .*tools\.toml: .*line 1, column 1"):
        workspace.read(written(tmp_path, "= 1"))


def test_a_lock_is_for_all(tmp_path: Path) -> None:
    path = written(tmp_path, "lock = 'pylock.toml'\n[tools.x]\n[tools.y]")
    assert {one.config.lock for one in workspace.read(path).tools} == {Path("pylock.toml")}
    path = written(tmp_path, "lock = 'pylock.toml'\n[settings]\nlock = 'another.toml'\n[tools.x]")
    with pytest.raises(UsageError, match=r"lock and \[settings\] lock: only one of them can be"):
        workspace.read(path)


def test_what_one_lock_is_made_from(tmp_path: Path) -> None:
    text = """\
lock = "pylock.toml"
[settings]
abis = "cp39"
[tools.one]
requirements = ["x", "one"]
[tools.two]
requirements = ["x", "./two"]
constraint = ["c.txt"]
"""
    found = workspace.requirements(workspace.read(written(tmp_path, text)))
    assert found == Config(
        lock=Path("pylock.toml"), abis="cp39", inputs=("x", "one", "./two"), constraint=(Path("c.txt"),)
    )  # fmt: skip
    path = written(tmp_path, f'{text}abis = "cp311"\n')
    with pytest.raises(UsageError, match=r"tools\.toml: one and two do not have the same abis"):
        workspace.requirements(workspace.read(path))
    with pytest.raises(UsageError, match=r"tools\.toml: it names no lock"):
        cli_workspace.locking(written(tmp_path, "[tools.one]\nrequirements = ['x']"), Config())


def test_tools_become_one(tmp_path: Path) -> None:
    text = """\
as-one = "kit"
[settings]
fast = true
exclude = ["a"]
[tools.one]
requirements = ["shared", "first"]
exclude = ["b"]
[tools.two]
requirements = ["shared", "second"]
entry = "second:main"
tool = { more = "second:more" }
[tools.three]
console-script = "third"
"""
    (kit,) = workspace.read(written(tmp_path, text)).tools
    assert (kit.name, kit.output) == ("kit", tmp_path / "kit")
    assert kit.config == Config(
        inputs=("shared", "first", "second"), fast=True, exclude=("a", "b"),
        tool=("one=one", "two=second:main", "more=second:more", "three=third"),
    )  # fmt: skip
    (kit,) = workspace.read(tmp_path / "tools.toml", ["three"]).tools
    assert (kit.name, kit.config.inputs, kit.config.tool) == ("kit", (), ("three=third",))


# What they share --------------------------------------------------------------------------------------------------


def test_what_archives_share(tmp_path: Path) -> None:
    paths = []
    for name, tags in (("one", ("cp39", "cp311")), ("two", ("cp311",)), ("three", ("cp311",))):
        (tmp_path / f"{name}.d").mkdir()
        text = "x" * 1000 if name != "three" else "y" * 50
        modules = {"app.py": text}
        paths.append(
            archives.write(tmp_path / name, tmp_path / f"{name}.d", modules, tools={name: "app:main"}, tags=tags)
        )
    shared = share.measure(paths)
    (layer,) = shared["layers"]
    assert (layer["name"], layer["size"], layer["archives"]) == ("modules-1.0-py2.py3-none-any", 1000, 2)
    assert shared["files"]["size"] == sum(path.stat().st_size for path in paths)
    assert 0 < shared["files"]["again"] < 1000
    (cp311,) = shared["slices"]  # cp39 is in one alone
    app = [cp311["separately"] - 2050, cp311["once"] - 1050]
    assert (cp311["name"], cp311["archives"]) == ("cp311-manylinux_2_17_x86_64", 3)
    assert app[0] == app[1] > 0
    assert share.text(shared).splitlines()[0] == "shared layers: 1, 1,000 bytes unpacked"


def test_archives_that_share_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.d").mkdir()
        tags = ("cp39",) if name == "one" else ("cp311",)
        archives.write(tmp_path / name, tmp_path / f"{name}.d", {"app.py": name}, tags=tags)
    shared = share.measure([tmp_path / "one", tmp_path / "two"])
    assert (shared["layers"], shared["slices"], shared["files"]["again"]) == ([], [], 0)
