"""packer/revision.py: the commit of what is packed, every change since, and nothing that is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import repositories
from support.hosts import USER
from support.repositories import commit, git
from support.skips import skip_optional

from packer import revision
from packer.revision import Revision


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repositories.make(tmp_path / "repository")


def test_a_revision_without_changes(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Revision(git(repository, "rev-parse", "HEAD"), False), ""
    for path in (repository, repository / "project", repository / "project/app.py"):
        assert revision.of(path, []) == expected
    monkeypatch.setenv("GIT_DIR", "/nonexistent")  # as in a hook
    monkeypatch.chdir(repository / "project")
    assert revision.of(Path(), []) == revision.of(Path("app.py"), []) == expected


def modified(repository: Path, *outputs: Path) -> bool:
    found, unknown = revision.of(repository / "project", outputs)
    assert unknown == ""
    assert found is not None
    return found.modified


@pytest.mark.parametrize("name", ["project/app.py", "shared.py", "project/new.py", "new/deep/new.py"])
def test_changes_of_the_repository_are_seen(name: str, repository: Path) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("2")
    assert modified(repository)
    assert modified(repository, Path("/elsewhere/tool"))


def test_staged_is_changed_ignored_is_not(repository: Path) -> None:
    (repository / ".git/info/exclude").write_text("build/\n")
    (repository / "build").mkdir()
    (repository / "build/x").write_text("1")
    assert not modified(repository)
    (repository / "shared.py").write_text("2")
    git(repository, "add", "shared.py")
    assert modified(repository)
    (repository / "shared.py").write_text("1")
    assert modified(repository)


def test_modes_links_and_kinds_of_files_count(repository: Path) -> None:
    (repository / "run").write_text("1")
    (repository / "run").chmod(0o755)
    (repository / "link").symlink_to("run")
    commit(repository)
    assert not modified(repository)
    (repository / "run").chmod(0o644)
    assert modified(repository)
    git(repository, "config", "core.fileMode", "false")  # where the file system has none
    assert not modified(repository)
    (repository / "link").unlink()
    assert modified(repository)
    (repository / "link").symlink_to("away")
    assert modified(repository)
    (repository / "link").unlink()
    shutil.copy(repository / "run", repository / "link")
    assert modified(repository)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_what_git_is_told_to_overlook_is_seen(flag: str, repository: Path) -> None:
    git(repository, "update-index", flag, "shared.py")
    assert not modified(repository)
    (repository / "shared.py").write_text("2")
    assert modified(repository)


def test_what_a_sparse_checkout_leaves_out_is_no_change(repository: Path) -> None:
    git(repository, "sparse-checkout", "set", "--no-cone", "project/")
    assert not (repository / "shared.py").exists()
    assert not modified(repository)
    (repository / "project/app.py").unlink()
    assert modified(repository)


def test_the_other_form_of_a_file_is_no_change(repository: Path) -> None:
    """Line ends by attribute, and Git LFS, which need not be there."""
    (repository / ".gitattributes").write_text("*.bat eol=crlf\n*.bin filter=lfs\n")
    (repository / "a.bat").write_bytes(b"a\r\nb\r\n")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    (repository / "b.bin").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 1\n")
    commit(repository)
    assert git(repository, "show", "HEAD:a.bat") == "a\nb"
    assert not modified(repository)
    (repository / "b.bin").write_text("x")
    assert not modified(repository)
    (repository / "b.bin").write_text("y")
    assert modified(repository)
    (repository / "b.bin").write_text("x")
    (repository / "a.bat").write_bytes(b"a\r\nc\r\n")
    assert modified(repository)
    (repository / "a.bat").write_bytes(b"a\nb\n")
    (repository / "shared.py").write_bytes(b"1\r\n")
    assert modified(repository)


def test_only_attributes_that_are_tracked_tell_of_line_ends(repository: Path, tmp_path: Path) -> None:
    (repository / "shared.py").write_bytes(b"1\n")
    commit(repository)
    (repository / "shared.py").write_bytes(b"1\r\n")
    for name in (".git/info/attributes", ".gitattributes"):
        (repository / ".git/info/exclude").write_text(".gitattributes\n")
        (repository / name).write_text("* eol=crlf\n")
        assert modified(repository), name
        (repository / name).unlink()
    (tmp_path / "attributes").write_text("* eol=crlf\n")
    git(repository, "config", "core.attributesFile", str(tmp_path / "attributes"))
    assert modified(repository)


@pytest.mark.parametrize("object_", ["HEAD", "HEAD^{tree}"])
@pytest.mark.parametrize("setting", ["true", "false"])
def test_what_stands_in_for_an_object_is_not_the_revision(object_: str, setting: str, repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    replaced = git(repository, "rev-parse", object_)
    git(repository, "config", "core.useReplaceRefs", setting)
    (repository / "shared.py").write_text("2")
    commit(repository)
    git(repository, "replace", replaced, git(repository, "rev-parse", object_))
    git(repository, "update-ref", "HEAD", first)
    assert revision.of(repository, []) == (Revision(first, True), "")


@pytest.mark.parametrize("forged", ["HEAD^{tree}", "HEAD:project"])
def test_an_object_that_bears_the_name_of_another_is_not_the_revision(forged: str, repository: Path) -> None:
    """Git computes the names of some that it reads, and not of trees below others."""

    def place() -> Path:
        name = git(repository, "rev-parse", forged)
        return repository / ".git/objects" / name[:2] / name[2:]

    first, true = git(repository, "rev-parse", "HEAD"), place()
    (repository / "project/app.py").write_text("2")
    commit(repository)
    true.chmod(0o644)
    true.write_bytes(place().read_bytes())
    (repository / ".git" / git(repository, "symbolic-ref", "HEAD")).write_text(f"{first}\n")
    found, unknown = revision.of(repository, [])
    assert found is None
    assert unknown.startswith(f"no revision of {repository} is stated: ")
    assert true.parent.name + true.name in unknown


def test_a_linked_work_tree(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    linked = tmp_path / "linked"
    assert (linked / ".git").is_file()
    assert not modified(linked)
    (repository / "shared.py").write_text("2")
    assert not modified(linked)
    (linked / "project/app.py").write_text("2")
    assert modified(linked)


# What never ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".gitignore", "project/.gitignore", ".git/info/exclude", "included"])
def test_a_file_that_git_waits_for_is_not_waited_for(
    place: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "config", "include.path", "../included")
    (repository / ".git/info/exclude").unlink()
    monkeypatch.setattr(revision, "_PATIENCE", 0.5)
    os.mkfifo(repository / place)
    assert revision.of(repository, []) == (None, f"no revision of {repository} is stated: git does not answer")


def test_what_git_has_started_does_not_outlive_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the other end of a pipe that is at its end when nobody is left."""
    reading, writing = os.pipe()
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nsleep 600 & wait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(revision, "_PATIENCE", 0.5)
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **named: popen(*given, **named, pass_fds=[writing]))
    assert revision.of(tmp_path, [])[1].endswith("git does not answer")
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_tracked_file_that_became_a_pipe_is_changed(repository: Path) -> None:
    (repository / "shared.py").unlink()
    os.mkfifo(repository / "shared.py")
    assert modified(repository)


