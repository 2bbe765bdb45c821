"""Part of a packed program: finds its modules in a table, and reads bytecode without asking twice.

The boot file runs this before it imports anything. Directories of the view, to which nobody writes, get a finder that
knows what is in them; those of the interpreter, which may change, one that asks for the same as the standard
library's, in fewer steps. What these do not know they leave to the standard library's, of which they are made. So the
order of ``sys.path``, what programs do to it, and loaders and specs of what is loaded are what they are in a virtual
environment. Valid from Python 3.5 on; ``packer/modules.py`` makes the table.
"""

# mypy: allow-untyped-calls, allow-untyped-defs, allow-any-generics

import gc
import marshal
import posix
import sys

_system = sys.modules["_frozen_importlib_external"]
_imp = sys.modules["_imp"]
# as such frames are, these are left out of tracebacks and not counted by warnings
_imp._fix_co_filename(sys._getframe().f_code, "<frozen importlib._bootstrap_external>")

_KINDS = [
    (_system.ExtensionFileLoader, _imp.extension_suffixes()),
    (_system.SourceFileLoader, _system.SOURCE_SUFFIXES),
    (_system.SourcelessFileLoader, _system.BYTECODE_SUFFIXES),
]
_SUFFIXES = [suffix for _, suffixes in _KINDS for suffix in suffixes]
_KEPT = "{}/__pycache__/{}." + sys.implementation.cache_tag + ".pyc"
_HEAD = _system.MAGIC_NUMBER + bytes(4 if sys.version_info >= (3, 7) else 0)
"""Of bytecode that goes by its source's time and size: PEP 552."""

RELAXED = 30011
"""Objects made before the next collection of garbage, while modules are executed; a number that nobody else uses.

More would be 1 % faster with httpie, and have 2 % more memory than a venv's instead of 1 %.
"""


def _loading():
    source = _system.SourceFileLoader
    methods = source.exec_module, source.get_code, source.get_data, source.path_stats, source.source_to_code
    return (*methods, _system.FileFinder.find_spec)


_LOADING = _loading()

_OVERRIDDEN = {"get_data", "path_stats", "source_to_code"}
"""Methods that a program may have put on a loader, which then have a part in what its code is."""

_raised = []  # type: list[tuple[int, ...]]
"""The thresholds that have been raised, by the imports that did it."""

COMPILING = ("collections", "dataclasses", "re", "typing")
"""Modules that compile while others are imported."""

_boots = []  # type: list[str]
"""The path of the boot file, where what they compile is kept."""

_compiled = []  # type: list
"""What they are given, once there is one of them."""


def _read(path):
    file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(file, posix.fstat(file).st_size)
    finally:
        posix.close(file)


def _is_left(fullname):
    """Tell whether a module is left to the standard library's finder."""
    return (
        getattr(sys, "pycache_prefix", None) is not None  # bytecode is wanted elsewhere
        or _loading() != _LOADING  # whoever replaces what finds or loads sources wants to be asked
        or fullname in sys.modules  # nothing is imported: somebody looks
    )


class _Finder(_system.FileFinder):  # type: ignore[misc, name-defined]
    """Finds what is in one directory: of the view, or of the interpreter, where files come and go."""

    def __init__(self, path, names=None, time=None):
        super().__init__(path, *_KINDS)
        self._known = names and {name.partition(".")[0].rstrip("/"): name for name in names}
        self._time = time

    def find_spec(self, fullname, target=None):
        if _is_left(fullname):
            return super().find_spec(fullname, target)
        name = fullname.rpartition(".")[2]
        found = self._listed(name) if self._known is None else self._known.get(name)
        if found == "":
            return None
        spec = self._spec_of(fullname, name, found) if found else super().find_spec(fullname, target)
        return _hastened(spec, self._time)

    def _listed(self, name):
        """Give a module's source, ``""`` if there is none of that name, ``None`` if it may be anything else."""
        try:
            time = posix.stat(self.path).st_mtime
        except OSError:
            time = -1
        if time != self._path_mtime:  # type: ignore[has-type]
            self._fill_cache()
            self._path_mtime = time
        there = self._path_cache
        if name in there:  # it may be a package
            return None
        suffix = next((suffix for suffix in _SUFFIXES if name + suffix in there), "")
        if not suffix:
            return ""
        return name + ".py" if suffix == ".py" and _kind(self.path + "/" + name + ".py") == _FILE else None

    def _spec_of(self, fullname, name, found):
        if not found.endswith(("/", ".py")):
            path = self.path + "/" + found
            return _spec(fullname, path, loader=_system.ExtensionFileLoader(fullname, path))
        directory, places = self.path, None
        if found.endswith("/"):
            directory, name = directory + "/" + name, "__init__"
            places = [directory]
        path = directory + "/" + name + ".py"
        loader = _system.SourceFileLoader(fullname, path)
        spec = _spec(fullname, path, loader=loader, submodule_search_locations=places)
        spec.cached = _KEPT.format(directory, name)
        return spec


_DIRECTORY, _FILE = 0o040000, 0o100000


def _kind(path):
    try:
        return posix.stat(path).st_mode & 0o170000
    except OSError:
        return 0


_spec = _system.spec_from_file_location


def _hastened(spec, time):
    """Have what was found be loaded in fewer steps, the first time, if it is a module of the usual kinds.

    :param time: as for :func:`_first_code`.
    """
    kind = spec and type(spec.loader)
    if kind is _system.SourceFileLoader:
        spec.loader.get_code = _first_code(spec.loader, spec.cached, time)
        spec.loader.exec_module = _first_run(spec.loader, "exec_module")
    elif kind is _system.ExtensionFileLoader:
        spec.loader.create_module = _first_run(spec.loader, "create_module")  # where most of them do it
        spec.loader.exec_module = _first_run(spec.loader, "exec_module")
    return spec


