"""A recorded run: which modules a program imports, so that only their bytecode is packed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from packer import archive
from packer.blobs import Level
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer.model import Slice, Tool

_UNFIT = 126
"""The launcher's exit status where no slice fits."""


def record(
    runs: Sequence[str], slices: Sequence[Slice], tools: Sequence[Tool], launcher: Path, work: Path, limit: float
) -> frozenset[str]:
    """Run the program as it would be packed, and see for which modules the interpreter kept bytecode.

    :param runs: arguments of each run, quoted as for a shell.
    :param slices: without bytecode of their own.
    :param work: an empty directory for the program and its store.
    :param limit: seconds that one run may take.
    :return: paths in layers, ``lib/python/site-packages/numpy/__init__.py``.
    :raises PackError: if no slice fits this machine, or a run fails.
    """
    program, store = work / tools[0].name, work / "store"
    archive.write(program, launcher, slices, tools, {"version": 1}, lambda _: None, level=Level.FAST)
    for arguments in runs:
        _run(program, arguments, store, limit)
    # beside layers, and in the view those of modules that stand in its own directories
    kept = (path.relative_to(store).parts for path in store.glob("v1/*/*/pyc/**/*.pyc"))
    return frozenset(_module(Path(*below)) for _, _, _, _, *below in kept)


def _module(path: Path) -> str:
    """Give the source in a layer that ``dir/name.cpython-311.pyc`` was compiled from."""
    source = path.with_name(f"{path.name.rsplit('.', 2)[0]}.py")
    first, *rest = source.parts
    return str(Path("lib", "python", *rest[1:]) if first == "lib" else source)


def _run(program: Path, arguments: str, store: Path, limit: float) -> None:
    environment = {**os.environ, "FATPAR_STORE": str(store)}
    environment.pop("FATPAR", None)  # the program would only talk about itself
    command = [str(program), *shlex.split(arguments)]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise PackError(f"--profile-run {arguments!r}: it did not end in {limit:g} seconds") from None
    if done.returncode == 0:
        return
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode == _UNFIT:
        raise PackError(
            f"--profile-run {arguments!r}: no slice runs on this machine", hint="add the ABI of a Python that is here"
        )
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
    last = f": {lines[-1]}" if lines else ""
    raise PackError(f"--profile-run {arguments!r}: it ended with {how}{last}", hint="name a run that succeeds")
