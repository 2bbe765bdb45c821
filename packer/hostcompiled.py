"""Part of a packed program: has ready what an earlier run has compiled while it imported its modules.

Regular expressions, and the source that ``dataclasses``, ``namedtuple`` and ``typing`` make up, are mostly the same in
each run, and can take a tenth of a program's start. What imports have compiled of them is written down beside bytecode
when the program ends. Later runs put the patterns into the cache that ``re`` looks into first, and give those modules
an ``exec``, ``eval`` and ``compile`` that know the code. What a program compiles otherwise may be what its user looks
for, and is not written down: after its imports, while there are other threads, in a child, or in an import that fails.
What is compiled with a warning, or depends on the locale, is compiled each time. All of it holds for the interpreter
that has compiled it and its own ``re`` alone. Valid from Python 3.7 on.
"""

# mypy: allow-untyped-calls, allow-untyped-defs, allow-any-generics

import builtins
import marshal
import posix
import sys

_imp = sys.modules["_imp"]
# as such frames are, these are left out of tracebacks of imports
_imp._fix_co_filename(sys._getframe().f_code, "<frozen importlib._bootstrap_external>")

MOST = 256
"""Patterns that are kept, which is half of what the cache of ``re`` holds, and sources."""

LARGEST = 1 << 17
"""Bytes of code of each that are kept: a launch reads and makes all of it, whatever it uses."""

FEWEST = 5
"""New ones for which the file is written again."""

