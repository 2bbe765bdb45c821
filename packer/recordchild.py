"""Run by a program's own interpreter while it is recorded: writes down each module as it is found.

A ``.pth`` file runs this with ``directory``, where each process has a file named by its id: pairs of a module's name
and the file it comes from, NUL after each; the pair with an empty name has the Python's version. What was found is
written at once, and through a descriptor that is closed again: programs close descriptors they do not know, end by
``os._exit``, execute another program, and are killed.

Valid from Python 3.5 on (2.7 passes over it). It imports nothing that is not there already.
"""

# Python 3.5 has no f-strings, and does not know types as they are written now
# ruff: noqa: UP031

import os
import sys


def row(found: "tuple[str, str | None]") -> bytes:
    """Write a pair; modules from no file, and what is no text, have an empty one."""
    return b"".join(os.fsencode(text if isinstance(text, str) else "").replace(b"\0", b"") + b"\0" for text in found)


def start(directory: str) -> None:
    """Begin to record; what was imported so far comes first."""

    def write(rows: bytes) -> None:
        try:
            log = os.open(directory + "/" + str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError:  # in another root directory, as another user
            return
        try:
            os.write(log, rows)
        except OSError:
            pass
        finally:
            os.close(log)

    class Recorder:
        """The first finder: it asks those behind it, so that what they find is known before it is executed."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> object:
            finders = [*sys.meta_path]  # type: list[object]
            behind = finders[finders.index(Recorder) + 1 :] if Recorder in finders else []
            for finder in behind:
                find = getattr(finder, "find_spec", None)
                if find is None:  # of an old kind, that the interpreter knows how to ask
                    write(row((name, None)))
                    return None
                spec = find(name, path, target)
                if spec is not None:
                    write(row((name, spec.origin)))
                    return spec
            return None

    specs = [(name, getattr(module, "__spec__", None)) for name, module in list(sys.modules.items())]
    before = [(name, spec.origin) for name, spec in specs if name != "__main__" and spec is not None]
    write(b"".join(map(row, [("", "%d.%d.%d" % sys.version_info[:3]), *before])))
    sys.meta_path.insert(0, Recorder)  # type: ignore[arg-type]


if "directory" in globals():
    start(globals()["directory"])
