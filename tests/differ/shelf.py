"""The wheels of the program under test that no index has: as odd as packages are, and small.

The sources of most lie below ``program``; here are those that are no text, or depend on the interpreter.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from support import index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packer.pythons import Interpreter

PROGRAM = Path(__file__).with_name("program")
ANY = "py2.py3-none-any"
VERSION = "1.0+shelf"
"""No index can have it."""

ENTRY_POINTS = """\
[console_scripts]
differ = differ.cli:main

[differ.points]
odd = odd:point
"""

FROM_INDEX = (
    "six", "setuptools<81", "zope.event", 'zope.interface; python_version<"3.14"', 'markupsafe; python_version<"3.14"',
)  # fmt: skip
"""A single file; pkg_resources and a .pth file that imports; a namespace in two distributions, by .pth files or
without; extension modules. Of the newest Pythons not all are there."""

OURS = ("odd", "space-one", "space-two", "extended-a", "extended-b", "hooked", "single")
BUILT = ("twins", "sourceless")
"""Made by each interpreter of this machine."""

HOOKED = """\
import sys


class Conjurer(object):
    WHO = "conjured by a .pth file"

    def find_spec(self, name, path=None, target=None):
        if name == "conjured":
            from importlib.machinery import ModuleSpec

            return ModuleSpec(name, self, origin="nowhere")

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.WHO = self.WHO

    def find_module(self, name, path=None):
        return self if name == "conjured" and sys.version_info[0] == 2 else None

    def load_module(self, name):
        import imp

        module = sys.modules.setdefault(name, imp.new_module(name))
        module.__loader__, module.WHO = self, self.WHO
        return module


sys.meta_path.insert(0, Conjurer())
"""

EXTEND = '__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'

TWIN = r"""
#include <Python.h>
#if PY_MAJOR_VERSION > 2
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "either", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_either(void)
{
	PyObject *m = PyModule_Create(&def);
	if (m)
		PyModule_AddStringConstant(m, "WHO", "an extension module");
	return m;
}
#else
PyMODINIT_FUNC initeither(void)
{
	PyObject *m = Py_InitModule("either", NULL);
	if (m)
		PyModule_AddStringConstant(m, "WHO", "an extension module");
}
#endif
"""

FACTS = "import sysconfig as s; print(s.get_paths()['include'])\n"
FACTS += "print(s.get_config_var('EXT_SUFFIX') or s.get_config_var('SO'))"

COMPILE = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], '/gone/sourceless.py', True)"


def make(directory: Path, interpreters: Sequence[Interpreter]) -> None:
    """Make all wheels in an empty directory."""
    for name, files in _files().items():
        index.wheel(directory, name, VERSION, tag=ANY, files=files)
    for one in interpreters:
        _make_built(directory, one)
    built = (
        [f'{name}=={VERSION}; python_version in "{" ".join(map(_short, interpreters))}"' for name in BUILT]
        if interpreters
        else []
    )
    files = {**_tree("differ"), f"differ-{VERSION}.dist-info/entry_points.txt": ENTRY_POINTS}
    ours = [f"{name}=={VERSION}" for name in OURS]
    index.wheel(directory, "differ", VERSION, tag=ANY, files=files, requires=[*FROM_INDEX, *ours, *built])


def _short(one: Interpreter) -> str:
    return f"{one.version[0]}.{one.version[1]}"


def _files() -> dict[str, Mapping[str, str | bytes]]:
    odd = {
        **_tree("odd"),
        "odd/latin.py": "# -*- coding: latin-1 -*-\nTEXT = u'd\xe9j\xe0 vu'\n".encode("latin-1"),
        "odd/marked.py": b"\xef\xbb\xbfTEXT = 'marked'\n",
        "odd/wrong_coding.py": "TEXT = 'd\xe9j\xe0 vu'\n".encode("latin-1"),
        "odd/null_bytes.py": b"TEXT = 1\n\0\n",
        "odd/data/all.bin": bytes(range(256)),
    }
    return {
        "odd": odd,
        "space-one": {"space/one/__init__.py": "WHO = 'one'\n"},
        "space-two": {"space/two.py": "WHO = 'two'\n"},
        "extended-a": {"extended/__init__.py": EXTEND, "extended/a.py": "WHO = 'a'\n"},
        "extended-b": {"extended/__init__.py": EXTEND, "extended/b.py": "WHO = 'b'\n"},
        "hooked": {
            "hooked.pth": "# added by hooked\nimport hooked_pth\nadded_by_pth\nabsent_directory\n",
            "hooked_pth.py": HOOKED,
            "added_by_pth/in_added_directory.py": "WHO = 'added'\n",
        },
        "single": dict.fromkeys(("single.py", "colorsys.py", "asynchat.py"), "WHO = 'a wheel'\n"),
    }


def _tree(name: str) -> dict[str, str | bytes]:
    found = sorted(path for path in (PROGRAM / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(PROGRAM)): path.read_bytes() for path in found}


def _make_built(directory: Path, one: Interpreter) -> None:
    """An extension module beside a package and a module of its name, and a module without source."""
    work = directory.with_name(f"{directory.name}-{one.tag}")
    work.mkdir()
    (work / "twin.c").write_text(TWIN)
    (work / "sourceless.py").write_text("WHO = 'sourceless'\n\n\ndef answer():\n    return __file__, 42\n")
    include, suffix = subprocess.check_output([one.path, "-c", FACTS], text=True).split()
    subprocess.run(["cc", "-shared", "-fPIC", "-I", include, "twin.c", "-o", "twin.so"], cwd=work, check=True)
    subprocess.run([one.path, "-c", COMPILE, work / "sourceless.py", work / "made.pyc"], check=True)
    twin = (work / "twin.so").read_bytes()
    python = f"cp{one.version[0]}{one.version[1]}"
    files: dict[str, str | bytes] = {
        "both/__init__.py": "WHO = 'a package'\n", f"both{suffix}": twin,
        "either.py": "WHO = 'a module'\n", f"either{suffix}": twin,
    }  # fmt: skip
    index.wheel(directory, "twins", VERSION, tag=f"{python}-{one.tag}-manylinux_2_17_x86_64", files=files)
    compiled = (work / "made.pyc").read_bytes()
    index.wheel(directory, "sourceless", VERSION, tag=f"{python}-none-any", files={"sourceless.pyc": compiled})
