"""Two packed programs that share layers and look at every file of theirs, so that none can be wrong unnoticed."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support import slices
from support.hosts import require_host
from support.layers import SITE, Content

if TYPE_CHECKING:
    from pathlib import Path

APP = """\
import hashlib
import importlib
import json
from pathlib import Path

HERE = Path(__file__).parent


def is_right(path, digest):
    try:
        return hashlib.sha256((HERE / path).read_bytes()).hexdigest() == digest
    except OSError:
        return False


def main():
    known = json.loads((HERE / "known.json").read_text())
    wrong = [path for path, digest in known["files"].items() if not is_right(path, digest)]
    for module, word in known["words"].items():
        if importlib.import_module(module).word != word:
            wrong.append(module)
    print("wrong:", *wrong[:9]) if wrong else print("right:", len(known["files"]), len(known["words"]))
    return 1 if wrong else 0
"""

COMPILE = """\
import json, marshal, sys
from importlib._bootstrap_external import _code_to_timestamp_pyc
sources = json.load(sys.stdin)
made = {p: _code_to_timestamp_pyc(compile(s, "bytecode", "exec"), 315532800, len(s)).hex() for p, s in sources.items()}
json.dump(made, sys.stdout)
"""


def modules(package: str, count: int) -> dict[str, Content]:
    """A package whose modules say ``text``; some are longer than a page."""
    made: dict[str, Content] = {f"{SITE}/{package}/__init__.py": "word = 'text'\n"}
    for number in range(count):
        more = "".join(f"def f{i}(a, b=({i}, 'x{i}')):\n    return a, b, {i}\n\n\n" for i in range(number % 12 * 20))
        made[f"{SITE}/{package}/part{number // 10}/m{number}.py"] = f"word = 'text'\n\n\n{more}"
    return made


def data(package: str, sizes: list[int], same: bytes) -> dict[str, Content]:
    """Files that no zeros and no other version can stand for."""
    chance = random.Random(package)
    made: dict[str, Content] = {f"{SITE}/{package}/same.bin": same}
    for number, size in enumerate(sizes):
        made[f"{SITE}/{package}/{'deep/' * (number % 4)}file{number}.bin"] = chance.randbytes(size)
    return made


def compiled(tree: dict[str, Content]) -> dict[str, bytes]:
    """Bytecode of modules, which says ``code`` where their text says ``text``."""
    sources = {path: str(text).replace("'text'", "'code'") for path, text in tree.items()}
    done = require_host("bookworm").run(["python3", "-I", "-c", COMPILE], input=json.dumps(sources).encode())
    assert (done.status, done.stderr) == (0, b"")
    return {path: bytes.fromhex(text) for path, text in json.loads(done.stdout).items()}


def knowledge(files: dict[str, Content], words: dict[str, str]) -> dict[str, dict[str, str]]:
    """What a program knows of itself: digests of its files, and what its modules have to say.

    :param words: package -> word.
    """
    paths = {path.removeprefix(f"{SITE}/"): content for path, content in files.items()}
    digests = {
        path: hashlib.sha256(content if isinstance(content, bytes) else str(content).encode()).hexdigest()
        for path, content in paths.items()
    }
    said = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): words[path.split("/")[0]]
        for path in paths
        if path.endswith(".py") and path.split("/")[0] in words
    }
    return {"files": digests, "words": said}


@dataclass(frozen=True)
class Program:
    """A packed program."""

    path: Path
    right: tuple[int, str, str]
    """What a launch has to come to: status, stdout, stderr."""


def write(directory: Path) -> dict[str, Program]:
    """Write both programs.

    The first brings the bytecode of one wheel, and has its interpreter compile another one. The second brings that of a
    third wheel, too, which the first one unpacks and does not import: it is put beside a layer that was there before.
    """
    same = random.Random(0).randbytes(150_000)
    wheels = {
        "small": data("small", [40 + 97 * i for i in range(100)], same),
        "large": data("large", [30_000 + 17_919 * i for i in range(10)], same),
        "brought": modules("brought", 60),
        "kept": modules("kept", 40),
        "late": modules("late", 40),
    }
    bytecode = {name: compiled(wheels[name]) for name in ("brought", "late")}
    return {
        "first": pack(directory / "first", wheels, {"brought": bytecode["brought"]}, ["kept"]),
        "second": pack(directory / "second", wheels, bytecode, ["kept"]),
    }


def pack(
    path: Path, wheels: dict[str, dict[str, Content]], bytecode: dict[str, dict[str, bytes]], others: list[str]
) -> Program:
    """Write a program.

    :param others: wheels that are imported, besides those with bytecode.
    """
    files = {path: content for tree in wheels.values() for path, content in tree.items()}
    words = {**dict.fromkeys(bytecode, "code"), **dict.fromkeys(others, "text")}
    known = knowledge({**files, f"{SITE}/app.py": APP}, words)
    tree: dict[str, Content] = {f"{SITE}/app.py": APP, f"{SITE}/known.json": json.dumps(known)}
    slices.write(path, [slices.Wanted({**wheels, "app": tree}, bytecode=bytecode)])
    return Program(path, (0, f"right: {len(known['files'])} {len(known['words'])}\n", ""))
