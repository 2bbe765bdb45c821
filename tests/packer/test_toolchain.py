"""Native code is compiled for the slice's hosts, made whole, measured and tagged; toolchain, repair, container."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import compiled, index, repositories
from support.hosts import require_host
from support.repositories import git

from packer import container, facts, pythons, sources, toolchain, worktree
from packer.elfread import read
from packer.errors import PackError
from packer.files import sha256
from packer.model import Platform, Target
from packer.targets import running_target
from packer.toolchain import Building

if TYPE_CHECKING:
    from collections.abc import Callable

    from packer.elf import File

RUNNING = running_target()
OLD = Platform("glibc", (2, 17), RUNNING.platform.arch)
TARGET = Target(RUNNING.python, OLD)

AS_NEEDED = Building()

PLAIN = "#include <string.h>\nvoid *mod(void *to, void *from, unsigned long n) { return memcpy(to, from, n); }"
NEWER = "#include <sys/random.h>\nlong mod(char *to) { return getrandom(to, 8, 0); }"
"""glibc has it from 2.25 on."""


@pytest.fixture(autouse=True)
def own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    index.forget_pip_configuration(monkeypatch)
    compiled.keep_zigs_cache(monkeypatch)
    for name in ("CC", "CXX", "CFLAGS", "CPPFLAGS", "LDFLAGS"):
        monkeypatch.delenv(name, raising=False)


def build(
    tmp_path: Path,
    project: Path,
    target: Target = TARGET,
    building: Building = AS_NEEDED,
    told: list[str] | None = None,
) -> Path:
    def no_pip(target: Target) -> Path:
        raise PackError(f"no pip for {target.name}")

    builder = sources.Builder(
        tmp_path / "cache", find_pip=no_pip, index_options=["--no-index"], limit=300, stop=threading.Event(),
        progress=(told if told is not None else []).append, building=building,
    )  # fmt: skip
    return builder.build(project, target)


def files(wheel: Path, into: Path) -> dict[str, File]:
    """The ELF files of a wheel, by their paths."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into)
    found = {path: into / path for path in archive.namelist() if ".so" in path}
    read_files = {path: read("", path, file, sha256(file)) for path, file in found.items()}
    return {path: file for path, file in read_files.items() if file}


def newest(file: File) -> tuple[int, ...]:
    return max(facts.node_number(node)[:2] for _, node in file.nodes if facts.NUMBER.fullmatch(node))


