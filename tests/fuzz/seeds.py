"""Where the fuzzers start: archives, ELF files and plans that between them have most of what there is.

All are made here but for ELF files of the machine, which a measurement of coverage goes without. What the fuzzers found
besides is in ``corpus/``.
"""

from __future__ import annotations

import base64
import hashlib
import random
import struct
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from support import slices, vectors
from support.layers import SITE

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETS = ("archive", "elf", "plan", "unpack")
CORPUS = Path(__file__).resolve().parent / "corpus"
LONGEST = {"archive": 1 << 13, "elf": 1 << 14, "plan": 1 << 11, "unpack": 1 << 15}
"""Bytes of an input that libFuzzer makes; a seed may be longer, and is then only run."""


def write(target: str, place: Path, *, machine: bool) -> list[Path]:
    """Write the inputs of a target: seeds, and what was found besides.

    :param place: an empty directory.
    :param machine: with files of this machine, too.
    """
    made = [*_made(target), *found(target)]
    if target == "elf" and machine:
        made += [(path.name, path.read_bytes()) for path in _files()]
    for number, (name, content) in enumerate(made):
        (place / f"{number:04}-{name}").write_bytes(content)
    return sorted(place.iterdir())


def found(target: str) -> list[tuple[str, bytes]]:
    """What earlier runs found."""
    lines = (CORPUS / f"{target}.txt").read_text("ascii").splitlines()
    return [(f"found-{number}", unpacked(line)) for number, line in enumerate(lines) if not line.startswith("#")]


def packed(content: bytes) -> str:
    """An input as a line of text."""
    return base64.b64encode(zlib.compress(content, 9)).decode()


def unpacked(line: str) -> bytes:
    """An input from its line."""
    return zlib.decompress(base64.b64decode(line))


def _made(target: str) -> Iterator[tuple[str, bytes]]:
    if target == "plan":
        yield from _plans()
    elif target == "elf":
        yield from _elves()
    else:
        yield from _vectors()
        yield "slices", _slices()


# Archives -------------------------------------------------------------------------------------------------------


def _vectors() -> Iterator[tuple[str, bytes]]:
    for vector in vectors.load():
        with tempfile.TemporaryDirectory() as work:
            yield vector.name, vectors.build(vector, Path(work), padded=False)
    program = elf({b"one": b""}, interp=b"/lib/ld.so".ljust(200, b"\0")).hex()
    for name, said in {"needs": NEEDS, "libc": LIBC.format(program=program)}.items():
        with tempfile.TemporaryDirectory() as work:
            yield name, vectors.build(vectors.parse(name, said), Path(work), padded=False)


def _slices() -> bytes:
    """A real archive: of four Pythons, with deltas, machine code, bytecode, and files that two wheels share."""
    large = b"x" * 70000

    def wheels(number: int) -> dict[str, dict[str, str | bytes | None]]:
        changed = elf({b"one": _code(0), b"two": _code(number), b"three": _code(40)})
        return {
            "lib": {
                f"{SITE}/lib/__init__.py": "one = 1\n" * (40 + number),
                f"{SITE}/lib/native.so": changed,
                f"{SITE}/lib/large.bin": large,
                f"{SITE}/lib/empty": None,
                f"{SITE}/lib/link.py": "->__init__.py",
            },
            "app": {f"{SITE}/app.py": "def main(): pass\n", f"{SITE}/large.bin": large, "bin/x": "#!/bin/sh\n"},
        }

    wanted = [
        slices.Wanted(wheels(0), "cp39", bytecode={"lib": {f"{SITE}/lib/__init__.py": b"bytecode" * 20}}),
        slices.Wanted(wheels(1), "cp311"),
        slices.Wanted(wheels(2), "cp27mu"),
        # what it shares with the first is there already, and gets its bytecode
        slices.Wanted(wheels(0), "cp313", bytecode={"lib": {f"{SITE}/lib/__init__.py": b"others" * 20}}),
    ]
    with tempfile.TemporaryDirectory() as name:
        front = Path(name) / "front"
        front.write_bytes(vectors.FRONT)
        return vectors.unpadded(slices.write(Path(name) / "tool", wanted, front).read_bytes())


