"""packer/wheels.py: a wheel becomes the tree an installer would make, relocatable and always the same."""

from __future__ import annotations

import csv
import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import index
from support.skips import skip_optional

from packer import pythons, wheels
from packer.errors import PackError
from packer.files import sha256
from packer.model import EntryKind, Wheel
from packer.wheels import InstalledWheel

SITE = "lib/python/site-packages"


def install(path: Path, into: Path) -> InstalledWheel:
    return wheels.install(Wheel("app", "1.0", path, sha256(path).hex()), into)


def paths(installed: InstalledWheel) -> list[str]:
    return [entry.path for entry in wheels.tree(installed.root)]


def text(installed: InstalledWheel, path: str) -> str:
    return (installed.root / path).read_text()


def refusal(path: Path, into: Path) -> str:
    with pytest.raises(PackError) as caught:
        install(path, into)
    name, _, why = str(caught.value).partition(": ")
    assert name == path.name
    return why


class TestTree:
    def test_schemes_go_where_a_virtual_environment_has_them(self, tmp_path: Path) -> None:
        path = index.wheel(
            tmp_path,
            "my-app",
            scripts=["app = app.cli:main", "other=app:Cli.run"],
            files={
                "app/__init__.py": "",
                "my_app-1.0.data/purelib/pure.py": "",
                "my_app-1.0.data/platlib/plat.py": "",
                "my_app-1.0.data/scripts/tool": b"\x7fELF",
                "my_app-1.0.data/headers/app.h": "",
                "my_app-1.0.data/data/share/man/man1/app.1": "",
                "my_app-1.0.data/data/etc/app.conf": "",
            },
        )
        assert paths(install(path, tmp_path / "root")) == [
            "bin/app",
            "bin/other",
            "bin/tool",
            "etc/app.conf",
            "include/site/python/my_app/app.h",
            f"{SITE}/app/__init__.py",
            f"{SITE}/my_app-1.0.dist-info/INSTALLER",
            f"{SITE}/my_app-1.0.dist-info/METADATA",
            f"{SITE}/my_app-1.0.dist-info/RECORD",
            f"{SITE}/my_app-1.0.dist-info/WHEEL",
            f"{SITE}/my_app-1.0.dist-info/entry_points.txt",
            f"{SITE}/plat.py",
            f"{SITE}/pure.py",
            "share/man/man1/app.1",
        ]

    def test_record_is_right_about_every_file(self, tmp_path: Path) -> None:
        path = index.wheel(
            tmp_path,
            "app",
            scripts=["app = app:main"],
            files={"app.py": "x", "app-1.0.data/data/share/x": "y", "app-1.0.data/scripts/s": "#!python\nprint(1)\n"},
        )
        installed = install(path, tmp_path / "root")
        assert text(installed, f"{SITE}/app-1.0.dist-info/INSTALLER") == "fatpar\n"
        rows = list(csv.reader(text(installed, f"{SITE}/app-1.0.dist-info/RECORD").splitlines()))
        named = {os.path.normpath(f"{SITE}/{row[0]}"): row for row in rows}
        assert sorted(named) == paths(installed)
        for place, (_, digest, size) in named.items():
            if place.endswith("RECORD"):
                assert (digest, size) == ("", "")
                continue
            content = (installed.root / place).read_bytes()
            assert digest == f"sha256={index.record_digest(content)}"
            assert int(size) == len(content)

    def test_entries_carry_what_a_layer_needs(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "empty").mkdir(parents=True)
        (root / "a-b").write_bytes(b"1")
        (root / "a").mkdir()
        (root / "a" / "run").write_bytes(b"22")
        (root / "a" / "run").chmod(0o755)
        (root / "a" / "link").symlink_to("run")
        (root / "\u00e9").write_bytes(b"")
        found = wheels.tree(root)
        assert [entry.path for entry in found] == ["a-b", "a/link", "a/run", "empty", "\u00e9"]
        kinds = [entry.kind for entry in found]
        assert kinds == [EntryKind.FILE, EntryKind.LINK, EntryKind.EXEC, EntryKind.DIR, EntryKind.FILE]
        assert found[1].link == "run"
        assert (found[2].size, found[2].sha256) == (2, hashlib.sha256(b"22").digest())
        assert found[2].source == root / "a" / "run"

    def test_its_bytes_depend_on_the_wheel_alone(self, tmp_path: Path) -> None:
        path = index.wheel(
            tmp_path,
            "app",
            scripts=["app = app:main"],
            files={"app/run": "", "app/data": "", "app-1.0.data/scripts/tool": "#!python\n"},
            modes={"app/run": 0o100755},
        )
        made = []
        for number, mask in enumerate((0o022, 0o077, 0o000)):
            before = os.umask(mask)
            try:
                made.append(install(path, tmp_path / f"place {number}").root)
            finally:
                os.umask(before)
        listings = [[(e.path, e.kind, e.size, e.sha256) for e in wheels.tree(root)] for root in made]
        assert listings[0] == listings[1] == listings[2]
        modes = [sorted((p.relative_to(root), p.stat().st_mode) for p in root.rglob("*")) for root in made]
        assert modes[0] == modes[1] == modes[2]
        everything = b"".join(entry.source.read_bytes() for entry in wheels.tree(made[0]) if entry.source)
        assert str(tmp_path).encode() not in everything

    def test_only_whether_it_can_be_executed_is_kept_of_a_mode(self, tmp_path: Path) -> None:
        modes = {
            "plain.py": 0o100644,
            "run": 0o100700,
            "group": 0o100670,
            "setuid": 0o104755,
            "no-type": 0o755,
            "nothing": 0,
            "unreadable": 0o100000,
            "app-1.0.data/scripts/tool": 0,
        }
        path = index.wheel(tmp_path, "app", files=dict.fromkeys(modes, "x"), modes=modes)
        root = install(path, tmp_path / "root").root
        executable = {p.name for p in root.rglob("*") if p.is_file() and p.stat().st_mode & 0o111}
        assert executable == {"run", "group", "setuid", "no-type", "tool"}
        assert {stat.S_IMODE(p.stat().st_mode) for p in root.rglob("*")} == {0o644, 0o755}

    def test_no_bytecode_and_nothing_of_another_installer(self, tmp_path: Path) -> None:
        files: dict[str, str | bytes] = {
            "app/__init__.py": "",
            "app/__pycache__/__init__.cpython-39.pyc": b"\0",
            "app-1.0.dist-info/INSTALLER": "other",
            "app-1.0.dist-info/REQUESTED": "",
            "app-1.0.dist-info/direct_url.json": '{"url": "file:///home/somebody"}',
        }
        installed = install(index.wheel(tmp_path, "app", files=files), tmp_path / "root")
        assert not any(
            "__pycache__" in path or "REQUESTED" in path or "direct_url" in path for path in paths(installed)
        )
        assert text(installed, f"{SITE}/app-1.0.dist-info/INSTALLER") == "fatpar\n"

    def test_requires_python_is_told(self, tmp_path: Path) -> None:
        first = install(index.wheel(tmp_path, "app", requires_python=">=3.6,!=3.7.1"), tmp_path / "1")
        assert first.requires_python == ">=3.6,!=3.7.1"
        assert install(index.wheel(tmp_path, "other"), tmp_path / "2").requires_python is None

    def test_metadata_need_not_be_utf8(self, tmp_path: Path) -> None:
        latin = "Metadata-Version: 1.0\nName: app\nVersion: 1.0\nAuthor: Andr\u00e9\nRequires-Python: >=2.7\n"
        path = index.wheel(tmp_path, "app", files={"app-1.0.dist-info/METADATA": latin.encode("latin-1")})
        assert install(path, tmp_path / "root").requires_python == ">=2.7"

    def test_an_entry_point_replaces_a_script_of_its_name(self, tmp_path: Path) -> None:
        path = index.wheel(
            tmp_path, "app", scripts=["app = app:main"], files={"app-1.0.data/scripts/app": "#!python\nold\n"}
        )
        assert "from app import main" in text(install(path, tmp_path / "root"), "bin/app")


