"""How the hosts of a matrix are reached: for each kind what has an agent run there, with the program at hand."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packer import enterchild, machine, native
from packer.agent import Agent, HostError, last_words, refuse_flood, started
from packer.matrixhosts import Host, Kind
from packer.process import StoppedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

USER = 4242
"""User and group id of the program where we are free to choose: nobody's."""

_PATIENCE = 120
"""Seconds until a host has to answer."""

_FETCHED = 1800
"""Seconds until an image, which may have to be fetched, has to answer."""

_PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"}


@dataclass(frozen=True)
class Reached:
    """A host that has been entered."""

    agent: Agent
    program: str
    """Its path there."""
    variables: dict[str, str]
    """What the environment of the program has to be told."""
    slower: int = 1
    """How many times as long everything may take."""


@dataclass(frozen=True)
class Stage:
    """What is brought to hosts, in a directory that all may read: the agent and the program, under its name."""

    directory: Path
    program: str
    stop: threading.Event
    """Set to give up."""


@contextmanager
def staged(path: Path, stop: threading.Event) -> Iterator[Stage]:
    """Make a copy of a program, which stays as it is now."""
    with tempfile.TemporaryDirectory(prefix="packer-matrix-") as work:
        directory = Path(work, "stage")
        directory.mkdir()
        name = path.name if path.name != "agent" else "agent.program"
        for source, target in ((path, name), (_agent(platform.machine()), "agent")):
            shutil.copyfile(source, directory / target)
            (directory / target).chmod(0o755)
        for one in (Path(work), directory):
            one.chmod(0o755)
        yield Stage(directory, name, stop)


def _agent(arch: str) -> Path:
    path = native.data(f"agent-{arch}")
    if not path.exists():
        raise HostError(f"its machine is {arch}, for which fatpar has no launcher")
    return path


@contextmanager
def reached(host: Host, stage: Stage) -> Iterator[Reached]:
    """Enter a host; nothing is left there when the block ends.

    :raises HostError: if that cannot be done.
    :raises StoppedError: if it was given up.
    """
    enter = {Kind.HERE: _here, Kind.ROOT: _root, Kind.IMAGE: _image, Kind.KERNEL: _kernel, Kind.SSH: _ssh}[host.kind]
    with tempfile.TemporaryDirectory(prefix="packer-matrix-") as work, enter(host, stage, Path(work)) as there:
        yield there


@contextmanager
def _here(_host: Host, stage: Stage, work: Path) -> Iterator[Reached]:
    command = [str(stage.directory / "agent"), str(work / "here")]
    (work / "here").mkdir()
    with started(command, stop=stage.stop, patience=_PATIENCE) as agent:
        yield Reached(agent, str(stage.directory / stage.program), {})


@contextmanager
def _root(host: Host, stage: Stage, work: Path) -> Iterator[Reached]:
    script = Path(enterchild.__file__)
    words = [str(host.root), str(stage.directory), str(work), str(USER), "/fatpar/agent", "/home/fatpar"]
    command = [sys.executable, "-I", str(script), *words]
    with started(command, stop=stage.stop, patience=_PATIENCE) as agent:
        yield Reached(agent, f"/fatpar/{stage.program}", _PATH)


@contextmanager
def _image(host: Host, stage: Stage, _work: Path) -> Iterator[Reached]:
    engine = shutil.which("podman") or shutil.which("docker")
    if engine is None:
        raise HostError("neither podman nor docker is installed, which run images")
    name = f"fatpar-matrix-{uuid.uuid4().hex}"
    command = [
        engine, "run", "--rm", "--interactive", "--name", name, "--network", "none", "--user", f"{USER}:{USER}",
        "--volume", f"{stage.directory}:/fatpar:ro,z", "--tmpfs", "/fatpar-home:rw,exec,mode=1777",
        "--workdir", "/fatpar-home", "--entrypoint", "/fatpar/agent", host.at, "/fatpar-home",
    ]  # fmt: skip
    try:
        with started(command, stop=stage.stop, patience=_FETCHED, speaker=Path(engine).name) as agent:
            yield Reached(agent, f"/fatpar/{stage.program}", {})
    finally:
        # the container ends by itself when its input does; should it not, it does not end with its client either
        _tidy([engine, "rm", "--force", name])


@contextmanager
def _kernel(host: Host, stage: Stage, work: Path) -> Iterator[Reached]:
    assert host.root is not None
    made = machine.make(host.at, host.root, stage.directory, work, host.described.cpu if host.described else None)

    def console() -> str:
        return made.console.read_text("utf-8", "replace")

    with started(made.command(), stop=stage.stop, patience=machine.PATIENCE, console=console, listens=False) as agent:
        yield Reached(agent, f"/fatpar/{stage.program}", _PATH, made.slower)


# ssh ------------------------------------------------------------------------------------------------------------


@contextmanager
def _ssh(host: Host, stage: Stage, _work: Path) -> Iterator[Reached]:
    if not shutil.which("ssh"):
        raise HostError("ssh is not installed")
    command = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", host.at]
    said = _call([*command, 'umask 077; d=$(mktemp -d) && echo "fatpar $(uname -m) $d"'], None, stage)
    found = re.search(r"^fatpar (\S+) (/.*)$", said, re.MULTILINE)
    if found is None:
        raise HostError(f"what it has for a shell does not answer: {said.strip()[-200:]}")
    arch, directory = found.groups()
    place = shlex.quote(directory)
    try:
        _call([*command, f"cat >{place}/agent && chmod 700 {place}/agent"], _agent(arch), stage)
        program = shlex.quote(f"{directory}/{stage.program}")
        _call([*command, f"cat >{program} && chmod 700 {program}"], stage.directory / stage.program, stage)
        with started([*command, f"exec {place}/agent {place}"], stop=stage.stop, patience=_PATIENCE) as agent:
            yield Reached(agent, f"{directory}/{stage.program}", {})
    finally:
        # the agent has done so; unless it never ran
        _tidy([*command, f"rm -rf {place}"])


def _tidy(command: Sequence[str]) -> None:
    """Run a command that has nothing to do, as a rule."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)


def _call(command: Sequence[str], given: Path | None, stage: Stage) -> str:
    """Run a command to its end, which has to succeed; what it writes."""
    deadline = time.monotonic() + _FETCHED
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors, open(given or os.devnull, "rb") as file:
        process = subprocess.Popen(command, stdin=file, stdout=said, stderr=errors, start_new_session=True)
        try:
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                for one in (said, errors):
                    refuse_flood(one)
                if stage.stop.is_set():
                    raise StoppedError
                if time.monotonic() > deadline:
                    raise HostError(f"{command[0]} takes too long")
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise HostError(last_words(process, errors, ""))
        said.seek(0)
        return said.read().decode("utf-8", "replace")