class TestZig:
    def test_compiles_for_the_slices_c_library(self, tmp_path: Path) -> None:
        wheel = build(tmp_path, compiled.project(tmp_path / "project", PLAIN), building=Building(cc="zig"))
        assert wheel.name.endswith(f"-{RUNNING.python.tag}-manylinux_2_17_{OLD.arch}.whl")
        (module,) = files(wheel, tmp_path / "files").values()
        assert newest(module) <= (2, 17)
        with zipfile.ZipFile(wheel) as archive:
            record = archive.read("mod-1.0.dist-info/RECORD").decode()
            tags = archive.read("mod-1.0.dist-info/WHEEL").decode()
        assert record.count("sha256=") == 3
        assert f"Tag: {RUNNING.python.interpreter}-{RUNNING.python.tag}-{OLD.tag}\n" in tags

    def test_has_nothing_that_is_newer(self, tmp_path: Path) -> None:
        project = compiled.project(tmp_path / "project", NEWER)
        with pytest.raises(PackError, match=r"mod.c:2:\d+: error: .*getrandom") as caught:
            build(tmp_path, project, building=Building(cc="zig"))
        log = Path(caught.value.hint.rpartition("the whole log: ")[2])
        assert "undeclared function 'getrandom'" in log.read_text()
        assert caught.value.hint.startswith(
            "it is compiled for manylinux_2_17: what newer C libraries have takes a newer"
        )

    def test_what_nobody_defines_is_found_although_linking_lets_it_pass(self, tmp_path: Path) -> None:
        source = (
            "long nobodys(void);\nlong PyLong_AsLong(void *);\nlong mod(void) { return nobodys() + PyLong_AsLong(0); }"
        )
        project = compiled.project(tmp_path / "project", source)
        with pytest.raises(
            PackError, match=r"project: mod\.\S+so needs nobodys, which neither Python nor manylinux_2_17"
        ):
            build(tmp_path, project, building=Building(cc="zig"))

    @pytest.mark.parametrize("libc", ["glibc", pytest.param("musl", marks=pytest.mark.torture)])
    def test_compiles_for_another_machine_or_c_library(self, tmp_path: Path, libc: str) -> None:
        arch = {"x86_64": "aarch64", "aarch64": "x86_64"}[OLD.arch] if libc == "glibc" else OLD.arch
        other = Target(RUNNING.python, Platform(libc, (2, 17) if libc == "glibc" else (1, 2), arch))
        wheel = build(tmp_path, compiled.project(tmp_path / "project", PLAIN), other)
        assert wheel.name.endswith(f"-{other.platform.tag}.whl")
        ((path, module),) = files(wheel, tmp_path / "files").items()
        assert path == f"mod{facts.extension_suffixes(other.python, other.platform)[0]}"
        assert module.machine == facts.architectures()[arch]
        assert module.libc == libc

    def test_is_there_or_what_to_do_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(toolchain, "find_zig", lambda: None)
        monkeypatch.setattr(toolchain, "machine", lambda: Platform("glibc", (2, 39), OLD.arch))
        project = compiled.project(tmp_path / "project", PLAIN)
        with pytest.raises(PackError) as caught:
            build(tmp_path, project)
        assert re.fullmatch(
            r"project has native code \(mod\.\S+so\): compiled here, it is for this machine's glibc 2\.39, "
            r"and \S+ is for glibc 2\.17", str(caught.value),
        )  # fmt: skip
        assert caught.value.hint.startswith("python -m pip install ziglang")
        with pytest.raises(PackError, match="--cc zig: there is no zig here"):
            build(tmp_path, project, building=Building(cc="zig"))
        pure = index.project(tmp_path / "pure", "pure")
        assert build(tmp_path, pure).name == "pure-1.0-py2.py3-none-any.whl"

    def test_is_the_default_only_where_it_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(toolchain, "machine", lambda: Platform("glibc", (2, 28), "x86_64"))
        chosen = {
            name: toolchain.choose(Target(RUNNING.python, platform), "").zig is not None
            for name, platform in {
                "older": Platform("glibc", (2, 17), "x86_64"), "same": Platform("glibc", (2, 28), "x86_64"),
                "newer": Platform("glibc", (2, 34), "x86_64"), "level": Platform("glibc", (2, 34), "x86_64", 3),
                "machine": Platform("glibc", (2, 34), "aarch64"), "libc": Platform("musl", (1, 2), "x86_64"),
            }.items()
        }  # fmt: skip
        assert [name for name, zig in chosen.items() if zig] == ["older", "level", "machine", "libc"]


class TestRepair:
    def test_a_symbol_that_is_too_new_is_named_with_file_and_way_out(self, tmp_path: Path) -> None:
        if toolchain.machine().libc != "glibc" or toolchain.machine().version < (2, 25):
            pytest.skip("optional: this machine's C library has no such symbol")
        project = compiled.project(tmp_path / "project", NEWER)
        with pytest.raises(PackError) as caught:
            build(tmp_path, project, building=Building(cc="host"))
        assert re.fullmatch(
            r"project: mod\.\S+so needs GLIBC_2\.25 of libc\.so\.6 \(getrandom\): more than manylinux_2_17 has",
            str(caught.value),
        )
        assert "--cc zig" in caught.value.hint
        assert "--accept mod" in caught.value.hint
        accepted = Building(cc="host", accept=frozenset({"mod"}))
        assert build(tmp_path, project, building=accepted).name.endswith(f"-manylinux_2_26_{OLD.arch}.whl")
        with pytest.raises(PackError, match=r"more than manylinux_2_17 has"):  # of what is kept, likewise
            build(tmp_path, project, building=Building(cc="host"))
        told: list[str] = []
        build(tmp_path, project, building=accepted, told=told)
        assert not told

    def test_libraries_come_along_and_no_path_of_this_machine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = compiled.shared_library(
            tmp_path / "lib", "greet", "int greet(void) { return 3; }", toolchain.triple(OLD)
        ).parent
        project = compiled.project(
            tmp_path / "project", "int greet(void);\nint mod(void) { return greet(); }", libraries=("-lgreet",)
        )
        monkeypatch.setenv("LDFLAGS", f"-L{place} -Wl,-rpath,{place}")
        wheel = build(tmp_path, project, building=Building(cc="zig"))
        found = files(wheel, tmp_path / "files")
        module, library = sorted(found)
        assert re.fullmatch(r"mod\.libs/libgreet-[0-9a-f]{8}\.so\.1", library), found
        assert library.rpartition("/")[2] in found[module].needed
        content = b"".join((tmp_path / "files" / path).read_bytes() for path in found)
        assert b"$ORIGIN/mod.libs\0" in content
        assert os.fsencode(tmp_path) not in content

    def test_a_library_that_is_nowhere_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = compiled.shared_library(
            tmp_path / "lib", "greet", "int greet(void) { return 3; }", toolchain.triple(OLD)
        )
        project = compiled.project(
            tmp_path / "project", "int greet(void);\nint mod(void) { return greet(); }", libraries=(str(made),)
        )
        (made.parent / "libgreet.so.1").unlink()
        with pytest.raises(PackError, match=r"project: mod\.\S+so needs libgreet\.so\.1, which is in no directory"):
            build(tmp_path, project, building=Building(cc="zig"))


