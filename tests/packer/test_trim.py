"""packer/trim.py: what is left out is told, and nothing else is missing."""

from __future__ import annotations

import pytest
from support.layers import SITE, layer

from packer import layers, trim
from packer.model import Layer, LayerKind

TREE = {
    f"{SITE}/{path}": path
    for path in (
        "pkg/__init__.py", "pkg/tests/__init__.py", "pkg/tests/data/x.csv", "pkg/_c.pyx", "pkg/_c.so", "pkg/py.typed",
        "pkg/__init__.pyi", "pkg/testing.py", "pkg/include/x.h",
        "pkg/lib.a", "tests/top.py", "pkg-1.0.dist-info/tests/x.pyi",
    )
} | {"bin/run": "run", "share/tests/x": "x"}  # fmt: skip


@pytest.fixture
def wheel() -> Layer:
    return layers.layer("pkg-1.0-py3-none-any", LayerKind.WHEEL, layer("pkg", TREE).entries)


def test_what_nobody_runs(wheel: Layer) -> None:
    """Tests inside of packages; a package that is itself called tests may be the program."""
    trimmed, left_out = trim.trim(wheel, trim.NOBODY_RUNS)
    assert [path.removeprefix(f"{SITE}/") for path in left_out] == [
        "pkg/lib.a", "pkg/tests/__init__.py", "pkg/tests/data/x.csv", "share/tests/x",
    ]  # fmt: skip
    assert {entry.path for entry in trimmed.entries} == {entry.path for entry in wheel.entries} - set(left_out)
    assert trimmed.digest != wheel.digest


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("pkg/tests/*", {f"{SITE}/pkg/tests/__init__.py", f"{SITE}/pkg/tests/data/x.csv"}),
        ("*.so", {f"{SITE}/pkg/_c.so"}),
        ("bin/*", {"bin/run"}),
        ("pkg/_c.[a-z]*", {f"{SITE}/pkg/_c.so", f"{SITE}/pkg/_c.pyx"}),
        ("PKG/*", set()),
        ("pkg-1.0.dist-info/*", set()),
    ],
)
def test_patterns(wheel: Layer, pattern: str, expected: set[str]) -> None:
    trimmed, left_out = trim.trim(wheel, (pattern,))
    assert set(left_out) == expected
    assert (trimmed is wheel) == (not expected)
    assert trim.unused([pattern, "*.so"], [*left_out, f"{SITE}/x.so"]) == (() if expected else (pattern,))


def test_nothing_is_left_out_unless_asked(wheel: Layer) -> None:
    assert trim.trim(wheel, ()) == (wheel, ())