class TestFaults:
    """What is wrong but harmless is told; what could mean something else is refused. Both name file and wheel."""

    @pytest.mark.parametrize(
        ("record", "warning"),
        [
            ("app-1.0.dist-info/RECORD,,\n", "RECORD does not name a file: app-1.0.dist-info/METADATA and 2 more"),
            (
                "app.py,,\nlost.py,,\napp-1.0.dist-info/METADATA,,\napp-1.0.dist-info/WHEEL,,\n\napp-1.0.dist-info/RECORD,,\n",
                "RECORD names a file that is not there: lost.py",
            ),
            (
                "app.py,sha256=A,1\napp-1.0.dist-info/METADATA,,\napp-1.0.dist-info/WHEEL,,\napp-1.0.dist-info/RECORD,,\n",
                "RECORD has another digest for a file: app.py",
            ),
        ],
    )
    def test_wrong_record(self, tmp_path: Path, record: str, warning: str) -> None:
        path = index.wheel(tmp_path, "app", files={"app.py": "x"}, record=record)
        installed = install(path, tmp_path / "root")
        assert installed.warnings == (f"app-1.0-py3-none-any.whl: {warning}",)
        assert f"{SITE}/app.py" in paths(installed)

    def test_no_record(self, tmp_path: Path) -> None:
        installed = install(index.wheel(tmp_path, "app", files={"app.py": "x"}, omit=["RECORD"]), tmp_path / "root")
        assert installed.warnings == ("app-1.0-py3-none-any.whl: it has no RECORD",)
        assert f"{SITE}/app-1.0.dist-info/RECORD" in paths(installed)

    def test_a_good_wheel_gets_no_warning(self, tmp_path: Path) -> None:
        files = {"app.py": "x", "app-1.0.data/data/x": "y", "app-1.0.data/scripts/s": "#!python\n"}
        assert install(index.wheel(tmp_path, "app", files=files), tmp_path / "root").warnings == ()

    def test_names_that_are_not_normalised(self, tmp_path: Path) -> None:
        odd = tmp_path / "odd.zip"
        with zipfile.ZipFile(odd, "w") as archive:
            archive.writestr("My.App-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
            archive.writestr("My.App-1.0.dist-info/METADATA", "Name: My.App\nVersion: 1.0\n")
            archive.writestr("My.App-1.0.dist-info/RECORD", "")
            archive.writestr("MY_App-1.0.data/scripts/tool", "#!python\n")
        path = odd.rename(tmp_path / "my_app-1.0-py3-none-any.whl")
        assert {"bin/tool", f"{SITE}/My.App-1.0.dist-info/METADATA"} <= set(paths(install(path, tmp_path / "root")))

    def test_symbolic_link(self, tmp_path: Path) -> None:
        path = index.wheel(tmp_path, "app", files={"link": "app.py"}, modes={"link": 0o120777})
        installed = install(path, tmp_path / "root")
        assert (installed.root / SITE / "link").read_text() == "app.py"
        assert not (installed.root / SITE / "link").is_symlink()
        assert installed.warnings == (
            "app-1.0-py3-none-any.whl: a symbolic link, which wheels cannot have, becomes a file: link",
        )

    @pytest.mark.parametrize(
        "member",
        [
            "../out",
            "/etc/x",
            "app/../../../../../out",
            "app//x.py",
            "./app.py",
            "app\\x.py",
            "app-1.0.data/data/../../x",
        ],
    )
    def test_path_that_means_another_place(self, tmp_path: Path, member: str) -> None:
        path = index.wheel(tmp_path, "app", files={member: "x"})
        assert refusal(path, tmp_path / "root" / "deep") == f"a path is not allowed: {member!r}"
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]

    def test_path_that_is_there_twice(self, tmp_path: Path) -> None:
        path = index.wheel(tmp_path, "app")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("app.py", "1")
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("app.py", "2")
        assert refusal(path, tmp_path / "root") == "a path is there twice: 'app.py'"

    def test_two_schemes_with_one_path(self, tmp_path: Path) -> None:
        path = index.wheel(tmp_path, "app", files={"app.py": "1", "app-1.0.data/purelib/app.py": "2"})
        assert refusal(path, tmp_path / "root") == f"it installs {SITE}/app.py twice"

    def test_a_file_where_another_has_a_directory(self, tmp_path: Path) -> None:
        path = index.wheel(tmp_path, "app", files={"app": "1", "app/x.py": "2"})
        assert refusal(path, tmp_path / "root").startswith("cannot install it: ")

    @pytest.mark.parametrize(
        ("files", "why"),
        [
            pytest.param({"app-1.0.data/nowhere/x": ""}, "nowhere", id="scheme"),
            pytest.param(
                {"app-1.0.dist-info/WHEEL": "Wheel-Version: 2.0\nRoot-Is-Purelib: true\n"},
                "Wheel-Version 2.0",
                id="version",
            ),
            pytest.param(
                {"app-1.0.dist-info/entry_points.txt": "[console_scripts]\n../x = a:b\n"},
                "entry_points.txt: not a script's name: '../x'",
                id="script-name",
            ),
            pytest.param(
                {"app-1.0.dist-info/entry_points.txt": "[console_scripts]\nx = a\n"},
                "cannot read entry_points.txt: a script is no module:function",
                id="no-function",
            ),
            pytest.param(
                {"app-1.0.dist-info/entry_points.txt": "x = a:b\n"},
                "cannot read entry_points.txt: File contains",
                id="no-section",
            ),
            pytest.param(
                {"App-2.0.dist-info/METADATA": ""}, "it has several .dist-info directories", id="two-dist-infos"
            ),
        ],
    )
    def test_what_cannot_be_understood(self, tmp_path: Path, files: dict[str, str], why: str) -> None:
        assert why in refusal(index.wheel(tmp_path, "app", files=files), tmp_path / "root")

    @pytest.mark.parametrize("member", ["WHEEL", "METADATA"])
    def test_missing_metadata(self, tmp_path: Path, member: str) -> None:
        assert f"app-1.0.dist-info/{member}" in refusal(index.wheel(tmp_path, "app", omit=[member]), tmp_path / "root")

    def test_damaged(self, tmp_path: Path) -> None:
        path = index.wheel(tmp_path, "app", files={"app.py": "x" * 1000})
        content = path.read_bytes()
        path.write_bytes(content.replace(b"x" * 1000, b"y" * 1000))
        assert refusal(path, tmp_path / "1") == "not a wheel, or damaged: Bad CRC-32 for file 'app.py'"
        path.write_bytes(content[:200])
        assert refusal(path, tmp_path / "2") == "not a wheel, or damaged: File is not a zip file"


