"""What programs and packages do to imports, each in a process that is forked before anything else was imported.

A case is a function here; its docstring says what is awkward. What it returns is compared.
"""

import os
import pkgutil
import sys
import threading
import warnings

from differ import observe
from differ.plain import guarded, plain

NEW = sys.version_info[0] > 2


def write(path, text):
    """Write a module; its directory is made."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.makedirs(directory)
    with open(path, "w") as file:
        file.write(text)


def loaded(name):
    __import__(name)
    return observe.module(sys.modules[name])


def first_finder():
    """A finder before all others is asked for each module that is not there yet."""
    asked = []

    class Finder(object):
        def find_spec(self, name, path=None, target=None):
            asked.append([name, plain(path)])

        def find_module(self, name, path=None):
            asked.append([name, plain(path)])

    sys.meta_path.insert(0, Finder())
    import odd.nested.deep
    import six

    return asked, odd.nested.deep.__file__, six.__file__


def last_finder():
    """A finder behind all others is asked only for what nobody has."""
    asked = []

    class Finder(object):
        def find_spec(self, name, path=None, target=None):
            asked.append(name)

    sys.meta_path.append(Finder())
    import six  # noqa: F401

    return asked, guarded(__import__, "absent"), guarded(__import__, "odd.absent")


def finder_that_replaces():
    """A finder before all others answers for a packed module."""
    from importlib.machinery import ModuleSpec

    class Finder(object):
        def find_spec(self, name, path=None, target=None):
            return ModuleSpec(name, self, origin="elsewhere") if name == "six" else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            module.WHO = "the finder"

    sys.meta_path.insert(0, Finder())
    import six

    return six.WHO, plain(six), observe.module(six)


def path_finder_patched():
    """Libraries that watch imports wrap PathFinder.find_spec."""
    from importlib.machinery import PathFinder

    asked = []
    original = PathFinder.find_spec

    def find_spec(name, path=None, target=None):
        asked.append(name)
        return original(name, path, target)

    PathFinder.find_spec = find_spec
    import odd.nested.deep
    import six

    return asked, six.__file__, odd.nested.deep.__file__


def file_loader_patched():
    """Others wrap what compiles a source, as coverage and type checkers do."""
    from importlib.machinery import SourceFileLoader

    seen = []
    original = SourceFileLoader.exec_module

    def exec_module(self, module):
        seen.append([module.__name__, module.__file__])
        return original(self, module)

    SourceFileLoader.exec_module = exec_module
    import odd.nested.deep
    import six  # noqa: F401

    return seen


def source_to_code_patched():
    """Assertion rewriters take the source of each module."""
    from importlib.machinery import SourceFileLoader

    seen = []
    original = SourceFileLoader.get_data

    def get_data(self, path):
        seen.append(path.endswith(".py"))
        return original(self, path)

    SourceFileLoader.get_data = get_data
    import odd.nested.deep

    return odd.nested.deep.__file__, any(seen) or seen


def path_hook_first():
    """A path hook that takes all directories, put before the others, with the caches emptied."""
    from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader

    class Loader(SourceFileLoader):
        def exec_module(self, module):
            super(Loader, self).exec_module(module)
            module.HOOKED = True

    sys.path_hooks.insert(0, FileFinder.path_hook((Loader, SOURCE_SUFFIXES)))
    sys.path_importer_cache.clear()
    import odd.nested.deep
    import six

    return six.HOOKED, odd.nested.deep.HOOKED, observe.module(six)["__loader__"]


def path_hooks_emptied():
    """Without hooks and caches nothing that lies in directories is found."""
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()
    return guarded(__import__, "six"), guarded(__import__, "colorsys"), guarded(__import__, "sys")


def importer_cache_emptied():
    """Many tests do."""
    sys.path_importer_cache.clear()
    return loaded("six"), loaded("odd.nested.deep"), observe.plain(sorted(map(str, sys.path_importer_cache)))


def meta_path_replaced():
    """Only the finders that Python documents are left."""
    from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
    return loaded("six"), loaded("odd.nested.deep"), loaded("colorsys"), guarded(__import__, "absent")


def meta_path_emptied():
    """Nothing at all can be imported any more."""
    warnings.simplefilter("ignore")
    sys.meta_path[:] = []
    return guarded(__import__, "six"), guarded(__import__, "colorsys")


def path_shadows():
    """A directory before all others has a module of a packed one's name, and of the standard library's."""
    write("shadow/six.py", "WHO = 'the shadow'\n")
    write("shadow/colorsys.py", "WHO = 'the shadow'\n")
    write("shadow/odd/nested/deep.py", "WHO = 'nobody'\n")
    write("shadow/zope/__init__.py", "WHO = 'the shadow'\n")
    sys.path.insert(0, os.path.abspath("shadow"))
    return loaded("six"), loaded("colorsys"), loaded("odd.nested.deep"), loaded("zope"), guarded(loaded, "zope.event")


def path_shadows_for_a_while():
    """A directory is there for one import only."""
    write("while/six.py", "WHO = 'the shadow'\n")
    sys.path.insert(0, os.path.abspath("while"))
    first = loaded("six")
    del sys.path[0], sys.modules["six"]
    return first, loaded("six")


def path_behind():
    """A directory behind all others gives way to what is packed, and has what is not."""
    write("behind/six.py", "WHO = 'the last'\n")
    write("behind/only_behind.py", "WHO = 'the last'\n")
    sys.path.append(os.path.abspath("behind"))
    return loaded("six"), loaded("only_behind")


def path_emptied():
    """Nothing that lies in directories is found, but for what packages have."""
    import odd

    sys.path[:] = []
    return (
        guarded(loaded, "six"), guarded(loaded, "colorsys"), guarded(loaded, "odd.nested.deep"), odd.__file__,
        guarded(loaded, "zope"),
    )  # fmt: skip


def path_is_another_list():
    """sys.path is not changed, but another one."""
    write("another/six.py", "WHO = 'the shadow'\n")
    sys.path = [os.path.abspath("another")] + [path for path in sys.path if "site-packages" not in path]
    return loaded("six"), guarded(loaded, "markupsafe"), loaded("colorsys")


def path_turned_round():
    """What is installed comes before the standard library."""
    sys.path.reverse()
    return guarded(loaded, "colorsys"), guarded(loaded, "asynchat"), loaded("six")


def path_with_odd_entries():
    """Entries that are no directories, relative, twice, or no text."""
    write("relative/found_relative.py", "")
    sys.path[:0] = ["", ".", "relative", "/dev/null", "/nonexistent/directory", os.__file__, "relative/", b"relative", 7, None]
    found = guarded(loaded, "found_relative"), guarded(loaded, "six"), guarded(loaded, "in_cwd")
    return found, sorted(set(map(str, sys.path_importer_cache)))


def added_while_it_runs():
    """A module that is written after its directory was read is found once caches are invalidated."""
    directory = os.path.abspath("later")
    write("later/before.py", "")
    sys.path.insert(0, directory)
    found = [guarded(__import__, "before"), guarded(__import__, "later_written")]
    write("later/later_written.py", "X = 1\n")
    if NEW:
        import importlib

        importlib.invalidate_caches()
    return found, loaded("later_written"), loaded("six")


def invalidated():
    """After caches are invalidated all is as before."""
    import importlib

    if NEW:
        importlib.invalidate_caches()
    return loaded("six"), loaded("odd.nested.deep"), guarded(__import__, "absent")


def extended_at_run_time():
    """A package appends to its __path__ when it is imported, and the program to another's later."""
    import odd.pathy

    found = [loaded("odd.pathy.extra_module"), list(odd.pathy.__path__)]
    write("plugins/plugged.py", "WHO = 'plugged'\n")
    import odd

    odd.__path__.append(os.path.abspath("plugins"))
    return found, loaded("odd.plugged"), guarded(loaded, "odd.absent")


