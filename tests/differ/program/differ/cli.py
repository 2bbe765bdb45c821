"""The program: it writes what it sees into files of a directory, one for each process."""

import json
import os
import subprocess
import sys
import threading

from differ import awkward, observe
from differ.plain import guarded

AT_IMPORT = {"modules": sorted(sys.modules), "argv": sys.argv[:], "path": sys.path[:]}


def main():
    sys.exit(JOBS[sys.argv[1]](*sys.argv[2:]))


def observe_all(directory):
    """Before anything else is imported, the awkward cases, each in a fork."""
    os.chdir(directory)
    save("at_import", AT_IMPORT)
    save("process", observe.process())
    for case in awkward.CASES:
        if awkward.applies(case):
            forked("awkward." + case.__name__, case)
    from differ import contexts

    contexts.everywhere()
    from differ import packages

    save("packages", packages.everything())
    save("modules at the end", sorted(sys.modules))


def save(name, found):
    with open(name + ".json", "w") as stream:
        json.dump(found, stream, sort_keys=True)


def forked(name, case):
    """Run a case in a process, and a directory, of its own."""
    here = os.getcwd()
    child = os.fork()
    if child == 0:
        os.mkdir(name)
        os.chdir(name)
        with open("six.py", "w") as stream, open("in_cwd.py", "w"):
            stream.write("WHO = 'the working directory'\n")
        found = guarded(case)
        os.chdir(here)
        save(name, found)
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        save(name, {"raised": "it died"})


def end(how):
    """Ways to end, after handlers were registered."""
    import atexit

    import odd.at_exit  # noqa: F401

    atexit.register(lambda: sys.stdout.write("handler of the program\n"))
    thread = threading.Thread(target=lambda: sys.stdout.write("thread {}\n".format(threading.current_thread().name)))
    thread.start()
    thread.join()
    if how == "raise":
        from odd.nested import deep

        deep.fail(2)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "text":
        sys.exit("that is how it ends")
    if how == "thread":
        one = threading.Thread(target=lambda: 1 / 0, name="failing")
        one.start()
        one.join()
    if how == "unraisable":
        import odd.at_exit

        odd.at_exit.Unraisable()
    if how == "syntax":
        import odd.wrong_syntax  # noqa: F401
    if how == "absent":
        import absent  # noqa: F401
    if how == "recursion":
        import odd.recursive  # noqa: F401
    if how == "warning":
        import warnings

        warnings.warn("a warning of the program")
        warnings.warn("an old thing", DeprecationWarning)
        import odd.warns  # noqa: F401
    return 7


def child(name):
    save(name, observe.process())


JOBS = {"observe": observe_all, "end": end, "child": child}

if __name__ == "__main__":
    subprocess  # noqa: B018
    main()
