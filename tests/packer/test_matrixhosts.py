"""The file that names hosts: what it may say, and one clear error for all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packer import matrixhosts
from packer.errors import PackError
from packer.matrixhosts import Case, Kind

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTION = 'machine = "x86_64"\ncpu = 1\nkernel = "4.18.0"\nlibc = "glibc 2.28"\n'


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
            {name = "e"},
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
        host = [{name = "here"}]
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
        ("[[host]]\nname = 'a'\n[[host]]\nname = 'a'", "host 'a' is there twice"),
        ("[[host]]\nname = 'a'\nrequired = 1", "host 'a': required must be true or false, is 1"),
        (
            "[[host]]\nname = 'a'\nimages = 'x'",
            "host 'a': images is not known: describes, image, kernel, name, required, root, ssh, title are",
        ),
        (
            "[[host]]\nname = 'a'\nroot = 'root'\nssh = 'x'",
            "host 'a': only one of root, image, kernel (with a root) and ssh can be said",
        ),
        (
            "[[host]]\nname = 'a'\nimage = 'x'\nkernel = 'vmlinuz'\nroot = 'root'",
            "host 'a': only one of root, image, kernel (with a root) and ssh can be said",
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
        ("[[host]]\nname = 'a'\n[[case]]\nname = 'c'\nargs = 'x'", "case 'c': args must be a list of strings, is 'x'"),
        ("[[host]]\nname = 'a'\n[[case]]\nname = 'c'\nargs = [1]", "case 'c': args must be a list of strings, is [1]"),
        (
            '[[host]]\nname = "a"\n[[case]]\nname = "c"\nargs = ["a\\u0000b"]',
            "case 'c': args has a NUL in it",
        ),
        ("[[host]]\nname = 'a'\n[[case]]\nname = 'c'\nstatus = true", "case 'c': status must be a number, is True"),
        ("[[host]]\nname = 'a'\n[[case]]\nname = 'c'\nsize = 1", "case 'c': size is not known: args, name, output, "),
        ("[[host]]\nname = 'a'\n[[case]]\nname = 'c'\noutput = '('", "case 'c': output is no regular expression: "),
        ("[[host]]\nname = 'a'\n[[case]]\nname = 'c'\n[[case]]\nname = 'c'", "case 'c' is there twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(room: Path, text: str, error: str) -> None:
    with pytest.raises(PackError) as raised:
        read(room, text)
    assert str(raised.value).startswith(f"{room}/hosts.toml: {error}")


def test_a_description_that_is_not_there(room: Path) -> None:
    with pytest.raises(PackError, match=r"host 'a': describes: no host '.*/none.toml': neither a name nor a file"):
        read(room, "[[host]]\nname = 'a'\ndescribes = 'none.toml'")


def test_a_description_that_is_wrong(room: Path) -> None:
    (room / "ours.toml").write_text(DESCRIPTION.replace("cpu = 1", "cpu = 9"))
    with pytest.raises(PackError, match=r"host 'a': describes: .*cpu 9 is no level of machine 'x86_64'"):
        read(room, "[[host]]\nname = 'a'\ndescribes = 'ours.toml'")


def test_a_file_that_cannot_be_read(room: Path) -> None:
    with pytest.raises(PackError, match=r"cannot read the hosts .*none.toml: No such file or directory"):
        matrixhosts.read(room / "none.toml")
    (room / "none.toml").write_bytes(b"\xff")
    with pytest.raises(PackError, match=r"none.toml: 'utf-8' codec can't decode"):
        matrixhosts.read(room / "none.toml")
