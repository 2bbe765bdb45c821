"""Which modules of the standard library a program imports for sure, read from its sources without running them."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from packer import facts, files
from packer.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packer.cache import Cache
    from packer.model import Entry, Layer, Target

_SITE = "lib/python/site-packages/"


def stdlib_imports(
    target: Target, layers: Sequence[Layer], entry_modules: Sequence[str], cache: Cache | None = None
) -> frozenset[str]:
    """Find standard-library modules, among those that are Python files, that a program surely imports as it starts.

    Followed are the imports that nothing guards, through the modules of the slice's own layers: not those in ``if``,
    nor in a ``try`` that survives an ImportError, nor in functions, but for functions that are surely called.

    :param entry_modules: as :func:`packer.needs.needs` takes them.
    :param cache: where the imports of each module are kept.
    :raises PackError: if one is not there.
    """
    walk = _Walk(target, layers, cache)
    for word in entry_modules:
        walk.begin(word)
    while walk.waiting:
        walk.follow(walk.waiting.pop())
    return frozenset(walk.found)


class _Module(NamedTuple):
    """A module to be followed."""

    path: str
    package: str
    """What its relative imports start from."""
    function: str = ""
    """One that is called besides."""
    main: bool = False
    """It is run as ``__main__``."""


class _Walk:
    """Goes from module to module, reading each once."""

    def __init__(self, target: Target, layers: Sequence[Layer], cache: Cache | None) -> None:
        self.target = target
        self.cache = cache
        self.stdlib = facts.stdlib(target.python.version)
        self.files = {entry.path: entry for layer in layers for entry in layer.entries}
        self.roots = [_SITE]
        self.found: set[str] = set()
        self.waiting: list[_Module] = []
        self.seen: set[_Module] = set()
        self.imported: set[str] = set()

    def begin(self, word: str) -> None:
        """Begin at an entry module.

        :raises PackError: if it is not there.
        """
        if "/" in word:
            if word not in self.files:
                raise PackError(f"no script {word} to begin with: no layer of {self.target.name} has it")
            if word.startswith("app/") and "app/" not in self.roots:
                self.roots.insert(0, "app/")  # its directory comes first on sys.path
            self.waiting.append(_Module(word, package="", main=True))
            return
        module, _, function = word.partition(":")
        if module.endswith(".__main__") and not self._exists(module):
            module = module.removesuffix(".__main__")
            if self._source(module).endswith("/__init__.py"):
                raise PackError(f"no module {word} to begin with: {module} is a package that cannot be run")
        if not self._exists(module):
            raise PackError(f"no module {module} to begin with: no wheel of {self.target.name} has it")
        self._import(module, function, main=word.endswith(".__main__"))

    def follow(self, module: _Module) -> None:
        """Add what a module imports to what is found or waiting."""
        if module in self.seen:
            return
        self.seen.add(module)
        entry = self.files[module.path]
        absolute, statements = _imports(entry, module.function, module.main, self.cache)
        beside = "" if absolute or self.target.python.version >= (3, 0) else module.package
        for statement in statements:
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    self._import(self._full_name(alias.name, beside))
            else:
                self._import_from(statement, module.package, beside)

    def _exists(self, module: str) -> bool:
        if module.partition(".")[0] in self.stdlib or self._source(module):
            return True
        place = _SITE + module.replace(".", "/")
        suffixes = facts.extension_suffixes(self.target.python, self.target.platform)
        return any(place + suffix in self.files for suffix in suffixes)

    def _source(self, module: str) -> str:
        """Find a module's source as the import system would, a package before a module; ``""`` if there is none."""
        for root in self.roots:
            place = root + module.replace(".", "/")
            for path in (f"{place}/__init__.py", f"{place}.py"):
                if path in self.files:
                    return path
        return ""

    def _import(self, module: str, function: str = "", main: bool = False) -> None:
        """Follow ``import module``: its parents, then itself; the standard library's names come before wheels'."""
        if module in self.imported and not function:
            return
        self.imported.add(module)
        names = module.split(".")
        if names[0] in self.stdlib and not self._source(names[0]).startswith("app/"):
            self.found.add(names[0])
            return
        for end in range(1, len(names) + 1):
            path = self._source(".".join(names[:end]))
            if path:
                package = ".".join(names[:end] if path.endswith("/__init__.py") else names[: end - 1])
                last = end == len(names)
                self.waiting.append(_Module(path, package, function if last else "", main and last))

    def _full_name(self, name: str, beside: str) -> str:
        """Say which module a name means.

        :param beside: the package in which Python 2 looks first, or ``""``.
        """
        first = name.partition(".")[0]
        return f"{beside}.{name}" if beside and self._source(f"{beside}.{first}") else name

    def _import_from(self, statement: ast.ImportFrom, package: str, beside: str) -> None:
        if statement.level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - statement.level + 1], *filter(None, [statement.module])])
        else:
            base = self._full_name(statement.module or "", beside)
        self._import(base)
        for alias in statement.names:
            if self._source(f"{base}.{alias.name}"):
                self._import(f"{base}.{alias.name}")


