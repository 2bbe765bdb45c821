"""What a slice needs of a host, measured from its files: native code, Python release, standard library.

Claims are not measured: a platform tag gives the architecture and the libc's family, Requires-Python the releases.
Whether a host has all that is the launcher's to judge.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lief
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from packer import facts
from packer.errors import PackError
from packer.imports import stdlib_imports
from packer.model import Layer, Need, NeedKind, Platform, PythonAbi, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packer.cache import Cache

_ELF_HEADER = 64
"""Bytes of a 64-bit file's header; lief reads past the end of a shorter file."""

_OTHER_ABI = re.compile(r"\.(cpython-|pypy|graalpy|abi3)[^/]*\.so$")
"""Tagged for some Python; to be asked only of names that the slice's Python does not take."""


@dataclass(frozen=True)
class ElfFile:
    """What an ELF executable or shared object says of itself."""

    layer: str
    path: str
    """In the layer."""
    machine: int
    """``e_machine``."""
    bits: int
    """32 or 64."""
    soname: str
    needed: tuple[str, ...]
    """DT_NEEDED."""
    nodes: tuple[tuple[str, str], ...]
    """Library and symbol-version node that it must have; those marked weak are not here, the loader only warns."""
    interpreter: str
    """PT_INTERP of an executable."""
    kernel: int
    """Least kernel by the GNU ABI note, ``a << 16 | b << 8 | c``; 0: not said."""
    cpu: int
    """x86-64 level that the GNU property calls needed; 0: not said."""
    module_of: tuple[int, ...]
    """Major versions of Python whose function for entering an extension module of the file's name it exports."""

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def libc(self) -> str:
        """``glibc`` or ``musl``; ``""`` if it asks for neither, as what is linked statically."""
        if "/ld-musl-" in self.interpreter or any(re.match(r"libc\.(musl-|so$)", name) for name in self.needed):
            return "musl"
        if "/ld-linux" in self.interpreter or any(facts.LIBC_PARTS["glibc"].fullmatch(name) for name in self.needed):
            return "glibc"
        return ""


class Use(Enum):
    """What is known about when an ELF file of a slice is loaded."""

    LOADED = "loaded"
    """An extension module of the slice's Python, a program in ``bin/``, or a library that one of those needs."""
    AT_HAND = "at hand"
    """Fits the slice, but only the program knows when: plug-ins, libraries for ctypes, helper executables."""
    LEFT_OUT = "left out"
    """For another machine, libc or Python; the slice cannot load it."""


@dataclass(frozen=True)
class Judged:
    """An ELF file and its part in a slice."""

    file: ElfFile
    use: Use
    reason: str = ""
    """Why it is left out."""
    libraries: tuple[str, ...] = ()
    """LOADED: what the host must have, libc's own parts aside."""


def needs(
    target: Target,
    layers: Sequence[Layer],
    entry_modules: Sequence[str],
    requires_python: Sequence[str],
    cache: Cache | None = None,
) -> tuple[Need, ...]:
    """Measure what one slice needs of a host.

    :param layers: wheels and app, in the order of installation.
    :param entry_modules: where execution begins: ``module`` is imported; ``module:function`` is imported and the
        function called; ``module.__main__`` is what ``python -m module`` runs, be it a package or not; a word with
        a slash is the path of a script in its layer.
    :param requires_python: the Requires-Python of all distributions.
    :param cache: where what was read from files is kept.
    :return: sorted, each once.
    :raises PackError: if a file that would be loaded is for another machine or libc, if there is no such entry
        module, or if no release of the target's Python satisfies ``requires_python``.
    """
    found = {
        Need(NeedKind.MACHINE, name=target.platform.arch, number=facts.architectures()[target.platform.arch]),
        *_python_needs(target.python, requires_python),
        *_native_needs(judge(elf_report(layers, cache), target), target.platform),
        *(Need(NeedKind.STDLIB, name=name) for name in stdlib_imports(target, layers, entry_modules, cache)),
    }
    return tuple(sorted(found))


def elf_report(layers: Sequence[Layer], cache: Cache | None = None) -> tuple[ElfFile, ...]:
    """Read every ELF executable and shared object, found by its first bytes, whatever its name.

    Objects, archives and what cannot be parsed are not reported: no loader takes them.
    """
    lief.logging.disable()
    return tuple(file for layer in layers for file in _elf_files(layer, cache))


