"""A program that needs its files late: it says that it is up, waits for a line, and then uses what it has not touched.

Each step prints a line, its name first, or the error that stopped it. At the end it fails, so that the interpreter
itself has to show source.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import pkgutil
import subprocess
import sys

CHILD = "import markupsafe._speedups, jinja2.sandbox, pygments.styles.monokai; print('child', markupsafe.escape('<'))"


def short(data):
    return hashlib.sha256(data).hexdigest()[:16]


def modules():
    import pygments.lexers

    found = [each.name for each in pkgutil.iter_modules(pygments.lexers.__path__)][::4]
    for name in found:
        importlib.import_module("pygments.lexers." + name)
    return len(found)


def native():
    import markupsafe._speedups
    import regex

    return regex.sub(r"\p{Lu}", "u", "ABC"), markupsafe.escape("<"), regex._regex.__file__.rpartition("/")[2]


def data():
    return short(pkgutil.get_data("certifi", "cacert.pem"))


def resources():
    import importlib.resources as here

    return short((here.files("certifi") / "cacert.pem").read_bytes())


def metadata():
    return importlib.metadata.version("regex"), len(importlib.metadata.files("pygments"))


def source():
    import traceback

    import jinja2

    try:
        jinja2.Template("{% nothing %}")
    except jinja2.TemplateSyntaxError:
        lines = [frame.line for frame in traceback.extract_tb(sys.exc_info()[2])]
    return all(lines), len(lines), lines[0]


def in_worker(name):
    module = importlib.import_module("pygments.styles." + name)
    return name, len(dir(module))


def workers(method, names):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(in_worker, names)


def fork():
    return workers("fork", ["vim", "xcode"])


def spawn():
    return workers("spawn", ["vs", "zenburn", "perldoc"])


def child():
    done = subprocess.run(
        [sys.executable, "-c", CHILD], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return done.returncode, done.stdout.decode().strip(), done.stderr.decode().strip()[-200:]


STEPS = [modules, native, data, resources, metadata, source, fork, spawn, child]


def main():
    if len(sys.argv) > 1:
        # a packed program that is its own sys.executable
        print("child itself")
        return
    print("up", os.getpid(), flush=True)
    sys.stdin.readline()
    for step in STEPS:
        print(step.__name__, "...", flush=True)
        try:
            print(step.__name__, "ok", step(), flush=True)
        except BaseException as error:
            print(step.__name__, type(error).__name__, error, flush=True)
    raise RuntimeError("the end")


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