def package_path_replaced():
    """A package's __path__ is another one before a submodule is imported."""
    import odd

    write("instead/starred.py", "WHO = 'the other'\n")
    odd.__path__ = [os.path.abspath("instead")]
    return loaded("odd.starred"), guarded(loaded, "odd.nested")


def package_path_shadows():
    """A package looks elsewhere first."""
    import odd

    write("first/starred.py", "WHO = 'the first'\n")
    odd.__path__.insert(0, os.path.abspath("first"))
    return loaded("odd.starred"), loaded("odd.nested")


def pkgutil_extended():
    """Two distributions share a package in the way from before namespaces."""
    import extended

    write("third/extended/__init__.py", "")
    write("third/extended/c.py", "")
    sys.path.append(os.path.abspath("third"))
    found = [loaded("extended.a"), loaded("extended.b"), list(extended.__path__), guarded(loaded, "extended.c")]
    extended.__path__ = pkgutil.extend_path(extended.__path__, "extended")
    return found, loaded("extended.c"), list(extended.__path__)


def namespace_grows():
    """A namespace package has what later directories of sys.path bring."""
    import space

    found = [loaded("space.one"), list(space.__path__), guarded(loaded, "space.three")]
    write("portion/space/three.py", "")
    sys.path.append(os.path.abspath("portion"))
    grown = loaded("space.three"), list(space.__path__)
    sys.path.pop()
    return found, grown, list(space.__path__), repr(space), observe.module(space)


