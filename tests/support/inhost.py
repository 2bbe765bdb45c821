"""The packer inside a host: run there by the Python that runs the tests, which the host gets to see for that."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from .packing import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .hosts import Host, Result

CHECKOUT = "/srv"
PACKAGES = "/media"


def packer_in(host: Host, *arguments: str, binds: Mapping[Path, str], **env: str) -> Result:
    """Run the packer as root in a host that is newer than this machine."""
    executable = Path(sys.executable).resolve()
    # what a distribution installed lies among files that the host has, too
    own = [executable, Path(sysconfig.get_path("stdlib"))] if sys.base_prefix == "/usr" else [Path(sys.base_prefix)]
    ours = {Path(zstandard.__file__).parents[1]: PACKAGES, ROOT: CHECKOUT, **{path: str(path) for path in own}}
    given = {"PYTHONPATH": f"{CHECKOUT}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1", **env}
    command = [str(executable), "-s", "-m", "packer", *arguments]
    return host.run(command, binds={**ours, **binds}, user=0, env=given, timeout=600)
