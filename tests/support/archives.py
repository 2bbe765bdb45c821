"""Small real archives, written by the packer's own writer from text, for tests of the launcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import archive, boot, facts, layers, native, view
from packer.model import LayerKind, Need, NeedKind, Platform, Slice, Target, Tool, ToolKind

from .layers import SITE, write_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PYTHONS = ("cp39", "cp311", "cp313", "cp314", "cp315", "cp27mu")
"""What the Debian hosts have."""


def target(tag: str, libc: str = "glibc", version: tuple[int, int] = (2, 17), arch: str = "x86_64") -> Target:
    """A target by its Python tag."""
    return Target(facts.pythons()[tag].abi, Platform(libc, version, arch))


def needs(one: Target, *more: Need) -> tuple[Need, ...]:
    """The needs of a program without native code."""
    number = one.platform.version[0] << 16 | one.platform.version[1] << 8
    return (
        Need(NeedKind.MACHINE, one.platform.arch, number=facts.architectures()[one.platform.arch]),
        Need(NeedKind.LIBC, one.platform.libc, number=number),
        Need(NeedKind.PYTHON, one.python.tag),
        *more,
    )


def write(
    output: Path,
    work: Path,
    modules: Mapping[str, str | bytes],
    *,
    tools: Mapping[str, str] | None = None,
    tags: Sequence[str] = PYTHONS,
    more: Sequence[Need] = (),
    machine: str = "x86_64",
    machines: Sequence[str] = (),
) -> Path:
    """Write an archive of modules.

    :param work: an empty directory for the files.
    :param modules: path below site-packages -> text.
    :param tools: name -> ``module:function``; default: ``output``'s name -> ``app:main``.
    :param more: needs of every slice, besides the usual ones.
    :param machines: of several, for a file with a shell front.
    """
    tools = tools or {output.name: "app:main"}
    wheel_root, app_root = work / "wheel", work / "app"
    write_tree({f"{SITE}/{path}": text for path, text in modules.items()}, wheel_root)
    write_tree(
        {f"boot/{name}.py": boot.boot_source(boot.parse_function(entry)) for name, entry in tools.items()}, app_root
    )
    wheel = layers.read("modules-1.0-py2.py3-none-any", LayerKind.WHEEL, [(wheel_root / "lib", "lib")])
    app = layers.read("app", LayerKind.APP, [(app_root / "boot", "boot")])
    slices = []
    machines = machines or (machine,)
    for one in (target(tag, arch=arch) for arch in machines for tag in tags):
        slices.append(Slice(one, needs(one, *more), (wheel, app), view.links((wheel, app), one)[0], boot.flags(one)))
    described = [Tool(name, ToolKind.PYTHON, f"boot/{name}.py") for name in tools]
    launchers = {arch: native.data(f"launcher-{arch}") for arch in machines}
    archive.write(output, launchers, slices, described, {"version": 1}, lambda _: None)
    return output
