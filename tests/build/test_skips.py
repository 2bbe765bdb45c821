"""The guard against tests that go missing in CI (:mod:`support.skips`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import skips

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["support.skips"]'
SETTINGS = f"""
[tool.pytest.ini_options]
testpaths = ["."]
pythonpath = ["{Path(skips.__file__).parents[1]}"]
addopts = ["--strict-markers"]
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty suite guarded as ours is, in CI."""
    monkeypatch.setenv("CI", "true")
    pytester.makepyprojecttoml(SETTINGS)
    pytester.makeconftest(CONFTEST)
    return pytester


def every_kind() -> str:
    """The source of one good test per kind."""
    return "import pytest\n" + "".join(f"@pytest.mark.{kind}\ndef test_{kind}(): pass\n" for kind in skips.KINDS)


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the suite in a process of its own, so that the guard of this session does not judge it."""
    return suite.runpytest_subprocess(*arguments)


PART = 'import pytest\ndef test_a(): pytest.skip("no")'
WHOLE = 'import pytest\npytest.skip("no", allow_module_level=True)'


@pytest.mark.parametrize(
    "test",
    [
        pytest.param('import pytest\n@pytest.mark.skip(reason="no")\ndef test_a(): pass', id="marked"),
        pytest.param(PART, id="in the test"),
        pytest.param(WHOLE, id="whole module"),
        pytest.param(
            'import pytest\n@pytest.fixture\ndef a(): pytest.skip("no")\ndef test_a(a): pass', id="in a fixture"
        ),
    ],
)
def test_skip_is_a_failure_in_ci_only(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str) -> None:
    suite.makepyfile(test_kinds=every_kind(), test_a=test)
    result = run(suite)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*skipped, but in CI it has to run: no*"])
    monkeypatch.delenv("CI")
    result = run(suite)
    assert result.ret == 0
    result.assert_outcomes(passed=len(skips.KINDS), skipped=1)


def test_optional_skip_is_accepted(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_a=every_kind() + 'from support import skips\ndef test_a(): skips.skip_optional("no 2.7")')
    result = run(suite)
    assert result.ret == 0
    result.assert_outcomes(passed=len(skips.KINDS), skipped=1)


def test_expected_failure_is_no_skip(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_a=every_kind() + "@pytest.mark.xfail\ndef test_a(): assert 0")
    result = run(suite)
    assert result.ret == 0
    result.assert_outcomes(passed=len(skips.KINDS), xfailed=1)


WORKERS = ["-n", "2", "--dist", "loadfile"]
"""As ``make test`` has it."""
alone_and_with_workers = pytest.mark.parametrize("workers", [[], WORKERS], ids=["alone", "workers"])


@alone_and_with_workers
def test_missing_kind_fails_the_whole_suite(suite: pytest.Pytester, workers: list[str]) -> None:
    suite.makepyfile(test_a=every_kind().replace("mark.e2e", "mark.hosts"))
    result = run(suite, *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["no test marked e2e ran, but in CI some have to", "*= 3 passed in *"])


def test_kinds_may_be_spread_over_workers(suite: pytest.Pytester) -> None:
    first, *others = every_kind().split("\n@")
    suite.makepyfile(**{f"test_{number}": f"{first}\n@{test}" for number, test in enumerate(others)})
    result = run(suite, *WORKERS)
    assert result.ret == 0
    result.assert_outcomes(passed=len(skips.KINDS))


@pytest.mark.parametrize("test", [PART, WHOLE], ids=["in the test", "whole module"])
def test_skip_in_a_worker_is_a_failure(suite: pytest.Pytester, test: str) -> None:
    suite.makepyfile(test_kinds=every_kind(), test_a=test)
    result = run(suite, *WORKERS)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*skipped, but in CI it has to run: no*"])


@pytest.mark.parametrize("narrowed", [["test_a.py"], ["-k", "a"], ["-m", "not e2e"]], ids=["path", "-k", "-m"])
def test_part_of_the_suite_may_lack_kinds(suite: pytest.Pytester, narrowed: list[str]) -> None:
    suite.makepyfile(test_a="def test_a(): pass")
    assert run(suite, *narrowed).ret == 0
