"""The only process of a machine that loses its power: answers requests on a serial line, one JSON text a line each way.

Runs as process 1 on the Python of a host root, by itself: nothing of this repository but files in ``/opt`` is there.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

USER = 4242
DISK = Path("/mnt")

LOAD = """
import os, time
for turn in range(1 << 30):
    with open(f"/mnt/load/small-{turn % 16}", "wb") as file:
        file.write(os.urandom(5000))
        file.flush()
        os.fsync(file.fileno())
    with open(f"/mnt/load/large-{turn % 16}", "wb") as file:
        file.write(bytes(300000))
    time.sleep(0.05)
"""
"""What a machine does beside: small files that are made sure of, whose every fsync has the filesystem commit the names
of all others, too, and larger ones that are not. A commit of names that overtakes contents is what tears a store."""


def begin(stores: int) -> None:
    """Make directories for stores, on disk for good."""
    for name in ["load", *map(str, range(stores))]:
        (DISK / name).mkdir()
        os.chown(DISK / name, USER, USER)
    os.sync()


def load(seconds: int) -> None:
    """Start to write.

    :param seconds: for how long the kernel may keep contents in memory.
    """
    Path("/proc/sys/vm/dirty_expire_centisecs").write_text(str(seconds * 100))
    Path("/proc/sys/vm/dirty_writeback_centisecs").write_text("50")
    subprocess.Popen([sys.executable, "-I", "-c", LOAD])


def launch(tool: str, store: str) -> tuple[int, str, str]:
    """Launch a packed program as the user."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "FATPAR_STORE": str(DISK / store)}
    done = subprocess.run(
        [f"/opt/{tool}"], env=environment, cwd="/", user=USER, group=USER, extra_groups=(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def launch_trusting(tool: str, store: str) -> tuple[int, str, str]:
    """Launch a program in a copy of a store of which all seems to have been made in this boot, so that nobody looks."""
    copy = f"{store}.trusted"
    subprocess.run(["cp", "-a", DISK / store, DISK / copy], check=True)
    for thing in [*published(copy, "layers"), *published(copy, "views")]:
        (thing / "made").unlink(missing_ok=True)
        (thing / "made").symlink_to(boot())
    ended = launch(tool, copy)
    subprocess.run(["rm", "-r", DISK / copy], check=True)
    return ended


def boot() -> str:
    """What is in ``made`` of the objects of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def published(store: str, kind: str) -> Iterator[Path]:
    """Objects that bear their final names."""
    directory = DISK / store / "v1" / kind
    yield from (path for path in directory.glob("*") if not path.name.startswith(".")) if directory.is_dir() else ()


def census(store: str) -> dict[str, Any]:
    """What there is in a store, and what of it is wrong. No file of a layer is empty, unless it lost its content."""
    layers = {path.name: path for path in published(store, "layers")}
    return {
        "layers": len(layers),
        "damaged": sorted(name for name, path in layers.items() if digest(path / "tree") != name),
        "empty": sum(map(empty_files, layers.values())),
        "made": {path.name: mark(path) for kind in ("layers", "views") for path in published(store, kind)},
        "boot": boot(),
    }


def digest(tree: Path) -> str:
    """A tree's digest, by the launcher's own code; nothing, if it cannot have one."""
    library = ctypes.CDLL("/opt/liblauncher.so")
    found, fault = ctypes.create_string_buffer(32), ctypes.create_string_buffer(1 << 16)
    try:
        descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return ""
    failed = library.treeread(descriptor, found, fault)
    os.close(descriptor)
    return "" if failed else found.raw.hex()


def empty_files(layer: Path) -> int:
    """How many files of a layer, and of the bytecode beside it, are empty."""
    return sum(path.is_file() and not path.is_symlink() and not path.stat().st_size for path in layer.rglob("*"))


def mark(thing: Path) -> str:
    """The boot a published object was made in; nothing, if it lost its mark."""
    try:
        return os.readlink(thing / "made")
    except OSError:
        return ""


REQUESTS: dict[str, Callable[..., Any]] = {
    "begin": begin, "load": load, "launch": launch, "launch_trusting": launch_trusting, "census": census,
}  # fmt: skip


def main() -> None:
    """Answer for as long as there is power."""
    tty.setraw(0)
    os.umask(0o022)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(REQUESTS[name](*arguments)), flush=True)


if __name__ == "__main__":
    main()
