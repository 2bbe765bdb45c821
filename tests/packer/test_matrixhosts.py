"""The file that names hosts: what it may say, and one clear error for all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packer import matrixhosts
from packer.errors import UsageError
from packer.matrixhosts import Case, Kind

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTION = 'machine = "x86_64"\ncpu = 1\nkernel = "4.18.0"\nlibc = "glibc 2.28"\n'


HERE = "[[host]]\nname = 'a'\nlocal = true\n"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A directory with a root filesystem, a kernel and a description."""
    (tmp_path / "root").mkdir()
    (tmp_path / "vmlinuz").touch()
    (tmp_path / "ours.toml").write_text(DESCRIPTION)
    return tmp_path


def read(room: Path, text: str) -> matrixhosts.Plan:
    """What a file says that lies in the directory."""
    path = room / "hosts.toml"
    path.write_text(text)
    return matrixhosts.read(path)


def test_every_kind_of_host(room: Path) -> None:
    plan = read(
        room,
        """
        host = [
            {name = "a", root = "root", describes = "bookworm", title = "Ours"},
            {name = "b", image = "debian:12", required = false},
            {name = "c", kernel = "vmlinuz", root = "root", describes = "ours.toml"},
            {name = "d", ssh = "user@host"},
            {name = "e", local = true},
        ]
        """,
    )
    assert [(host.name, host.kind, host.at, host.root, host.required) for host in plan.hosts] == [
        ("a", Kind.ROOT, "", room / "root", True),
        ("b", Kind.IMAGE, "debian:12", None, False),
        ("c", Kind.KERNEL, str(room / "vmlinuz"), room / "root", True),
        ("d", Kind.SSH, "user@host", None, True),
        ("e", Kind.HERE, "", None, True),
    ]
    described = [host.described.kernel if host.described else None for host in plan.hosts]
    assert described[1:] == [None, "4.18.0", None, None]
    assert described[0]
    assert [host.title for host in plan.hosts][::4] == ["Ours", "e"]
    assert plan.cases == ()