_Imports = tuple[bool, tuple[ast.Import | ast.ImportFrom, ...]]
"""Whether ``from __future__ import absolute_import`` is among a module's imports, and they."""

_Key = tuple[bytes, str, bool]
"""Digest of a module, a function that is called besides, whether it is run as ``__main__``."""

_known: dict[_Key, _Imports] = {}


def _imports(entry: Entry, function: str, main: bool, kept: Cache | None) -> _Imports:
    """Give the imports that a module surely executes; a wheel's module is read once, however many slices have it."""
    key = (entry.sha256, function, main)
    if key not in _known:
        content = files.content(entry)
        _known[key] = _told(_kept(content, key, kept) if kept else _executed(_parse(content), function, main))
    return _known[key]


def _kept(content: bytes, key: _Key, kept: Cache) -> Iterable[ast.stmt]:
    """Read a module, or what was found in it in an earlier run: parsing takes longer than all else in packing again."""
    digest, function, main = key
    name = hashlib.sha256(f"{_rules()} {digest.hex()} {main} {function}".encode()).digest()
    text = kept.get(name)
    if text is None:
        text = "\n".join(map(ast.unparse, _told(_executed(_parse(content), function, main))[1])).encode()
        kept.put(name, text)
    return ast.parse(text).body


@cache
def _rules() -> str:
    """Name what decides which imports are found: this file, and the Python that parses."""
    return hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()


def _told(statements: Iterable[ast.stmt]) -> _Imports:
    found = tuple(node for node in statements if isinstance(node, (ast.Import, ast.ImportFrom)))
    return any(_is_absolute_import(node) for node in found), found


def _parse(data: bytes) -> ast.Module:
    """Parse a module with the running Python; of what is not valid there, Python 2's, read imports at column 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SyntaxWarning: the program's, not ours
        try:
            return ast.parse(data)
        except (SyntaxError, ValueError):
            return ast.Module(list(_imports_at_column_0(data.decode("utf-8", "replace"))), [])


_STRING_OR_COMMENT = re.compile(
    r"""#[^\n]*|\"""(?:\\.|[^\\])*?\"""|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL
)
_IMPORT_LINE = re.compile(r"^(?:import|from)[ \t][^\n(;]*(?:\([^)]*\))?", re.MULTILINE)


def _imports_at_column_0(text: str) -> Iterator[ast.stmt]:
    text = text.replace("\r\n", "\n")
    code = _STRING_OR_COMMENT.sub(lambda found: "" if found[0].startswith("#") else "''", text).replace("\\\n", " ")
    for line in _IMPORT_LINE.findall(code):
        try:
            yield from ast.parse(line).body
        except SyntaxError:
            continue


def _is_absolute_import(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "absolute_import" for alias in node.names)
    )


def _executed(tree: ast.Module, function: str, main: bool) -> Iterator[ast.stmt]:
    """Give the statements that importing a module surely executes, and those of functions it surely calls.

    :param function: one that is called besides, or ``""``.
    :param main: the module is run as ``__main__``.
    """
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    waiting = [list(_unguarded(tree.body, main))]
    if function in functions:
        waiting.append(_body(functions.pop(function)))
    while waiting:
        for statement in waiting.pop():
            yield statement
            for name in _calls(statement):
                called = functions.get(name)
                if called and not called.decorator_list:
                    waiting.append(_body(functions.pop(name)))


def _body(function: ast.FunctionDef) -> list[ast.stmt]:
    """Give what a call surely executes: nothing after a statement that may return."""
    sure = []
    for statement in _unguarded(function.body, main=False):
        sure.append(statement)
        if any(isinstance(node, ast.Return) for node in ast.walk(statement)):
            break
    return sure


def _unguarded(body: Iterable[ast.stmt], main: bool) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.Try) and not any(_survives_import_error(one) for one in statement.handlers):
            yield from _unguarded(statement.body, main)
            yield from _unguarded(statement.finalbody, main)
        elif main and isinstance(statement, ast.If) and _is_main_guard(statement.test):
            yield from _unguarded(statement.body, main)
        else:
            yield statement


def _survives_import_error(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in caught}
    return handler.type is None or not names.isdisjoint(
        {"", "ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    )


def _is_main_guard(test: ast.expr) -> bool:
    return ast.unparse(test) in ("__name__ == '__main__'", "'__main__' == __name__")


def _calls(statement: ast.stmt) -> Iterator[str]:
    """Give names of functions that a simple statement surely calls."""
    unsure = (ast.stmt, ast.Lambda, ast.IfExp, ast.BoolOp, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    if not isinstance(statement, (ast.Expr, ast.Assign, ast.AnnAssign, ast.Return)):
        return
    waiting: list[ast.AST] = list(ast.iter_child_nodes(statement))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        if not isinstance(node, unsure):
            waiting.extend(ast.iter_child_nodes(node))
