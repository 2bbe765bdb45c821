"""A first launch of a slice whose blobs are deltas of another one's: it writes exactly the files that were packed."""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import slices
from support.layers import SITE
from support.process import Store

from packer.reader import reading

if TYPE_CHECKING:
    from support.layers import Content

    from .conftest import Enter

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
HOSTS = {"cp39": "bullseye", "cp311": "bookworm", "cp313": "trixie"}
APP = "import package\n\n\ndef main():\n    print(package.WHO)\n"


def machine_code() -> bytes:
    """The smallest extension module of this environment that is worth a delta."""
    found = [path for path in Path(sysconfig.get_path("platlib")).rglob("*.so") if path.stat().st_size > 100_000]
    return min(found, key=lambda path: path.stat().st_size).read_bytes()


def calls(head: bytes, moved: int) -> bytes:
    """Code that has moved, and still calls places at the start of the file, which have not."""
    generator, content = random.Random(2), head + bytes(moved)
    for _ in range(5000):
        content += generator.randbytes(3) + b"\xe8"
        content += (generator.randrange(1 << 20) - len(content) - 4).to_bytes(4, "little", signed=True)
    return content


def package(tag: str, number: int, code: bytes) -> dict[str, Content]:
    """The same modules and machine code for each Python, but for a few places."""
    words = random.Random(1)
    text = [f"NAME_{line} = {words.randbytes(20).hex()!r}\n" for line in range(3000)]
    text[number * 500 + 100] = f"WHO = {tag!r}\n"
    at = len(code) // 2 + number * 64
    return {
        f"{SITE}/package/__init__.py": f"from package.big import WHO\nTAG = {tag!r}\n",
        f"{SITE}/package/big.py": "".join(text),
        f"{SITE}/package/native.{tag}.so": code[:at] + words.randbytes(16 * number) + code[at:],
        # not in the third: there a delta as it is takes less
        f"{SITE}/package/calls.so": calls(code[:64], 7 * (number % 2)),
        f"{SITE}/package/data/same.bin": words.randbytes(5000),
        f"{SITE}/package/data/{tag}": None,
        f"{SITE}/package/link.py": "->big.py",
        "bin/run": f"#!/bin/sh\necho {tag}\n",
    }


@pytest.fixture(scope="module")
def wheels() -> dict[str, dict[str, Content]]:
    """Python tag -> the wheel for it."""
    code = machine_code()
    return {tag: package(tag, number, code) for number, tag in enumerate(HOSTS)}


@pytest.fixture(scope="module")
def tool(wheels: dict[str, dict[str, Content]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    wanted = [slices.Wanted({"package": tree, "app": {f"{SITE}/app.py": APP}}, tag) for tag, tree in wheels.items()]
    return slices.write(tmp_path_factory.mktemp("deltas") / "tool", wanted)


def test_the_archive_has_deltas_and_filtered_ones_among_them(tool: Path) -> None:
    """Or else the next tests show nothing."""
    with reading(tool) as archive:
        blobs = archive.records("blob")
        kinds = {(one.filter, *{blobs[base].filter for base in one.bases[0 : one.base_count]}) for one in blobs}
        assert kinds >= {(0, 0), (1, 1), (0, 1), (1,)}


@pytest.mark.parametrize("tag", HOSTS)
def test_a_first_launch_writes_the_files_that_were_packed(
    enter: Enter, store: Store, tool: Path, wheels: dict[str, dict[str, Content]], tag: str
) -> None:
    far = enter(HOSTS[tag], {tool: TOOL})
    assert far.run([TOOL]).whole == (0, f"{tag}\n".encode(), b"")
    assert store.broken() == store.leftovers() == []
    (found,) = (store.base / "v1/layers").glob("*/tree/bin/run")
    check(found.parents[1], wheels[tag])


def check(tree: Path, wheel: dict[str, Content]) -> None:
    """A directory holds a wheel and nothing else."""
    there = {
        str(path.relative_to(tree)) for path in tree.rglob("*")
        if path.name != "__pycache__" and (path.is_symlink() or not path.is_dir() or not any(path.iterdir()))
    }  # fmt: skip
    assert there == wheel.keys()
    for path, content in wheel.items():
        if content is None:
            continue
        if isinstance(content, str) and content.startswith("->"):
            assert str((tree / path).readlink()) == content[2:]
        else:
            assert (tree / path).read_bytes() == (content.encode() if isinstance(content, str) else content), path


def test_it_is_extracted_and_verified(
    enter: Enter, user_home: Path, tool: Path, wheels: dict[str, dict[str, Content]]
) -> None:
    far = enter("bookworm", {tool: TOOL})
    assert far.run([TOOL], env={"FATPAR": "verify"}).status == 0
    assert far.run([TOOL, "/home/u/out"], env={"FATPAR": "extract"}).whole == (0, b"", b"")
    names = ["package-1.0-py3-none-any", "package-1.0-py3-none-any~2", "package-1.0-py3-none-any~3"]
    for name, wheel in zip(names, wheels.values(), strict=True):
        check(user_home / "out" / name, wheel)
