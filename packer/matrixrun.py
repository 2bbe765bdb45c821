"""Runs an archive on the hosts of a file: what is selected there, and whether it does what it should."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packer import explain, matrixhosts, native
from packer.agent import Ended, HostError
from packer.errors import UsageError
from packer.matrixhosts import Case, Host, Kind, Plan
from packer.predict import choice_of
from packer.reader import reading
from packer.results import Choice, Matrix, Ran, Row, Seen
from packer.runners import Reached, Stage, reached, staged

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from packer.progress import Progress

_SHOWN = 4000
"""Characters of output that are kept."""

_UNSET: dict[str, str | None] = {"FATPAR": None, "FATPAR_STORE": None, "XDG_CACHE_HOME": None}
"""What would have the launcher do something else, or look elsewhere than in the home that it is given."""


@dataclass(frozen=True)
class Facts:
    """What the launcher says of the machine a host runs on."""

    kernel: str
    cpu: int


def run(
    path: Path,
    hosts_file: Path,
    arguments: Sequence[str],
    *,
    required: Collection[str] = (),
    at_once: int,
    shard: tuple[int, int] | None,
    again: Matrix | None,
    timeout: float,
    progress: Progress,
) -> Matrix:
    """Run an archive on hosts.

    :param arguments: of one more case; none: no more.
    :param required: names of hosts that are required whatever the file says.
    :param at_once: hosts.
    :param shard: ``(i, n)``: of the hosts only the i-th, counted from 1, and every n-th after it.
    :param again: hosts that passed there are not run again.
    :param timeout: seconds for a launch.
    :raises PackError: if the archive or the file cannot be used; what is wrong with a host is said in its row.
    """
    plan = planned(matrixhosts.read(hosts_file), hosts_file, arguments, required)
    with reading(path) as archive:
        identity = archive.id
        names = tuple(archive.string(one.name) for one in archive.records("slice"))
    hosts = _shard(plan.hosts, shard)
    kept = _kept(again, identity, hosts, plan.cases, path)
    rows = dict(kept)
    wanted = [host for host in hosts if host.name not in kept]
    stop = threading.Event()
    progress.total(len(wanted))
    with staged(path, stop) as stage, ThreadPoolExecutor(max(at_once, 1)) as pool:
        visit = _Visit(stage, names, plan.cases, timeout)
        try:
            running = {pool.submit(visit.see, host): host for host in wanted}
            progress.say(f"{len(wanted)} hosts")
            for done in as_completed(running):
                host = running.pop(done)
                seen, facts = done.result()
                predicted, asked = _predict(path, host, facts), _asked(host, plan.cases)
                rows[host.name] = Row(host.name, host.title, host.required, predicted, seen, asked)
                progress.advance(1)
                progress.say(", ".join(one.name for one in running.values()))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    ordered = tuple(rows[host.name] for host in hosts)
    return Matrix(str(path), identity, names, ordered, shard=shard, plan=tuple(host.name for host in plan.hosts))


def planned(plan: Plan, hosts_file: Path, arguments: Sequence[str], required: Collection[str]) -> Plan:
    """Give what is run: what a file says, and what was said besides.

    :raises UsageError: if that does not go together.
    """
    names = [host.name for host in plan.hosts]
    if unknown := sorted(set(required) - set(names)):
        raise UsageError(f"--required: {hosts_file} names no host {unknown[0]!r}, but {', '.join(names)}")
    hosts = tuple(replace(host, required=host.required or host.name in required) for host in plan.hosts)
    return Plan(hosts, _cases(plan.cases, arguments))


def _cases(cases: tuple[Case, ...], arguments: Sequence[str]) -> tuple[Case, ...]:
    if not arguments:
        if not cases:
            raise UsageError("no case was run: give -- ARGUMENTS or [[case]]")
        return cases
    name = shlex.join(arguments)
    if name in [case.name for case in cases]:
        raise UsageError(f"there is a case {name!r} in the file already")
    return (*cases, Case(name, tuple(arguments)))


def _shard(hosts: tuple[Host, ...], shard: tuple[int, int] | None) -> tuple[Host, ...]:
    if shard is None:
        return hosts
    number, count = shard
    if not 1 <= number <= count:
        raise UsageError(f"there is no shard {number} of {count}: they are counted from 1")
    return hosts[number - 1 :: count]


def _asked(host: Host, cases: tuple[Case, ...]) -> str:
    """Give a digest of all that makes what is seen on a host, but for the archive and what is there."""
    return hashlib.sha256(repr((host.table, cases)).encode("utf-8", "surrogatepass")).hexdigest()


def _kept(
    again: Matrix | None, identity: str, hosts: tuple[Host, ...], cases: tuple[Case, ...], path: Path
) -> dict[str, Row]:
    """Rows that need not be seen again: they pass by what the file says now, and it asks the same as it did then."""
    if again is None:
        return {}
    if again.id != identity:
        raise UsageError(f"{path} is not what the earlier run was of: that was archive {again.id}")
    kept = {}
    before = {row.host: row for row in again.rows if row.seen and row.seen.choice}
    for host in hosts:
        row = before.get(host.name)
        if row and row.asked == _asked(host, cases):
            row = replace(row, title=host.title, required=host.required)
            if row.passed:
                kept[host.name] = row
    return kept


# What is predicted ------------------------------------------------------------------------------------------------


def _predict(path: Path, host: Host, facts: Facts | None) -> Choice | None:
    """What selection says of the host that is described.

    A root filesystem and an image run on the kernel and the CPU of this machine: these two are not what the description
    is about.
    """
    described = host.described
    if described is None:
        return None
    if facts and host.kind in (Kind.ROOT, Kind.IMAGE):
        described = replace(described, kernel=facts.kernel, cpu=facts.cpu)
    with reading(path) as archive:
        return choice_of(explain.judged(archive, host.name, described))


# What is seen -----------------------------------------------------------------------------------------------------


def said(text: str, names: Sequence[str]) -> tuple[Choice, Facts]:
    """Read what ``FATPAR=explain`` prints.

    :raises ValueError: if it is something else.
    """
    shown = [native.printable(name) for name in names]
    wanted = (
        r"host\n  machine  .*, (?:x86-64-v|ARMv8\.)(?P<cpu>\d+)\n  kernel   (?P<kernel>.*)\n(?:.*\n)*?"
        r"slices, most preferred first\n"
        + "".join(rf"  {re.escape(name)}: (?P<slice{number}>.*)\n" for number, name in enumerate(shown))
        + r"choice\n  (?P<choice>.*)\n"
    )
    found = re.fullmatch(wanted, text)
    if found is None:
        raise ValueError("it is not what a launcher says")
    verdicts = {name: found[f"slice{number}"] for number, name in enumerate(names)}
    chosen = next((name for name, verdict in verdicts.items() if verdict.endswith(" (chosen)")), None)
    fits = re.fullmatch(r"fits (/.*) \(chosen\)", verdicts[chosen]) if chosen else None
    reasons = {
        name: () if re.match(r"fits\b", verdict) else tuple(verdict.split("; ")) for name, verdict in verdicts.items()
    }
    arm = 80 if "ARMv8." in text.splitlines()[1] else 0
    return Choice(chosen, fits[1] if fits else None, reasons), Facts(found["kernel"], arm + int(found["cpu"]))


@dataclass(frozen=True)
class _Visit:
    """What is done on each host."""

    stage: Stage
    slices: tuple[str, ...]
    cases: tuple[Case, ...]
    timeout: float

    def see(self, host: Host) -> tuple[Seen, Facts | None]:
        """Look at a host."""
        choice, facts, ran = None, None, []
        try:
            with reached(host, self.stage) as there:
                choice, facts = self._ask(there)
                if choice.slice is not None:
                    for case in self.cases:
                        ran.append(self._try(there, case))
        except (HostError, OSError) as error:
            return Seen(choice, str(error), tuple(ran)), facts
        return Seen(choice, "", tuple(ran)), facts

    def _ask(self, there: Reached) -> tuple[Choice, Facts]:
        ended = self._launch(there, Case("", ()), fresh=True, more={"FATPAR": "explain"})
        try:
            return said(ended.output, self.slices)
        except ValueError:
            last = native.printable(ended.output.strip()[-300:])
            what = f"the launcher {_ending(ended, self._limit(there))} and so does not say what it selects"
            raise HostError(f"{what}: {last}" if last else what) from None

    def _limit(self, there: Reached) -> float:
        return self.timeout * there.slower

    def _launch(self, there: Reached, case: Case, *, fresh: bool, more: dict[str, str] | None = None) -> Ended:
        return there.agent.launch(
            [there.program, *case.arguments],
            {**_UNSET, **there.variables, **(more or {})},
            stdin=case.stdin, fresh=fresh, timeout=self._limit(there),
        )  # fmt: skip

    def _try(self, there: Reached, case: Case) -> Ran:
        """Run a case from an empty store, and from what is in it then."""
        first = self._launch(there, case, fresh=True)
        second = self._launch(there, case, fresh=False) if first.how in ("exited", "killed") else None
        why = _wrong(first, case, self._limit(there))
        if not why and second and (wrong := _wrong(second, case, self._limit(there))):
            why = f"the second launch: {wrong}"
        status = {"exited": first.number, "killed": -first.number}.get(first.how)
        return Ran(
            case.name, case.arguments, not why, why, status, first.seconds if first.how != "failed" else None,
            second.seconds if second and second.how != "failed" else None, first.output[-_SHOWN:],
        )  # fmt: skip


def _wrong(ended: Ended, case: Case, limit: float) -> str:
    """What is not as expected; nothing if all is."""
    if ended.how == "late":
        return f"it {_ending(ended, limit)}"
    if (ended.how, ended.number) != ("exited", case.status):
        return f"it {_ending(ended, limit)} instead of ending with status {case.status}"
    if not re.search(case.output, ended.output, re.MULTILINE):
        return f"nothing that it wrote matches {case.output!r}"
    return ""


def _ending(ended: Ended, limit: float) -> str:
    if ended.how == "late":
        return f"took longer than {limit:g} seconds and was killed"
    if ended.how == "failed":
        foreign = ", as if for another machine, which takes qemu-user and binfmt_misc" * (ended.number == errno.ENOEXEC)
        return f"could not be executed: {os.strerror(ended.number)}{foreign}"
    if ended.how == "killed":
        return f"was killed by {_signal_name(ended.number)}"
    return f"ended with status {ended.number}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
