"""What tests have to say, beside that they are good: a pytest plugin that writes it among the dots."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

SAID = "said"

Say: TypeAlias = Callable[[str], None]


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    """Tell whoever runs the tests, when this one is over."""
    return lambda line: request.node.user_properties.append((SAID, line))


class Teller:
    """Writes the lines."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """With the last report of a test, which has what it said in all."""
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if report.when == "teardown" and terminal:
            for line in (text for name, text in report.user_properties if name == SAID):
                terminal.ensure_newline()
                terminal.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """The reports of pytest-xdist's workers come to the process that started them."""
    config.pluginmanager.register(Teller(config), "teller")
