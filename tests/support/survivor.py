"""A program that needs its files late: it says that it is up, waits for a line, and then uses what it has not touched.

Each step prints a line, its name first, or the error that stopped it. At the end it fails, so that the interpreter
itself has to show source. With an argument it only says that it is there.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.resources
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import traceback

CHILD = "import markupsafe._speedups, jinja2.sandbox, pygments.styles.monokai; print('child', markupsafe.escape('<'))"


def short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def modules() -> int:
    lexers = importlib.import_module("pygments.lexers")
    found = [each.name for each in pkgutil.iter_modules(lexers.__path__)][::4]
    for name in found:
        importlib.import_module(f"pygments.lexers.{name}")
    return len(found)


def native() -> tuple[str, str, bool]:
    regex, markupsafe = importlib.import_module("regex"), importlib.import_module("markupsafe")
    module = importlib.import_module("markupsafe._speedups")
    return regex.sub(r"\p{Lu}", "u", "ABC"), markupsafe.escape("<"), str(module.__file__).endswith(".so")


def data() -> str:
    return short(pkgutil.get_data("certifi", "cacert.pem") or b"")


def resources() -> str:
    return short((importlib.resources.files("certifi") / "cacert.pem").read_bytes())


def metadata() -> tuple[str, bool]:
    return importlib.metadata.version("regex"), len(importlib.metadata.files("pygments") or ()) > 300


def source() -> tuple[int, str | None]:
    jinja2 = importlib.import_module("jinja2")
    lines: list[str | None] = []
    try:
        jinja2.Template("{% nothing %}")
    except jinja2.TemplateSyntaxError:
        lines = [frame.line for frame in traceback.extract_tb(sys.exc_info()[2])]
    return sum(map(bool, lines)), lines[1]


def in_worker(name: str) -> tuple[str, int]:
    return name, len(dir(importlib.import_module(f"pygments.styles.{name}")))


def workers(method: str, names: list[str]) -> list[tuple[str, int]]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(in_worker, names)


def fork() -> list[tuple[str, int]]:
    return workers("fork", ["vim", "xcode"])


def spawn() -> list[tuple[str, int]]:
    return workers("spawn", ["vs", "zenburn", "perldoc"])


def child() -> tuple[int, str, str]:
    words = [sys.executable, "-c", CHILD]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip(), done.stderr.strip()[-200:]


STEPS = [modules, native, data, resources, metadata, source, fork, spawn, child]


def main() -> None:
    if len(sys.argv) > 1:
        print("child itself")
        return
    print("up", os.getpid(), flush=True)
    sys.stdin.readline()
    for step in STEPS:
        print(step.__name__, "...", flush=True)
        try:
            print(step.__name__, "ok", step(), flush=True)
        except BaseException as error:  # the other steps are of interest, too
            print(step.__name__, type(error).__name__, error, flush=True)
    raise RuntimeError("the end")


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