@pytest.fixture
def parent(repository: Path, tmp_path: Path) -> Path:
    """A repository with a submodule, which has one, too."""
    for name in ("inner", "outer"):
        repositories.make(tmp_path / name)
    git(tmp_path / "outer", "submodule", "add", "-q", str(tmp_path / "inner"), "inner")
    commit(tmp_path / "outer")
    git(repository, "submodule", "add", "-q", str(tmp_path / "outer"), "outer")
    git(repository, "submodule", "update", "-q", "--init", "--recursive")
    commit(repository)
    return repository


def test_submodules_are_looked_into(parent: Path) -> None:
    assert not modified(parent)
    for name in ("outer/shared.py", "outer/new", "outer/inner/shared.py", "outer/inner/new"):
        before = (parent / name).read_text() if (parent / name).exists() else None
        (parent / name).write_text("2")
        assert modified(parent), name
        assert modified(parent, parent / name) is False
        (parent / name).unlink()
        if before is not None:
            (parent / name).write_text(before)
    git(parent / "outer/inner", "commit", "-q", "--allow-empty", "-m", "y")
    assert modified(parent)
    shutil.rmtree(parent / "outer/inner")
    assert modified(parent)
    (parent / "outer/inner").mkdir()  # as in a clone without it
    assert not modified(parent)
    (parent / "outer/inner/x").write_text("1")
    assert modified(parent)


def test_a_submodule_may_say_that_it_is_another_work_tree(parent: Path) -> None:
    """Even one without changes, in which git looks for what was added."""
    copy = shutil.copytree(parent / "outer", parent.parent / "copy", symlinks=True)
    (parent / "outer/new").write_text("2")
    git(parent / "outer", "config", "core.worktree", str(copy))
    assert git(parent / "outer", "status", "--porcelain", "--ignore-submodules") == ""
    assert modified(parent)