def _elf_files(layer: Layer, cache: Cache | None) -> tuple[ElfFile, ...]:
    name = hashlib.sha256(f"{_rules()} {layer.name} {layer.digest.hex()}".encode()).digest()
    kept = cache.get(name) if cache else None
    if kept is not None:
        return tuple(_from_json(said) for said in json.loads(kept))
    read = (
        _read_elf(layer.name, entry.path, entry.source, entry.sha256)
        for entry in layer.entries
        if entry.source and entry.size >= _ELF_HEADER
    )
    found = tuple(file for file in read if file)
    if cache:
        cache.put(name, json.dumps([asdict(file) for file in found]).encode())
    return found


@functools.cache
def _rules() -> str:
    """Name what decides what is read from a file: this one, and the library that parses."""
    return hashlib.sha256(Path(__file__).read_bytes() + version("lief").encode()).hexdigest()


def _from_json(said: dict[str, Any]) -> ElfFile:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return ElfFile(**{**values, "nodes": tuple((library, node) for library, node in said["nodes"])})


def judge(files: Sequence[ElfFile], target: Target) -> tuple[Judged, ...]:
    """Find out which ELF files a slice loads.

    Sure to be loadable are extension modules that the slice's Python would import and programs in ``bin/``; then, what
    they need. An extension module is known by the ABI's tag in its name or, when it has only ``.so``, by the function
    it exports: a plain ``libx.so`` in a package may be for anything, another machine included. One tagged for another
    machine is taken for a mistake unless it stands beside the right one.

    :return: in the order of ``files``.
    :raises PackError: if a file that would be loaded is for another machine or libc.
    """
    suffixes = facts.extension_suffixes(target.python, target.platform)
    misfits = {file: _misfit(file, target, suffixes) for file in files}
    loaded = _load(_sure(files, target.python, suffixes), misfits, target)
    judged = []
    for file in files:
        if file in loaded:
            judged.append(Judged(file, Use.LOADED, libraries=loaded[file]))
        elif misfits[file]:
            judged.append(Judged(file, Use.LEFT_OUT, reason=misfits[file]))
        else:
            judged.append(Judged(file, Use.AT_HAND))
    return tuple(judged)


def _load(sure: Iterable[ElfFile], misfits: Mapping[ElfFile, str], target: Target) -> Mapping[ElfFile, tuple[str, ...]]:
    """Follow DT_NEEDED from ``sure``: what is loaded in the end, and the names that the host has to answer to."""
    promised = facts.policy_of(target.platform).libraries
    provided = defaultdict(list)
    for file in misfits:
        for name in {file.name, file.soname}:
            provided[name].append(file)
    loaded: dict[ElfFile, tuple[str, ...]] = {}
    waiting = list(sure)
    while waiting:
        file = waiting.pop()
        if file in loaded:
            continue
        if misfits[file]:
            raise PackError(f"{file.layer} does not fit {target.name}: {file.path} {misfits[file]}")
        names = [name for name in file.needed if not facts.LIBC_PARTS[target.platform.libc].fullmatch(name)]
        providers = {name: _provider(name, file, provided[name], misfits, promised) for name in names}
        waiting.extend(library for library in providers.values() if library)
        loaded[file] = tuple(name for name in names if not providers[name])
    return loaded


def _provider(
    name: str, user: ElfFile, files: Sequence[ElfFile], misfits: Mapping[ElfFile, str], promised: Iterable[str]
) -> ElfFile | None:
    """Find the file of the slice that answers to a DT_NEEDED name.

    A library of the user's own wheel comes first. One of another wheel answers too, as with wheels that load each
    other's libraries, unless the policy promises the name on every host: then the wheel was built for the host's.
    """
    own = [file for file in files if file.layer == user.layer]
    fitting = [file for file in own if not misfits[file]]
    if own and not fitting:
        return own[0]  # the caller refuses it
    if not own and name not in promised:
        fitting = [file for file in files if not misfits[file]]
    return fitting[0] if fitting else None


def _misfit(file: ElfFile, target: Target, suffixes: Sequence[str]) -> str:
    """Say why a slice cannot load a file; ``""`` if it can."""
    names = {number: name for name, number in facts.architectures().items()}
    if file.bits != 64 or names.get(file.machine) != target.platform.arch:
        return f"is for {names.get(file.machine, f'ELF machine {file.machine}')} with {file.bits} bits"
    if file.libc not in ("", target.platform.libc):
        return f"is for {file.libc}"
    if _OTHER_ABI.search(file.name) and not file.name.endswith(_tagged(suffixes)):
        return "is for another Python"
    return ""


