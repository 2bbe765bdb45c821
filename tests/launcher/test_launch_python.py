"""In an application, Python is as in any virtual environment: prefixes, paths, metadata, children, bytecode; and what
the store does not allow is refused by the operating system."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.hosts import USER, require_host
from support.process import Ended, Inside, Store, inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Pack

pytestmark = pytest.mark.hosts

TOOL = "/opt/tool"
RUN = "import sys\n\n\ndef main():\n    exec(sys.argv[1])\n"

WORKERS = """\
import os
import sys


def double(number):
    return number * 2, sys.flags.ignore_environment, os.getpid()


def spread(method):
    import multiprocessing
    context = multiprocessing.get_context(method) if method else multiprocessing
    pool = context.Pool(2)
    results = pool.map(double, [1, 2, 3], 1)
    pool.close()
    pool.join()
    alone = os.getpid() not in [pid for _, _, pid in results]
    print([(number, ignore) for number, ignore, _ in results] + [alone])
"""

METADATA = "Metadata-Version: 2.1\nName: some-thing\nVersion: 3.2.1\nRequires-Dist: other>=1\n"

MODULES = {
    "app.py": RUN,
    "workers.py": WORKERS,
    "pkg/__init__.py": "word = 'right'\n",
    "pkg/__main__.py": "import sys\nfrom pkg import word\nprint(word + ' ' + ' '.join(sys.argv[1:]))\n",
    "pkg/data/text.txt": "data of the package",
    "some_thing-3.2.1.dist-info/METADATA": METADATA,
    "some_thing-3.2.1.dist-info/entry_points.txt": "[some.plugins]\none = pkg:word\n",
    "some_thing-3.2.1.dist-info/RECORD": "pkg/__init__.py,,\n",
}

PYTHONS = {
    "2.7": ("bullseye", "cp27mu", "python3"), "3.9": ("bullseye", "cp39", "python3"),
    "3.11": ("bookworm", "cp311", "python3"), "3.13": ("trixie", "cp313", "python3"),
    "3.14": ("forky", "cp314", "python3"), "3.15": ("sid", "cp315", "python3.15"),
}  # fmt: skip
THREES = [name for name in PYTHONS if name != "2.7"]


class Application:
    """The application, which runs whatever code it is given, in a host with this Python."""

    def __init__(self, far: Inside, version: str, home: Path) -> None:
        self.far, self.version, self.home = far, version, home
        self.store = Store(home / ".cache/fatpar")

    def forget(self) -> None:
        """Remove what was unpacked, and the interpreter's bytecode of it."""
        self.far.root("rm -rf /home/u/.cache /var/lib/fatpar")

    def run(self, code: str, **conditions: Any) -> Ended:
        return self.far.run([TOOL, code], **conditions)

    def says(self, code: str, **conditions: Any) -> str:
        """What code writes that runs to its end."""
        done = self.run(code, **conditions)
        assert (done.status, done.stderr) == (0, b""), done
        return done.stdout.decode()

    def bytecode(self) -> dict[Path, int]:
        """Files of bytecode in the store, with their times; not the links to the standard library's."""
        found = self.store.base.rglob("*.pyc")
        return {path: path.stat().st_mtime_ns for path in found if not path.is_symlink()}

    def tells(self, code: str) -> Any:
        return json.loads(self.says(f"import json, os, sys\n{code}"))

    @property
    def tree(self) -> str:
        """The view in the host."""
        (view,) = self.store.names("views")
        return f"/home/u/.cache/fatpar/v1/views/{view}/tree"

    @property
    def site(self) -> str:
        return f"{self.tree}/lib/python{self.version}/site-packages"


