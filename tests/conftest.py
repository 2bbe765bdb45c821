"""For every test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# how long something takes depends on what else the machine does, other tests not the least
settings.register_profile("unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

pytest_plugins = ["support.skips", "support.longer", "support.said"]

KEPT = {
    # where pip's configuration is, and what a machine may need to reach a package index
    "XDG_CONFIG_HOME", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX",
    "PIP_CERT", "PIP_CLIENT_CERT", "PIP_PROXY", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES",
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """Take out of the environment what would change what is tested; programs under test inherit it."""
    ours = {"FATPAR", "FATPAR_STORE", "SOURCE_DATE_EPOCH", "NO_COLOR", "FORCE_COLOR"}
    with pytest.MonkeyPatch.context() as patch:
        for name in {*os.environ} - KEPT:
            if name in ours or name.startswith(("PYTHON", "PIP_", "XDG_")):
                patch.delenv(name)
        yield