@pytest.mark.parametrize("name", ["tool", "dist/tool", "dist/a[b]*", "a\\b", ":(top)x"])
def test_what_packing_writes_is_no_change(name: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the second archive would not be the first."""
    output = repository / name
    output.parent.mkdir(exist_ok=True)
    for path in (output, output.with_name(f".{output.name}.tmp-abcdefgh")):
        path.write_text("1")
    assert modified(repository)
    assert not modified(repository, output)
    monkeypatch.chdir(repository)
    assert not modified(repository, Path(name), Path("/elsewhere/tool"))
    output.with_name("b").write_text("1")
    assert modified(repository, output)


def test_a_directory_that_a_repository_does_not_keep(repository: Path) -> None:
    """As one in a home directory that somebody keeps versions of."""
    (repository / "scratch").mkdir()
    (repository / "scratch/script.py").write_text("1")
    for path in ("scratch", "scratch/script.py"):
        assert revision.of(repository / path, []) == (None, "")


def test_no_repository_no_commit_no_git(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert revision.of(tmp_path, []) == (None, "")
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    assert revision.of(tmp_path / "new", []) == (None, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision.of(repository, []) == (None, "")


def test_a_repository_that_is_broken_is_told(repository: Path) -> None:
    (repository / ".git/config").write_text("[")
    found, unknown = revision.of(repository, [])
    assert found is None
    assert unknown.startswith(f"no revision of {repository} is stated: fatal: bad config line ")


def test_a_repository_of_another_user_is_told_with_the_way_out(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        skip_optional("only root can make files of another user")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in (repository, repository / ".git"):
        os.chown(path, USER, USER)
    found, unknown = revision.of(repository, [])
    assert found is None
    assert unknown == (
        f"no revision of {repository} is stated: it belongs to another user; if you trust it: "
        f"git config --global --add safe.directory {repository}"
    )
    with monkeypatch.context() as told:  # as machines of CI services do
        for name, value in (("COUNT", "1"), ("KEY_0", "safe.directory"), ("VALUE_0", "*")):
            told.setenv(f"GIT_CONFIG_{name}", value)
        assert not modified(repository)
        assert revision.state(repository)
    git_settings = tmp_path / ".gitconfig"
    git_settings.write_text(f"[safe]\n    directory = {repository}\n")
    assert not modified(repository)


# What a repository wants to be run --------------------------------------------------------------------------------


def hostile(root: Path, ran: Path) -> None:
    """Let a repository name a program wherever its configuration can; its files have to be compared."""
    program = ran.with_name("program")
    program.write_text(f'#!/bin/sh\necho "$0 $*" >>{ran}\nexit 1\n')
    program.chmod(0o755)
    (root / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n*.py filter=e=vil\n")
    commit(root)
    settings = {
        "core.fsmonitor": program, "core.pager": program, "core.sshCommand": program,
        "core.editor": program, "core.askPass": program, "core.gitProxy": program,
        "core.alternateRefsCommand": program, "filter.evil.clean": program, "filter.evil.smudge": program,
        "filter.evil.required": "true", "filter.e=vil.process": program, "filter.e=vil.clean": program,
        "diff.external": program, "diff.evil.textconv": program, "diff.evil.command": program,
        "merge.evil.driver": program, "credential.helper": program, "gpg.program": program,
        "log.showSignature": "true", "pager.ls-files": program, "status.submoduleSummary": "true",
        "diff.ignoreSubmodules": "all",
        **{f"alias.{name}": f"!{program}" for name in ("rev-parse", "ls-files", "ls-tree", "check-attr", "status")},
    }  # fmt: skip
    for name, value in settings.items():
        git(root, "config", name, str(value))
    for path in [*root.glob("*.py"), *root.glob("project/*.py")]:
        os.utime(path, (1, 1))  # git has to look into it


def test_nothing_is_run_that_a_repository_names(parent: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for place in (parent / "outer/inner", parent / "outer", parent):
        hostile(place, ran)
    assert not ran.exists()
    found, unknown = revision.of(parent, [])
    assert (found, unknown) == (Revision(git(parent, "rev-parse", "HEAD"), False), "")
    assert not ran.exists(), ran.read_text()


@pytest.mark.parametrize("what", ["HEAD^{tree}", "HEAD:project"])
def test_nothing_is_fetched_that_a_partial_clone_lacks(what: str, repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hostile(repository, ran)
    lacking = git(repository, "rev-parse", what)
    (repository / ".git/objects" / lacking[:2] / lacking[2:]).unlink()
    settings = {
        "core.repositoryFormatVersion": "1", "extensions.partialClone": "origin", "remote.origin.promisor": "true",
        "remote.origin.url": "ssh://host.example/x", "protocol.allow": "always", "ssh.variant": "simple",
    }  # fmt: skip
    for name, value in settings.items():
        git(repository, "config", name, value)
    found, unknown = revision.of(repository, [])
    assert found is None
    assert not ran.exists(), ran.read_text()
    assert unknown == "" or unknown.startswith(f"no revision of {repository} is stated: ")
