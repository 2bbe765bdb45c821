"""What the libraries that look for packages find: metadata, resources, sources, files on disk."""

import inspect
import linecache
import os
import pkgutil
import sys
import traceback
import warnings

from differ import observe
from differ.plain import guarded, plain

PACKED = (
    "differ", "differ.plain", "odd", "odd.nested", "odd.nested.deep", "odd.latin", "six", "zope", "zope.interface",
    "zope.event", "markupsafe", "markupsafe._speedups", "space", "space.one", "space.two", "extended", "extended.a",
    "extended.b", "odd.bare", "odd.bare.inside", "odd.pathy", "setuptools", "pkg_resources", "single", "json", "colorsys",
    "asynchat", "both", "either", "sourceless", "hooked_pth", "sys", "zipimport", "_ctypes", "encodings.idna",
)  # fmt: skip
"""Modules to look for; not every Python has all."""

MISSING = ("absent", "odd.absent", "odd.plainfile.absent", "space.absent", "absent.absent", "", "odd.nested.", ".absent")


def everything():
    found = {
        "find_spec": dict((name, guarded(located, name)) for name in PACKED + MISSING),
        "pkgutil": dict((name, guarded(pkgutil_of, name)) for name in ("odd", "zope", "space", "extended", "differ")),
        "iter_modules": guarded(lambda: sorted([one[1], one[2], observe.kind(one[0])] for one in pkgutil.iter_modules())),
        "walk_packages": guarded(walked),
        "importers": guarded(lambda: [observe.kind(one) for one in pkgutil.iter_importers()]),
        "importers of odd": guarded(lambda: [observe.kind(one) for one in pkgutil.iter_importers("odd.nested")]),
        "get_data": guarded(lambda: [pkgutil.get_data("odd", "data/words.txt"), pkgutil.get_data("odd", "data/all.bin")]),
        "get_data of what is missing": guarded(pkgutil.get_data, "odd", "data/absent"),
        "metadata": guarded(metadata),
        "resources": guarded(resources),
    }
    found["imported"] = dict((name, guarded(imported, name)) for name in PACKED)
    found["missing"] = dict((name, guarded(imported, name)) for name in MISSING)
    found["loaders"] = dict((name, guarded(loader_of, name)) for name in PACKED)
    found["inspect"] = guarded(inspected)
    found["tracebacks"] = dict((name, guarded(failing, name)) for name in FAILING)
    found["warnings"] = guarded(warned)
    found["linecache"] = guarded(cached_lines)
    found["files"] = guarded(files_of)
    found["pkg_resources"] = guarded(working_set)
    return found


def located(name):
    """Without importing it, though its parents are."""
    if sys.version_info[0] == 2:
        return observe.kind(pkgutil.find_loader(name))
    import importlib.util

    return observe.spec(importlib.util.find_spec(name))


def imported(name):
    __import__(name)
    return observe.module(sys.modules[name])


def pkgutil_of(name):
    package = __import__(name)
    return [sorted([one[1], one[2]] for one in pkgutil.iter_modules(package.__path__, name + ".")), list(package.__path__)]


def walked():
    wrong = []
    walk = pkgutil.walk_packages(__import__("odd").__path__, "odd.", wrong.append)
    return [[one[1], one[2]] for one in walk], wrong


def metadata():
    from importlib import metadata

    found = {}
    for one in metadata.distributions():
        files = sorted(str(file) for file in one.files or ())
        found[one.metadata["Name"]] = {
            "type": observe.kind(one),
            "version": one.version,
            "requires": one.requires,
            "entry points": sorted(str(point) for point in one.entry_points),
            "files": files,
            "metadata": sorted((name, value[:60]) for name, value in one.metadata.items()),
            "first file": str((one.files or [None])[0] and one.files[0].locate()),
            "RECORD": sorted(line.split(",")[0] for line in (one.read_text("RECORD") or "").splitlines()),
            "others": [one.read_text(name) for name in ("INSTALLER", "top_level.txt", "direct_url.json", "REQUESTED")],
        }
    found["missing"] = guarded(metadata.version, "absent")
    found["entry points"] = guarded(entry_points, metadata)
    found["packages"] = guarded(lambda: dict((name, sorted(of)) for name, of in metadata.packages_distributions().items()))
    found["loaded"] = guarded(lambda: [point.load() for point in metadata.entry_points(group="differ.points")])
    return found


def entry_points(metadata):
    return sorted(str(point) for point in metadata.entry_points(group="console_scripts"))


def resources():
    from importlib import resources

    found = {"read": resources.read_text("odd", "readme.txt"), "is": resources.is_resource("odd", "readme.txt")}
    with resources.path("odd", "readme.txt") as path:
        found["path"] = str(path)
    if hasattr(resources, "files"):
        found["files"] = plain(str(resources.files("odd")))
        found["type"] = observe.kind(resources.files("odd"))
        found["listed"] = sorted(one.name for one in resources.files("odd").iterdir())
        found["deep"] = resources.files("odd").joinpath("data/words.txt").read_text()
        found["of a namespace"] = guarded(lambda: sorted(one.name for one in resources.files("space").iterdir()))
        with resources.as_file(resources.files("odd") / "readme.txt") as path:
            found["as_file"] = str(path)
    found["missing"] = guarded(resources.read_text, "odd", "absent.txt")
    return found


