"""What a slice needs of a host, measured from its files: native code, Python release, standard library.

Claims are not measured: a platform tag gives the architecture and the libc's family, Requires-Python the releases.
Whether a host has all that is the launcher's to judge.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from packer import binaries, elf, facts
from packer.errors import PackError
from packer.imports import stdlib_imports
from packer.model import Layer, Need, NeedKind, Platform, PythonAbi, Runtime, Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packer.cache import Cache

_OTHER_ABI = re.compile(r"\.(cpython-|pypy|graalpy|abi3)[^/]*\.so$")
"""Tagged for some Python; to be asked only of names that the slice's Python does not take."""


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

    file: elf.File
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
    runtime: Runtime | None = None,
) -> tuple[Need, ...]:
    """Measure what one slice needs of a host.

    :param layers: wheels and app, in the order of installation.
    :param entry_modules: where execution begins: ``module`` is imported; ``module:function`` is imported and the
        function called; ``module.__main__`` is what ``python -m module`` runs, be it a package or not; a word with
        a slash is the path of a script in its layer.
    :param requires_python: the Requires-Python of all distributions.
    :param cache: where what was read from files is kept.
    :param runtime: what the slice carries; then nothing is needed of the host's Pythons.
    :return: sorted, each once.
    :raises PackError: if a file that would be loaded is for another machine or libc, if there is no such entry
        module, or if no release of the target's Python satisfies ``requires_python``.
    """
    found = {
        Need(NeedKind.MACHINE, name=target.platform.arch, number=facts.architectures()[target.platform.arch]),
        *_native_needs(judge(binaries.report(layers, cache), target), target.platform),
    }
    python = {
        *_python_needs(target.python, requires_python),
        *(Need(NeedKind.STDLIB, name=name) for name in stdlib_imports(target, layers, entry_modules, cache)),
    }
    if runtime:
        _refuse_unmet(python, runtime, target)
        python = set()
    if runtime and runtime.brought:
        _refuse_unbrought(found, runtime, target)
        found = {need for need in found if need.kind not in (NeedKind.LIBC, NeedKind.NODE, NeedKind.LIBRARY)}
    return tuple(sorted(found | python))


def _refuse_unbrought(needs: Collection[Need], runtime: Runtime, target: Target) -> None:
    """Let nothing be loaded of a host's beside another C library."""
    for need in sorted(needs):
        library = need.name if need.kind in (NeedKind.LIBRARY, NeedKind.NODE) else ""
        lacks = library and library not in runtime.brought
        if lacks or (need.value and need.value not in runtime.brought[library]):
            what = library if lacks else f"{need.value} of {library}"
            raise PackError(
                f"{target.name}: {what} is needed and does not come with the C library of {runtime.layer.name}",
                hint="name an interpreter with --runtime whose system has it, or leave --libc bundled out",
            )


def _refuse_unmet(needs: Collection[Need], runtime: Runtime, target: Target) -> None:
    """What a host's Python is asked for when it is there, a carried one is asked for now."""
    version = facts.version_hex(*runtime.version)
    from packer.runtime import lacks  # which loads lief

    missing = lacks(runtime, sorted(need.name for need in needs if need.kind is NeedKind.STDLIB))
    for need in sorted(needs):
        said = f"{target.name}: the Python to be carried, {runtime.full_version}, "
        if need.kind is NeedKind.PYTHON and version < need.number:
            raise PackError(f"{said}is older than a distribution requires")
        if need.kind is NeedKind.PYTHON_NOT and (version ^ need.number) >> 8 == 0:
            raise PackError(f"{said}is excluded by a distribution")
        if need.kind is NeedKind.STDLIB and need.name in missing:
            raise PackError(f"{said}has no module {need.name}, which is imported", hint="name another with --runtime")


def judge(files: Sequence[elf.File], target: Target) -> tuple[Judged, ...]:
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


def _load(
    sure: Iterable[elf.File], misfits: Mapping[elf.File, str], target: Target
) -> Mapping[elf.File, tuple[str, ...]]:
    """Follow DT_NEEDED from ``sure``: what is loaded in the end, and the names that the host has to answer to."""
    promised = facts.policy_of(target.platform).libraries
    provided = defaultdict(list)
    for file in misfits:
        for name in {file.name, file.soname}:
            provided[name].append(file)
    loaded: dict[elf.File, tuple[str, ...]] = {}
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
    name: str, user: elf.File, files: Sequence[elf.File], misfits: Mapping[elf.File, str], promised: Iterable[str]
) -> elf.File | None:
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


def _misfit(file: elf.File, target: Target, suffixes: Sequence[str]) -> str:
    """Say why a slice cannot load a file; ``""`` if it can."""
    names = {number: name for name, number in facts.architectures().items()}
    if file.bits != 64 or names.get(file.machine) != target.platform.arch:
        return f"is for {names.get(file.machine, f'ELF machine {file.machine}')} with {file.bits} bits"
    if file.libc not in ("", target.platform.libc):
        return f"is for {file.libc}"
    if _OTHER_ABI.search(file.name) and not file.name.endswith(_tagged(suffixes)):
        return "is for another Python"
    return ""


def _sure(files: Sequence[elf.File], python: PythonAbi, suffixes: Sequence[str]) -> list[elf.File]:
    """Choose the files with which loading begins: programs, and what Python would import, here or elsewhere."""
    programs = [file for file in files if file.path.startswith("bin/")]
    modules = [file for file in files if _is_module(file, python, suffixes)]
    there = {_stem(file) for file in modules}
    tag = re.match(r"\.cpython-[^-]+-", suffixes[0])
    strays = [file for file in files if tag and tag[0] in file.name and _stem(file) not in there]
    return [*programs, *modules, *strays]


def _stem(file: elf.File) -> str:
    """Give the path of the module that a file would be."""
    return file.path.removesuffix(file.name) + file.name.partition(".")[0]


def _is_module(file: elf.File, python: PythonAbi, suffixes: Sequence[str]) -> bool:
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
    cpu = max([platform.level, *(one.file.cpu for one in loaded)])
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
