"""Plans: what was written is read again, and nothing else is believed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.native import lib, new, text

pytestmark = pytest.mark.native

NAME = b"0123456789abcdef0123456789abcdef"
DAY = 24 * 3600


@dataclass(frozen=True)
class Plan:
    """What a plan says, but for what it rests on."""

    view: bytes = b"/home/u/.cache/fatpar/v1/views/0/tree"
    python: bytes = b"/usr/bin/python3.11"
    slice: bytes = b"cp311-manylinux_2_17_x86_64"
    flags: tuple[bytes, ...] = (b"-I", b"-S")
    tools: tuple[tuple[bytes, int, bytes], ...] = ((b"hello", 1, b"boot/hello.py"), (b"ruff", 2, b"bin/ruff"))


class Plans:
    """A store with a directory of plans, and a file that plans rest on."""

    def __init__(self, root: Path) -> None:
        self.base = root / "store"
        self.file = self.base / "v1" / "plans" / NAME.decode()
        self.file.parent.mkdir(parents=True)
        self.watched = root / "watched"
        self.watched.write_text("as it was")

    def write(self, plan: Plan) -> None:
        """Have C write it."""
        host, c = new("struct host *"), new("struct plan *")
        for path in (self.watched, self.base / "nothing"):
            lib().hostwatch(host, os.fsencode(path))
        strings = [new("char[]", value) for value in (plan.view, plan.python, plan.slice, *plan.flags)]
        c.view, c.python, c.slice, *flags = strings
        flag_table = new("char *[]", flags)
        c.flags, c.flag_count = flag_table, len(flags)
        names = [(new("char[]", name), kind, new("char[]", target)) for name, kind, target in plan.tools]
        tool_table = new("struct plan_tool[]", names)
        c.tools, c.tool_count = tool_table, len(names)
        c.watches, c.watch_count = host.watches, host.watch_count
        directory = os.open(self.file.parent, os.O_RDONLY)
        lib().planwrite(c, directory, NAME)
        os.close(directory)
        lib().hostfree(host)

    def read(self) -> Plan | None:
        """What C makes of it."""
        c = new("struct plan *")
        if not lib().planread(c, os.fsencode(self.base), NAME):
            return None
        tools = [c.tools[i] for i in range(c.tool_count)]
        return Plan(
            raw(c.view), raw(c.python), raw(c.slice), tuple(raw(c.flags[i]) for i in range(c.flag_count)),
            tuple((raw(tool.name), tool.kind, raw(tool.target)) for tool in tools),
        )  # fmt: skip


def raw(pointer: Any) -> bytes:
    """A C string's bytes."""
    return os.fsencode(text(pointer))


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    """A store that is empty."""
    return Plans(tmp_path)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(), id="usual"),
        pytest.param(Plan(flags=()), id="no-options"),
        pytest.param(Plan(python=b"", slice=b"", flags=(b"", b"-Xutf8", b"")), id="empty-strings"),
        pytest.param(Plan(view=b"/caf\xe9/\xff\n/v w", tools=((b"w\nfatpar plan 1", 1, b"\n"),)), id="any-bytes"),
        pytest.param(Plan(tools=tuple((b"tool%d" % i, 1 + i % 2, b"t") for i in range(256))), id="most-tools"),
    ],
)
def test_what_was_written_is_read(plans: Plans, plan: Plan) -> None:
    plans.write(plan)
    assert plans.read() == plan
    assert os.listdir(plans.file.parent) == [NAME.decode()]


def test_a_plan_is_its_owner_s_alone(plans: Plans) -> None:
    plans.write(Plan())
    assert plans.file.stat().st_mode & 0o7777 == 0o600


def test_a_later_plan_takes_the_place_of_the_earlier(plans: Plans) -> None:
    plans.write(Plan())
    plans.write(Plan(python=b"/usr/bin/python3.12"))
    assert plans.read() == Plan(python=b"/usr/bin/python3.12")


CHANGES: dict[str, Callable[[Plans], object]] = {
    "removed": lambda plans: plans.file.unlink(),
    "empty": lambda plans: plans.file.write_bytes(b""),
    "longer": lambda plans: plans.file.write_bytes(plans.file.read_bytes() + b"\0"),
    "too-large-to-be-one": lambda plans: plans.file.write_bytes(bytes(2 << 20)),
    "a-directory": lambda plans: by_a_directory(plans.file),
    "a-link": lambda plans: plans.file.symlink_to(plans.file.rename(f"{plans.file}-")),
    "writable-by-the-group": lambda plans: plans.file.chmod(0o620),
    "writable-by-all": lambda plans: plans.file.chmod(0o602),
    "31-days-old": lambda plans: age(plans.file, 31 * DAY),
    "from-the-day-after-tomorrow": lambda plans: age(plans.file, -2 * DAY),
    "watched-file-written-to": lambda plans: plans.watched.write_text("another"),
    "watched-file-removed": lambda plans: plans.watched.unlink(),
    "watched-nothing-is-something": lambda plans: (plans.base / "nothing").touch(),
}