def _code(salt: int) -> bytes:
    """What reads like machine code: the instructions that the filter looks for, and others."""
    generator = random.Random(salt)
    opcodes = ("e8", "e9", "ff15", "ff25", "488b05", "4c8d0d", "488b44", "0f1005", "0fb63d", "0f1f05", "90", "c3", "5f")

    def operand() -> int:
        return generator.choice((generator.randrange(-(2**12), 2**12), generator.randrange(-(2**31), 2**31)))

    return b"".join(bytes.fromhex(generator.choice(opcodes)) + struct.pack("<i", operand()) for _ in range(400))


NEEDS = """
from good-slices
add need kind=2 number=4
add need kind=3 number=0x050000
add need kind=4 name="glibc" number=0x022600
add need kind=5 name="libc.so.6" value="GLIBC_2.38"
add need kind=5 name="libgone.so.1" value="GONE_1"
add need kind=6 name="libgone.so.1"
add need kind=7 name="cp39" number=0x030b0000
add need kind=8 number=0x030902f0
add need kind=9 name="ssl"
add need kind=77 name="what"
add need kind=1 name="riscv" number=243
set slice[1].need_count = 13
"""
"""Every kind of need, most of them not met: the second slice's."""

LIBC = """
layer lib wheel
  file lib/python/site-packages/app.py "1"
layer python interpreter
  exec bin/python3.9 hex:{program}
  file lib/ld.so "loader"
slice cp39 manylinux_2_17_x86_64
  need machine name=x86_64 number=62
  carries python bin/python3.9
tool hello python boot/hello.py
set slice[0].shape = 3
"""
"""An interpreter that is carried with its C library."""


# ELF files ------------------------------------------------------------------------------------------------------

_TAGS = {"needed": 1, "strtab": 5, "symtab": 6, "soname": 14, "rpath": 15, "runpath": 29}
_TAGS |= {"hash": 0x6FFFFEF5, "verdef": 0x6FFFFFFC, "verdefnum": 0x6FFFFFFD}
_BASE = 0x10000
"""Where the image begins, so that addresses are no offsets."""


def _hash(name: bytes) -> int:
    number = 5381
    for byte in name:
        number = (number * 33 + byte) % 2**32
    return number


def elf(symbols: dict[bytes, bytes], nodes: tuple[bytes, ...] = (), **strings: bytes) -> bytes:
    """A library with the tables that the launcher reads.

    :param symbols: name -> its data; no data: a function.
    :param nodes: symbol version nodes, behind the one that names the library.
    :param strings: by tags of the dynamic table, and ``interp``.
    """
    table = bytearray(b"\0")

    def string(value: bytes) -> int:
        table.extend(value + b"\0")
        return len(table) - len(value) - 1

    interp = strings.pop("interp", b"")
    entries = [(_TAGS[tag], string(value)) for tag, value in strings.items()]
    buckets = 2
    ordered = sorted(symbols, key=lambda name: _hash(name) % buckets)
    data = b"".join(symbols[name] for name in ordered)
    verdef = b""
    for number, name in enumerate((b"base", *nodes)):
        last = number == len(nodes)
        verdef += struct.pack("<HHHHIII", 1, int(not number), number + 1, 1, 0, 20, 0 if last else 28)
        verdef += struct.pack("<II", string(name), 0)
    parts: dict[str, bytes] = {"interp": interp + b"\0" if interp else b"", "data": data, "verdef": verdef}
    parts["symtab"], at = bytes(24), 0
    for name in ordered:
        kind = 0x11 if symbols[name] else 0x12
        value = 0 if not symbols[name] else _BASE + 0x400 + len(parts["interp"]) + -len(parts["interp"]) % 8 + at
        parts["symtab"] += struct.pack("<IBBHQQ", string(name), kind, 0, 1, value, len(symbols[name]))
        at += len(symbols[name])
    parts["hash"] = _hashes(ordered, buckets)
    parts["strtab"] = bytes(table)
    return _assembled(parts, entries, len(nodes) + 1 if nodes else 0)


def _hashes(ordered: list[bytes], buckets: int) -> bytes:
    """DT_GNU_HASH of symbols that stand behind the first, empty one."""
    firsts, chain = [0] * buckets, b""
    for number, name in enumerate(ordered):
        bucket = _hash(name) % buckets
        firsts[bucket] = firsts[bucket] or number + 1
        last = number + 1 == len(ordered) or _hash(ordered[number + 1]) % buckets != bucket
        chain += struct.pack("<I", _hash(name) & ~1 | last)
    return struct.pack(f"<IIIIQ{buckets}I", buckets, 1, 1, 0, 2**64 - 1, *firsts) + chain


