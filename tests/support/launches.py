"""First and later launches with something happening to each of their system calls, and what must be true after it."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from . import calls, slices
from .hosts import USER, require_host
from .layers import SITE
from .process import Ended, Inside, Store, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from .calls import Case
    from .layers import Content

Choice: TypeAlias = "Callable[[list[Case]], list[Case]]"
"""Takes some of all cases."""

TOOL = "/opt/tool"
OTHER_BOOT = "00000000-0000-4000-8000-000000000000"
CACHEDIR_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory "
WORKERS = 2

APP = """\
import hashlib
import os
import sys

import part


def main():
    site = [path for path in sys.path if path.endswith("site-packages") and sys.prefix in path][0]
    found = hashlib.sha256()
    for place, directories, names in sorted(os.walk(site, followlinks=True)):
        directories[:] = [name for name in directories if name != "__pycache__"]
        for name in sorted([*names, *directories]):
            path = os.path.join(place, name)
            found.update(os.path.relpath(path, site).encode())
            if not name.endswith((".pyc", ".pyo")) and os.path.isfile(path):
                found.update(open(path, "rb").read())
    print("{} {}".format(part.word, found.hexdigest()))
"""


def write(output: Path, tag: str, files: int = 0) -> Path:
    """Write an archive that has one of everything a launch can have to do with.

    Its first slice fits no host; the other one's files are deltas against it.

    :param tag: of the slice that is launched.
    :param files: so many more, which make it worth several threads.
    """
    numbers = random.Random(1)
    library = numbers.randbytes(70_000)
    text = "".join(f"def f{number}(x):\n    return x * {numbers.random()}\n\n\n" for number in range(400))

    def wanted(word: str, tag: str, bytecode: Mapping[str, Mapping[str, bytes]]) -> slices.Wanted:
        part: dict[str, Content] = {
            f"{SITE}/part/__init__.py": f"{text}word = {word!r}\n",
            f"{SITE}/part/library.bin": library,
            f"{SITE}/part/link.py": "->__init__.py",
            f"{SITE}/part/deep/empty": None,
            **{f"{SITE}/part/more/{number}": f"{number}" for number in range(files)},
            "bin/part": "#!/bin/sh\n",
        }
        other: dict[str, Content] = {f"{SITE}/other/library.bin": library, f"{SITE}/other/data/x": word}
        app = APP.replace("[*names, *directories]", "names + directories")
        return slices.Wanted({"app": {f"{SITE}/app.py": app}, "other": other, "part": part}, tag, bytecode=bytecode)

    # of another Python: the interpreter puts its own there, as it does with what is damaged
    made = {"app": {f"{SITE}/app.py": b"not bytecode"}, "part": {f"{SITE}/part/__init__.py": b"nor this"}}
    unfit = "cp36m"
    return slices.write(output, [wanted("base", unfit, {}), wanted("right", tag, made if tag != "cp27mu" else {})])


@dataclass(frozen=True)
class Scenario:
    """A launch that is disturbed."""

    name: str
    before: Callable[[Store], None] | None
    """What is done to the store that a launch has filled; None: there is no store."""
    damages: bool = False
    """Whether it is broken by that, until a launch has mended it."""


def _keep(_store: Store) -> None:
    pass


def _reboot(store: Store) -> None:
    """Let all be older than the machine's last start."""
    for kind in ("layers", "views"):
        for name in store.names(kind):
            link = store.base / "v1" / kind / name / "made"
            link.unlink()
            link.symlink_to(OTHER_BOOT)
            os.lchown(link, USER, USER)
    _forget(store, "plans")


def _lose_bytecode(store: Store) -> None:
    for path in (store.base / "v1/layers").glob("*/pyc/**/*.pyc"):
        path.unlink()
    _forget(store, "plans")
    _forget(store, "views")


def _lose_part(store: Store) -> None:
    """What removes old files took the layer that others are links into."""
    _reboot(store)
    for path in (store.base / "v1/layers").glob("*/tree/bin/part"):
        path.unlink()


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("first", None),
        Scenario("warm", _keep),
        Scenario("reboot", _reboot),
        Scenario("bytecode", _lose_bytecode),
        Scenario("damaged", _lose_part, damages=True),
    )
}