def by_a_directory(path: Path) -> None:
    """Replace a file."""
    path.unlink()
    path.mkdir()


def age(path: Path, seconds: int) -> None:
    """Make a file look older."""
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_plan_is_not_believed(plans: Plans, change: Callable[[Plans], object]) -> None:
    plans.write(Plan())
    assert plans.read() == Plan()
    change(plans)
    assert plans.read() is None


def test_a_plan_of_29_days_is_believed(plans: Plans) -> None:
    plans.write(Plan())
    age(plans.file, 29 * DAY)
    assert plans.read() == Plan()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_else_s_plan_is_not_believed(plans: Plans) -> None:
    plans.write(Plan())
    os.chown(plans.file, 1, -1)
    assert plans.read() is None


def test_every_flipped_bit_and_every_cut_is_noticed(plans: Plans) -> None:
    plans.write(Plan())
    sound = plans.file.read_bytes()
    for place in range(len(sound)):
        plans.file.write_bytes(sound[:place] + bytes((sound[place] ^ 1 << place % 8,)) + sound[place + 1 :])
        assert plans.read() is None, place
        plans.file.write_bytes(sound[:place])
        assert plans.read() is None, place
    plans.file.write_bytes(sound)
    assert plans.read() == Plan()


def sealed(strings: list[bytes]) -> bytes:
    """A plan file of these strings, with the digest that belongs to it."""
    body = b"".join(one + b"\0" for one in strings)
    digest = new("uint8_t[32]")
    lib().sha256(body, len(body), digest)
    return body + bytes(digest).hex().encode() + b"\0"


HEAD, REST = b"fatpar plan 1", [b"v/view", b"p/python", b"sslice", b"tapp", b"boot/app.py"]


def test_a_plan_can_be_put_together_by_the_format(plans: Plans) -> None:
    """FORMAT.md section 9, without C's writer."""
    plans.file.write_bytes(sealed([HEAD, *REST, b"f-I", b""]))
    assert plans.read() == Plan(b"/view", b"/python", b"slice", (b"-I",), ((b"app", 1, b"boot/app.py"),))


@pytest.mark.parametrize(
    "strings",
    [
        pytest.param([b"fatpar plan 2", *REST, b""], id="another-version"),
        pytest.param([HEAD, *REST], id="no-end"),
        pytest.param([HEAD, *REST, b"zwhat", b""], id="unknown-string"),
        pytest.param([HEAD, *REST[1:], b""], id="no-view"),
        pytest.param([HEAD, REST[0], *REST[2:], b""], id="no-interpreter"),
        pytest.param([HEAD, *REST[:2], *REST[3:], b""], id="no-slice"),
        pytest.param([HEAD, *REST[:3], b""], id="no-tool"),
        pytest.param([HEAD, *REST[:4]], id="tool-without-a-target"),
        pytest.param([HEAD, *REST, b"w1 2 3", b"/path", b""], id="too-few-numbers"),
        pytest.param([HEAD, *REST, b"wone", b"/path", b""], id="no-numbers"),
        pytest.param([HEAD, *REST, b"w1 2 3 4 5 6"], id="watch-without-a-path"),
        pytest.param([b""], id="nothing"),
    ],
)
def test_a_plan_with_a_right_digest_may_still_be_none(plans: Plans, strings: list[bytes]) -> None:
    plans.file.write_bytes(sealed(strings))
    assert plans.read() is None


# Names ----------------------------------------------------------------------------------------------------------


def name_of(path: int = 0, boot: bytes = b"boot", **facts: Any) -> str:
    """The name of the plan of an archive on a host."""
    archive, host, name = new("struct archive *"), new("struct host *"), new("char[33]")
    archive.trailer.id = facts.get("id", bytes(32))
    lib().hostset(host, facts.get("machine", 62), facts.get("release", b"6.1.0"), 3)
    host.cpu_features = facts.get("cpu_features", 1)
    lib().planname(archive, host, boot, path, name)
    lib().hostfree(host)
    return text(name)


def test_everything_that_could_change_the_decision_is_in_the_name() -> None:
    names = [
        name_of(), name_of(path=1), name_of(boot=b"another"), name_of(id=b"\1" * 32), name_of(machine=183),
        name_of(release=b"6.1.1"), name_of(cpu_features=2),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)
    assert name_of() == names[0]


def test_path_counts_where_interpreters_were_looked_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    before = name_of(), name_of(path=1)
    monkeypatch.setenv("PATH", "/another/bin")
    assert name_of() == before[0]
    assert name_of(path=1) != before[1]
    monkeypatch.delenv("PATH")
    assert name_of(path=1) not in (before[1], name_of())


def test_sweeping_takes_what_is_too_old(plans: Plans) -> None:
    for name, days in (("new", 1), ("old", 31), (".tmp-now", 0), (".tmp-left", 2)):
        (plans.file.parent / name).touch()
        age(plans.file.parent / name, days * DAY)
    directory = os.open(plans.file.parent, os.O_RDONLY)
    lib().planssweep(directory)
    os.close(directory)
    assert sorted(os.listdir(plans.file.parent)) == [".tmp-now", "new"]