SCRIPTS = {
    "plain": b"#!python\nimport sys\nprint(None)\nprint(sys.argv[1:])\n",
    "docstring": b'#!python\n"""Usage: x"""\nimport sys\nprint(__doc__)\nprint(sys.argv[1:])\n',
    "comments": b"#!python -E\n# one\n\n# -- two\n\n'Usage: x'\nimport sys\nprint(__doc__)\nprint(sys.argv[1:])\n",
    "encoding": b"#!python\n# coding: latin-1\nimport sys\nprint(len(u'\xe9') == 1 and None)\nprint(sys.argv[1:])\n",
    "windows": b"#!pythonw\r\n# one\r\n\r\nimport sys\r\nprint(None)\r\nprint(sys.argv[1:])\r\n",
    "windows-doc": b"#!python\r\n\r\n'Usage: x'\r\nimport sys\r\nprint(__doc__)\r\nprint(sys.argv[1:])\r\n",
    "future": b"#!python\nfrom __future__ import print_function\nimport sys\nprint(None, sys.argv[1:], sep='\\n')\n",
    "both": b'#!python\n# one\n\nu"""Usage: x"""\n# two\nfrom __future__ import print_function\n'
    b"import sys\nprint(__doc__.endswith('Usage: x'), sys.argv[1:], sep='\\n')\n",
    "both-windows": b"#!python\r\n# one\r\n\r\n'Usage: x'\r\nfrom __future__ import print_function\r\n"
    b"import sys\r\nprint(__doc__.endswith('Usage: x'), sys.argv[1:], sep='\\n')\r\n",
}
DOCSTRINGS = {
    "docstring": "Usage: x",
    "comments": "Usage: x",
    "windows-doc": "Usage: x",
    "both": "True",
    "both-windows": "True",
}