class TestOnce:
    def test_what_was_built_is_kept_until_the_project_or_the_compiler_changes(self, tmp_path: Path) -> None:
        project = compiled.project(tmp_path / "project", PLAIN)
        zig, told = Building(cc="zig"), list[str]()

        def builds() -> int:
            before = sum("building" in line for line in told)
            build(tmp_path, project, building=zig, told=told)
            return sum("building" in line for line in told) - before

        assert [builds(), builds()] == [1, 0]
        (project / "mod.c").write_text((project / "mod.c").read_text() + "\n")
        assert [builds(), builds()] == [1, 0]
        os.environ["CFLAGS"] = "-DX"
        try:
            assert builds() == 1
        finally:
            del os.environ["CFLAGS"]

    def test_a_module_for_the_stable_abi_serves_all_that_take_it(self, tmp_path: Path) -> None:
        project = compiled.project(tmp_path / "project", PLAIN, tag=("cp36", "abi3"), suffix=".abi3.so")
        told: list[str] = []
        first = build(tmp_path, project, building=Building(cc="zig"), told=told)
        later = Target(facts.pythons()["cp314"].abi, OLD)
        assert build(tmp_path, project, later, Building(cc="zig"), told) == first
        assert sum("building" in line for line in told) == 1
        with pytest.raises(PackError, match="no cp35m interpreter is here"):
            build(tmp_path, project, Target(facts.pythons()["cp35m"].abi, OLD), Building(cc="zig"))

    def test_what_is_named_as_an_interpreter_is_one(self, tmp_path: Path) -> None:
        project = compiled.project(tmp_path / "project", PLAIN)
        with pytest.raises(PackError, match="--interpreter /bin/sh: it is no CPython that runs here"):
            build(tmp_path, project, building=Building(cc="zig", interpreters=(Path("/bin/sh"),)))
        own = Building(cc="zig", interpreters=(Path(sys.executable),))
        assert build(tmp_path, project, building=own).name.startswith("mod-1.0-")


