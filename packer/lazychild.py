"""What is added, for a check, to the code that a boot file runs: it writes down which imports could be lazy.

Each is a line, once per process: who imports, what, and what is taken from it, with tabs between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CODE = """

def watch(keep):
    seen = set()

    def is_lazy(importing, name, fromlist):
        row = "\\t".join((importing, name, *(fromlist or ()))) + "\\n"
        if row not in seen:
            seen.add(row)
            write(row.encode("utf-8", "backslashreplace"))
        return keep is None or keep(importing, name, fromlist, 2)

    return is_lazy


def write(row):
    try:
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        return
    try:
        os.write(log, row)
    except OSError:
        pass
    finally:
        os.close(log)


if sys.get_lazy_imports() == "all":
    sys.set_lazy_imports_filter(watch(sys.get_lazy_imports_filter()))
"""


def source(log: Path) -> str:
    """Write the code."""
    return _CODE.replace("LOG", repr(str(log)), 1)
