"""What wheels claim by their platform tags, beside what their files need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from packer import facts
from packer.errors import PackError
from packer.needs import Use
from packer.targets import platforms_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from packer.model import Platform
    from packer.needs import Judged


@dataclass(frozen=True)
class Excess:
    """Something that a file needs of a host and that its wheel's tag does not claim."""

    layer: str
    path: str
    """In the layer."""
    what: str
    """``GLIBC_2.34 of libc.so.6``, or the library itself."""
    claimed: str
    """Policy: ``manylinux_2_17``."""

    def __str__(self) -> str:
        return f"{self.layer}: {self.path} needs {self.what}, which {self.claimed} does not have"


def claimed(layer: str, platform: Platform) -> Platform | None:
    """Give the oldest platform that a wheel's file name says it is for; ``None``: it says nothing of a host.

    A wheel has several platform tags where it keeps to each of them (auditwheel), so the oldest binds.

    :param layer: the wheel's file name without ``.whl``.
    """
    try:
        tags = parse_wheel_filename(f"{layer}.whl")[3]
    except InvalidWheelFilename:
        return None
    found = [one for tag in tags for one in platforms_of(tag.platform)]
    ours = [one for one in found if (one.libc, one.arch) == (platform.libc, platform.arch)]
    return min(ours, key=lambda one: one.version, default=None)


def excess(judged: Iterable[Judged], platform: Platform) -> Iterator[Excess]:
    """Find what files that are loaded need beyond their wheel's claim, or beyond the slice's where a wheel claims more.

    It does where it was built here and let pass: no index's wheel is taken for an older platform than its own. musl has
    no symbol versions, so of musllinux wheels nothing but libraries can be told.
    """
    for one in judged:
        claim = _bound(one.file.layer, platform)
        if one.use is Use.LOADED and claim is not None:
            yield from beyond(one, platform, claim)


def _bound(layer: str, platform: Platform) -> Platform | None:
    """Give the platform that a wheel's files have to keep to; ``None``: none."""
    if layer.endswith(f"-linux_{platform.arch}"):  # built here, and of no policy
        return platform
    claim = claimed(layer, platform)
    return min(claim, platform, key=lambda one: one.version) if claim else None


def beyond(one: Judged, platform: Platform, claim: Platform) -> Iterator[Excess]:
    """Find what a file needs beyond a policy."""
    policy = facts.policy_of(claim)
    libc = facts.LIBC_PARTS[platform.libc]
    for library in one.libraries:
        if library not in policy.libraries:
            yield Excess(one.file.layer, one.file.path, library, policy.name)
    for library, node in one.file.nodes:
        promised = libc.fullmatch(library) or library in policy.libraries
        if promised and not has(claim, node):
            yield Excess(one.file.layer, one.file.path, f"{node} of {library}", policy.name)


def refuse(found: Iterable[Excess], accepted: Collection[str]) -> frozenset[str]:
    """Refuse wheels that need more than they claim.

    :param accepted: normalised names of distributions that may.
    :return: those of them that do.
    :raises PackError: naming a file and what it needs of each.
    """
    first: dict[str, Excess] = {}
    used: set[str] = set()
    for one in found:
        name = canonicalize_name(one.layer.partition("-")[0])
        if name in accepted:
            used.add(name)
        else:
            first.setdefault(name, one)
    if first:
        options = " ".join(f"--accept {name}" for name in first)
        raise PackError(
            "\n".join(map(str, first.values())), hint=f"{options} packs it, and asks every host for what it needs"
        )
    return frozenset(used)


def has(claim: Platform, node: str) -> bool:
    """Tell whether every host that a policy includes has a node."""
    if node.startswith("GLIBC_") and facts.NUMBER.fullmatch(node):
        return facts.node_number(node)[:2] <= claim.version
    return node in facts.policy_of(claim).nodes[claim.arch]
