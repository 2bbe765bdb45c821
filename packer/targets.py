"""From the words of ``--abis`` to targets, and from a target to the wheel tags it takes.

Order is preference. Python tags stand outside, platforms inside: every Python tag stands for its slices on all
platforms, and these follow each other as the Python tags do; a full tag stands at its own place among them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NoReturn

from packaging.tags import compatible_tags, cpython_tags, sys_tags

from packer import facts
from packer.errors import PackError, UsageError
from packer.model import Platform, PythonAbi, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.tags import Tag


@dataclass(frozen=True)
class Selection:
    """The slices to make."""

    targets: tuple[Target, ...]
    """Most preferred first, none twice."""
    notes: tuple[str, ...]
    """What was filled in for the user, one sentence each, to be told."""


@dataclass(frozen=True)
class _Word:
    """One word of ``--abis``: a Python tag, a platform on one or more architectures, or both (a full tag)."""

    text: str
    python: PythonAbi | None
    platforms: tuple[Platform, ...]


def parse_abis(text: str, *, arch: list[str], running: Target) -> Selection:
    """Read ``manylinux2014,cp35,cp27``: platform policies, Python tags and full tags in any order.

    Without a Python tag every CPython still supported is taken, in the place of the first platform; without a platform
    that of ``running``. A full tag adds its own slice and counts as neither. Whatever names no architecture is meant
    for each of ``arch``.

    :param arch: architectures, most preferred first; empty: that of ``running``.
    :raises UsageError: for a word that is unknown, says again what another said, or names a policy that an architecture
        does not have.
    """
    archs = _architectures(arch) or [running.platform.arch]
    words = [_read_word(word.strip(), archs) for word in text.split(",")]
    python_words = [(word.python.tag, word.text) for word in words if word.python and not word.platforms]
    platform_words = [(item, word.text) for word in words if not word.python for item in word.platforms]
    _refuse_repeats(python_words)
    _refuse_repeats((platform.name, word) for platform, word in platform_words)

    platforms = [platform for platform, _ in platform_words]
    notes = []
    if python_words and not platforms:
        platforms = [_running_platform(running, name) for name in archs]
        tags = ", ".join(platform.name for platform in platforms)
        notes.append(f"no platform named: packing for this machine's, {tags}")
    elif platforms and not python_words:
        supported = [python.abi for python in facts.supported_pythons()]
        first = next(index for index, word in enumerate(words) if not word.python)
        words[first : first + 1] = [_Word(words[first].text, abi, ()) for abi in supported]
        tags = ", ".join(abi.tag for abi in supported)
        notes.append(f"no Python named: packing for every CPython still supported, {tags}")

    slices = [
        (Target(word.python, platform), word.text)
        for word in words
        if word.python
        for platform in word.platforms or platforms
    ]
    _refuse_repeats((target.name, word) for target, word in slices)
    return Selection(tuple(target for target, _ in slices), tuple(notes))


def wheel_tags(target: Target) -> list[Tag]:
    """Give every wheel tag that a target takes, most preferred first, as an installer on such a host would.

    ``linux_x86_64`` is not among them: it promises nothing about the host.
    """
    version = target.python.version
    platforms = platform_tags(target.platform)
    return [
        *cpython_tags(version, [target.python.tag], platforms),
        *compatible_tags(version, target.python.interpreter, platforms),
    ]


def platform_tags(platform: Platform) -> list[str]:
    """Give the wheel platform tags that a host of ``platform`` takes, newest first.

    A policy means up to and including (PEP 600, PEP 656): every older version, under its legacy name as well.
    """
    oldest = facts.oldest_platform(platform.libc, platform.arch).version
    aliases = {policy.version: policy.aliases for policy in facts.policies() if policy.libc == platform.libc}
    tags: list[str] = []
    for minor in range(platform.version[1], oldest[1] - 1, -1):
        older = Platform(platform.libc, (platform.version[0], minor), platform.arch)
        tags += [older.tag, *(f"{alias}_{platform.arch}" for alias in aliases.get(older.version, ()))]
    return tags


def target_of(name: str) -> Target:
    """Give the target that has a name.

    :raises UsageError: if none has.
    """
    word = _read_word(name, [])
    if word.python is None or len(word.platforms) != 1:
        raise UsageError(f"no slice can be called {name}")
    return Target(word.python, word.platforms[0])


def python_tag(word: str) -> str:
    """Give the Python tag that a word means: ``cp27`` is ``cp27mu``; the word itself if it is none."""
    known = _known_pythons()
    return known[word].tag if word in known else word


def platforms_of(tag: str) -> list[Platform]:
    """Give the platform that a wheel's platform tag names; none for ``any`` and ``linux_x86_64``: no libc is named."""
    policy, arch, _ = _split_architecture(tag)
    known = _known_platforms()
    return [Platform(*known[policy], arch)] if policy in known and arch else []


def running_target() -> Target:
    """Tell the Python that runs this code and the newest policy that this machine fulfils.

    :raises PackError: if it is no CPython, or one or a libc that ``abi/`` does not know.
    """
    platforms = _known_platforms()
    best = ""
    for tag in sys_tags():
        best = best or str(tag)
        name, arch, _ = _split_architecture(tag.platform)
        if tag.abi in facts.pythons() and name in platforms and arch:
            return Target(facts.pythons()[tag.abi].abi, Platform(*platforms[name], arch))
    raise PackError(
        f"cannot pack for the Python that runs this: {best} is not known",
        hint=f"run it with CPython 3.10 or later on Linux; {_known()}",
    )


