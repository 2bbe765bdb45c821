"""Part of a packed program: has ready what an earlier run has compiled while it imported its modules.

Regular expressions, and the source that ``dataclasses``, ``namedtuple`` and ``typing`` make up, are the same in each
run, and can take a tenth of a program's start. When an import ends, what it has compiled of them is
written down beside bytecode. Later runs put the patterns into the cache that ``re`` looks into first, and give those
modules an ``exec``, ``eval`` and ``compile`` that know the code. What a program compiles later, which may be what its
user looks for, is not written down; what is compiled with a warning, or depends on the locale, is compiled each time.
All of it holds for the interpreter that has compiled it and its own ``re`` alone. Valid from Python 3.7 on.
"""

# mypy: allow-untyped-calls, allow-untyped-defs, allow-any-generics

import builtins
import marshal
import posix
import sys

_imp = sys.modules["_imp"]
# as such frames are, these are left out of tracebacks of imports
_imp._fix_co_filename(sys._getframe().f_code, "<frozen importlib._bootstrap_external>")

MOST = 400
"""Patterns that are kept, which is less than the cache of ``re`` holds, and sources."""

FEWEST = 5
"""New ones for which the file is written again."""

_BUILTINS = {
    "collections": ("eval", "exec"),
    "dataclasses": ("exec",),
    "typing": ("compile",),
}
"""What the modules that make up source compile it with."""

_FLAGS = 2 | 8 | 16 | 32 | 64 | 256  # IGNORECASE, MULTILINE, DOTALL, UNICODE, VERBOSE, ASCII
_KEY = 0x666174706172


class Compiled:
    """What an earlier run has compiled, and what this one does.

    :ivar patterns: type, pattern and flags -> all flags, code, number of groups, their names by number and numbers by
        name; the type by its name.
    :ivar sources: file name, mode and source -> code, marshalled.

    Code is empty for what has to be compiled each time.
    """

    def __init__(self, boot, read, inside, learns):
        """Read the file.

        :param boot: path of the tool's boot file.
        :param read: reads a file.
        :param inside: an import has begun.
        :param learns: what is missing shall be written down.
        """
        self._read = read
        self._path = _place(boot)
        self.patterns, self.sources = self._kept()
        self._inside = inside
        self._learns = learns and posix.access(self._path.rpartition("/")[0], posix.W_OK)
        self._before = set()  # type: set
        self._size = 0
        self._missed = {}  # type: dict

    def give(self, name):
        """Let a module have it that was executed."""
        module = sys.modules[name]
        if name == "re" and type(getattr(module, "_cache", None)) is dict:
            self._fill(module._cache)
        for builtin in _BUILTINS.get(name, ()):
            vars(module)[builtin] = self._compile if builtin == "compile" else self._running(builtin)

    def tell(self, begins):
        """Hear that an import begins that is within no other, or ends."""
        self._inside = begins
        cache = getattr(sys.modules.get("re"), "_cache", ())
        patterns = [key for key in list(cache) if key not in self._before] if len(cache) != self._size else []
        if begins:
            self._size = len(cache)
            self._before.update(patterns)
        elif self._learns and len(patterns) + len(self._missed) >= FEWEST and not sys.dont_write_bytecode:
            self._size = len(cache)
            self._before.update(patterns)
            sources, self._missed = list(self._missed), {}
            try:
                self._learn(patterns, sources)
            except Exception:  # a full disk, a store of somebody else: it is done without
                self._learns = False

    def _fill(self, cache):
        make = sys.modules["_sre"].compile
        if not self._inside:
            self._before.update(cache)
        for (kind, pattern, flags), (all_flags, code, *names) in self.patterns.items():
            key = getattr(builtins, kind), pattern, flags
            self._before.add(key)
            if code:
                cache[key] = make(pattern, all_flags, memoryview(code).cast("I").tolist(), *names)

    def _running(self, name):
        run = getattr(builtins, name)

        def call(source, *spaces):
            if not spaces:
                frame = sys._getframe(1)
                return run(source, frame.f_globals, frame.f_locals)
            code = self._known("<string>", name, source)
            return run(source if code is None else code, *spaces)

        return call

    def _compile(self, source, file, mode, *options):
        code = None if options else self._known(file, mode, source)
        return builtins.compile(source, file, mode, *options) if code is None else code

    def _known(self, *key):
        """Give the code of a source, or ``None``."""
        if type(key[-1]) is not str:
            return None
        code = self.sources.get(key)
        if code is None and self._inside and len(self._missed) < MOST:
            self._missed[key] = None
        return marshal.loads(code) if code else None

    def _kept(self):
        try:
            data = self._read(self._path)
        except OSError:
            return {}, {}
        # what a crash of the machine has left of it
        return marshal.loads(data[8:]) if data[:8] == _imp.source_hash(_KEY, data[8:]) else ({}, {})

    def _learn(self, patterns, sources):
        kept = kept_patterns, kept_sources = self._kept()  # by another process, meanwhile
        ours = {"_contextvars", "_py_warnings", "warnings"} - set(sys.modules)
        with __import__("warnings").catch_warnings(record=True) as told:
            __import__("warnings").simplefilter("always")
            patterns, sources = patterns[: MOST - len(kept_patterns)], sources[: MOST - len(kept_sources)]
            kept_patterns.update(_patterns(patterns, told) if patterns else ())
            kept_sources.update(_sources(sources, told))
        for name in ours:  # as it is without us
            sys.modules.pop(name, None)
        if patterns or sources:
            self._write(marshal.dumps(kept))

    def _write(self, content):
        new = self._path + ".new"
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
        data = _imp.source_hash(_KEY, content) + content
        file = posix.open(new, flags, 0o644)
        try:
            written = posix.write(file, data)
        except OSError:
            written = 0
        posix.close(file)
        if written == len(data):
            posix.replace(new, self._path)
        else:
            posix.unlink(new)


