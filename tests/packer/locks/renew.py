"""Make the samples anew: ``python tests/packer/locks/renew.py``, with uv and PDM beside this Python or on PATH."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support import index, locks


def main() -> None:
    """Write them."""
    with tempfile.TemporaryDirectory() as name, index.serve(locks.fill(Path(name) / "shelf")) as (url, _):
        for tool in ("pip", "uv", "pdm"):
            program = [sys.executable, "-m", "pip"] if tool == "pip" else [shutil.which(tool) or tool]
            made = locks.made_by(tool, program, url, Path(name) / tool)
            sample = made.replace(url.removesuffix("/simple"), locks.HOST)
            (locks.SAMPLES / f"pylock.{tool}.toml").write_text(sample, encoding="utf-8")


if __name__ == "__main__":
    main()