def test_cases(room: Path) -> None:
    plan = read(
        room,
        """
        host = [{name = "here", local = true}]
        [[case]]
        name = "all"
        args = ["--count", "3"]
        status = 4
        output = "^three$"
        stdin = "1 2 3"
        [[case]]
        name = "least"
        """,
    )
    assert plan.cases == (Case("all", ("--count", "3"), 4, "^three$", "1 2 3"), Case("least", ()))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "there is no [[host]]"),
        ("[host]", "host must be written [[host]]"),
        ("hosts = 1", "hosts is not known: [[host]] and [[case]] are"),
        ("[[host]", "Expected ']]' at the end of an array declaration (at line 1, column 7)"),
        ("[[host]]", "host 1: name is missing"),
        ("[[host]]\nname = ''", "host '': name is empty"),
        ("[[host]]\nname = 3", "host 1: name must be a string, is 3"),
        ("[[host]]\nname = 'a'\nlocal = true\n[[host]]\nname = 'a'\nlocal = true", "host 'a' is there twice"),
        ("[[host]]\nname = 'a'\nrequired = 1", "host 'a': required must be true or false, is 1"),
        (
            "[[host]]\nname = 'a'\nimages = 'x'",
            "host 'a': images is not known: describes, image, kernel, local, name, required, root, ssh, title are",
        ),
        (
            "[[host]]\nname = 'a'\nroot = 'root'\nssh = 'x'",
            "host 'a': only one of root, image, kernel (with a root), ssh and local can be said",
        ),
        (
            "[[host]]\nname = 'a'\nimage = 'x'\nkernel = 'vmlinuz'\nroot = 'root'",
            "host 'a': only one of root, image, kernel (with a root), ssh and local can be said",
        ),
        ("[[host]]\nname = 'a'", "host 'a': where it is is missing: root, image, kernel (with a"),
        ("[[host]]\nname = 'a'\nlocal = false", "host 'a': where it is is missing: "),
        ("[[host]]\nname = 'a'\nlocal = 'yes'", "host 'a': local must be true or false, is 'yes'"),
        (
            "[[host]]\nname = 'a'\nlocal = true\nssh = 'x'",
            "host 'a': only one of root, image, kernel (with a root), ssh and local can be said",
        ),
        ("[[host]]\nname = 'a'\nroot = 'none'", "host 'a': root 'none' is no directory"),
        ("[[host]]\nname = 'a'\nroot = 'vmlinuz'", "host 'a': root 'vmlinuz' is no directory"),
        (
            "[[host]]\nname = 'a'\nkernel = 'vmlinuz'",
            "host 'a': kernel needs root, a root filesystem to be started with",
        ),
        ("[[host]]\nname = 'a'\nkernel = 'none'\nroot = 'root'", "host 'a': kernel 'none' is no file"),
        ("[[host]]\nname = 'a'\nssh = '-oProxyCommand=x'", "host 'a': ssh cannot be '-oProxyCommand=x'"),
        ("[[host]]\nname = 'a'\nimage = ''", "host 'a': image cannot be ''"),
        (f"{HERE}[[case]]\nname = 'c'\nargs = 'x'", "case 'c': args must be a list of strings, is 'x'"),
        (f"{HERE}[[case]]\nname = 'c'\nargs = [1]", "case 'c': args must be a list of strings, is [1]"),
        (
            '[[host]]\nname = "a"\nlocal = true\n[[case]]\nname = "c"\nargs = ["a\\u0000b"]',
            "case 'c': args has a NUL in it",
        ),
        (f"{HERE}[[case]]\nname = 'c'\nstatus = true", "case 'c': status must be a number, is True"),
        (f"{HERE}[[case]]\nname = 'c'\nsize = 1", "case 'c': size is not known: args, name, output, "),
        (f"{HERE}[[case]]\nname = 'c'\noutput = '('", "case 'c': output is no regular expression: "),
        (f"{HERE}[[case]]\nname = 'c'\n[[case]]\nname = 'c'", "case 'c' is there twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(room: Path, text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(room, text)
    assert str(raised.value).startswith(f"{room}/hosts.toml: {error}")


def test_places_that_are_made_later(room: Path) -> None:
    (room / "hosts.toml").write_text("[[host]]\nname = 'a'\nroot = 'later'\nkernel = 'later/vmlinuz'")
    (host,) = matrixhosts.read(room / "hosts.toml", places=False).hosts
    assert (host.root, host.at) == (room / "later", str(room / "later/vmlinuz"))


def test_what_a_host_is_asked_by(room: Path) -> None:
    """Its title and whether it is required are no part of it, nor is where the file lies."""

    def table(text: str) -> str:
        (host,) = read(room, f"[[host]]\nname = 'a'\n{text}").hosts
        return host.table

    first = table("root = 'root'\ndescribes = 'ours.toml'")
    assert table("describes = 'ours.toml'\nroot = 'root'\ntitle = 'Ours'\nrequired = false") == first
    (room / "other").mkdir()
    (room / "ours.toml").rename(room / "other/ours.toml")
    assert str(room) not in first
    assert table("root = 'root'\ndescribes = 'other/ours.toml'") == first
    (room / "other/ours.toml").write_text(DESCRIPTION.replace("2.28", "2.31"))
    others = [
        table(text)
        for text in (
            "root = 'root'\ndescribes = 'other/ours.toml'",
            "root = 'root'",
            "root = 'other'",
            "image = 'root'",
        )
    ]
    assert len({first, *others}) == 5


def test_a_description_that_is_not_there(room: Path) -> None:
    with pytest.raises(UsageError, match=r"host 'a': describes: no host 'none.toml': neither a name nor a file"):
        read(room, "[[host]]\nname = 'a'\nlocal = true\ndescribes = 'none.toml'")


def test_a_description_that_is_wrong(room: Path) -> None:
    (room / "ours.toml").write_text(DESCRIPTION.replace("cpu = 1", "cpu = 9"))
    with pytest.raises(UsageError, match=r"host 'a': describes: .*cpu 9 is no level of machine 'x86_64'"):
        read(room, "[[host]]\nname = 'a'\nlocal = true\ndescribes = 'ours.toml'")


def test_a_file_that_cannot_be_read(room: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the hosts .*none.toml: No such file or directory"):
        matrixhosts.read(room / "none.toml")
    (room / "none.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"none.toml: 'utf-8' codec can't decode"):
        matrixhosts.read(room / "none.toml")