class TestScripts:
    @pytest.fixture(
        params=[
            "cp27mu",
            "cp35m",
            "cp36m",
            "cp37m",
            "cp38",
            "cp39",
            "cp310",
            "cp311",
            "cp312",
            "cp313",
            "cp314",
            "cp315",
        ]
    )
    def bin(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        """A ``bin`` with one of the interpreters that this machine may have, in a path with surprises."""
        found = [one.path for one in pythons.find() if one.tag == request.param]
        if not found:
            skip_optional(f"no {request.param} interpreter on this machine")
        directory = tmp_path / "a b \u00e9 $x" / "bin"
        directory.mkdir(parents=True)
        (directory / "python").symlink_to(found[0])
        return directory

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_run_with_the_python_beside_them(self, bin: Path, name: str) -> None:  # noqa: A002
        store = bin.parent / "layer"
        store.mkdir()
        (store / "x").write_bytes(wheels.relocatable(SCRIPTS[name]))
        (store / "x").chmod(0o755)
        (bin / "x").symlink_to(store / "x")
        doc = DOCSTRINGS.get(name, "None")
        for command, where in ((str(bin / "x"), None), ("./x", bin), ("bin/x", bin.parent)):
            done = subprocess.run([command, "a b", "$HOME"], capture_output=True, text=True, cwd=where, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{doc}\n['a b', '$HOME']\n", "")

    def test_an_entry_point_runs_and_can_be_imported(self, bin: Path, tmp_path: Path) -> None:  # noqa: A002
        code = "import sys\nclass Cli:\n    @staticmethod\n    def run():\n        print(sys.argv)\n        return 3\n"
        path = index.wheel(
            tmp_path, "app", scripts=["my.app = app.cli:Cli.run"], files={"app/__init__.py": "", "app/cli.py": code}
        )
        installed = install(path, tmp_path / "root")
        (bin / "my.app").symlink_to(installed.root / "bin" / "my.app")
        environment = {**os.environ, "PYTHONPATH": str(installed.root / SITE), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [bin / "my.app", "--flag"],
            capture_output=True,
            env={**environment, "PYTHONIOENCODING": "utf-8"},
            check=False,
        )
        assert done.returncode == 3
        assert done.stderr == b""
        assert b"my.app', '--flag']" in done.stdout
        spawned = f"import runpy; runpy.run_path({str(installed.root / 'bin' / 'my.app')!r}, run_name='__mp_main__')"
        done = subprocess.run([bin / "python", "-c", spawned], capture_output=True, env=environment, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    def test_every_shell_here_can_start_one(self, tmp_path: Path) -> None:
        (tmp_path / "python").symlink_to(sys.executable)
        (tmp_path / "x").write_bytes(wheels.relocatable(SCRIPTS["both"]))
        tried = 0
        for shell in (["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"], ["ksh"], ["zsh"]):
            try:
                done = subprocess.run([*shell, str(tmp_path / "x")], capture_output=True, text=True, check=False)
            except FileNotFoundError:
                continue
            tried += 1
            assert (done.stdout, done.stderr) == ("True\n[]\n", ""), shell
        assert tried

    def test_can_be_told_from_other_programs(self, tmp_path: Path) -> None:
        for script in SCRIPTS.values():
            assert wheels.is_relocatable(wheels.relocatable(script))
        assert not wheels.is_relocatable(b"#!/bin/sh\nexec python -m app\n")
        assert not wheels.is_relocatable(b"\x7fELF")

    def test_other_scripts_stay_as_they_are(self, tmp_path: Path) -> None:
        script = "#!/usr/bin/env python\nprint(1)\n"
        path = index.wheel(tmp_path, "app", files={"app-1.0.data/scripts/tool": script})
        assert text(install(path, tmp_path / "root"), "bin/tool") == script