def _forget(store: Store, kind: str) -> None:
    for name in store.names(kind):
        path = store.base / "v1" / kind / name
        path.unlink() if path.is_file() else shutil.rmtree(path)


@dataclass(frozen=True)
class Model:
    """What an undisturbed launch says and leaves."""

    stdout: bytes
    layers: list[str]
    views: Mapping[str, Mapping[str, object]]


class Bench:
    """A host with the program in it, and a home on a tmpfs."""

    def __init__(self, far: Inside) -> None:
        self._far = far
        self._home = Path(f"/proc/{far.pid}/root/home/u")
        self._trace = self._home / "trace"
        self._number = 0

    def count(self, scenario: Scenario) -> tuple[Counter[str], Model]:
        """The calls of the launch, and what must come of it whatever happens."""
        env, stores = self._prepare(scenario)
        count = calls.counted(self._far, self._trace, TOOL, env)
        ended = self._far.run([TOOL], env=env)
        assert ended.stdout.startswith(b"right "), ended
        return count, Model(ended.stdout, stores[0].names("layers"), views(stores[0]))

    def _prepare(self, scenario: Scenario) -> tuple[dict[str, str], list[Store]]:
        """An environment with stores that no other case has: the one that is named, and the one to fall back to."""
        self._number += 1
        name = str(self._number)
        env = {"FATPAR_STORE": f"/home/u/{name}/store", "HOME": f"/home/u/{name}/home"}
        stores = [Store(self._home / name / "store"), Store(self._home / name / "home/.cache/fatpar")]
        if scenario.before:
            assert self._far.run([TOOL], env=env).status == 0
            scenario.before(stores[0])
        return env, stores

    def check(self, scenario: Scenario, case: Case, model: Model) -> str:
        """Let something happen to a launch, and see that what follows is right.

        :return: how the launch ended.
        """
        env, stores = self._prepare(scenario)
        known = stores[0].broken() if scenario.damages else []
        ended = calls.disturbed(self._far, self._trace, TOOL, env, case)
        outcome = "missed" if ended is None else judged(case, ended, model)
        for store in stores:
            check_published(store, model, known)
            grow_old(store)
        self._launch(env, model, stores, known)
        if any(store.leftovers() for store in stores):
            # only who makes something sweeps
            for store in stores:
                _forget(store, "views")
                _forget(store, "plans")
            self._launch(env, model, stores, known)
        assert [store.leftovers() for store in stores] == [[], []]
        assert {name for store in stores for name in store.names("layers")} == set(model.layers)
        for store in stores:
            tag = store.base / "CACHEDIR.TAG"
            # without it is no harm, but part of it would stay
            assert not tag.exists() or tag.read_bytes().startswith(CACHEDIR_TAG)
        shutil.rmtree(self._home / str(self._number))
        return outcome

    def _launch(self, env: Mapping[str, str], model: Model, stores: Sequence[Store], known: Sequence[str]) -> None:
        ended = self._far.run([TOOL], env=env)
        assert ended.whole == (0, model.stdout, b""), ended
        # where the store was given up for the other one, nobody has mended it
        known = known if stores[1].names("plans") else []
        for store in stores:
            check_published(store, model, known)


def judged(case: Case, ended: Ended, model: Model) -> str:
    """How a launch ended: killed, with what it says when all is well, or with one line that tells what is not."""
    if case.fault == calls.KILL:
        # a child that is asked for its version is only a child
        assert ended.whole in ((-9, b"", b""), (0, model.stdout, b"")), ended
        return "killed" if ended.status else "ran"
    if ended.status == 0:
        assert ended.whole == (0, model.stdout, b""), ended
        return "ran"
    assert ended.status in (125, 126, 127), ended
    assert ended.stdout == b"", ended
    assert re.fullmatch(rb"tool: (?!hint: ).*[^.:\n]\n(tool: hint: .+\n)?", ended.stderr), ended
    assert not re.search(rb"No error information|Success", ended.stderr), ended
    return f"{ended.status}"


def check_published(store: Store, model: Model, known: Sequence[str]) -> None:
    """What is published is whole.

    :param known: layers that may be broken, because they were before.
    """
    assert set(store.broken()) <= set(known), store.broken()
    assert set(store.names("layers")) <= set(model.layers)
    for name in store.names("layers"):
        assert set(os.listdir(store.base / "v1/layers" / name)) <= {"tree", "made", "pyc", "size"}
    for name, tree in views(store).items():
        wanted = model.views[name]
        assert tree == wanted, {
            at: (tree.get(at), wanted.get(at)) for at in {*tree, *wanted} if tree.get(at) != wanted.get(at)
        }


