"""Leaves what is not for every test run to ``-m apps`` and ``-m torture``: a pytest plugin."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    meaning = "apps(ci): packs a program of tests/apps.toml; where ci is false, it takes -m apps to run it"
    config.addinivalue_line("markers", meaning)
    config.addinivalue_line("markers", "torture: takes minutes; it takes -m torture to run it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them, unless the marker was asked for."""
    asked = config.getoption("markexpr")
    left = []
    if "apps" not in asked:
        left += [item for item in items if not all(marker.kwargs["ci"] for marker in item.iter_markers("apps"))]
    if "torture" not in asked:
        left += [item for item in items if item.get_closest_marker("torture")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