def _assembled(parts: dict[str, bytes], entries: list[tuple[int, int]], nodes: int) -> bytes:
    body, places = b"", {}
    for name, content in parts.items():
        places[name] = 0x400 + len(body)
        body += content + bytes(-len(content) % 8)
    entries += [(_TAGS[name], _BASE + places[name]) for name in ("strtab", "symtab", "hash")]
    if nodes:
        entries += [(_TAGS["verdef"], _BASE + places["verdef"]), (_TAGS["verdefnum"], nodes)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in (*entries, (0, 0)))
    size = 0x400 + len(body)
    segments = [(1, 0, size), (2, 0x200, len(dynamic))]
    if parts["interp"]:
        segments.append((3, places["interp"], len(parts["interp"])))
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    for kind, offset, length in segments:
        header += struct.pack("<IIQQQQQQ", kind, 4, offset, _BASE + offset, offset, length, length, 8)
    return (header.ljust(0x200, b"\0") + dynamic).ljust(0x400, b"\0") + body


def _elves() -> Iterator[tuple[str, bytes]]:
    version = struct.pack("<I", 0x030B02F0)
    name, needed = b"libone.so.1", b"libc.so.6"
    yield "script", b"#!/bin/sh\n"
    yield "32-bit", b"\x7fELF\x01\x01\x01" + bytes(100)
    yield (
        "library",
        elf({b"one": b"\1\2\3\4", b"two": b""}, (b"ONE_1.0", b"ONE_1.1"), soname=name, needed=needed, runpath=b"/lib"),
    )
    yield (
        "python",
        elf({b"Py_Version": version, b"one": b""}, needed=needed, rpath=b"$ORIGIN/lib", interp=b"/lib/ld.so"),
    )
    for symbol in (b"_Py_RefTotal", b"_Py_DecRefShared"):
        yield symbol.decode(), elf({b"Py_Version": version, symbol: b""})
    for symbol in (b"PyUnicodeUCS4_AsUTF8String", b"PyUnicodeUCS2_AsUTF8String"):
        yield symbol.decode(), elf({b"PyString_FromString": b"", symbol: b""})
    yield "old", elf({b"PyModule_AddType": b""})


def _files() -> list[Path]:
    """Small ELF files of the machine."""
    found = [*Path("/usr/lib").glob("*-linux-gnu/*.so*"), *Path("/usr/bin").iterdir()]
    small = sorted(
        path for path in found if path.is_file() and not path.is_symlink() and path.stat().st_size <= 1 << 14
    )
    elves = [path for path in small if path.read_bytes()[:4] == b"\x7fELF"]
    return elves[:: max(1, len(elves) // 24)]


# Plans ----------------------------------------------------------------------------------------------------------


def sealed(strings: list[bytes]) -> bytes:
    """A plan file of these strings."""
    body = b"".join(one + b"\0" for one in strings)
    return body + hashlib.sha256(body).hexdigest().encode() + b"\0"


def _plans() -> Iterator[tuple[str, bytes]]:
    head = [b"fatpar plan 1", b"v/store/v1/views/0/tree", b"p/usr/bin/python3", b"scp311-manylinux_2_17_x86_64"]
    tool = [b"ttool", b"boot/tool.py"]
    watches = [b"w1 2049 12 0 1700000000000000000 -1", b"/usr/bin", b"w0 0 0 0 0 0", b"/nowhere"]
    yield "plain", sealed([*head, b"f-I", b"f", *tool, *watches, b""])
    yield "tools", sealed([*head, *tool, b"xruff", b"bin/ruff", b"oserver", b"boot/server.py", b""])
    yield "no-tool", sealed([*head, b""])
    yield "no-target", sealed([*head, b"ttool"])
    yield "no-end", sealed([*head, *tool])
    yield "no-numbers", sealed([*head, *tool, b"wx", b"/", b""])
    yield "unknown", sealed([*head, b"z", b""])
    yield "another", sealed([b"fatpar plan 2", b""])
    yield "empty", sealed([])
    yield "not-sealed", b"fatpar plan 1".ljust(100, b"\0")
    yield "short", b"fatpar plan 1\0"