class TestWorktree:
    def test_what_tools_and_we_leave_does_not_count_but_all_else_does(self, tmp_path: Path) -> None:
        project = compiled.project(tmp_path / "project", PLAIN)
        first = worktree.digest(project)
        for name in ("__pycache__/a.pyc", "build/lib/a.py", "dist/a.whl", "mod.egg-info/PKG-INFO", "env/pyvenv.cfg"):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text("")
        (project / "packed").write_bytes(b"\x7fELF" + bytes(5000) + b"\x89fatpar\n")
        (project / "packed").chmod(0o755)
        assert worktree.digest(project) == first
        seen = {first}
        (project / "src/build").mkdir(parents=True)
        (project / "up").symlink_to("..")  # to which much else belongs
        seen.add(worktree.digest(project))
        git(project, "init", "-q")
        changes: list[Callable[[], object]] = [
            lambda: (project / "src/build/a.py").write_text("a"),
            lambda: (project / "mod.c").chmod(0o755),
            lambda: (project / "link").symlink_to("mod.c"),
            lambda: git(project, "add", "mod.c"),
            lambda: git(project, "commit", "-q", "-m", "x"),
        ]
        for change in changes:
            change()
            assert worktree.digest(project) not in seen
            seen.add(worktree.digest(project))
        made = worktree.copy(project, tmp_path / "copy")
        assert sorted(path.name for path in made.iterdir()) == [
            ".git",
            "backend.py",
            "link",
            "mod.c",
            "pyproject.toml",
            "src",
            "up",
        ]

    @pytest.mark.parametrize("kind", ["itself", "below", "linked", "submodule"])
    def test_what_git_says_of_it_counts(self, tmp_path: Path, kind: str) -> None:
        repository = repositories.make(tmp_path / "repository")
        project = repository / "project" if kind == "below" else repository
        if kind == "linked":
            project = tmp_path / "linked"
            git(repository, "worktree", "add", "-q", str(project))
        elif kind == "submodule":
            git(tmp_path, "init", "-q", "outer")
            git(tmp_path / "outer", "submodule", "add", "-q", str(repository), "inner")
            project = tmp_path / "outer/inner"
        seen = {worktree.digest(project)}
        for words in (
            ("tag", "v1.0"),
            ("commit", "-q", "--allow-empty", "-m", "x"),
            ("pack-refs", "--all"),
            ("rm", "-q", "--cached", "app.py" if kind == "below" else "project/app.py"),
            ("switch", "-q", "-c", "other"),
        ):
            git(project, *words)
            assert (worktree.digest(project) in seen) == (words[0] == "pack-refs")
            seen.add(worktree.digest(project))

    def test_how_deep_a_clone_is_counts(self, tmp_path: Path) -> None:
        repository = repositories.make(tmp_path / "repository")
        for _ in range(2):
            git(repository, "commit", "-q", "--allow-empty", "-m", "x")
        git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", "clone")
        first = worktree.digest(tmp_path / "clone")
        git(tmp_path / "clone", "fetch", "-q", "--depth=2")
        assert worktree.digest(tmp_path / "clone") != first

    @pytest.mark.parametrize("name", ["build", "dist"])
    def test_sources_may_be_called_as_what_tools_make(self, tmp_path: Path, name: str) -> None:
        project = index.project(tmp_path / "project", "app")
        first = worktree.digest(project)
        (project / name / "lib.linux-x86_64-cpython-311").mkdir(parents=True)
        (project / name / "lib.linux-x86_64-cpython-311/app.py").write_text("")
        (project / name / "app-1.0.tar.gz").write_text("")
        assert worktree.digest(project) == first
        (project / name / "app.py").write_text("1")
        assert worktree.digest(project) != first
        git(project, "init", "-q")
        git(project, "add", "pyproject.toml")
        kept = worktree.digest(project)
        (project / name / "app.py").write_text("2")
        assert worktree.digest(project) == kept  # git has others only
        git(project, "add", "-f", f"{name}/app.py")
        kept = worktree.digest(project)
        (project / name / "app.py").write_text("3")
        assert worktree.digest(project) != kept
        assert (worktree.copy(project, tmp_path / "copy") / name / "app.py").read_text() == "3"

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app")
        (project / "memory").symlink_to("/proc/self/mem")
        with pytest.raises(PackError, match=rf"^{project}/memory: cannot read it: Input/output error$") as caught:
            worktree.digest(project)
        assert caught.value.hint

    @pytest.mark.parametrize("kind", ["dangling", "loop", "large", "directory", "cut", "broken", "encrypted"])
    def test_a_source_distribution_that_cannot_be_read_might_have_native_code(self, tmp_path: Path, kind: str) -> None:
        path, item = tmp_path / "app-1.0.tar.gz", tarfile.TarInfo("app-1.0/setup.py")
        content = b"setup()\n" + bytes(2 << 20 if kind == "large" else 0)
        if kind in ("dangling", "loop"):
            item.type, item.linkname = tarfile.LNKTYPE, item.name if kind == "loop" else "app-1.0/nowhere.py"
        elif kind == "directory":
            item.type = tarfile.DIRTYPE
        item.size = len(content) if item.isreg() else 0
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(item, io.BytesIO(content))
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:-20])
        elif kind in ("broken", "encrypted"):
            with zipfile.ZipFile(path, "w") as zipped:
                zipped.writestr("app-1.0/setup.py", content)
            whole = path.read_bytes()
            encrypted = whole.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\x01")
            path.write_bytes(whole.replace(b"PK\x03\x04", b"PK\x03\x05") if kind == "broken" else encrypted)
        assert worktree.looks_native(path)
        assert not worktree.is_meson(path)

    def test_where_a_link_leads_out_of_it_is_what_is_there(self, tmp_path: Path) -> None:
        project = index.project(tmp_path / "project", "app")
        outside = tmp_path / "outside"
        (outside / "below").mkdir(parents=True)
        (outside / "below/file").write_text("1")
        (outside / "below/other").symlink_to("file")
        (outside / "back").symlink_to("below")
        (outside / "below/again").symlink_to("..")
        (project / "file").symlink_to("../outside/below/file")
        (project / "directory").symlink_to("../outside")
        (project / "inner").symlink_to("file")
        (project / "nowhere").symlink_to("../nowhere")
        (project / "round").symlink_to("round")
        first = worktree.digest(project)
        (tmp_path / "elsewhere").mkdir()
        made = worktree.copy(project, tmp_path / "elsewhere" / "copy")
        for name in ("file", "inner", "directory/below/file", "directory/below/other", "directory/back/other"):
            assert (made / name).read_text() == "1"
        assert os.readlink(made / "nowhere") == "../nowhere"
        (outside / "below/file").write_text("2")
        assert worktree.digest(project) != first
        assert (made / "file").read_text() == "1"


