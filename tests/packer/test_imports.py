"""Which standard-library modules a program surely imports, read from its sources."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.layers import SITE, layer

from packer import facts, imports
from packer.errors import PackError
from packer.files import sha256
from packer.model import Entry, EntryKind, Layer, LayerKind, Platform, Target

if TYPE_CHECKING:
    from pathlib import Path

CP39 = Target(facts.pythons()["cp39"].abi, Platform("glibc", (2, 17), "x86_64"))
CP27 = Target(facts.pythons()["cp27mu"].abi, Platform("glibc", (2, 17), "x86_64"))


def found(root: Path, files: dict[str, str], *words: str, target: Target = CP39) -> str:
    """The modules found from ``words`` (default: import ``mod``), sorted, with spaces between."""
    tree = {path if path.startswith(("app/", "bin/")) else f"{SITE}/{path}": text for path, text in files.items()}
    layers = [layer("mod-1.0", tree, root / "layer")]
    return " ".join(sorted(imports.stdlib_imports(target, layers, words or ["mod"])))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import json, os.path as p\nfrom email.message import Message", "email json os"),
        ("import sys, math, _ssl, nowhere", ""),
        ("try:\n    import json\nexcept ImportError:\n    import csv", ""),
        ("try:\n    import json\nexcept (KeyError, ModuleNotFoundError):\n    pass", ""),
        ("try:\n    import json\nexcept Exception:\n    pass", ""),
        ("try:\n    import json\nexcept:\n    pass", ""),
        ("import builtins\ntry:\n    import json\nexcept builtins.ImportError:\n    pass", ""),
        ("try:\n    import json\nexcept KeyboardInterrupt:\n    import csv\nelse:\n    import cgi", "json"),
        ("try:\n    import json\nfinally:\n    import csv", "csv json"),
        ("if True:\n    import json", ""),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import json", "typing"),
        ("if __name__ == '__main__':\n    import json", ""),
        ("for x in []:\n    import json", ""),
        ("with open('x'):\n    import json", ""),
        ("def f():\n    import json\nclass C:\n    def g(self):\n        import csv", ""),
        ("def f():\n    import json\n    return 1\nX = f()", "json"),
        ("def f():\n    if X:\n        return 1\n    import json\nf()", ""),
        ("def f():\n    g()\ndef g():\n    f()\n    import json\nprint(f())", "json"),
        ("def f():\n    import json\n[f() for x in []]\nX = lambda: f()\nY = X or f()\nZ = f() if X else 1", ""),
        ("@decorator\ndef f():\n    import json\nf()", ""),
        ("'''\nimport json\n'''", ""),
        ("", ""),
    ],
)
def test_only_what_is_surely_executed_counts(source: str, expected: str, tmp_path: Path) -> None:
    assert found(tmp_path, {"mod.py": source}) == expected


def test_imports_are_followed_through_packages_and_their_parents(tmp_path: Path) -> None:
    files = {
        "mod.py": "import a.b.c\n",
        "a/__init__.py": "import csv\n",
        "a/b/__init__.py": "from . import names\nfrom .. import beside\n",
        "a/b/names.py": "import json\n",
        "a/b/c.py": "from .d import thing\nfrom ..e.f import *\n",
        "a/b/d.py": "import html\n",
        "a/beside.py": "import mod\nimport cgi\n",
        "a/e/f.py": "import uuid\n",
        "a/unused.py": "import ssl\n",
    }
    assert found(tmp_path, files) == "cgi csv html json uuid"


def test_what_is_imported_from_a_package_may_be_a_module_of_it(tmp_path: Path) -> None:
    files = {"mod.py": "from a import b, value", "a/__init__.py": "value = 1", "a/b.py": "import json"}
    assert found(tmp_path, files) == "json"


def test_a_package_comes_before_a_module_and_the_standard_library_before_both(tmp_path: Path) -> None:
    files = {
        "mod.py": "import a, json",
        "a/__init__.py": "import csv",
        "a.py": "import html",
        "json.py": "import uuid",
    }
    assert found(tmp_path, files) == "csv json"


def test_long_chains_of_imports_are_followed(tmp_path: Path) -> None:
    chain = {f"m{number}.py": f"import m{number + 1}" for number in range(3000)}
    assert found(tmp_path, {**chain, "m3000.py": "import json"}, "m0") == "json"


PROGRAM = {
    "pkg/__init__.py": "import csv",
    "pkg/__main__.py": "from pkg.cli import main\nif __name__ == '__main__':\n    import html\n    main()",
    "pkg/cli.py": "def main():\n    try:\n        import json\n    except KeyboardInterrupt:\n        pass",
    "plain.py": "if '__main__' == __name__:\n    import uuid\n",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("pkg.cli", "csv"),
        ("pkg.cli:main", "csv json"),
        ("pkg.cli:App.run", "csv"),
        ("pkg.__main__", "csv html"),
        ("pkg.__main__:main", "csv"),
        ("plain", ""),
        ("plain.__main__", "uuid"),
        ("http.server.__main__", "http"),
    ],
)
def test_where_execution_begins_decides_what_is_executed(word: str, expected: str, tmp_path: Path) -> None:
    assert found(tmp_path, PROGRAM, word) == expected


def test_a_script_imports_from_its_directory_first(tmp_path: Path) -> None:
    files = {
        "app/my-tool.py": "import json, beside, site_module\nif __name__ == '__main__':\n    import csv",
        "app/json.py": "import html",
        "app/beside.py": "import uuid",
        "beside.py": "import ssl",
        "site_module.py": "import cgi",
    }
    assert found(tmp_path, files, "app/my-tool.py") == "cgi csv html uuid"


def test_a_script_in_bin_imports_nothing_from_there(tmp_path: Path) -> None:
    files = {"bin/tool": "#!python\nimport sys, side", "bin/side": "import csv", "side.py": "import json"}
    assert found(tmp_path, files, "bin/tool") == "json"


@pytest.mark.parametrize("word", ["nowhere", "pkg.nowhere", "nowhere:main", "nowhere.__main__", "app/nowhere.py"])
def test_an_entry_module_that_is_not_there_is_an_error(word: str, tmp_path: Path) -> None:
    with pytest.raises(
        PackError, match=r"no (module|script) .*nowhere.* to begin with: no .* of cp39-manylinux_2_17_x86_64"
    ):
        found(tmp_path, PROGRAM, word)


def test_an_entry_module_may_be_compiled(tmp_path: Path) -> None:
    tree = {f"{SITE}/pkg/core.cpython-39-x86_64-linux-gnu.so": "", f"{SITE}/pkg/__init__.py": "import csv"}
    layers = [layer("mod-1.0", tree, tmp_path)]
    assert imports.stdlib_imports(CP39, layers, ["pkg.core:main"]) == {"csv"}
    with pytest.raises(PackError):
        imports.stdlib_imports(CP27, layers, ["pkg.core:main"])


PYTHON_2 = '''\
#!/usr/bin/python
# -*- coding: latin-1 -*- it's
"""Text with
import ssl
in it."""
import json, \\
    urllib2
from email import (message,  # a comment (with "quotes'
                   parser)
import csv; import cgi
x = "a # b"; y = 'import html'
z = """
import uuid
""" % x
try:
    import zipfile
except ImportError, error:
    print "no", error
if x: import tarfile
def f():
    import gzip
importer = 0777
from_here = `x`
exec "import shelve"
'''


def test_source_that_is_not_valid_here_is_read_by_its_lines(tmp_path: Path) -> None:
    assert found(tmp_path, {"mod.py": PYTHON_2}, target=CP27) == "csv email json urllib2"


def test_python_2_looks_beside_the_module_first(tmp_path: Path) -> None:
    files = {
        "mod.py": "import a.b, a.c\n",
        "a/__init__.py": "",
        "a/b.py": "import json, d.e\nfrom d import f\n",
        "a/c.py": "from __future__ import absolute_import\nimport csv\n",
        "a/json.py": "import ssl\n",
        "a/csv.py": "import uuid\n",
        "a/d/__init__.py": "import cgi\n",
        "a/d/e.py": "import sets\n",
        "a/d/f.py": "import rfc822\n",
    }
    assert found(tmp_path, files, target=CP27) == "__future__ cgi csv rfc822 sets ssl"
    assert found(tmp_path, files, target=CP39) == "__future__ csv json"


@pytest.mark.network
@pytest.mark.slow
def test_everything_found_in_real_programs_is_really_imported(tmp_path: Path) -> None:
    """Programs that import much at their start, run by this Python; and what their authors import lazily stays out."""
    programs = ["httpie.__main__:main", "pytest:console_main", "sphinx.cmd.build:main", "docutils.__main__:main",
                "markdown_it.cli.parse:main", "pygments.cmdline:main", "flask.cli:main"]  # fmt: skip
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
    subprocess.run([*install, "--target", site, "httpie", "pytest", "sphinx", "flask"], check=True)
    entries = [
        Entry(f"{SITE}/{path.relative_to(site)}", EntryKind.FILE, path, path.stat().st_size, sha256(path))
        for path in sorted(site.rglob("*.py"))
    ]
    layers = [Layer("site", LayerKind.WHEEL, tuple(entries), b"")]
    abi = facts.pythons()[f"cp{sys.version_info[0]}{sys.version_info[1]}"].abi
    target = Target(abi, Platform("glibc", (2, 17), "x86_64"))
    found = {program: imports.stdlib_imports(target, layers, [program]) for program in programs}
    for program in programs:
        extra = found[program] - really_imported(program, site)
        assert not extra, program
    # Debian's python3-minimal has neither, so it will not do for httpie
    assert found["httpie.__main__:main"] > {"json", "http", "ssl"}
    assert min(len(names) for names in found.values()) > 8


def really_imported(program: str, site: Path) -> set[str]:
    """Run a program for its version and ask what it imported."""
    module, _, function = program.partition(":")
    code = (
        f"import sys; sys.path.insert(1, {str(site)!r}); sys.argv = ['x', '--version']\n"
        f"from {module} import {function}\n"
        f"try: {function}()\nexcept SystemExit: pass\n"
        "import json; print(); print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=site)
    return set(json.loads(done.stdout.splitlines()[-1]))