def _place(boot):
    """Name the file by all that decides what something is compiled to."""
    library = str(sys.modules["os"].__file__).rpartition("/")[0]
    after = sys.version_info >= (3, 11)
    compilers = ("_compiler", "_parser", "_constants", "_casefix") if after else ("compile", "parse", "constants")
    parts = [sys.version]
    for path in [library + ("/re/" if after else "/sre_") + name + ".py" for name in compilers]:
        try:
            found = posix.stat(path)
            parts += [path, str(found.st_mtime_ns), str(found.st_size)]
        except OSError:
            parts.append(path)
    digest = _imp.source_hash(_KEY, "\0".join(parts).encode("utf-8", "surrogateescape"))
    directory, _, file = boot.rpartition("/")
    tag = sys.implementation.cache_tag
    return "{}/__pycache__/{}.{}-{}.compiled".format(directory, file[:-3], tag, int.from_bytes(digest, "big"))


def _sources(keys, told):
    """Compile sources.

    :param told: where warnings go.
    :return: pairs as they are in :attr:`Compiled.sources`.
    """
    for file, mode, source in keys:
        text = source.lstrip(" \t") if mode == "eval" else source  # as eval does
        code = marshal.dumps(builtins.compile(text, file, mode, 0, True))
        yield (file, mode, source), b"" if told else code
        del told[:]


def _patterns(keys, told):
    """Compile patterns with a copy of the compiler of ``re``, for what it would give the engine.

    :param told: where warnings go.
    :return: pairs as they are in :attr:`Compiled.patterns`.
    """
    compiler = getattr(sys.modules["re"], "_compiler", None) or sys.modules["sre_compile"]
    copy = type(sys)(compiler.__name__)
    copy.__package__ = compiler.__package__
    exec(vars(compiler)["__spec__"].loader.get_code(compiler.__name__), vars(copy))
    vars(copy)["_sre"] = type(sys.implementation)(**dict(vars(compiler._sre), compile=lambda *given: given))
    for kind, pattern, flags in keys:
        if kind in (str, bytes) and type(pattern) is kind:
            _, all_flags, code, *names = copy.compile(pattern, flags)
            usable = not told and not (flags | all_flags) & ~_FLAGS
            words = b"".join(int(word).to_bytes(4, sys.byteorder) for word in code if usable)
            yield (kind.__name__, pattern, int(flags)), (int(all_flags), words, *names)
            del told[:]
