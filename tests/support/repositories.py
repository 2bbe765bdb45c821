"""Repositories of git."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from .hosts import give_up

if TYPE_CHECKING:
    from pathlib import Path


def git(directory: Path, *words: str) -> str:
    """Let the real one work, with nobody's settings."""
    if not shutil.which("git"):
        give_up("git is not installed")
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    settings = ("user.name=x", "user.email=x@example.com", "protocol.file.allow=always")
    command = ["git", *(word for one in settings for word in ("-c", one)), "-C", str(directory), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def make(root: Path) -> Path:
    """Make one with a project in it."""
    (root / "project").mkdir(parents=True)
    (root / "project/app.py").write_text("1")
    (root / "shared.py").write_text("1")
    git(root, "init", "-q")
    commit(root)
    return root


def commit(root: Path) -> None:
    """Commit all that is there."""
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "x")