@pytest.fixture(scope="module")
def application(
    request: pytest.FixtureRequest, pack: Pack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    version = request.param
    host, tag, server = PYTHONS[version]
    tool = pack("tool", MODULES, tags=[tag])
    home = tmp_path_factory.mktemp(host) / "home"
    with inside(require_host(host), home, {tool: TOOL}, python=server) as far:
        yield Application(far, version, home)


every = pytest.mark.parametrize("application", PYTHONS, indirect=True)
threes = pytest.mark.parametrize("application", THREES, indirect=True)
twos = pytest.mark.parametrize("application", ["2.7"], indirect=True)

PREFIXES = """
import sysconfig
print(json.dumps({
    "prefix": [sys.prefix, sys.exec_prefix],
    "base": getattr(sys, "base_prefix", None),
    "executable": sys.executable,
    "path": [path for path in sys.path if not path.startswith(("/usr/lib/", sys.prefix + "/lib/python2.7"))],
    "purelib": sysconfig.get_path("purelib"),
    "scripts": sysconfig.get_path("scripts"),
    "main": sys.modules["__main__"].__file__,
    "user": __import__("site").ENABLE_USER_SITE,
}))
"""


@threes
def test_prefixes_and_paths_are_those_of_a_virtual_environment(application: Application) -> None:
    told = application.tells(PREFIXES)
    tree, site = application.tree, application.site
    assert told == {
        "prefix": [tree, tree], "base": "/usr", "executable": f"{tree}/bin/python", "path": [site], "purelib": site,
        "scripts": f"{tree}/bin", "main": f"{tree}/boot/tool.py", "user": False,
    }  # fmt: skip


@threes
def test_they_are_what_the_venv_module_would_make(application: Application) -> None:
    """sys.path, prefixes and sysconfig's paths, compared with an environment of the host's own venv module."""
    python = f"python{application.version}"
    application.far.root(f"{python} -m venv --without-pip /home/u/real; chown -R {USER} /home/u/real")
    code = (
        "import json, sys, sysconfig; print(json.dumps([sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix,"
        " sys.base_exec_prefix, sys.executable, sysconfig.get_paths(), sys.platlibdir]))"
    )
    real = application.far.run(["/home/u/real/bin/python", "-I", "-c", code])
    packed = application.says(code)
    assert packed == real.stdout.decode().replace("/home/u/real", application.tree)


@twos
def test_prefixes_of_python_2_are_the_view_s(application: Application) -> None:
    told = application.tells(PREFIXES)
    tree, site = application.tree, application.site
    assert (told["prefix"], told["executable"]) == ([tree, tree], f"{tree}/bin/python")
    assert told["main"] == f"{tree}/boot/tool.py"
    assert (told["user"], told["base"], told["path"]) == (False, None, [])
    assert application.tells("print(json.dumps(sys.path))")[-1] == site


@every
def test_modules_and_data_are_found(application: Application) -> None:
    code = (
        "import os, pkg, pkgutil; print(pkg.word); print(pkgutil.get_data('pkg', 'data/text.txt').decode());"
        "print(open(os.path.join(os.path.dirname(pkg.__file__), 'data', 'text.txt')).read())"
    )
    assert application.says(code) == "right\ndata of the package\ndata of the package\n"


@threes
def test_metadata_is_found(application: Application) -> None:
    code = """
from importlib import metadata
found = metadata.distribution("some-thing")
points = metadata.entry_points()
plugins = points.select(group="some.plugins") if hasattr(points, "select") else points["some.plugins"]
print(json.dumps([metadata.version("some_thing"), found.requires, [point.load() for point in plugins],
                  [str(file) for file in found.files], [one.metadata["Name"] for one in metadata.distributions()]]))
"""
    assert application.tells(code) == ["3.2.1", ["other>=1"], ["right"], ["pkg/__init__.py"], ["some-thing"]]


# Children -------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["-c", "import pkg; print(pkg.word)"], "right\n", id="code"),
        pytest.param(["-m", "pkg", "x", "-y"], "right x -y\n", id="module"),
        pytest.param(["/home/u/script.py", "z"], "right z\n", id="script"),
        pytest.param(["-E", "-s", "-c", "import pkg; print(pkg.word)"], "right\n", id="with-options"),
    ],
)
def test_children_of_sys_executable_have_the_packages(
    application: Application, arguments: list[str], expected: str
) -> None:
    application.far.root("printf 'import pkg, sys\\nprint(pkg.word + \" \" + sys.argv[1])\\n' > /home/u/script.py")
    code = f"import subprocess\nsys.stdout.write(subprocess.check_output([sys.executable] + {arguments!r}).decode())"
    assert application.says(code) == expected


@every
def test_children_by_the_names_of_a_virtual_environment_have_them_too(application: Application) -> None:
    names = ["python", "python2" if application.version == "2.7" else "python3", f"python{application.version}"]
    code = (
        f"import os, subprocess\nfor name in {names!r}:\n"
        "    path = os.path.join(os.path.dirname(sys.executable), name)\n"
        "    sys.stdout.write(subprocess.check_output([path, '-c', 'import pkg; print(pkg.word)']).decode())"
    )
    assert application.says(code) == "right\n" * 3


@every
def test_children_follow_the_variables_that_the_application_does_not(application: Application) -> None:
    code = (
        "import subprocess\nprint('/nowhere' in sys.path)\nsys.stdout.flush()\n"
        "subprocess.check_call([sys.executable, '-c', 'import sys; print(\"/nowhere\" in sys.path)'])"
    )
    assert application.says(code, env={"PYTHONPATH": "/nowhere"}) == "False\nTrue\n"


@every
def test_another_python_is_not_changed_by_being_started_from_here(application: Application) -> None:
    """No variable that would lead it astray: its prefix is its own, and it does not see the packages."""
    python = f"/usr/bin/python{application.version}"
    script = "import sys\nprint(sys.prefix)\ntry:\n    import pkg\nexcept ImportError:\n    print('none')\n"
    code = f"import subprocess\nsys.stdout.write(subprocess.check_output([{python!r}, '-c', {script!r}]).decode())"
    assert application.says(code) == "/usr\nnone\n"


METHODS = {name: ["fork", "spawn", "forkserver"] for name in THREES} | {"2.7": [None]}


@every
def test_multiprocessing_works_by_every_method(application: Application) -> None:
    """Its children are given the application's own options: like it, they follow no variable of Python's."""
    for method in METHODS[application.version]:
        expected = "[(2, 1), (4, 1), (6, 1), True]\n"
        assert application.says(f"import workers\nworkers.spread({method!r})") == expected, method