def views(store: Store) -> dict[str, dict[str, object]]:
    """Each view's tree: of files the bytes, of links where they lead, in whichever store; and all modes."""
    return {name: _tree(store, store.base / "v1/views" / name) for name in store.names("views")}


def _tree(store: Store, view: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for place, directories, names in os.walk(view):
        for path in (Path(place, name) for name in (*directories, *names)):
            at = str(path.relative_to(view))
            if at == "made" or at.startswith("pyc/") or "/__pycache__/" in at or at.endswith((".pyc", ".pyo")):
                continue
            if path.is_symlink():
                found[at] = _leads(store, path)
            else:
                found[at] = path.lstat().st_mode, b"" if path.is_dir() else path.read_bytes()
    return found


def _leads(store: Store, link: Path) -> str:
    text = os.readlink(link)
    if "/v1/layers/" in text and text.startswith("/"):
        return f"layers/{text.partition('/v1/layers/')[2]}"
    absolute = os.path.normpath(link.parent / text)
    base = f"{store.base}/v1/"
    return absolute.removeprefix(base) if absolute.startswith(base) else text


def grow_old(store: Store) -> None:
    """Let what was left behind be so old that nobody can be at work on it."""
    for name in store.leftovers():
        days = 2 if name.startswith("plans/") else 0
        os.utime(store.base / "v1" / name, (time.time() - 120 - days * 86400,) * 2, follow_symlinks=False)


@contextmanager
def benches(directory: Path, host: str, tag: str, files: int = 0) -> Iterator[list[Bench]]:
    """A host for each worker.

    :param files: as :func:`write` has it; with any the launches have all CPUs, and as many threads. Without they have
        one, so that each launch makes the same calls.
    """
    directory.mkdir(exist_ok=True)
    binds = {write(directory / "tool", tag, files): TOOL, calls.portable(directory / "strace"): calls.PORTABLE}
    with ExitStack() as stack:
        entered = [
            stack.enter_context(
                inside(require_host(host), directory / f"home{number}", binds, tmpfs={"/home/u": "size=200m"})
            )
            for number in range(WORKERS)
        ]
        cpus = sorted(os.sched_getaffinity(0))
        for number, far in enumerate(entered):
            if not files:
                os.sched_setaffinity(far.pid, {cpus[number % len(cpus)]})
        yield [Bench(far) for far in entered]


def every(at: Sequence[Bench], scenario: Scenario, choose: Choice = list) -> Counter[tuple[str, str, str]]:
    """Check the cases of a launch that are chosen of all there are.

    :return: how many by call, fault and how the launch ended.
    """
    count, model = at[0].count(scenario)
    again, same = at[1].count(scenario)
    assert model == same
    chosen = choose(list(calls.cases(count | again)))
    free: SimpleQueue[Bench] = SimpleQueue()
    for bench in at:
        free.put(bench)

    def check(case: Case) -> str:
        bench = free.get()
        try:
            return bench.check(scenario, case, model)
        except Exception:
            return f"WRONG\n{traceback.format_exc()}"
        finally:
            free.put(bench)

    with ThreadPoolExecutor(len(at)) as pool:
        outcomes = list(pool.map(check, chosen))
    wrong = [
        f"{scenario.name} {case}: {said}"
        for case, said in zip(chosen, outcomes, strict=True)
        if said.startswith("WRONG")
    ]
    assert not wrong, f"{len(wrong)} of {len(chosen)}\n" + "\n".join(wrong)
    return Counter((case.call, case.fault, said) for case, said in zip(chosen, outcomes, strict=True))


def table(found: Counter[tuple[str, str, str]]) -> str:
    """The numbers of cases, a line for each call and fault."""
    lines = []
    for call, fault in sorted({key[:2] for key in found}):
        said = {key[2]: number for key, number in found.items() if key[:2] == (call, fault)}
        lines.append(
            f"{call:16} {fault:8} {sum(said.values()):4}  " + ", ".join(f"{n} {s}" for s, n in sorted(said.items()))
        )
    return "\n".join([*lines, f"{sum(found.values())} cases"])