def _architectures(names: list[str]) -> list[str]:
    """Check the values of ``--arch``; one may name several."""
    known = facts.architectures()
    names = [word.strip() for name in names for word in name.split(",")]
    for name in names:
        if name not in known:
            _refuse_unknown("arch", name, known, f"known: {', '.join(known)}")
    _refuse_repeats(((name, name) for name in names), option="arch")
    return names


def _read_word(text: str, archs: list[str]) -> _Word:
    """Read one word.

    :raises UsageError: if it is unknown.
    """
    pythons = _known_pythons()
    python, dash, platform = text.partition("-")
    if dash and python not in pythons:
        _refuse_unknown("abis", python, pythons, _known(), after=f"-{platform}")
    if dash:
        return _Word(text, pythons[python], _read_platform(platform, archs, before=f"{python}-"))
    if text in pythons:
        return _Word(text, pythons[text], ())
    return _Word(text, None, _read_platform(text, archs))


def _read_platform(name: str, archs: list[str], before: str = "") -> tuple[Platform, ...]:
    """Read ``manylinux2014`` or ``manylinux2014_x86_64``, a word itself or the part of one that follows ``before``."""
    policy, arch, level = _split_architecture(name)
    known = _known_platforms()
    if policy not in known:
        names = [*known, *(f"{other}_{suffix}" for other in known for suffix in facts.architectures())]
        _refuse_unknown("abis", name, names if before else [*_known_pythons(), *names], _known(), before=before)
    found = tuple(Platform(*known[policy], other, level) for other in ([arch] if arch else archs))
    for platform in found:
        _refuse_too_old(platform, policy)
    return found


def _split_architecture(name: str) -> tuple[str, str, int]:
    """``manylinux_2_28_x86_64_v3`` -> ``manylinux_2_28``, ``x86_64``, 3; ``""`` where the name has no architecture."""
    for arch in facts.architectures():
        for level in [1, *(one.number for one in facts.cpu_levels() if one.arch == arch and one.number > 1)]:
            suffix = f"_{arch}_v{level}" if level > 1 else f"_{arch}"
            if name.endswith(suffix):
                return name.removesuffix(suffix), arch, level
    return name, "", 1


def _running_platform(running: Target, arch: str) -> Platform:
    """Give the policy of this machine's libc on an architecture."""
    platform = Platform(running.platform.libc, running.platform.version, arch)
    _refuse_too_old(platform, platform.policy)
    return platform


def _refuse_too_old(platform: Platform, policy: str) -> None:
    """Refuse a policy that is older than the first one of its architecture."""
    oldest = facts.oldest_platform(platform.libc, platform.arch)
    if platform.version < oldest.version:
        raise UsageError(
            f"abis: {policy} does not exist on {platform.arch}: the oldest there is {oldest.policy}",
            hint=f"a word may end in an architecture, as manylinux1_x86_64 does; {_known()}",
        )


@cache
def _known_pythons() -> Mapping[str, PythonAbi]:
    """Map Python tags and their aliases to what they mean."""
    known = {tag: python.abi for tag, python in facts.pythons().items()}
    return known | {python.alias: python.abi for python in facts.pythons().values() if python.alias}


@cache
def _known_platforms() -> Mapping[str, tuple[str, tuple[int, int]]]:
    """Map policies and their aliases to libc and version; every glibc release has a policy (PEP 600)."""
    musl = [policy.version for policy in facts.policies() if policy.libc == "musl"]
    versions = [("glibc", release.version) for release in facts.glibc_releases()] + [("musl", item) for item in musl]
    known = {Platform(libc, version, "").policy: (libc, version) for libc, version in versions}
    return known | {alias: (item.libc, item.version) for item in facts.policies() for alias in item.aliases}


def _known() -> str:
    """List what a word may be, for a hint."""
    names = list(_known_platforms())
    glibc = [name for name in names if name.startswith("manylinux_")]
    others = ", ".join(name for name in names if name not in glibc)
    archs = ", ".join(f"_{arch}" for arch in facts.architectures())
    return (
        f"known: {', '.join(facts.pythons())}; {glibc[0]} to {glibc[-1]}, {others}, with or without {archs}; "
        "or both joined, as cp39-manylinux_2_28; _x86_64_v3 is for CPUs of that level"
    )


def _refuse_unknown(
    option: str, part: str, known: Iterable[str], hint: str, before: str = "", after: str = ""
) -> NoReturn:
    """Refuse ``part``, a word or what ``before`` and ``after`` leave of one, and name the nearest of ``known``."""
    inside = f" in {before + part + after!r}" if before or after else ""
    if not part:
        raise UsageError(f"{option}: a word is missing{inside or ' before, between or after the commas'}", hint)
    near = difflib.get_close_matches(part.lower(), known, n=1)
    meant = f"did you mean {before}{near[0]}{after}? " if near else ""
    raise UsageError(f"{option}: unknown word: {part!r}{inside}", hint=f"{meant}{hint}")


def _refuse_repeats(named: Iterable[tuple[str, str]], option: str = "abis") -> None:
    """Refuse a meaning that two words have; ``named`` gives pairs of meaning and word."""
    seen: dict[str, str] = {}
    for meaning, word in named:
        if seen.get(meaning) == word:
            raise UsageError(f"{option}: {word!r} is there twice")
        if meaning in seen:
            raise UsageError(f"{option}: {word!r} repeats {seen[meaning]!r}: both mean {meaning}")
        seen[meaning] = word
