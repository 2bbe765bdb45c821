"""What builds see of the environment: all but what changes from run to run; and all they see names what they made."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from pathlib import Path

from packer import process
from packer.files import sha256

_HIDDEN = (
    # where the shell is
    "PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME",
    # the terminal and the session
    "TERM", "TERM_*", "COLORTERM", "LINES", "WINDOWID", "DISPLAY", "WAYLAND_DISPLAY", "TMUX*", "STY",
    "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_AGENT_PID", "XDG_SESSION*", "DBUS_*", "INVOCATION_ID",
    "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "GNOME_TERMINAL_*", "KITTY_*", "WEZTERM_*", "ALACRITTY_*", "VSCODE_*",
    "KONSOLE_*", "TERMINATOR_*", "ITERM_*",
    # who runs us: make, or a cluster
    "MAKELEVEL", "MAKEFLAGS", "MFLAGS", "SLURM_*",
    # a run of tests, or of what CI services do
    "PYTEST_*", "GITHUB_*", "ACTIONS_*", "RUNNER_*", "CI_*", "GITLAB_*", "BUILDKITE*", "CIRCLE_*", "TRAVIS_*",
    "BITBUCKET_*", "KUBERNETES_*", "BUILD_NUMBER", "BUILD_ID", "BUILD_URL", "BUILD_TAG", "BUILD_DISPLAY_NAME",
    "EXECUTOR_NUMBER", "JOB_URL", "RUN_*_URL", "NODE_NAME", "WORKSPACE", "WORKSPACE_*", "JENKINS_*", "STAGE_NAME",
    "BUILD_BUILD*", "SYSTEM_*", "AGENT_*", "DRONE_*", "BUILD_VCS_NUMBER", "TEAMCITY_*", "CODEBUILD_*",
    # what builds get from us
    "LC_ALL", "PIP_REQUIRE_VIRTUALENV", "DIST_EXTRA_CONFIG",
)  # fmt: skip
"""Variables, as patterns of the shell, that change while nothing changes that a build should depend on.

``CI`` itself stays: it is the same in each run.
"""

_PLACES = {"TMPDIR", "SSH_AUTH_SOCK"}
"""They only say where something lies, or is asked for."""

_IS_HIDDEN = re.compile("|".join(map(fnmatch.translate, _HIDDEN)))


def visible() -> dict[str, str]:
    """Give the variables that builds get."""
    return {name: value for name, value in process.clean_environment().items() if not _IS_HIDDEN.match(name)}


def digest() -> str:
    """Name what builds get."""
    said = [f"{name}={value}" for name, value in sorted(visible().items()) if name not in _PLACES]
    settings = Path(os.environ.get("HOME") or "/nonexistent", ".pydistutils.cfg")  # of every setup.py
    said += [sha256(settings).hex()] if settings.is_file() else []
    return hashlib.sha256("\0".join(said).encode("utf-8", "surrogateescape")).hexdigest()