WRITES = 8
"""How often it is: what a program compiles can be new in each run, as what it makes of sets is."""

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

    def __init__(self, boot, read, learns):
        """Read the file.

        :param boot: path of the tool's boot file.
        :param read: reads a file.
        :param learns: what is missing shall be written down.
        """
        self._read = read
        self._path = _place(boot)
        self._writes, self.patterns, self.sources = self._kept()
        self._learns = learns and self._writes < WRITES and posix.access(self._path.rpartition("/")[0], posix.W_OK)
        self._re = {}  # type: dict
        self._known = set()  # type: set
        self._importing = {}  # type: dict
        self._counts = False
        self._missed_patterns, self._missed_sources = {}, {}  # type: tuple[dict, dict]

    def give(self, name, module):
        """Let a module have it that was executed."""
        if name == "re" and type(getattr(module, "_cache", None)) is dict:
            self._re = vars(module)
            self._fill(module._cache)
        for builtin in _BUILTINS.get(name, ()):
            if builtin not in vars(module):
                vars(module)[builtin] = self._compile if builtin == "compile" else self._running(builtin)

    def begin(self):
        """Hear that an import begins that is within no other."""
        self._counts = self._learns and not sys.modules["_thread"]._count()
        if self._counts:
            self._importing = {}
            self._known.update(self._patterns())

    def end(self, done):
        """Hear that it has ended.

        :param done: without an error.
        """
        if self._counts and done and not sys.modules["_thread"]._count():
            before = len(self._missed_patterns) + len(self._missed_sources)
            self._missed_patterns.update((key, None) for key in self._patterns() if key not in self._known)
            self._missed_sources.update(self._importing)
            if before < FEWEST <= len(self._missed_patterns) + len(self._missed_sources):
                __import__("atexit").register(self._write_down)
        self._counts = False

    def forget(self):
        """Learn nothing in a child, which may have been forked in an import."""
        self._counts = self._learns = False

    def _patterns(self):
        cache = self._re.get("_cache")
        return list(cache) if type(cache) is dict else []

    def _fill(self, cache):
        make = sys.modules["_sre"].compile
        if not self._counts:
            self._known.update(cache)
        for (kind, pattern, flags), compiled in self.patterns.items():
            key = getattr(builtins, kind), pattern, flags
            self._known.add(key)
            if compiled and compiled[1]:
                all_flags, code, *names = compiled
                cache[key] = make(pattern, all_flags, memoryview(code).cast("I").tolist(), *names)
        self.patterns = dict.fromkeys(self.patterns)  # they are made, for the first re there is

    def _running(self, name):
        run = getattr(builtins, name)

        def call(source, *spaces):
            if not spaces:
                frame = sys._getframe(1)
                return run(source, frame.f_globals, frame.f_locals)
            code = self._code("<string>", name, source)
            return run(source if code is None else code, *spaces)

        return call

    def _compile(self, source, file, mode, *options):
        code = None if options else self._code(file, mode, source)
        return builtins.compile(source, file, mode, *options) if code is None else code

    def _code(self, *key):
        """Give the code of a source, or ``None``."""
        if type(key[-1]) is not str:
            return None
        code = self.sources.get(key)
        if code is None and self._counts and len(self._importing) < MOST:
            self._importing[key] = None
        return marshal.loads(code) if code else None

    def _kept(self):
        try:
            data = self._read(self._path)
        except OSError:
            return 0, {}, {}
        # what a crash of the machine has left of it
        return marshal.loads(data[8:]) if data[:8] == _imp.source_hash(_KEY, data[8:]) else (0, {}, {})

    def _write_down(self):
        if self._learns and not sys.dont_write_bytecode and _is_pristine(self._re):
            try:
                self._learn()
            except Exception:  # a full disk, a store of somebody else: it is done without
                return

    def _learn(self):
        writes, patterns, sources = self._kept()  # by another process, meanwhile
        plain = [key for key in self._missed_patterns if key[0] in (str, bytes) and type(key[1]) is key[0]]
        missed_patterns = [key for key in plain if (key[0].__name__, *key[1:]) not in patterns]
        missed_sources = [key for key in self._missed_sources if key not in sources]
        if len(missed_patterns) + len(missed_sources) < FEWEST or writes >= WRITES:
            return
        warnings = __import__("warnings")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            _add(patterns, _compiled_patterns(missed_patterns, told), size=lambda compiled: len(compiled[1]))
            _add(sources, _compiled_sources(missed_sources, told), size=len)
        self._write(marshal.dumps((writes + 1, patterns, sources)))

    def _write(self, content):
        new = f"{self._path}.{posix.getpid()}"
        data = _imp.source_hash(_KEY, content) + content
        file = posix.open(new, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
        try:
            if posix.write(file, data) == len(data):
                posix.replace(new, self._path)
        finally:
            posix.close(file)
            if posix.access(new, posix.F_OK):
                posix.unlink(new)


def _add(kept, compiled, size):
    """Keep what there is room for."""
    room = LARGEST - sum(map(size, kept.values()))
    for key, one in compiled:
        if len(kept) < MOST and size(one) <= room:
            kept[key] = one
            room -= size(one)


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


def _compiler(re):
    return re.get("_compiler") or re["sre_compile"]


def _is_pristine(re):
    """Tell whether nobody has replaced what compiles patterns, as far as it is there."""
    if not re:
        return True
    compiler = _compiler(re)
    parser = getattr(compiler, "_parser", None) or compiler.sre_parse
    for module, function in ((compiler, "compile"), (parser, "parse")):
        code = getattr(getattr(module, function), "__code__", None)
        if getattr(code, "co_filename", "") != module.__file__:
            return False
    return True


def _compiled_sources(keys, told):
    """Compile sources.

    :param told: where warnings go.
    :return: pairs as they are in :attr:`Compiled.sources`.
    """
    for file, mode, source in keys:
        text = source.lstrip(" \t") if mode == "eval" else source  # as eval does
        code = marshal.dumps(builtins.compile(text, file, mode, 0, True))
        yield (file, mode, source), b"" if told else code
        del told[:]


def _compiled_patterns(keys, told):
    """Compile patterns with a copy of the compiler of ``re``, for what it would give the engine.

    :param told: where warnings go.
    :return: pairs as they are in :attr:`Compiled.patterns`.
    """
    compiler = _compiler(vars(sys.modules["re"]))
    copy = type(sys)(compiler.__name__)
    copy.__package__ = compiler.__package__
    exec(vars(compiler)["__spec__"].loader.get_code(compiler.__name__), vars(copy))
    vars(copy)["_sre"] = type(sys.implementation)(**dict(vars(compiler._sre), compile=lambda *given: given))
    for kind, pattern, flags in keys:
        _, all_flags, code, *names = copy.compile(pattern, flags)
        usable = not told and not (flags | all_flags) & ~_FLAGS
        words = b"".join(int(word).to_bytes(4, sys.byteorder) for word in code if usable)
        yield (kind.__name__, pattern, int(flags)), (int(all_flags), words, *names)
        del told[:]