def _first_code(loader, kept, time):
    """Make a loader's ``get_code`` for its first call; then it is as the class has it.

    :param kept: a file of bytecode.
    :param time: of all sources, as bytecode has it, where they never change: beside a layer. Else the source is asked.
    """

    def get_code(fullname):
        _take_away(loader, "get_code", get_code)
        code = None
        if type(loader) is _system.SourceFileLoader and _OVERRIDDEN.isdisjoint(vars(loader)):
            try:
                head = _HEAD + (time or _time_and_size(loader.path))
                data = _read(kept)
                # of a size that is not asked for four bytes follow
                code = marshal.loads(memoryview(data)[len(_HEAD) + 8 :]) if data.startswith(head) else None
            except (OSError, EOFError, TypeError, ValueError):
                pass
        if code is None:  # none is kept, or not what was expected: whatever is done then is done there
            return type(loader).get_code(loader, fullname)
        _imp._fix_co_filename(code, loader.path)
        return code

    return get_code


def _time_and_size(source):
    found = posix.stat(source)
    return b"".join((value & 0xFFFFFFFF).to_bytes(4, "little") for value in (int(found.st_mtime), found.st_size))


def _take_away(loader, name, method):
    if vars(loader).get(name) is method:  # it may have been wrapped
        delattr(loader, name)


def _in_child():
    for one in _compiled:
        one.forget()
    # the import that raised them may never end there
    if _raised and gc.get_threshold()[0] == RELAXED:
        gc.set_threshold(*_raised[-1])


def _first_run(loader, name):
    """Make the method by which a loader has a module's code run for its first call: hardly any garbage is collected.

    Nearly all that is made by an import stays, so it would be gone through in vain, many times. A module that sets
    thresholds, or disables the collector, has what it has set.
    """

    def run(module):
        _take_away(loader, name, run)
        method = getattr(type(loader), name)
        before = gc.get_threshold()
        # else an import within one, or another thread's: who began ends it; or the program wants none, or fewer
        if not 0 < before[0] < RELAXED:
            result = method(loader, module)
        else:
            relaxed = (RELAXED, *before[1:])
            _raised.append(before)
            gc.set_threshold(*relaxed)
            for one in _compiled:
                one.begin()
            done = False
            try:
                result = method(loader, module)
                done = True
            finally:
                _raised.pop()
                if gc.get_threshold() == relaxed:
                    _settle(before)
                for one in _compiled:
                    one.end(done)
        if _boots and loader.name in COMPILING:
            _give(loader.name, module)
        return result

    return run


def _settle(thresholds):
    """Collect garbage as ever, from now on.

    What is there has survived as if a collection had gone through it: nearly all does, and it would take long.
    """
    if gc.get_count()[0] > thresholds[0] and hasattr(gc, "freeze") and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
    gc.set_threshold(*thresholds)


def _pristine():
    hooks = [getattr(one, "__qualname__", "") for one in sys.path_hooks]
    files = {getattr(getattr(one, "__code__", None), "co_filename", "") for one in _LOADING}
    return (
        len(hooks) == 2
        and hooks[0] == "zipimporter"
        and hooks[1].startswith("FileFinder.path_hook")
        and files == {"<frozen importlib._bootstrap_external>"}
    )


def install(boot):
    """Let modules be found as said above, unless a ``.pth`` file or sitecustomize has changed imports.

    :param boot: path of the tool's boot file in the view, as it stands in ``sys.path``.
    """
    rest = list(sys.path_hooks)
    if not _pristine():
        return
    view = boot.rsplit("/", 2)[0]
    first, *lines = _read(view + "/boot/.modules").decode("utf-8", "surrogateescape").split("\n")
    directories = dict(line.split("\t", 1) for line in lines)
    time = int(first).to_bytes(4, "little")
    others = [path for path in map(_text, sys.path) if path[:1] == "/" and not path.startswith(view)]

    def hook(path):
        # a hook that a program has put anywhere wants to be asked
        if not isinstance(path, str) or [one for one in sys.path_hooks if one is not hook] != rest:
            raise ImportError
        names = directories.get(path[len(view) + 1 :]) if path.startswith(view + "/") else None
        if names is not None:
            return _Finder(path, names.split("\t"), time)
        if [one for one in others if path == one or path.startswith(one + "/")] and _kind(path) == _DIRECTORY:
            return _Finder(path)
        raise ImportError

    sys.path_hooks.insert(0, hook)
    for path in [path for path in sys.path if str(path).startswith(view)] + others:  # site has been there
        sys.path_importer_cache.pop(path, None)
    if hasattr(posix, "register_at_fork"):
        posix.register_at_fork(after_in_child=_in_child)
    if hasattr(_imp, "source_hash"):  # 3.7
        _boots.append(boot)
        for name in COMPILING:
            if name in sys.modules:
                _give(name, sys.modules[name])


def _text(path):
    return path if isinstance(path, str) else ""


def _give(name, module):
    """Let a module that compiles have what ``packer/hostcompiled.py`` knows."""
    if not _compiled:
        directory = _boots[0].rpartition("/")[0]
        is_first = not _kind(_KEPT.format(directory, ".compiled"))  # launch, which takes long enough
        space = {"__name__": "fatpar"}  # type: dict
        exec(_system.SourceFileLoader("fatpar", directory + "/.compiled.py").get_code("fatpar"), space)
        _compiled.append(space["Compiled"](_boots[0], _read, learns=not is_first))
        if _raised:
            _compiled[0].begin()
    _compiled[0].give(name, module)
