"""packer/bytecode.py: bytecode that the target's interpreter takes for its own, the same whoever makes it."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from support.layers import SITE, Content, write_tree
from support.skips import skip_optional

from packer import bytecode, compilechild, facts, process, pythons
from packer.errors import PackError
from packer.files import sha256
from packer.layers import layer, tree
from packer.model import Entry, EntryKind, Layer, LayerKind
from packer.targets import running_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUNNING = running_target().python

TAGS = [tag for tag, python in facts.pythons().items() if python.cache_tag]

MODULES: dict[str, Content] = {
    "package/__init__.py": "",
    "package/many.py": "".join(f"def name{n}(value{n}): return {{'name{n}', 'b', 'c', 1.5, {n}}}\n" for n in range(99)),
    "package/uses.py": "from package.many import name1, name2\nclass name3:\n    'name4'\n    path = 'name5'\n",
    "package/sets.py": "def known(x):\n    return x in {'one', 'two', 'three', b'four', 5, 6.5, ('seven', 8)}\n"
    "def flips(x):\n    return x in {'mixed', 'ISO8601'}\n",
    "package/latin.py": "# coding: latin-1\nTEXT = '\u00e4\u00f6'\n".encode("latin-1"),
    "package/n\u00e4me.py": "TEXT = '\u20ac'\n",
    "space/inner/module.py": "import os\nPATH = os.path.join('a', 'b')\n",
    "top.py": "def fail():\n    raise KeyError('top')\n",
}
"""Below site-packages."""


def interpreter(tag: str) -> pythons.Interpreter:
    found = next((one for one in pythons.find() if one.tag == tag), None)
    return found or skip_optional(f"no {tag} interpreter is here")


def make(root: Path, modules: Mapping[str, Content], **others: Content) -> Layer:
    """Make a layer of files in ``root``, modules below site-packages."""
    root.mkdir(parents=True)
    write_tree({**{f"{SITE}/{path}": content for path, content in modules.items()}, **others}, root)
    return layer("demo-1.0", LayerKind.WHEEL, tree(root))


def compiled(of: Layer, cache: Path, tag: str = RUNNING.tag) -> Layer:
    return bytecode.compile_layers([of], facts.pythons()[tag].abi, interpreter(tag), cache)[of.digest]


def contents(made: Layer) -> dict[str, bytes]:
    return {entry.path: entry.source.read_bytes() for entry in made.entries if entry.source}


def install(of: Layer, made: Layer, root: Path) -> Path:
    """Put both layers on disk as a store does, and give site-packages."""
    for entry in of.entries:
        assert entry.source is not None
        at = root / entry.path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(entry.source.read_bytes())
        os.utime(at, (compilechild.MODIFIED, compilechild.MODIFIED))
    for path, content in contents(made).items():
        at = root / os.path.dirname(path) / "__pycache__" / os.path.basename(path)
        at.parent.mkdir(exist_ok=True)
        at.write_bytes(content)
    return root / SITE


def python(tag: str, site: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code that may import what is in ``site``; the interpreter keeps bytecode where it finds none valid."""
    command = [str(interpreter(tag).path), "-S", "-c", code]
    environment = {"PYTHONPATH": str(site), "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def forbid_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError(arguments, options)

    monkeypatch.setattr(process, "run", refuse)


class TestLayer:
    def test_entries_stand_where_pycache_of_the_layer_leads(self, tmp_path: Path) -> None:
        others: dict[str, Content] = {"bin/script.py": "", f"{SITE}/package/data.txt": "", "boot/main.py": ""}
        others["app/beside.py"] = ""  # a script's own modules
        of = make(tmp_path / "layer", {**MODULES, "dotted.name.py": ""}, **others)
        made = compiled(of, tmp_path / "cache")
        tag = bytecode.cache_tag(RUNNING)
        wanted = [f"{SITE}/{path.removesuffix('.py')}.{tag}.pyc" for path in (*MODULES, "dotted.name.py")]
        wanted.append(f"app/beside.{tag}.pyc")
        assert [entry.path for entry in made.entries] == sorted(wanted, key=os.fsencode)
        assert (made.kind, made.of, made.tag, made.name) == (LayerKind.BYTECODE, of, tag, f"demo-1.0 {tag}")
        assert len(made.digest) == 32
        for entry in made.entries:
            assert entry.kind is EntryKind.FILE
            assert entry.source is not None
            assert tmp_path / "cache" in entry.source.parents
            assert (entry.size, entry.sha256) == (entry.source.stat().st_size, sha256(entry.source))
        assert list((tmp_path / "cache" / "tmp").iterdir()) == []

    def test_only_what_is_wanted(self, tmp_path: Path) -> None:
        of = make(tmp_path / "layer", MODULES)
        told = []

        def wanted(path: str) -> bool:
            told.append(path)
            return path.endswith("top.py")

        arguments = ([of], RUNNING, interpreter(RUNNING.tag), tmp_path / "cache")
        made = bytecode.compile_layers(*arguments, wanted)[of.digest]
        assert [entry.path for entry in made.entries] == [f"{SITE}/top.{bytecode.cache_tag(RUNNING)}.pyc"]
        assert sorted(told) == sorted(f"{SITE}/{path}" for path in MODULES)
        assert bytecode.compile_layers(*arguments, lambda path: False) == {}
        assert len(bytecode.compile_layers(*arguments)[of.digest].entries) == len(MODULES)

    def test_no_modules_no_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        forbid_processes(monkeypatch)
        empty = make(tmp_path / "empty", {})
        others = make(tmp_path / "others", {"package/py.typed": "", ".py": "", "link.py": "->.py"}, **{"bin/x.py": ""})
        assert bytecode.compile_layers([empty, others], RUNNING, interpreter(RUNNING.tag), tmp_path / "cache") == {}
        assert not (tmp_path / "cache").exists()

    def test_python_2_has_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        forbid_processes(monkeypatch)
        old = facts.pythons()["cp27mu"].abi
        running = interpreter(RUNNING.tag)
        assert bytecode.compile_layers([make(tmp_path / "layer", MODULES)], old, running, tmp_path / "cache") == {}
        assert bytecode.cache_tag(old) == ""

    def test_a_name_that_would_be_too_long_is_passed_over(self, tmp_path: Path) -> None:
        of = make(tmp_path / "layer", {"n" * 250 + ".py": "", "short.py": ""})
        assert len(compiled(of, tmp_path / "cache").entries) == 1

    def test_tags(self) -> None:
        assert bytecode.cache_tag(facts.pythons()["cp311"].abi) == "cpython-311"
        assert bytecode.cache_tag(facts.pythons()["cp36m"].abi) == "cpython-36"


@pytest.mark.parametrize("tag", TAGS)
class TestInterpreters:
    def test_it_runs_what_was_compiled(self, tmp_path: Path, tag: str) -> None:
        """Bytecode of other code in the place of the right one proves which of the two is run."""
        real = make(tmp_path / "real", {"package/__init__.py": "", "space/module.py": "WHO = 'text'\n"})
        other = make(tmp_path / "other", {"package/__init__.py": "", "space/module.py": "WHO = 'code'\n"})
        site = install(real, compiled(other, tmp_path / "cache", tag), tmp_path / "root")
        done = python(tag, site, "import package, space.module as m; print(m.WHO, m.__file__, m.__spec__.cached)")
        pyc = site / "space" / "__pycache__" / f"module.{facts.pythons()[tag].cache_tag}.pyc"
        assert (done.stdout.split(), done.stderr) == (["code", f"{site}/space/module.py", str(pyc)], "")

    def test_it_has_nothing_to_add(self, tmp_path: Path, tag: str) -> None:
        """What an import would write over, with the same source at the same time, it leaves alone."""
        of = make(tmp_path / "layer", MODULES)
        made = compiled(of, tmp_path / "cache", tag)
        site = install(of, made, tmp_path / "root")
        pycs = sorted(site.rglob("*.pyc"))
        for pyc in pycs:
            os.utime(pyc, (1, 1))
        names = ["package.many", "package.uses", "package.sets", "package.latin", "space.inner.module", "top"]
        assert len(pycs) == len(made.entries) == len(MODULES)
        done = python(tag, site, f"import {', '.join(names)}; print(ascii(package.latin.TEXT))")
        assert (done.stdout, done.stderr) == ("'\\xe4\\xf6'\n", "")
        assert sorted(site.rglob("*.pyc")) == pycs
        assert {pyc.stat().st_mtime for pyc in pycs} == {1}

    def test_tracebacks_name_the_real_file(self, tmp_path: Path, tag: str) -> None:
        of = make(tmp_path / "layer", MODULES)
        site = install(of, compiled(of, tmp_path / "cache", tag), tmp_path / "root")
        done = python(tag, site, "import top; top.fail()")
        assert f'File "{site}/top.py", line 2, in fail\n    raise KeyError' in done.stderr

    def test_same_bytes_every_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
        """Another directory, working directory, mask, environment, number of workers."""
        first = compiled(make(tmp_path / "one", MODULES), tmp_path / "cache", tag)
        elsewhere = tmp_path / "a longer directory" / "two"
        of = make(elsewhere, MODULES)
        hostile = tmp_path / "hostile"
        write_tree(dict.fromkeys(("marshal.py", "os.py", "sitecustomize.py"), "raise SystemExit(__file__)\n"), hostile)
        monkeypatch.setenv("PYTHONPATH", str(hostile))
        monkeypatch.setenv("PYTHONHASHSEED", "7")
        monkeypatch.setenv("PYTHONOPTIMIZE", "2")
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        monkeypatch.chdir(hostile)
        monkeypatch.setattr(bytecode, "_workers", lambda: 5)
        mask = os.umask(0o077)
        try:
            second = compiled(of, Path("relative cache"), tag)
        finally:
            os.umask(mask)
        assert contents(second) == contents(first)
        assert second.digest == first.digest

    def test_other_modules_change_nothing(self, tmp_path: Path, tag: str) -> None:
        together = contents(compiled(make(tmp_path / "together", MODULES), tmp_path / "cache", tag))
        alone: dict[str, bytes] = {}
        for number, path in enumerate(reversed(MODULES)):
            part = make(tmp_path / str(number), {path: MODULES[path], "aaa.py": MODULES["package/many.py"]})
            alone |= contents(compiled(part, tmp_path / "cache", tag))
        assert {path: alone[path] for path in together} == together

    def test_what_does_not_compile_is_passed_over(self, tmp_path: Path, tag: str) -> None:
        bad: dict[str, Content] = {
            "bad/two.py": "print 'two'\n",
            "bad/template.py": "import {{ name }}\n",
            "bad/zero.py": b"x = '\0'\n",
            "bad/bytes.py": b"x = '\xff'\n",
            "bad/coding.py": b"# coding: no-such-coding\n",
            "bad/deep.py": "(" * 5000 + ")" * 5000 + "\n",
            "good.py": "x = '\\d'\nassert (x, 'this warns')\n",
        }
        made = compiled(make(tmp_path / "layer", bad), tmp_path / "cache", tag)
        assert [os.path.basename(entry.path).split(".")[0] for entry in made.entries] == ["good"]
        alone = make(tmp_path / "other", {"bad.py": "print 'two'\n"})
        abi = facts.pythons()[tag].abi
        assert bytecode.compile_layers([alone], abi, interpreter(tag), tmp_path / "cache") == {}

    def test_a_set_in_the_order_of_addresses_is_passed_over(self, tmp_path: Path, tag: str) -> None:
        modules: dict[str, Content] = {
            "nested.py": "def f(x):\n    return x in {'a', 'b', 'c', (1, ...)}\n",
            "none.py": "def f(x):\n    return x in {None, 'a', 'b', 'c'}\n",
            "single.py": "def f(x):\n    return x in {None}\n",
        }
        of = make(tmp_path / "layer", modules)
        made = [compiled(of, tmp_path / f"cache{number}", tag) for number in range(4)]
        assert len({one.digest for one in made}) == 1
        names = [os.path.basename(entry.path).split(".")[0] for entry in made[0].entries]
        assert names == (["nested", "none", "single"] if interpreter(tag).version >= (3, 11) else ["single"])


class TestChild:
    @pytest.mark.parametrize("tag", TAGS)
    def test_names_that_a_process_knows_do_not_show(self, tag: str) -> None:
        """One process compiles each module fresh; another has run all of them before and keeps their code."""
        contents = {path: text.encode() if isinstance(text, str) else text or b"" for path, text in MODULES.items()}
        modules = [
            (path, content.decode("latin-1")) for path, content in contents.items() if path.startswith("package")
        ]
        fresh = self._compile(tag, modules[:1], modules), self._compile(tag, modules[:1], modules[::-1])
        used = self._compile(tag, modules * 2, modules)
        assert sorted(fresh[0]) == sorted(fresh[1]) == sorted(used)

    @staticmethod
    def _compile(tag: str, before: Sequence[tuple[str, str]], modules: Sequence[tuple[str, str]]) -> list[str]:
        program = """if True:
            import json, sys
            child, before, modules = sys.argv[1:]
            space, kept = {"__name__": "child"}, []
            exec(compile(open(child).read(), child, "exec"), space)
            for path, text in json.loads(before):
                kept.append(space["strings"](compile(text.encode("latin-1"), path, "exec", dont_inherit=True)))
            for path, text in json.loads(modules):
                print(ascii(path), space["compiled"](text.encode("latin-1"), path).hex())
        """
        arguments = [compilechild.__file__, json.dumps(before), json.dumps(modules)]
        done = subprocess.run(
            [interpreter(tag).path, "-S", "-s", "-c", program, *arguments],
            env={"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    def test_it_is_valid_for_the_oldest_python(self) -> None:
        ast.parse(Path(compilechild.__file__).read_bytes(), feature_version=(3, 5))

    def test_one_that_dies_is_told(self, tmp_path: Path) -> None:
        of = make(tmp_path / "layer", {"a.py": "", "b.py": ""})
        broken = Entry(f"{SITE}/gone.py", EntryKind.FILE, tmp_path / "gone.py", 0, bytes(32))
        of = dataclasses.replace(of, entries=(*of.entries, broken))
        running = interpreter(RUNNING.tag)
        with pytest.raises(PackError) as caught:
            compiled(of, tmp_path / "cache")
        said = f"compiling demo-1.0 with {running.path} failed: cannot compile 'gone.py': exit status 2"
        assert str(caught.value) == said
        assert "FileNotFoundError" in caught.value.hint
        assert not (tmp_path / "cache" / "bytecode").exists()
        assert list((tmp_path / "cache" / "tmp").iterdir()) == []

    def test_an_interpreter_of_another_version_is_refused(self, tmp_path: Path) -> None:
        other = next(tag for tag in TAGS if facts.pythons()[tag].cache_tag != bytecode.cache_tag(RUNNING))
        of = make(tmp_path / "layer", MODULES)
        with pytest.raises(PackError, match=r"failed: its bytecode is called cpython-\d+, not cpython-\d+$"):
            bytecode.compile_layers([of], facts.pythons()[other].abi, interpreter(RUNNING.tag), tmp_path / "cache")

    def test_it_takes_only_so_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bytecode, "_SECONDS", 0.0)
        with pytest.raises(PackError, match=r"^compiling demo-1\.0 with .* took longer than 0 seconds"):
            compiled(make(tmp_path / "layer", MODULES), tmp_path / "cache")

    def test_one_that_cannot_be_started_is_told(self, tmp_path: Path) -> None:
        gone = dataclasses.replace(interpreter(RUNNING.tag), path=tmp_path / "python3")
        with pytest.raises(PackError, match=r"^cannot run .*/python3: No such file or directory"):
            bytecode.compile_layers([make(tmp_path / "layer", MODULES)], RUNNING, gone, tmp_path / "cache")


class TestCache:
    def test_a_second_time_starts_nothing_and_writes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = tmp_path / "cache"
        first = compiled(make(tmp_path / "one", MODULES), cache)
        before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
        forbid_processes(monkeypatch)
        second = compiled(make(tmp_path / "two", MODULES), cache)
        assert second.entries == first.entries
        assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before

    def test_another_interpreter_or_child_has_another_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        of = make(tmp_path / "layer", {"a.py": ""})
        running = interpreter(RUNNING.tag)
        bytecode.compile_layers([of], RUNNING, running, tmp_path / "cache")
        bytecode.compile_layers([of], RUNNING, dataclasses.replace(running, build="other"), tmp_path / "cache")
        monkeypatch.setattr(bytecode, "_child_digest", lambda: "other")
        bytecode.compile_layers([of], RUNNING, running, tmp_path / "cache")
        assert len(list((tmp_path / "cache" / "bytecode").iterdir())) == 3

    def test_the_probe_tells_the_build(self) -> None:
        own = next(one for one in pythons.find() if one.path == Path(sys.executable).resolve())
        assert own.build.startswith(sys.version)

    def test_a_cache_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "cache").touch()
        with pytest.raises(PackError, match=r"^cannot keep bytecode in .*: Not a directory$"):
            compiled(make(tmp_path / "layer", MODULES), tmp_path / "cache")