ENGINE = """#!{python}
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from support.hosts import Host
words = sys.argv[1:]
if words[:2] == ["image", "inspect"]:
    print("sha256:0123")
    sys.exit(0)
assert words[:2] == ["run", "--rm"], words
binds, env, cwd = {{}}, {{}}, "/"
words = words[2:]
while words[0].startswith("--"):
    option, _, value = words.pop(0).partition("=")
    value = value or words.pop(0)
    if option == "--volume":
        binds[Path(value.split(":")[0])] = value.split(":")[1]
    elif option == "--env":
        env[value.partition("=")[0]] = value.partition("=")[2]
    elif option == "--workdir":
        cwd = value
done = Host(words[0]).run(words[1:], binds=binds, env=env, cwd=cwd, user=0)
sys.stdout.buffer.write(done.stdout)
sys.stderr.buffer.write(done.stderr)
sys.exit(done.status)
"""
"""Does what an engine of containers does with a root filesystem for tests in the place of an image."""


class TestContainer:
    @pytest.fixture
    def engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bin").mkdir()
        podman = tmp_path / "bin" / "podman"
        podman.write_text(ENGINE.format(python=sys.executable, path=[str(Path(__file__).parents[1])]))
        podman.chmod(0o755)
        monkeypatch.setenv("PATH", f"{podman.parent}:{os.environ['PATH']}")
        for cached in (container.engine, container.key, container.interpreters):
            cached.cache_clear()

    @pytest.mark.hosts
    @pytest.mark.usefixtures("engine")
    def test_builds_by_the_images_interpreters(self, tmp_path: Path) -> None:
        require_host("bookworm")
        target = Target(facts.pythons()["cp311"].abi, OLD)
        project = index.project(tmp_path / "project", "app", native=True)
        wheel = build(tmp_path, project, target, Building(image="bookworm"))
        with zipfile.ZipFile(wheel) as archive:
            assert archive.read("built_by.txt").decode() == "3.11"
        (place,) = (tmp_path / "cache" / "built").glob("*/*")
        assert place.name.startswith(f"cp311+{OLD.name}+image-{container.key('bookworm')}+")
        missing = Target(facts.pythons()["cp39"].abi, OLD)
        with pytest.raises(PackError, match=r"no cp39 interpreter is in bookworm to build project \(found: cp311\)"):
            build(tmp_path, project, missing, Building(image="bookworm"))

    def test_needs_an_engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        container.engine.cache_clear()
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(PackError, match="--build-in needs podman or docker, and neither is here"):
            build(tmp_path, compiled.project(tmp_path / "project", PLAIN), building=Building(image="manylinux2014"))


def test_an_interpreter_is_known_by_what_it_says(tmp_path: Path) -> None:
    assert pythons.runs_here(RUNNING)
    assert not pythons.runs_here(Target(RUNNING.python, Platform("glibc", (2, 17), "riscv64")))
