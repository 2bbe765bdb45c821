"""Which hosts a program would run on, before it is packed: slices as their tags promise them, nothing resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packer import additions, job, pack, predict, supposed, targets
from packer.errors import UsageError
from packer.supposed import Brings, Supposed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from packer.config import Config
    from packer.model import Target
    from packer.results import Matrix


@dataclass(frozen=True)
class Planned:
    """What came of it."""

    matrix: Matrix
    notes: tuple[str, ...]
    """What was filled in or is not known, one sentence each, to be told."""


def plan(config: Config, names: Sequence[str], required: Collection[str], place: Path) -> Planned:
    """Predict on which hosts the slices of a configuration would run.

    :param names: of hosts, as for :func:`predict.predict`.
    :param place: the packer's cache, in which interpreters are that were captured.
    :raises PackError: if the configuration or a description of a host makes no sense.
    """
    if config.abis is None:
        raise UsageError(
            "--plan: for which ABIs?", hint="--abis says it, or [tool.packer] of the project in this directory"
        )
    selection = targets.parse_abis(config.abis, arch=list(config.arch), running=targets.running_target())
    bundle = job.bundle_of(config, selection.targets)
    carried = [target for target in selection.targets if target.python.tag in bundle]
    slices = list(_slices(selection.targets, carried, place, libc=job.libc_of(config, bundle)))
    with supposed.archived(slices) as archive:
        matrix = predict.of_archive(archive, config.abis, "", names, required)
    return Planned(additions.of_plan(slices, matrix, place), (*selection.notes, *_guessed(carried, place)))


def _slices(chosen: Sequence[Target], carried: Sequence[Target], place: Path, *, libc: bool) -> Iterator[Supposed]:
    for number, brings in pack.preferred(chosen, [carried, carried] if libc else [carried]):
        one = supposed.by_tag(chosen[number])
        if brings:
            platform = one.target.platform
            interpreter, _ = additions.interpreter(one.target.python.tag, platform.arch, platform.libc, place)
            one = supposed.carrying(one, interpreter)
        yield supposed.with_libc(one) if list(Brings)[brings] is Brings.LIBC else one


def _guessed(carried: Iterable[Target], place: Path) -> Iterator[str]:
    """Say of which interpreters that are to be carried it is not known what they need."""
    for target in carried:
        platform = target.platform
        if additions.interpreter(target.python.tag, platform.arch, platform.libc, place)[0] is None:
            yield (
                f"no {target.python.tag} was captured for {platform.arch} and {platform.libc}: supposed is one that "
                f"runs wherever {platform.policy} does; packer runtime add captures one"
            )
