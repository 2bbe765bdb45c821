"""Leaves the programs of ``tests/apps.toml`` that are not for every test run to ``-m apps``: a pytest plugin."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    meaning = "apps(ci): packs a program of tests/apps.toml; where ci is false, it takes -m apps to run it"
    config.addinivalue_line("markers", meaning)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them, unless the marker was asked for."""
    if "apps" in config.getoption("markexpr"):
        return
    left = [item for item in items if not all(marker.kwargs["ci"] for marker in item.iter_markers("apps"))]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
