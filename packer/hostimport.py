"""Part of a packed program: finds its modules in a table instead of in directories.

The boot file runs this before it imports anything. Directories of the view, to which nobody writes, get a finder that
knows what is in them; what it does not know it leaves to the standard library's, of which it is made. So the order of
``sys.path``, what programs do to it, loaders and specs are what they are in a virtual environment. Valid from Python
3.5 on; ``packer/modules.py`` makes the table.
"""

# mypy: allow-untyped-calls, allow-untyped-defs

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
_KEPT = "{}/__pycache__/{}." + sys.implementation.cache_tag + ".pyc"

RELAXED = 100003
"""Objects made before the next collection of garbage, while modules are executed; a number that nobody else uses."""


def _loading():
    source = _system.SourceFileLoader
    return source.exec_module, source.get_code, source.get_data, source.path_stats, source.source_to_code


_LOADING = _loading()

_OVERRIDDEN = {"get_data", "path_stats", "source_to_code"}
"""Methods that a program may have put on a loader, which then have a part in what its code is."""

_raised = []  # type: list[tuple[int, ...]]
"""The thresholds that have been raised, by the imports that did it."""


def _read(path):
    file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(file, posix.fstat(file).st_size)
    finally:
        posix.close(file)


class _Finder(_system.FileFinder):  # type: ignore[misc, name-defined]
    """Finds what is in one directory."""

    def __init__(self, path, names, head):
        super().__init__(path, *_KINDS)
        self._known = {name.partition(".")[0].rstrip("/"): name for name in names}
        self._head = head

    def find_spec(self, fullname, target=None):
        name = fullname.rpartition(".")[2]
        found = self._known.get(name)
        if (
            found is None
            or getattr(sys, "pycache_prefix", None) is not None  # bytecode is wanted elsewhere
            or _loading() != _LOADING  # whoever replaces what loads sources wants to be asked
            or fullname in sys.modules  # nothing is imported: somebody looks
        ):
            return super().find_spec(fullname, target)
        directory, places = self.path, None
        if found.endswith("/"):
            directory, name = directory + "/" + name, "__init__"
            places = [directory]
        elif not found.endswith(".py"):
            path = directory + "/" + found
            return _spec(fullname, path, loader=_system.ExtensionFileLoader(fullname, path))
        path = directory + "/" + name + ".py"
        kept = _KEPT.format(directory, name)
        loader = _system.SourceFileLoader(fullname, path)
        loader.get_code = _first_code(loader, kept, self._head)
        loader.exec_module = _first_exec(loader)
        spec = _spec(fullname, path, loader=loader, submodule_search_locations=places)
        spec.cached = kept
        return spec


_spec = _system.spec_from_file_location


def _first_code(loader, kept, head):
    """Make a loader's ``get_code`` for its first call; then it is as the class has it.

    :param kept: a file of bytecode. Beside a layer, whose sources never change, it is not held against its source.
    :param head: what the file begins with, up to its source's size: magic number, no flags, the time of all sources.
    """

    def get_code(fullname):
        _take_away(loader, "get_code", get_code)
        code = None
        if type(loader) is _system.SourceFileLoader and _OVERRIDDEN.isdisjoint(vars(loader)):
            try:
                data = _read(kept)
                code = marshal.loads(memoryview(data)[len(head) + 4 :]) if data.startswith(head) else None
            except (OSError, EOFError, TypeError, ValueError):
                pass
        if code is None:  # none is kept, or not what was expected: whatever is done then is done there
            return type(loader).get_code(loader, fullname)
        _imp._fix_co_filename(code, loader.path)
        return code

    return get_code


def _take_away(loader, name, method):
    if vars(loader).get(name) is method:  # it may have been wrapped
        delattr(loader, name)


def _lower_in_child():
    # the import that raised them may never end there
    if _raised and gc.get_threshold()[0] == RELAXED:
        gc.set_threshold(*_raised[-1])


def _first_exec(loader):
    """Make a loader's ``exec_module`` for its first call: hardly any garbage is collected meanwhile.

    Nearly all that is made by an import stays, so it would be gone through in vain, many times. A module that sets
    thresholds, or disables the collector, has what it has set.
    """

    def exec_module(module):
        _take_away(loader, "exec_module", exec_module)
        before = gc.get_threshold()
        # else an import within one, or another thread's: who began ends it; or the program wants none, or fewer
        if not 0 < before[0] < RELAXED:
            type(loader).exec_module(loader, module)
            return
        relaxed = (RELAXED, *before[1:])
        _raised.append(before)
        gc.set_threshold(*relaxed)
        try:
            type(loader).exec_module(loader, module)
        finally:
            _raised.pop()
            if gc.get_threshold() == relaxed:
                gc.set_threshold(*before)

    return exec_module


def _pristine():
    hooks = [getattr(one, "__qualname__", "") for one in sys.path_hooks]
    files = {getattr(getattr(one, "__code__", None), "co_filename", "") for one in _LOADING}
    return (
        len(hooks) == 2
        and hooks[0] == "zipimporter"
        and hooks[1].startswith("FileFinder.path_hook")
        and files == {"<frozen importlib._bootstrap_external>"}
    )


def install(view):
    """Let the modules of a view be found by its table, unless a ``.pth`` file or sitecustomize has changed imports.

    :param view: its path as it stands in ``sys.path``.
    """
    rest = list(sys.path_hooks)
    if not _pristine():
        return
    first, *lines = _read(view + "/boot/.modules").decode("utf-8", "surrogateescape").split("\n")
    directories = dict(line.split("\t", 1) for line in lines)
    flags = bytes(4 if sys.version_info >= (3, 7) else 0)  # PEP 552
    head = _system.MAGIC_NUMBER + flags + int(first).to_bytes(4, "little")

    def hook(path):
        inside = isinstance(path, str) and path.startswith(view + "/")
        names = directories.get(path[len(view) + 1 :]) if inside else None
        # a hook that a program has put anywhere wants to be asked
        if names is None or [one for one in sys.path_hooks if one is not hook] != rest:
            raise ImportError
        return _Finder(path, names.split("\t"), head)

    sys.path_hooks.insert(0, hook)
    for path in sys.path:  # the search for sitecustomize has been there
        if str(path).startswith(view):
            sys.path_importer_cache.pop(path, None)
    if hasattr(posix, "register_at_fork"):
        posix.register_at_fork(after_in_child=_lower_in_child)