def namespace_before():
    """A directory without __init__.py before all others does not hide a package behind it."""
    write("hides/six/readme", "")
    write("hides/odd/starred.py", "")
    write("hides/space/two.py", "WHO = 'the first'\n")
    sys.path.insert(0, os.path.abspath("hides"))
    return loaded("six"), loaded("odd.starred"), guarded(loaded, "space"), guarded(loaded, "space.two")


def replaces_itself():
    """A module puts something else under its name."""
    import odd.selfish

    return plain(odd.selfish), sys.modules["odd.selfish"].answer, guarded(__import__, "odd.selfish.part")


def removed_from_modules():
    """A module that is no longer known is made anew."""
    import odd.counted

    first = odd.counted
    del sys.modules["odd.counted"]
    import odd.counted

    again = sys.modules["odd.counted"]
    return first is again, again.COUNT, odd.counted is again


def blocked():
    """None in sys.modules forbids an import."""
    sys.modules["six"] = None
    sys.modules["odd.nested"] = None
    return guarded(__import__, "six"), guarded(__import__, "odd.nested.deep")


def reloaded():
    """A module is executed again, in place."""
    import importlib

    import odd.counted

    reload = importlib.reload if NEW else __builtins__["reload"]
    again = reload(odd.counted)
    return again is odd.counted, again.COUNT, observe.module(again), guarded(reload, __import__("space"))


def reloaded_elsewhere():
    """A module is found in another place when it is reloaded."""
    import importlib

    import six

    write("elsewhere/six.py", "WHO = 'the other'\n")
    sys.path.insert(0, os.path.abspath("elsewhere"))
    reload = importlib.reload if NEW else __builtins__["reload"]
    reload(six)
    return six.WHO, six.__file__, observe.module(six), hasattr(six, "moves")


def from_location():
    """A file is loaded by its path, beside the same module by its name."""
    import importlib.util

    import odd.counted

    file = odd.counted.__file__
    found = importlib.util.spec_from_file_location("under_another_name", file)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    package = importlib.util.spec_from_file_location("a_package", os.path.join(os.path.dirname(file), "__init__.py"))
    return observe.module(module), observe.spec(package), module.COUNT, "under_another_name" in sys.modules


def lazily():
    """importlib's own lazy loader, over what find_spec gives."""
    import importlib.util

    found = importlib.util.find_spec("odd.counted")
    loader = importlib.util.LazyLoader(found.loader)
    found.loader = loader
    module = importlib.util.module_from_spec(found)
    sys.modules["odd.counted"] = module
    loader.exec_module(module)
    before = type(module).__name__
    return before, module.COUNT, type(module).__name__, observe.module(module)


def spec_used_by_hand():
    """A program runs a found module itself."""
    import importlib.util

    found = importlib.util.find_spec("odd.counted")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return observe.module(module), repr(found), module.COUNT, "odd.counted" in sys.modules