def loader_of(name):
    """What a loader says of its module."""
    loader = getattr(sys.modules.get(name), "__loader__", None) or (sys.version_info[0] == 2 and pkgutil.find_loader(name))
    if not loader:
        return None
    found = {"type": observe.kind(loader), "repr": guarded(repr, loader), "attributes": guarded(lambda: sorted(vars(loader)))}
    for method in ("get_source", "is_package", "get_filename"):
        found[method] = guarded(lambda method=method: getattr(loader, method)(name))
    found["get_code"] = guarded(code_of, loader, name)
    found["get_data"] = guarded(lambda: len(loader.get_data(loader.get_filename(name))))
    found["path_stats"] = guarded(lambda: sorted(loader.path_stats(loader.get_filename(name))))
    found["resource_reader"] = guarded(lambda: observe.kind(loader.get_resource_reader(name)))
    found["of another"] = guarded(lambda: loader.get_source("absent"))
    return found


def code_of(loader, name):
    code = loader.get_code(name)
    return None if code is None else [code.co_filename, code.co_name, code.co_firstlineno, list(code.co_names)]


def inspected():
    import odd.nested.deep
    import six
    import zope.interface

    found = {}
    for one in (observe.process, odd.nested.deep.Deep, odd.nested.deep.function, six.add_metaclass, six, zope.interface.Interface.__class__):
        name = plain(one)
        found[name] = [guarded(getattr(inspect, of), one) for of in ("getfile", "getsourcefile", "getmodule")]
        found[name + " source"] = guarded(lambda one=one: [len(inspect.getsource(one)), inspect.getsource(one)[:80]])
        found[name + " lines"] = guarded(lambda one=one: inspect.getsourcelines(one)[1])
        found[name + " comments"] = guarded(inspect.getcomments, one)
    found["code"] = observe.process.__code__.co_filename
    found["repr"] = guarded(repr, six)
    found["repr of a namespace"] = guarded(lambda: repr(__import__("space")))
    found["main"] = guarded(lambda: inspect.getsource(sys.modules["__main__"]))
    found["stack"] = guarded(lambda: [[frame[1], frame[3], frame[4]] for frame in inspect.stack()])
    return found


FAILING = (
    "import odd.raises", "import odd.raises_deeply", "import odd.wrong_syntax", "import odd.wrong_coding", "import odd.absent",
    "from odd import absent", "import absent", "import odd.plainfile.absent", "from odd.circle_a import absent",
    "import odd.circle_fails", "import odd.nested.deep as d; d.fail(3)", "import six.moves.absent", "import odd.exits",
    "from odd.starred import *; absent_name", "import odd.null_bytes", "from . import differ", "import odd.nested.deep.absent",
    "import odd.wrong_indent", "import odd.recursive",
)  # fmt: skip


def failing(statement):
    """The traceback of a statement, as a user would see it, twice: what failed once may be there the second time."""
    first = traced(statement)
    return [first, "the same" if traced(statement) == first else traced(statement)]


def traced(statement):
    limit = sys.getrecursionlimit()
    try:
        exec(compile(statement, "<statement>", "exec"), {"__name__": "differ.failing"})
    except BaseException:
        text = traceback.format_exc()
        return text if len(text) < 4000 else text[:1500] + "..." + text[-500:]
    finally:
        sys.setrecursionlimit(limit)
    return "none"


def warned():
    """The texts of warnings, with the line of source that is shown beneath."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *arguments: found.append(warnings.formatwarning(*arguments[:4]))
        import odd.warns

        odd.warns.warn()
        warnings.warn("from the program")
        warnings.warn_explicit("explicit", UserWarning, odd.warns.__file__.replace(".pyc", ".py"), 2)
    return found


def cached_lines():
    import odd.nested.deep

    file = odd.nested.deep.__file__.replace(".pyc", ".py")
    linecache.clearcache()
    found = [linecache.getline(file, 1), linecache.getline("odd/nested/deep.py", 1), len(linecache.getlines(file))]
    found.append(bool(linecache.lazycache(file, vars(odd.nested.deep))) if hasattr(linecache, "lazycache") else None)
    linecache.checkcache()
    return found + [linecache.getline(file, 1)]


def files_of():
    """What packages do with the directory they lie in."""
    import odd

    directory = os.path.dirname(odd.__file__)
    return {
        "listed": sorted(os.listdir(directory)),
        "real": os.path.realpath(directory),
        "walked": sorted(len(files) for _, _, files in os.walk(directory)),
        "exists": [os.path.isfile(os.path.join(directory, "data", "words.txt")), os.path.islink(directory)],
        "writable": os.access(directory, os.W_OK),
        "parent": sorted(os.listdir(os.path.dirname(directory))),
        "prefix": sorted(os.listdir(sys.prefix)),
        "bin": sorted(os.listdir(os.path.join(sys.prefix, "bin"))),
        "real executable": os.path.realpath(sys.executable),
    }


def working_set():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pkg_resources
    found = sorted("{} {} {}".format(one, one.location, type(one).__name__) for one in pkg_resources.working_set)
    return {
        "distributions": found,
        "entries": pkg_resources.working_set.entries,
        "provider": observe.kind(pkg_resources.get_provider("odd")),
        "string": pkg_resources.resource_string("odd", "data/words.txt"),
        "listed": sorted(pkg_resources.resource_listdir("odd", "data")),
        "file": pkg_resources.resource_filename("odd", "data/words.txt"),
        "entry points": sorted(str(one) for one in pkg_resources.iter_entry_points("console_scripts")),
        "loaded": [one.load()() for one in pkg_resources.iter_entry_points("differ.points")],
        "required": sorted(str(one) for one in pkg_resources.require("differ")),
        "missing": guarded(pkg_resources.require, "absent"),
    }
