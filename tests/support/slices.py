"""Small archives of several wheels and slices, for what :mod:`support.archives` with its one wheel cannot show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packer import archive, boot, bytecode, layers, native, view
from packer.model import LayerKind, Slice, Tool, ToolKind

from .archives import needs, target
from .layers import write_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packer.model import Layer, Need

    from .layers import Content


@dataclass(frozen=True)
class Wanted:
    """A slice."""

    wheels: Mapping[str, Mapping[str, Content]]
    """Name -> its tree, as :func:`support.layers.write_tree` takes it; what is in ``bin/`` may be executed. One of
    them has to have ``app.main``."""
    tag: str = "cp311"
    more: Sequence[Need] = ()
    bytecode: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Wheel -> path of a module in it -> the content of its ``.pyc``."""


def write(output: Path, slices: Sequence[Wanted], launcher: Path | None = None) -> Path:
    """Write an archive of one tool; its files go to a directory beside it.

    :param launcher: default: the one for x86_64.
    """
    work = output.with_name(f"{output.name}.work")
    write_tree({f"boot/{output.name}.py": boot.boot_source(boot.Function("app", "main"))}, work / "app")
    app = layers.read("app", LayerKind.APP, [(work / "app/boot", "boot")])
    tools = [Tool(output.name, ToolKind.PYTHON, f"boot/{output.name}.py")]
    described = [_slice(one, app, work / str(number)) for number, one in enumerate(slices)]
    archive.write(output, launcher or native.data("launcher-x86_64"), described, tools, {"version": 1}, lambda _: None)
    return output


def _slice(wanted: Wanted, app: Layer, work: Path) -> Slice:
    one = target(wanted.tag)
    wheels = {name: _wheel(name, tree, work / name) for name, tree in wanted.wheels.items()}
    parts = (*wheels.values(), app)
    tag = bytecode.cache_tag(one.python)
    compiled = [_bytecode(wheels[of], tag, made, work / f"{of}.pyc") for of, made in wanted.bytecode.items()]
    return Slice(one, needs(one, *wanted.more), (*parts, *compiled), view.links(parts, one)[0], boot.flags(one))


def _wheel(name: str, tree: Mapping[str, Content], root: Path) -> Layer:
    write_tree(tree, root)
    for path in (root / "bin").glob("*"):
        path.chmod(0o755)
    return layers.read(f"{name}-1.0-py3-none-any", LayerKind.WHEEL, [(path, path.name) for path in root.iterdir()])


def _bytecode(of: Layer, tag: str, made: Mapping[str, bytes], root: Path) -> Layer:
    write_tree({f"{module.removesuffix('.py')}.{tag}.pyc": content for module, content in made.items()}, root)
    places = [(path, path.name) for path in root.iterdir()]
    entries = [entry for source, path in places for entry in layers.tree(source, path)]
    return layers.layer(f"{of.name} {tag}", LayerKind.BYTECODE, entries, of=of, tag=tag)
