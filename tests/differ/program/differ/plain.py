"""Turns whatever is found into what JSON can hold, the same in every process that finds the same."""

import re
import types

TEXT = (type(""), type(b"".decode("ascii")))
INTEGERS = (bool, int, type(2**64))
ADDRESS = re.compile(r"0x[0-9a-f]{4,}")


def plain(value, depth=4):
    """A value without addresses; what is no data is told by its type and name."""
    if value is None or isinstance(value, INTEGERS):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, TEXT):
        return value if isinstance(value, TEXT[1]) else value.decode("utf-8", "replace")
    if isinstance(value, bytes):
        return repr(value)
    if isinstance(value, types.ModuleType):
        return "module " + value.__name__
    if isinstance(value, type):
        return "type {}.{}".format(value.__module__, value.__name__)
    if depth and isinstance(value, dict):
        return dict((str(key), plain(value[key], depth - 1)) for key in value)
    if depth and isinstance(value, (set, frozenset)):
        return sorted((plain(one, depth - 1) for one in value), key=repr)
    if depth and isinstance(value, (list, tuple)):
        return [plain(one, depth - 1) for one in value]
    return thing(value)


def thing(value):
    """An object by its type, and its name or what it says of itself."""
    kind = type(value)
    name = getattr(value, "__qualname__", getattr(value, "__name__", None))
    module = getattr(value, "__module__", None)
    if isinstance(name, str) and not isinstance(value, type):
        return "{} {}.{}".format(kind.__name__, module, name)
    return "{}.{} {}".format(kind.__module__, kind.__name__, ADDRESS.sub("0x", repr(value)))


def guarded(function, *arguments):
    """What a function gives, or the error it ends with."""
    try:
        return plain(function(*arguments))
    except BaseException as error:
        return {"raised": "{}: {}".format(type(error).__name__, ADDRESS.sub("0x", str(error)))}