def old_interface():
    """Loaders and finders by the names they had before specs."""
    warnings.simplefilter("ignore")
    finders = [one for one in sys.meta_path if hasattr(one, "find_module")]
    found = [observe.kind(one.find_module("six")) for one in finders if one.find_module("six")]
    loader = pkgutil.find_loader("odd.counted") if hasattr(pkgutil, "find_loader") else None
    return found, observe.kind(loader), loader and guarded(lambda: loader.load_module("odd.counted").COUNT)


def by_imp():
    """The module imp, where there still is one."""
    warnings.simplefilter("ignore")
    imp = __import__("imp")
    found = imp.find_module("six")
    found[0].close()
    return found[1:], observe.module(imp.load_source("another_six", found[1]))["__file__"]


def stars():
    """from package import *, with __all__ that names a submodule, and without."""
    space = {}
    exec("from odd.starred import *", space)
    package = {}
    exec("from odd import *", package)
    return sorted(set(space) - {"__builtins__"}), sorted(set(package) - {"__builtins__"}), "odd.in_all" in sys.modules


def circles():
    """Modules that import each other."""
    import odd.circle_a
    import odd.circle_b

    return odd.circle_a.B.WHO, odd.circle_b.A.WHO, guarded(__import__, "odd.circle_fails")


def below_a_module():
    """A submodule of what is no package."""
    return guarded(__import__, "odd.plainfile.sub"), guarded(__import__, "six.moves.urllib"), guarded(__import__, "six.absent")


def like_the_standard_library():
    """Modules that are called as the standard library's: its own win, but within a package."""
    import odd.json

    return loaded("colorsys"), guarded(loaded, "asynchat"), loaded("odd.json"), odd.json.THEIRS, odd.json.OURS


def extension_beside():
    """An extension module beside a package of its name, and beside a module of its name."""
    return guarded(loaded, "both"), guarded(loaded, "either"), guarded(lambda: __import__("either").WHO)


def without_source():
    """A module of which only the bytecode is there."""
    found = guarded(loaded, "sourceless")
    import inspect

    return found, guarded(lambda: inspect.getsource(sys.modules["sourceless"])), guarded(lambda: sys.modules["sourceless"].answer())


def other_coding():
    """A source in Latin-1 that says so, one that does not, and one with a byte order mark."""
    import odd.latin
    import odd.marked

    source = None if not NEW else odd.latin.__loader__.get_source("odd.latin")
    return plain(odd.latin.TEXT), guarded(__import__, "odd.wrong_coding"), odd.marked.TEXT, source


def by_pth():
    """What lines of .pth files imported and added is there."""
    return "hooked_pth" in sys.modules, guarded(loaded, "conjured"), guarded(loaded, "in_added_directory")


def by_distutils_precedence():
    """setuptools hooks into the import of distutils, by a .pth file, too."""
    warnings.simplefilter("ignore")
    return [observe.kind(one) for one in sys.meta_path], guarded(lambda: loaded("distutils")["__file__"])


def by_namespace_pth():
    """zope's distributions made their namespace with a .pth file, and do without now."""
    return "zope" in sys.modules, loaded("zope"), loaded("zope.interface")["__file__"], loaded("zope.event")["__file__"]


def in_threads():
    """Threads that import the same at once. Not what imports each other: then one of them fails, now and then."""
    names = ("odd.slow", "odd.circle_a", "six", "odd.nested.deep", "space.one", "markupsafe") * 3
    ready = threading.Event()
    found = []

    def work(name):
        ready.wait()
        found.append([name, guarded(lambda: loaded(name)["__file__"])])

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for one in threads:
        one.start()
    ready.set()
    for one in threads:
        one.join()
    return sorted(found, key=repr), sys.modules["odd.slow"].EXECUTED


def while_importing():
    """A module starts a thread that imports, and waits for it."""
    return loaded("odd.threaded"), sys.modules["odd.threaded"].FOUND


def no_bytecode_written():
    """A program that wants none to be written."""
    sys.dont_write_bytecode = True
    import odd.unwritten

    cached = getattr(odd.unwritten, "__cached__", None) or odd.unwritten.__file__.replace(".py", ".pyc")
    return os.path.exists(cached), observe.module(odd.unwritten)


