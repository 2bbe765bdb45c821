"""Leaves what takes long to a run that asks for it: programs of ``tests/apps.toml`` that are not for every test run to
``-m apps``, and ``tests/torture`` to ``-m torture``: a pytest plugin."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    meaning = "apps(ci): packs a program of tests/apps.toml; where ci is false, it takes -m apps to run it"
    config.addinivalue_line("markers", meaning)
    config.addinivalue_line("markers", "torture: takes minutes; it takes -m torture to run it")


def is_left(item: pytest.Item, asked: str) -> bool:
    """Whether a test is not for this run."""
    if "torture" not in asked and item.get_closest_marker("torture"):
        return True
    return "apps" not in asked and not all(marker.kwargs["ci"] for marker in item.iter_markers("apps"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them, unless their marker was asked for."""
    left = [item for item in items if is_left(item, config.getoption("markexpr"))]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
