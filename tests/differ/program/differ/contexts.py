"""The same observations in threads, and in children of every kind."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

from differ import cli, observe
from differ.plain import guarded, plain

CHILD = """\
import os, sys
from differ import cli
from differ.plain import guarded
cli.child(sys.argv[1])
"""


def everywhere():
    thread = threading.Thread(target=lambda: cli.save("thread", observe.process()), name="observer")
    thread.start()
    thread.join()
    for name, words in (
        ("child -c", ["-c", CHILD]),
        ("child -m", ["-m", "differ.cli", "child"]),
        ("child file", [script()]),
        ("child -I", ["-I", "-c", CHILD] if sys.version_info >= (3, 4) else ["-E", "-s", "-c", CHILD]),
    ):
        subprocess.check_call([sys.executable] + words + [name])
    for name in ("fork", "spawn", "forkserver"):
        if hasattr(multiprocessing, "get_context"):
            processes(multiprocessing.get_context(name), name)
    if not hasattr(multiprocessing, "get_context"):
        processes(multiprocessing, "fork")
    cli.save("environment of a child", guarded(variables))


def script():
    with open("script.py", "w") as stream:
        stream.write(CHILD)
    return os.path.abspath("script.py")


def processes(context, name):
    """A process whose target is a packed function, and what comes back by pickle."""
    one = context.Process(target=cli.child, args=("process " + name,))
    one.start()
    one.join()
    pool = context.Pool(1)
    try:
        found = [pool.apply(answer, (pickled(),)), one.exitcode, guarded(pool.apply, raises)]
        main = guarded(pool.apply, with_main)
    finally:
        pool.close()
        pool.join()
    cli.save("pool " + name, plain([found, main, multiprocessing.get_all_start_methods() if hasattr(multiprocessing, "get_all_start_methods") else 0]))


def pickled():
    from odd.nested import deep

    return deep.Deep(3)


def answer(given):
    return type(given).__module__, given.number, pickle.dumps(type(given), 0), sys.argv


def raises():
    from odd.nested import deep

    deep.fail(1)


def with_main():
    main = sys.modules["__main__"]
    return sorted(vars(main)), observe.module(main), sys.argv, sorted(name for name in sys.modules if name in ("odd", "differ", "__mp_main__"))


def variables():
    """What env itself is given: no Python, that would take something out."""
    return subprocess.check_output(["env"]).decode("utf-8", "replace")
