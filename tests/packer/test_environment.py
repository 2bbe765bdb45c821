"""packer/environment.py: what builds see names what they made, and they see nothing that changes from run to run."""

from __future__ import annotations

import pytest

from packer import environment


@pytest.mark.parametrize(
    "name",
    [
        *("CFLAGS", "MSGPACK_PUREPYTHON", "CARGO_HOME", "RUSTFLAGS", "PATH", "CI", "PIP_INDEX_URL", "BUILD_EXTENSIONS"),
        *("HOME", "SETUPTOOLS_SCM_PRETEND_VERSION", "SOURCE_DATE_EPOCH", "CIVIL", "TERMINFO"),
    ],
)
def test_what_may_decide_a_build_is_seen_and_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.digest()
    monkeypatch.setenv(name, "another")
    assert environment.visible()[name] == "another"
    assert environment.digest() != before


@pytest.mark.parametrize(
    "name",
    [
        *("PWD", "_", "TERM", "TERM_PROGRAM", "SSH_TTY", "XDG_SESSION_ID", "DISPLAY", "PYTEST_CURRENT_TEST"),
        *("GITHUB_RUN_ID", "GITHUB_SHA", "CI_JOB_ID", "CI_PIPELINE_IID", "BUILDKITE", "BUILDKITE_BUILD_ID"),
        *("GNOME_TERMINAL_SCREEN", "KITTY_PID", "WEZTERM_PANE", "VSCODE_IPC_HOOK_CLI", "SYSTEMD_EXEC_PID"),
        *("MAKELEVEL", "MAKEFLAGS", "SLURM_JOB_ID", "NODE_NAME", "WORKSPACE", "WORKSPACE_TMP", "JENKINS_URL"),
        *("BUILD_BUILDID", "SYSTEM_JOBID", "AGENT_ID", "DRONE_BUILD_NUMBER", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID"),
        *("BUILD_NUMBER", "RUNNER_TEMP", "KUBERNETES_PORT", "PYTHONPATH", "LC_ALL"),
    ],
)
def test_what_changes_from_run_to_run_neither_counts_nor_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    before = environment.digest()
    monkeypatch.setenv(name, "another")
    assert name not in environment.visible()
    assert environment.digest() == before


@pytest.mark.parametrize("name", ["TMPDIR", "SSH_AUTH_SOCK"])
def test_where_something_lies_does_not_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.digest()
    monkeypatch.setenv(name, "/another")
    assert environment.visible()[name] == "/another"
    assert environment.digest() == before
