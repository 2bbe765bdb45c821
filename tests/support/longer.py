"""Leaves what takes long to ``-m``: a pytest plugin. Programs of ``tests/apps.toml`` that are not for every test run to
``-m apps``, and all that is marked so to ``-m torture``."""

from __future__ import annotations

import pytest

MEANINGS = {
    "apps(ci)": "packs a program of tests/apps.toml; where ci is false, it takes -m apps to run it",
    "torture": "takes minutes; it takes -m torture to run it",
}


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for name, meaning in MEANINGS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them, unless the marker was asked for."""
    asked = config.getoption("markexpr")
    left = [item for item in items if _is_for_later(item, asked)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def _is_for_later(item: pytest.Item, asked: str) -> bool:
    if "torture" not in asked and item.get_closest_marker("torture"):
        return True
    return "apps" not in asked and not all(marker.kwargs["ci"] for marker in item.iter_markers("apps"))
