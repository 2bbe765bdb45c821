"""Small real ELF files, compiled and linked by zig to ask for exactly what a test says."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

_PROPERTY = """\
__asm__(".section .note.isa,\\"a\\",@note\\n.p2align 3\\n.long 4, 16, 5\\n.asciz \\"GNU\\"\\n"
        ".long 0xc0008002, 4, {bits}, 0\\n.text");
"""
"""GNU_PROPERTY_X86_ISA_1_NEEDED. In a section of another name, since zig's linker drops those it does not know."""

_ABI_TAG = """\
__asm__(".section .note.ABI-tag,\\"a\\",@note\\n.p2align 2\\n.long 4, 16, 1\\n.asciz \\"GNU\\"\\n"
        ".long 0, {a}, {b}, {c}\\n.text");
"""


@cache
def elf(
    *needed: str | tuple[str, ...],
    exports: tuple[str, ...] = (),
    soname: str = "",
    machine: str = "x86_64",
    interpreter: str = "",
    kernel: tuple[int, int, int] | None = None,
    cpu: int = 0,
    kind: str = "-shared",
) -> bytes:
    """Make an ELF file.

    :param needed: SONAMEs of libraries, with or without the symbol-version nodes that are asked of them.
    :param exports: names of functions.
    :param machine: ``x86_64``, ``aarch64`` or ``x86``, which has 32 bits.
    :param interpreter: makes it an executable that asks for this loader.
    :param kind: option of the compiler: ``-shared`` or, for a file that no loader takes, ``-c``.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        code, libraries = [f"int {export}(void) {{ return 0; }}" for export in exports], []
        for number, wanted in enumerate(needed):
            library, *nodes = [wanted] if isinstance(wanted, str) else wanted
            symbols = {f"from_{number}_{place}": node for place, node in enumerate(nodes or [""])}
            libraries.append(_library(work / f"lib{number}.so", library, symbols, machine))
            code += [f"extern int {symbol}(void); void *use_{symbol} = {symbol};" for symbol in symbols]
        if cpu:
            code.append(_PROPERTY.format(bits=1 << (cpu - 1)))
        if kernel:
            code.append(_ABI_TAG.format(a=kernel[0], b=kernel[1], c=kernel[2]))
        options = [f"-Wl,-soname,{soname}"] if soname else []
        if interpreter:
            code.append("void _start(void) {}")
            kind, options = "-pie", [f"-Wl,-dynamic-linker,{interpreter}", "-Wl,--no-gc-sections"]
        return _compile(work / "out", code, machine, kind, *options, *map(str, libraries)).read_bytes()


@cache
def library(soname: str, *nodes: str, machine: str = "x86_64") -> bytes:
    """Make a shared library that defines symbol-version nodes."""
    with tempfile.TemporaryDirectory() as name:
        symbols = {f"of_{place}": node for place, node in enumerate(nodes)}
        return _library(Path(name) / "lib.so", soname, symbols, machine).read_bytes()


def _library(path: Path, soname: str, symbols: dict[str, str], machine: str) -> Path:
    """Make a library to link with: each symbol under its node, or under none."""
    script = path.with_suffix(".map")
    nodes = [f"{node} {{ global: {symbol}; }};" for symbol, node in symbols.items() if node]
    script.write_text("\n".join(nodes))
    code = [f"int {symbol}(void) {{ return 0; }}" for symbol in symbols]
    versions = [f"-Wl,--version-script,{script}"] if nodes else []
    return _compile(path, code, machine, "-shared", f"-Wl,-soname,{soname}", *versions)


def _compile(output: Path, code: list[str], machine: str, *options: str) -> Path:
    source = output.with_suffix(".c")
    source.write_text("\n".join(code) + "\n")
    target = f"{machine}-linux-musl"  # the libc is left out, and musl's is not asked for
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-nostdlib", "-O1", "-fPIC", *options]
    subprocess.run([*command, "-o", str(output), str(source)], check=True, capture_output=True)
    return output