def _sure(files: Sequence[ElfFile], python: PythonAbi, suffixes: Sequence[str]) -> list[ElfFile]:
    """Choose the files with which loading begins: programs, and what Python would import, here or elsewhere."""
    programs = [file for file in files if file.path.startswith("bin/")]
    modules = [file for file in files if _is_module(file, python, suffixes)]
    there = {_stem(file) for file in modules}
    tag = re.match(r"\.cpython-[^-]+-", suffixes[0])
    strays = [file for file in files if tag and tag[0] in file.name and _stem(file) not in there]
    return [*programs, *modules, *strays]


def _stem(file: ElfFile) -> str:
    """Give the path of the module that a file would be."""
    return file.path.removesuffix(file.name) + file.name.partition(".")[0]


def _is_module(file: ElfFile, python: PythonAbi, suffixes: Sequence[str]) -> bool:
    """Tell whether Python would import a file."""
    plain = file.name.count(".") == 1 and file.name.endswith(".so")
    return (plain and python.version[0] in file.module_of) or file.name.endswith(_tagged(suffixes))


def _tagged(suffixes: Sequence[str]) -> tuple[str, ...]:
    """Choose the suffixes that only an extension module has: ``.abi3.so``, but neither ``.so`` nor ``module.so``."""
    return tuple(suffix for suffix in suffixes if suffix.startswith(".") and suffix != ".so")


def _native_needs(judged: Sequence[Judged], platform: Platform) -> Iterator[Need]:
    """Give what the ELF files of a slice need.

    Of a file that is only at hand nothing counts but the nodes of the libc: llvmlite, say, is loaded by ctypes alone.
    And of those none beyond the policy's ceiling, so that they exclude no host that the tag includes: debugpy, a wheel
    for any machine, brings an object for GLIBC_2.34 that a debugger may load. What plug-ins need besides, Qt's for
    three databases, hosts mostly lack and programs mostly do without.
    """
    own = facts.LIBC_PARTS[platform.libc]
    here = [one for one in judged if one.use is not Use.LEFT_OUT]
    loaded = [one for one in judged if one.use is Use.LOADED]
    at_hand = [one for one in judged if one.use is Use.AT_HAND]
    nodes = {
        *(node for one in loaded for node in one.file.nodes if own.fullmatch(node[0]) or node[0] in one.libraries),
        *(node for one in at_hand for node in one.file.nodes if own.fullmatch(node[0]) and _within(node[1], platform)),
    }
    for library, node in nodes:
        yield Need(NeedKind.NODE, name=library, value=node)
    for library in {library for one in loaded for library in one.libraries}:
        yield Need(NeedKind.LIBRARY, name=library)
    yield _libc_need(platform, [node for library, node in nodes if own.fullmatch(library)], native=bool(here))
    kernel = max((one.file.kernel for one in loaded), default=0)
    if kernel:
        yield Need(NeedKind.KERNEL, number=kernel)
    cpu = max((one.file.cpu for one in loaded), default=0)
    if cpu > 1:  # level 1 is every x86_64
        yield Need(NeedKind.CPU, number=cpu)


def _within(node: str, platform: Platform) -> bool:
    """Tell whether every host that a policy includes has a libc with a node."""
    return bool(facts.NUMBER.fullmatch(node)) and facts.node_number(node)[:2] <= platform.version


def _libc_need(platform: Platform, nodes: Iterable[str], native: bool) -> Need:
    """Require the libc of the slice's platform, and its least version as far as files show it.

    The family is required of a slice without native code too. The tag is what the user asked for, what a slice may
    fit should not depend on which of its dependencies happen to have compiled parts, and those that come later on the
    same host (plug-ins, other tools' layers) are of that family. The version is never the tag's with glibc: nodes show
    it. musl has no nodes, so there native code needs what its tag says.
    """
    if platform.libc == "musl":
        least = platform.version if native else (0, 0)
    else:
        numbers = [facts.node_number(node)[:2] for node in nodes if facts.NUMBER.fullmatch(node)]
        least = max(((number[0], number[1]) for number in numbers), default=(0, 0))
    return Need(NeedKind.LIBC, name=platform.libc, number=least[0] << 16 | least[1] << 8)


