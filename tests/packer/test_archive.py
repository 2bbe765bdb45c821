"""packer/archive.py: what is written, the launcher's reader finds again; or nothing is written at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support import archives
from support.layers import SITE, Content, write_tree

from packer import archive, inspect, layers, native, view
from packer.blobs import Level
from packer.errors import PackError
from packer.model import Layer, LayerKind, Need, NeedKind, Slice, Tool, ToolKind
from packer.reader import reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TOOLS = (Tool("app", ToolKind.PYTHON, "boot/app.py"), Tool("other", ToolKind.EXECUTABLE, "bin/other"))


def layer(name: str, tree: Mapping[str, Content], root: Path, kind: LayerKind = LayerKind.WHEEL) -> Layer:
    write_tree(tree, root)
    return layers.layer(name, kind, layers.tree(root))


def slice_of(tag: str, *contents: Layer, needs: Sequence[Need] = (), flags: Sequence[str] = ()) -> Slice:
    target = archives.target(tag)
    return Slice(target, (Need(NeedKind.PYTHON, tag), *needs), contents, view.links(contents, target)[0], tuple(flags))


def write(
    output: Path, *slices: Slice, manifest: Mapping[str, object] | None = None, level: Level = Level.FAST
) -> Path:
    launcher = native.data("launcher-x86_64")
    archive.write(output, launcher, slices, TOOLS, manifest or {"version": 1}, lambda _: None, level=level)
    return output


@pytest.fixture
def wheel(tmp_path: Path) -> Layer:
    tree: dict[str, Content] = {
        f"{SITE}/mod.py": "X = 1\n", f"{SITE}/pkg/__init__.py": "", f"{SITE}/pkg/data": "X = 1\n",
        f"{SITE}/pkg/link": "->data", f"{SITE}/pkg/empty": None, "bin/other": "#!/bin/sh\n",
    }  # fmt: skip
    write_tree(tree, tmp_path / "wheel")
    (tmp_path / "wheel/bin/other").chmod(0o755)
    return layers.layer("mod-1.0-py3-none-any", LayerKind.WHEEL, layers.tree(tmp_path / "wheel"))


def test_everything_is_found_again(wheel: Layer, tmp_path: Path) -> None:
    needs = (Need(NeedKind.NODE, "libc.so.6", "GLIBC_2.4"), Need(NeedKind.CPU, number=3))
    output = tmp_path / "app"
    launcher = native.data("launcher-x86_64")
    slices = [slice_of("cp39", wheel, needs=needs, flags=("-I", "-X", "utf8")), slice_of("cp27mu", wheel)]
    written = archive.write(output, launcher, slices, TOOLS, {"version": 1, "x": ["\u20ac"]}, lambda _: None)
    with reading(output) as found:
        assert (written.path, written.size, written.archive_id) == (output, output.stat().st_size, found.id)
        assert found.manifest == {"version": 1, "x": ["\u20ac"]}
        (stored,) = found.records("layer")
        assert (found.string(stored.name), bytes(stored.digest), stored.size) == (wheel.name, wheel.digest, 22)
        entries = [(found.string(entry.path), entry.kind) for entry in found.records("entry")]
        assert entries == [(entry.path, entry.kind.value) for entry in wheel.entries]
        first, second = found.records("slice")
        assert [found.string(one.name) for one in (first, second)] == [
            "cp39-manylinux_2_17_x86_64", "cp27mu-manylinux_2_17_x86_64",
        ]  # fmt: skip
        assert [found.string(flag) for flag in found.refs(first.first_flag, first.flag_count)] == ["-I", "-X", "utf8"]
        links = found.records("link")[first.first_link : first.first_link + first.link_count]
        assert [(found.string(link.path), found.string(link.target)) for link in links] == [
            (link.path, link.target) for link in slices[0].links
        ]
        said = [
            (need.kind, found.string(need.name), found.string(need.value), need.number)
            for need in found.records("need")
        ]
        assert said == [
            (7, "cp39", "", 0), (5, "libc.so.6", "GLIBC_2.4", 0), (2, "", "", 3), (7, "cp27mu", "", 0),
        ]  # fmt: skip
        lib = native.lib()
        assert [first.shape, second.shape] == [lib.VIEW_VENV, lib.VIEW_PREFIX]
        assert [(found.string(one.name), one.kind, found.string(one.target)) for one in found.records("tool")] == [
            ("app", lib.TOOL_PYTHON, "boot/app.py"), ("other", lib.TOOL_EXECUTABLE, "bin/other"),
        ]  # fmt: skip


@pytest.mark.parametrize("manifest", [{"labels": {"x": "y" * 0x10000}}, {"packer": "9" * 0x10000}], ids=list)
def test_what_is_said_of_an_archive_has_a_limit(manifest: Mapping[str, object], wheel: Layer, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"index: section 11: it has too many records"):
        write(tmp_path / "app", slice_of("cp39", wheel), manifest=manifest)
    assert not (tmp_path / "app").exists()


def test_extraction_gives_the_files_back(wheel: Layer, tmp_path: Path) -> None:
    write(tmp_path / "app", slice_of("cp39", wheel))
    inspect.extract(tmp_path / "app", tmp_path / "out")
    extracted = layers.layer(wheel.name, wheel.kind, layers.tree(tmp_path / "out" / wheel.name))
    assert extracted.digest == wheel.digest


def test_blobs_begin_on_a_page_so_that_another_launcher_moves_nothing(wheel: Layer, tmp_path: Path) -> None:
    write(tmp_path / "app", slice_of("cp39", wheel))
    with reading(tmp_path / "app") as found:
        first = found.records("blob")[0].offset
    launcher = native.data("launcher-x86_64").stat().st_size
    assert first % 4096 == 0
    assert launcher <= first < launcher + 4096


def test_layers_of_slices_are_kept_once(wheel: Layer, tmp_path: Path) -> None:
    own = layer("own", {f"{SITE}/own.py": "own"}, tmp_path / "own")
    write(tmp_path / "app", slice_of("cp39", wheel, own), slice_of("cp311", wheel))
    described = inspect.describe(tmp_path / "app")
    assert [one["name"] for one in described["layers"]] == [wheel.name, "own"]
    assert [one["layers"] for one in described["slices"]] == [[0, 1], [0]]
    assert described["raw_blobs"] == len("X = 1\n#!/bin/sh\nown")


def test_different_layers_of_one_name_can_be_told_apart_and_extracted(wheel: Layer, tmp_path: Path) -> None:
    """As when one source distribution is built by two Pythons."""
    others = [layer(wheel.name, {f"{SITE}/x.py": str(number)}, tmp_path / str(number)) for number in range(2)]
    write(tmp_path / "app", slice_of("cp39", wheel), slice_of("cp310", others[0]), slice_of("cp311", others[1]))
    names = [one["name"] for one in inspect.describe(tmp_path / "app")["layers"]]
    assert names == [wheel.name, f"{wheel.name}~2", f"{wheel.name}~3"]
    inspect.extract(tmp_path / "app", tmp_path / "out")
    assert (tmp_path / "out" / names[2] / SITE / "x.py").read_text() == "1"


def test_files_without_a_byte(tmp_path: Path) -> None:
    write(tmp_path / "app", slice_of("cp39", layer("x", {f"{SITE}/a.py": "", "bin/b": ""}, tmp_path / "x")))
    assert inspect.verify(tmp_path / "app") == (0, 1)
    inspect.extract(tmp_path / "app", tmp_path / "out")
    assert (tmp_path / "out/x" / SITE / "a.py").read_bytes() == b""


def test_no_files_at_all(tmp_path: Path) -> None:
    write(tmp_path / "app", slice_of("cp39", layers.layer("app", LayerKind.APP, ())))
    assert inspect.verify(tmp_path / "app") == (0, 1)


def test_same_input_gives_the_same_bytes(wheel: Layer, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        copy = layer(wheel.name, {f"{SITE}/a.py": "a" * 100, f"{SITE}/b.py": "b" * 100}, tmp_path / name / "tree")
        made.append(write(tmp_path / name / name, slice_of("cp39", copy, wheel), level=Level.DEFAULT).read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_mode_is_as_the_user_wants_it(wheel: Layer, tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "app", slice_of("cp39", wheel))
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "app").stat().st_mode & 0o7777 == mode


def test_an_older_file_is_replaced_not_written_to(wheel: Layer, tmp_path: Path) -> None:
    """Somebody may be running it."""
    (tmp_path / "app").write_text("old")
    with (tmp_path / "app").open() as running:
        write(tmp_path / "app", slice_of("cp39", wheel))
        assert running.read() == "old"
    assert inspect.verify(tmp_path / "app") == (1, 1)


def test_what_goes_wrong_while_compressing_leaves_the_older_file_and_nothing_else(wheel: Layer, tmp_path: Path) -> None:
    def stop(_size: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    (tmp_path / "out/app").write_text("old")
    launcher = native.data("launcher-x86_64")
    with pytest.raises(KeyboardInterrupt):
        archive.write(tmp_path / "out/app", launcher, [slice_of("cp39", wheel)], TOOLS, {}, stop)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["app"]
    assert (tmp_path / "out/app").read_text() == "old"


def test_what_the_format_has_no_room_for_is_refused(wheel: Layer, tmp_path: Path) -> None:
    """Or else every host would call the file damaged."""
    (tmp_path / "out").mkdir()
    tools = [Tool(f"tool-{number}", ToolKind.EXECUTABLE, "bin/other") for number in range(native.lib().MAX_TOOLS + 1)]
    output = tmp_path / "out/app"
    with pytest.raises(PackError) as caught:
        archive.write(output, native.data("launcher-x86_64"), [slice_of("cp39", wheel)], tools, {}, lambda _: None)
    assert str(caught.value).startswith(f"cannot pack {output}: archive is damaged: index: section ")
    assert list((tmp_path / "out").iterdir()) == []


def test_constants_are_those_of_the_header() -> None:
    sections = native.ffi().typeof("enum section_id").relements
    plural = {name: name.upper() if name.endswith("s") else f"{name.upper()}S" for name in archive._SECTIONS}
    plural |= {"entry": "ENTRIES", "manifest": "MANIFEST", "summary": "SUMMARY"}
    assert {name: sections[f"SECTION_{plural[name]}"] for name in plural} == archive._SECTIONS
    assert native.lib().NONE == archive.NONE
