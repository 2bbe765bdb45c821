"""The comparison itself: what it finds, and what it does not let pass."""

from __future__ import annotations

from .comparing import NOTHING, Difference, differing, flat, judge

KNOWN = (
    Difference("process > sys > path", "its directory is left out", becomes=lambda plain: plain[1:]),
    Difference("process > flags > *", "options", since=(3, 4)),
)


def seen(**more: object) -> dict[str, object]:
    return dict(flat("process", {"sys": {"path": ["bin", "lib"]}, "flags": {"isolated": 0}, **more}))


def test_data_has_one_name_for_each_value() -> None:
    assert seen(x=[[1, 2], 3]) == {
        "process > sys > path": ["bin", "lib"],
        "process > flags > isolated": 0,
        "process > x > 0": [1, 2],
        "process > x > 1": 3,
    }


def test_what_one_has_alone_differs() -> None:
    assert differing(seen(x=1), seen()) == {"process > x": (1, NOTHING)}


def test_a_known_difference_passes_and_another_value_does_not() -> None:
    packed = seen(sys={"path": ["lib"]}, flags={"isolated": 1})
    assert judge(differing(seen(), packed), KNOWN, (3, 11)) == ([], [])
    unknown, unused = judge(differing(seen(), seen(sys={"path": []}, flags={"isolated": 1})), KNOWN, (3, 11))
    assert [line.split("\n")[0] for line in unknown] == ["process > sys > path"]
    assert unused == ["process > sys > path: its directory is left out"]


def test_an_entry_is_for_its_versions() -> None:
    found = differing(seen(), seen(sys={"path": ["lib"]}))
    assert judge(found, KNOWN, (2, 7)) == ([], [])
    assert judge(found, KNOWN, (3, 4)) == ([], ["process > flags > *: options"])
