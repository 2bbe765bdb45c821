"""Views made by hand, for interpreters of this machine, in which a test's modules are started as the launcher would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packer import boot, facts, layers, modules, pythons
from packer.model import LayerKind, Platform, Target

from .layers import SITE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packer.pythons import Interpreter


def minor(interpreter: Interpreter) -> tuple[int, int]:
    return interpreter.version[:2]


def name(interpreter: Interpreter) -> str:
    return ".".join(map(str, minor(interpreter)))


@cache
def interpreters() -> list[Interpreter]:
    """The running interpreter, and of every other version the first on this machine."""
    found: dict[tuple[int, int], Interpreter] = {}
    for one in (*pythons.search([Path(sys.executable).parent]), *pythons.find()):
        found.setdefault(minor(one), one)
    return [found[version] for version in sorted(found)]


@dataclass(frozen=True)
class View:
    """A view for one interpreter, its modules those that a test writes."""

    root: Path
    interpreter: Interpreter

    @property
    def site(self) -> Path:
        return self.root / "lib" / f"python{name(self.interpreter)}" / "site-packages"

    @property
    def target(self) -> Target:
        return Target(facts.pythons()[self.interpreter.tag].abi, Platform("glibc", (2, 17), "x86_64"))

    @property
    def flags(self) -> tuple[str, ...]:
        return boot.flags(self.target)

    @property
    def methods(self) -> list[str]:
        """Start methods of multiprocessing; the empty one is 2.7's only."""
        return ["fork", "spawn", "forkserver"] if minor(self.interpreter) >= (3, 4) else [""]

    def write(self, files: Mapping[str, str]) -> None:
        """Write modules; a name that begins with ``app/`` or ``bin/`` is the view's, others are site-packages'."""
        for name, text in files.items():
            path = (self.root if name.startswith(("app/", "bin/")) else self.site) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def install(self, entry: boot.Function | boot.Module | boot.Script, *, table: bool = True) -> None:
        """Write the boot file and, for what is in the view until now, the table."""
        (self.root / "boot").mkdir(exist_ok=True)
        places = [(self.site, SITE), (self.root / "app", "app")]
        there = layers.read("all", LayerKind.WHEEL, [place for place in places if place[0].exists()])
        found = modules.table([there], self.target) if table else b""
        kept = isinstance(entry, boot.Script) and entry.path.startswith("app/")
        (self.root / "boot/tool.py").write_text(boot.boot_source(entry, table=bool(found), kept=kept), "utf-8")
        (self.root / modules.PATH).write_bytes(found)
        for source, place in modules.readers():
            shutil.copy(source, self.root / place)

    def command(
        self,
        *arguments: str | bytes,
        typed: str | bytes = "mytool",
        flags: tuple[str, ...] | None = None,
        script: str = "boot/tool.py",
    ) -> list[str | bytes]:
        """What the launcher executes: full paths, then the name as typed, then its arguments."""
        flags = self.flags if flags is None else flags
        return [str(self.root / "bin/python"), *flags, str(self.root / script), typed, *arguments]

    def run(
        self,
        *arguments: str | bytes,
        typed: str | bytes = "mytool",
        flags: tuple[str, ...] | None = None,
        script: str = "boot/tool.py",
    ) -> subprocess.CompletedProcess[str]:
        """Start the tool as the launcher does."""
        command = self.command(*arguments, typed=typed, flags=flags, script=script)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)

    def report(self, *arguments: str | bytes, typed: str | bytes = "mytool") -> dict[str, Any]:
        done = self.run(*arguments, typed=typed)
        assert done.stderr == ""
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found


def make_view(root: Path, interpreter: Interpreter) -> View:
    """Make a virtual environment or, for 2.7, a prefix of its own with links to the standard library."""
    view = View(root, interpreter)
    view.site.mkdir(parents=True)
    (root / "bin").mkdir()
    if minor(interpreter) >= (3, 3):
        (root / "bin/python").symlink_to(interpreter.path)
        (root / "pyvenv.cfg").write_text(f"home = {interpreter.path.parent}\n")
    else:
        shutil.copy2(interpreter.path, root / "bin/python")
        for path in (interpreter.path.parents[1] / "lib/python2.7").iterdir():
            if path.name not in ("site-packages", "dist-packages"):
                (view.site.parent / path.name).symlink_to(path)
    return view
