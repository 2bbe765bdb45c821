"""In CI nothing that should run goes missing: a pytest plugin; ``conftest.py`` names it in ``pytest_plugins``.

With ``CI`` in the environment a skipped test or module is a failed one, unless its reason begins with ``optional:``,
as :func:`skip_optional` writes it, for what no run of the suite can promise, say a Python that happens not to be
on the machine. And where the whole suite was asked for, some test of each of :data:`KINDS` must have run.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import NoReturn

import pytest

OPTIONAL = "optional: "

KINDS = {
    "e2e": "packs a real program and runs it",
    "hosts": "runs in the root filesystems that tests/hosts/build.py makes",
    "network": "talks to a package index",
}
"""Markers of the kinds of test that need something of the machine, so that a kind can go missing as a whole."""


def skip_optional(reason: str) -> NoReturn:
    """Skip the running test for a reason that is acceptable in CI too."""
    pytest.skip(OPTIONAL + reason)


def in_ci() -> bool:
    """Whether a missing test is a fault; ``CI`` is what the usual services set."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason of a skipped report, without pytest's ``Skipped: ``."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure, in CI and without an accepted reason; an expected failure is no skip."""
    if not report.skipped or hasattr(report, "wasxfail") or not in_ci():
        return
    reason = reason_of(report)
    if not reason.startswith(OPTIONAL):
        report.outcome = "failed"
        report.longrepr = f"skipped, but in CI it has to run: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge tests."""
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge modules that skip themselves as a whole."""
    report = yield
    refuse_skip(report)
    return report


class Kinds:
    """Watches which kinds of test run in a session."""

    def __init__(self) -> None:
        self.missing = set(KINDS)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A kind ran when a test of it got to an end, good or bad."""
        if report.when == "call" and not report.skipped:
            self.missing -= report.keywords.keys()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a session that was good but for a missing kind."""
        if self.missing and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what is missing."""
        for kind in sorted(self.missing):
            terminalreporter.write_line(f"no test marked {kind} ran, but in CI some have to", red=True)


def is_whole_suite(config: pytest.Config) -> bool:
    """Whether nothing narrowed the selection: neither paths nor -k nor -m."""
    narrowed = config.getoption("keyword") or config.getoption("markexpr")
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not narrowed


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, and watch over the kinds where all of them were asked for.

    A worker of pytest-xdist runs a part; the process that started it gets all reports.
    """
    for name, meaning in KINDS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if in_ci() and is_whole_suite(config) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Kinds(), "kinds")
