"""Matrices as running hosts would make them, for tests of what is shown of them."""

from __future__ import annotations

from packer.results import Addition, Choice, Matrix, Ran, Row, Seen

SLICES = tuple(f"{tag}-manylinux_2_17_x86_64" for tag in ("cp313", "cp311", "cp39"))
PREFERRED, MIDDLE, LAST = SLICES
REASON = "needs CPython {}, found cp37 (/usr/bin/python3.7)"


def choice(chosen: str | None, *fitting: str) -> Choice:
    """A choice; slices that are neither chosen nor fit lack their Python."""
    reasons = {
        name: () if name in (chosen, *fitting) else (REASON.format(name.partition("-")[0]), "needs luck, found none")
        for name in SLICES
    }
    return Choice(chosen, f"/usr/bin/{chosen[:5]}" if chosen else None, reasons)


def ran(case: str = "version", passed: bool = True, **more: object) -> Ran:
    """A case that ran."""
    said: dict[str, object] = {
        "case": case, "arguments": ("--version",), "passed": passed, "why": "" if passed else "ends with 3, not 0",
        "status": 0 if passed else 3, "first": 1.25, "warm": 0.125,
        "output": "3.2.4\n" if passed else "no <b>\x1b[1m\n",
    }  # fmt: skip
    return Ran(**{**said, **more})  # type: ignore[arg-type]


GOOD = Row("good", "A good host", False, choice(PREFERRED, MIDDLE), Seen(choice(PREFERRED, MIDDLE), "", (ran(),)))
PREDICTED = Row("predicted", "predicted", False, choice(LAST))
NONE = Row("none", "A host without", False, choice(None))
REQUIRED = Row("required", "A host that counts", True, choice(None))
FAILED = Row("failed", "failed", True, choice(MIDDLE), Seen(choice(MIDDLE), "", (ran(), ran("get", passed=False))))
DIFFERS = Row("differs", "differs", False, choice(PREFERRED), Seen(choice(MIDDLE), "", (ran(),)))
UNUSABLE = Row("unusable", "unusable", False, choice(LAST), Seen(None, "no root filesystem /srv/none", ()))
UNKNOWN = Row("unknown", "unknown", False, None)
ROWS = (GOOD, PREDICTED, NONE, REQUIRED, FAILED, DIFFERS, UNUSABLE, UNKNOWN)

ADDITIONS = (
    Addition("--abis ...,cp37-manylinux_2_17_x86_64", "cp37-manylinux_2_17_x86_64", ("none", "required"), 5000,
             "about 5,000 bytes, as cp39-manylinux_2_17_x86_64 adds", ""),
    Addition("", "", ("old",), None, "unknown", "nothing that packer fat could add helps: needs library libX11.so.6"),
)  # fmt: skip


def matrix(*rows: Row, additions: tuple[Addition, ...] = ()) -> Matrix:
    """A matrix of an archive."""
    return Matrix("http", "0" * 64, SLICES, rows or ROWS, additions)
