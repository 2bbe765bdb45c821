"""Which imports of which slices are lazy: what the user says, what the profile knows, what is packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from packer import boot, job, lazy, lazycheck, profile
from packer.config import Config
from packer.errors import UsageError
from packer.lazycheck import Statement

CHECKED = lazy.Checked(("a",), ("b",), "3.15.2", ("true",))


def chosen(*, known: profile.Profile | None = None, **said: Any) -> tuple[dict[str, lazy.Lazy], str]:
    if known is not None:
        profile.write(Path("p.json"), known)
        said["profile"] = Path("p.json")
    made, notes = job.job_of(Config(inputs=("x",), **said), 60)
    return dict(made.lazy), "".join(notes)


def refusal(**said: Any) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        chosen(**said)
    return str(caught.value), caught.value.hint


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_is_lazy_unless_it_was_checked() -> None:
    abis = "manylinux2014,cp311,cp315"
    assert chosen(abis=abis) == ({}, "")
    assert chosen(abis=abis, known=profile.Profile()) == ({}, "")
    assert chosen(abis=abis, known=profile.Profile(lazy={"cp315": CHECKED})) == ({"cp315": CHECKED}, "")
    assert chosen(abis=abis, known=profile.Profile(lazy={"cp315": CHECKED}), lazy_imports="off") == ({}, "")


def test_a_python_that_was_not_checked_is_left_alone() -> None:
    known = profile.Profile(lazy={"cp315": CHECKED})
    said = "imports are not lazy for cp315t: p.json was not checked with it"
    assert chosen(abis="manylinux2014,cp315,cp315t", known=known) == ({"cp315": CHECKED}, said)


def test_all_of_them_where_the_python_has_them() -> None:
    assert chosen(abis="manylinux2014,cp314,cp315", lazy_imports="all") == ({"cp315": lazy.Lazy()}, "")


def test_what_cannot_be_meant() -> None:
    new, old = "manylinux2014,cp315", "manylinux2014,cp314"
    known = profile.Profile()
    for mode in ("all", "profile"):
        said = f"--lazy-imports {mode}: no slice is for a Python that has them"
        assert refusal(abis=old, lazy_imports=mode, known=known) == (said, "3.15 is the first: --abis cp315")
    said = "--lazy-imports profile: p.json was not checked with cp315"
    hint = "packer profile FILE --check COMMAND -o p.json, where cp315 runs"
    assert refusal(abis=new, lazy_imports="profile", known=known) == (said, hint)
    hint = "packer profile FILE --check COMMAND writes one"
    assert refusal(abis=new, lazy_imports="profile") == ("--lazy-imports profile and no --profile", hint)
    assert refusal(abis=new, lazy_imports="some") == ("not a --lazy-imports: 'some'", "all, profile or off")


@pytest.mark.parametrize("entry", [boot.Function("a", "main"), boot.Module("a"), boot.Script("app/a.py")])
def test_every_boot_file_can_switch_them_on(entry: boot.Function | boot.Module | boot.Script) -> None:
    source = boot.boot_source(entry)
    made = lazy.entered(source)
    compile(made, "boot", "exec")
    assert made != source
    assert lazy.entered(made) == made


def test_a_boot_file_of_somebody_else() -> None:
    with pytest.raises(ValueError, match="not a boot file"):
        lazy.entered("import sys\n")


def test_what_leads_to_a_module() -> None:
    statements = [
        Statement("__main__", "app", ("main",)),
        Statement("app", "os", ()),
        Statement("app", "app.one.two", ()),
        Statement("app.one", "side", ("x", "effect")),
        Statement("side.effect", "os", ()),
    ]
    assert lazycheck._leading("side.effect", statements) == ["app", "app.one.two", "side.effect"]
    assert lazycheck._leading("os", statements) == ["app", "os"]
    assert lazycheck._leading("not there", statements) == ["not there"]


def test_modules_that_import_each_other_lead_somewhere() -> None:
    statements = [Statement("b", "a", ()), Statement("a", "b", ())]
    assert lazycheck._leading("a", statements) == ["b", "a"]