def bytecode_written():
    """It is there after the first import."""
    import odd.written

    cached = getattr(odd.written, "__cached__", None) or odd.written.__file__.replace(".pyc", ".py").replace(".py", ".pyc")
    return os.path.isfile(cached), os.path.dirname(cached)


def warnings_as_errors():
    """As with -W error, set by the program."""
    warnings.simplefilter("error")
    return guarded(__import__, "odd.warns"), guarded(__import__, "odd.old_escape"), guarded(loaded, "six")


def import_warnings():
    """All warnings are shown while modules are imported."""
    said = []
    warnings.simplefilter("always")
    warnings.showwarning = lambda *arguments: said.append([str(arguments[0]), arguments[1].__name__, arguments[2]])
    for name in ("six", "odd.warns", "odd.old_escape", "space.one", "zope.interface", "markupsafe"):
        guarded(__import__, name)
    return said


def run_as_module():
    """runpy, as python -m has it."""
    import runpy

    found = runpy.run_module("odd.runs", run_name="__main__", alter_sys=True)
    return plain(found["FOUND"]), guarded(runpy.run_module, "odd"), guarded(runpy.run_module, "absent"), runpy.run_module("odd.runs")["FOUND"]


def run_package():
    """runpy with a package that has a __main__."""
    import runpy

    return plain(runpy.run_module("odd.nested", run_name="__main__")["FOUND"]), guarded(runpy.run_module, "space")


def run_by_path():
    """runpy with a directory, a zip file, and a file."""
    import runpy
    import zipfile

    write("program/__main__.py", "import sys\nFOUND = [__name__, __file__, sys.path[0], sys.argv[0]]\n")
    with zipfile.ZipFile("program.zip", "w") as archive:
        archive.write("program/__main__.py", "__main__.py")
    return [runpy.run_path(path, run_name="__main__")["FOUND"] for path in ("program", "program.zip", "program/__main__.py")]


def from_zip():
    """A zip file on sys.path."""
    import zipfile

    with zipfile.ZipFile("modules.zip", "w") as archive:
        archive.writestr("zipped.py", "WHO = 'zipped'\n\n\ndef fail():\n    raise ValueError('zipped')\n")
        archive.writestr("six.py", "WHO = 'zipped'\n")
    sys.path.insert(0, os.path.abspath("modules.zip"))
    return loaded("zipped"), loaded("six"), pkgutil.get_data("zipped", "six.py")


def relative():
    """Imports relative to where a module is."""
    import odd.nested.relative

    space = {"__package__": "odd.nested", "__name__": "odd.nested.other"}
    exec("from . import deep\nfrom .. import starred", space)
    lost = {"__name__": "other"}
    return odd.nested.relative.FOUND, plain(space["deep"]), guarded(lambda: exec_in("from . import deep", lost))


def exec_in(text, names):
    exec(compile(text, "<text>", "exec"), names)


def import_replaced():
    """__import__ is another function, as some libraries have it."""
    builtins = sys.modules["builtins" if NEW else "__builtin__"]
    original = builtins.__import__
    asked = []

    def importing(name, *arguments, **more):
        asked.append(name)
        return original(name, *arguments, **more)

    builtins.__import__ = importing
    import odd.nested.relative  # noqa: F401
    import six  # noqa: F401

    return asked


def asks_loader():
    """A package reads its data through __loader__, and asks who it is."""
    import odd.asks

    return odd.asks.FOUND


def lazy_attribute():
    """A package imports submodules when their names are asked for."""
    import odd.lazy

    return plain(odd.lazy.later), guarded(lambda: odd.lazy.never), dir(odd.lazy), "odd.lazy.later" in sys.modules


def conditional():
    """The usual try and except around an optional module."""
    import odd.optional

    return odd.optional.FOUND


def same_name_in_cwd():
    """A module of the same name in the working directory is not taken."""
    return os.path.exists("six.py"), loaded("six")["__file__"], guarded(loaded, "in_cwd")


def chdir():
    """The working directory changes before something is imported."""
    os.chdir("/")
    return loaded("six")["__file__"], loaded("odd.nested.deep")["__file__"], loaded("zope.interface")["__file__"]