@functools.cache
def _read_elf(layer: str, path: str, source: Path, _digest: bytes) -> ElfFile | None:
    """Read one file; the digest keeps apart what was at a path at different times.

    Cached because a wheel's file is the same in every slice that has the wheel.
    """
    with source.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
    binary = lief.ELF.parse(source, _parser_config())
    if binary is None or binary.header.file_type not in (lief.ELF.Header.FILE_TYPE.EXEC, lief.ELF.Header.FILE_TYPE.DYN):
        return None
    soname = binary.get(lief.ELF.DynamicEntry.TAG.SONAME)
    return ElfFile(
        layer=layer,
        path=path,
        machine=int(binary.header.machine_type),
        bits=64 if binary.header.identity_class == lief.ELF.Header.CLASS.ELF64 else 32,
        soname=str(soname.name) if isinstance(soname, lief.ELF.DynamicSharedObject) else "",
        needed=tuple(str(name) for name in binary.libraries),
        nodes=tuple(_nodes(binary)),
        interpreter=str(binary.interpreter) if binary.has_interpreter else "",
        kernel=max((_kernel(note) for note in binary.notes), default=0),
        cpu=max((_cpu(note) for note in binary.notes), default=0),
        module_of=tuple(_module_of(binary, path)),
    )


def _parser_config() -> lief.ELF.ParserConfig:
    """Read what ElfFile says and no more: less than half the time of lief's default (142 files: 0.24 s, not 0.52)."""
    config = lief.ELF.ParserConfig()
    config.parse_relocations = False
    config.parse_symtab_symbols = False
    config.parse_overlay = False
    return config


def _nodes(binary: lief.ELF.Binary) -> Iterator[tuple[str, str]]:
    weak = 2  # VER_FLG_WEAK
    for requirement in binary.symbols_version_requirement:
        for node in requirement.get_auxiliary_symbols():
            if not node.flags & weak:
                yield str(requirement.name), str(node.name)


def _kernel(note: lief.ELF.Note) -> int:
    if not isinstance(note, lief.ELF.NoteAbi) or note.abi != lief.ELF.NoteAbi.ABI.LINUX or note.version is None:
        return 0
    a, b, c = note.version
    return a << 16 | b << 8 | c


def _cpu(note: lief.ELF.Note) -> int:
    if not isinstance(note, lief.ELF.NoteGnuProperty):
        return 0
    isa = lief.ELF.X86ISA.ISA
    levels = {isa.BASELINE: 1, isa.V2: 2, isa.V3: 3, isa.V4: 4}
    found = [pair for one in note.properties if isinstance(one, lief.ELF.X86ISA) for pair in one.values]
    return max((levels.get(level, 0) for flag, level in found if flag == lief.ELF.X86ISA.FLAG.NEEDED), default=0)


def _module_of(binary: lief.ELF.Binary, path: str) -> Iterator[int]:
    """Look for the functions: Python 2 calls ``foomodule.so`` ``foo`` too; PEP 489; PEP 793 from 3.15 on."""
    stem = path.rpartition("/")[2].partition(".")[0]
    functions = {2: (f"init{stem}", f"init{stem.removesuffix('module')}"), 3: (f"PyInit_{stem}", f"PyModExport_{stem}")}
    for major, names in functions.items():
        symbols = (binary.get_dynamic_symbol(name) for name in names)
        if any(symbol is not None and symbol.exported for symbol in symbols):
            yield major


def _python_needs(python: PythonAbi, requires: Sequence[str]) -> Iterator[Need]:
    """Require the ABI and the releases of it that every distribution allows.

    Judged for each release one by one, beyond the newest too, since hosts will have those; no version of CPython has
    ever had 30 releases more. What is forbidden from .0 on makes a minimum, the rest exclusions.
    """
    ranges = [_specifiers(text) for text in requires]
    allowed = [
        all(one.contains(f"{python.version[0]}.{python.version[1]}.{micro}") for one in ranges)
        for micro in range(python.micro + 30)
    ]
    if not any(allowed[: python.micro + 1]):
        wanted = ", ".join(sorted({str(one) for one in ranges if str(one)}))
        raise PackError(f"no release of CPython {python.version[0]}.{python.version[1]} will do: required is {wanted}")
    first = allowed.index(True)
    yield Need(NeedKind.PYTHON, name=python.tag, number=facts.version_hex(*python.version, first) if first else 0)
    for micro in range(first, len(allowed)):
        if not allowed[micro]:
            yield Need(NeedKind.PYTHON_NOT, number=facts.version_hex(*python.version, micro))


def _specifiers(text: str) -> SpecifierSet:
    """Read a Requires-Python; one that is no specifier forbids nothing, as with pip."""
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return SpecifierSet("")