@every
def test_an_archive_starts_itself_and_others(application: Application) -> None:
    """A packed program that runs a packed program: neither takes the other's arguments or variables."""
    code = f"import subprocess\nsys.stdout.write(subprocess.check_output([{TOOL!r}, 'print(sys.argv)']).decode())"
    assert application.says(code) == f"['{TOOL}', 'print(sys.argv)']\n"


# Bytecode -------------------------------------------------------------------------------------------------------


@threes
def test_bytecode_is_kept_and_used(application: Application) -> None:
    """Beside the layer, in no layer's tree; the second launch compiles nothing and writes nothing."""
    application.forget()
    application.says("import pkg")
    compiled = application.bytecode()
    tag = application.version.replace(".", "")
    assert {path.name for path in compiled} == {f"{name}.cpython-{tag}.pyc" for name in ("app", "__init__")}
    assert all("pyc" in path.parts for path in compiled)
    code = "import pkg; print(pkg.__cached__ if hasattr(pkg, '__cached__') else pkg.__spec__.cached)"
    assert application.says(code).startswith(f"{application.site}/pkg/__pycache__/__init__.cpython-{tag}.pyc")
    assert application.bytecode() == compiled
    verbose = application.far.run([f"{application.tree}/bin/python", "-v", "-c", "import pkg"]).stderr
    assert f"matches {application.site}/pkg/__init__.py".encode() in verbose
    assert application.store.broken() == []


@twos
def test_bytecode_of_python_2_is_kept_in_the_view(application: Application) -> None:
    application.forget()
    application.says("import pkg")
    compiled = application.bytecode()
    assert {path.name for path in compiled} == {"app.pyc", "__init__.pyc"}
    assert all("views" in path.parts for path in compiled)
    application.says("import pkg")
    assert application.bytecode() == compiled
    assert application.store.broken() == []


@every
def test_bytecode_that_cannot_be_written_is_no_fault(application: Application) -> None:
    """In the store of an administrator that nobody ran the program from yet."""
    application.forget()
    application.far.root(f"mkdir /var/lib/fatpar; {TOOL} pass")
    application.far.root("find /var/lib/fatpar -name '*.pyc' ! -type l -delete")
    assert application.says("import pkg; print(pkg.word)") == "right\n"
    assert application.far.root("find /var/lib/fatpar /home/u/.cache -name '*.pyc' ! -type l") == b""
    application.forget()


# What is not allowed --------------------------------------------------------------------------------------------

WRITES = {
    "beside-a-module": "open(os.path.join(os.path.dirname(pkg.__file__), 'new.txt'), 'w')",
    "over-a-module": "open(pkg.__file__.replace('.pyc', '.py'), 'w')",
    "over-data": "open(os.path.join(os.path.dirname(pkg.__file__), 'data', 'text.txt'), 'a')",
    "into-a-data-directory": "open(os.path.join(os.path.dirname(pkg.__file__), 'data', 'new.txt'), 'w')",
    "into-site-packages": "open(os.path.join(os.path.dirname(os.path.dirname(pkg.__file__)), 'new.py'), 'w')",
    "into-the-prefix": "open(os.path.join(sys.prefix, 'new.txt'), 'w')",
    "remove-data": "os.unlink(os.path.join(os.path.dirname(pkg.__file__), 'data', 'text.txt'))",
    "rename-a-package": "os.rename(os.path.dirname(pkg.__file__), os.path.dirname(pkg.__file__) + '.old')",
    "make-a-directory": "os.mkdir(os.path.join(os.path.dirname(pkg.__file__), 'more'))",
}

WRITE = """
import errno, os, pkg
try:
    {}
    print("done")
except (IOError, OSError) as error:
    print(errno.errorcode[error.errno])
"""


@threes
def test_what_an_application_would_write_into_itself_is_refused(application: Application) -> None:
    for name, code in WRITES.items():
        assert application.says(WRITE.format(code)) == "EACCES\n", name
    assert application.store.broken() == []


@twos
def test_what_python_2_writes_beside_its_modules_stays_in_the_view(application: Application) -> None:
    """Its directories take bytecode, so they take everything; files are the layer's, which nothing changes."""
    refused = set()
    for name, code in WRITES.items():
        application.forget()
        if application.says(WRITE.format(code)) != "done\n":
            refused.add(name)
    assert refused == {"over-a-module", "over-data"}
    assert application.store.broken() == []


INSTALL = """
import os, sys, sysconfig
place = os.path.join(sysconfig.get_path("purelib"), "new-1.0.dist-info")
os.makedirs(place)
"""


@threes
def test_an_installer_gets_the_operating_system_s_error(application: Application) -> None:
    """As pip does, which makes the distribution's directory."""
    done = application.run(INSTALL)
    assert done.status == 1
    last = f"PermissionError: [Errno 13] Permission denied: '{application.site}/new-1.0.dist-info'"
    assert done.stderr.decode().splitlines()[-1] == last