def parent_fails():
    """A package whose __init__ fails leaves nothing behind, and fails again."""
    found = [guarded(__import__, "odd.broken.sub"), guarded(__import__, "odd.broken")]
    return found, sorted(name for name in sys.modules if name.startswith("odd."))


def child_fails():
    """A submodule that fails leaves its package."""
    found = [guarded(__import__, "odd.nested.fails"), guarded(__import__, "odd.nested.fails")]
    return found, sorted(name for name in sys.modules if name.startswith("odd.")), hasattr(sys.modules["odd.nested"], "fails")


def collected():
    """Cycles that go through modules are collected."""
    import gc
    import weakref

    class Cycle(object):
        pass

    one = Cycle()
    one.itself = one
    seen = weakref.ref(one)
    del one
    found = gc.collect() > 0, seen() is None
    counts = gc.get_count()
    kept = [[] for _ in range(100000)]
    return found, gc.isenabled(), gc.get_threshold(), len(counts), len(kept), gc.get_stats()[0]["collections"] > 0 if NEW else None


def exit_order():
    """Handlers at exit, and modules that are taken apart, in their order."""
    import atexit
    import subprocess

    text = "import atexit, sys\nsys.path.insert(0, {!r})\nimport odd.at_exit\natexit.register(print, 'first')\n"
    del atexit
    return plain(subprocess.check_output([sys.executable, "-c", text.format(os.getcwd())])) if NEW else None


def audited():
    """Audit hooks hear of imports."""
    heard = []
    sys.addaudithook(lambda event, arguments: heard.append(plain(arguments[0])) if event == "import" else None)
    import odd.nested.deep
    import six  # noqa: F401

    return [one for one in heard if one.split(".")[0] in ("odd", "six")], odd.nested.deep.__file__


def traced_lines():
    """A trace function sees the files in which code is."""
    seen = []

    def trace(frame, event, argument):
        seen.append([frame.f_code.co_filename, frame.f_code.co_name])
        return None

    sys.settrace(trace)
    try:
        import odd.nested.deep  # noqa: F401
    finally:
        sys.settrace(None)
    return [one for one in seen if "importlib" not in one[0]]


def subclassed():
    """Somebody has a finder of his own made of PathFinder."""
    from importlib.machinery import PathFinder

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            found = super(Finder, cls).find_spec(name, path, target)
            if found is not None and found.origin:
                SEEN.append([name, found.origin, observe.kind(found.loader)])
            return found

    SEEN = []  # noqa: N806
    sys.meta_path.insert(0, Finder)
    return loaded("six"), loaded("odd.nested.deep"), SEEN


def asked_directly():
    """Finders are asked one by one, as tools do that look for modules without importing them."""
    from importlib.machinery import PathFinder

    import odd

    found = [observe.spec(PathFinder.find_spec("six")), observe.spec(PathFinder.find_spec("odd.nested", odd.__path__))]
    found.append(observe.spec(PathFinder.find_spec("absent")))
    answers = [[observe.kind(one), one.find_spec("six", None) is not None] for one in sys.meta_path if hasattr(one, "find_spec")]
    finder = pkgutil.get_importer(os.path.dirname(os.path.dirname(odd.__file__)))
    return found, answers, observe.kind(finder), finder.path, observe.spec(finder.find_spec("six"))


CASES = [value for name, value in sorted(globals().items()) if getattr(value, "__doc__", None) and type(value) is type(write)]
CASES = [one for one in CASES if one.__module__ == __name__ and one not in (write,)]
ONLY_NEW = (
    "finder_that_replaces", "last_finder", "path_finder_patched", "file_loader_patched", "source_to_code_patched", "path_hook_first",
    "meta_path_replaced", "namespace_grows", "namespace_before", "from_location", "lazily", "spec_used_by_hand",
    "path_hooks_emptied", "meta_path_emptied", "subclassed", "asked_directly", "lazy_attribute", "exit_order",
)  # fmt: skip
"""Of Pythons whose imports are importlib's."""
LEAST = {"lazily": (3, 7), "lazy_attribute": (3, 7), "audited": (3, 8)}


def applies(case):
    return (NEW or case.__name__ not in ONLY_NEW) and sys.version_info[:2] >= LEAST.get(case.__name__, (2, 7))
