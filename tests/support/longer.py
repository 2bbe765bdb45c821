"""Leaves what is not for every test run to ``-m apps`` and ``-m torture``: a pytest plugin."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for meaning in (
        "apps(ci): packs a program of tests/apps.toml; where ci is false, it takes -m apps to run it",
        "torture: the whole of what other tests do a part of; it takes -m torture to run it",
    ):
        config.addinivalue_line("markers", meaning)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them, unless their marker was asked for."""
    asked = config.getoption("markexpr")
    left = [item for item in items if _is_longer(item, asked)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def _is_longer(item: pytest.Item, asked: str) -> bool:
    if "torture" not in asked and item.get_closest_marker("torture"):
        return True
    return "apps" not in asked and not all(marker.kwargs["ci"] for marker in item.iter_markers("apps"))
