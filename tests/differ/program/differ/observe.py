"""What a process can see of itself: the interpreter, its modules, the operating system. Valid from Python 2.7 on."""

import atexit
import gc
import locale
import os
import resource
import signal
import sys
import threading
import traceback
import warnings

from differ.plain import guarded, plain, thing

CALLED = (
    "_is_gil_enabled", "get_asyncgen_hooks", "get_coroutine_origin_tracking_depth", "get_int_max_str_digits",
    "getcheckinterval", "getdefaultencoding", "getdlopenflags", "getfilesystemencodeerrors", "getfilesystemencoding",
    "getprofile", "getrecursionlimit", "getswitchinterval", "gettrace", "is_finalizing", "is_stack_trampoline_active",
    "get_lazy_imports", "get_lazy_imports_filter", "is_remote_debug_enabled", "exc_info",
)  # fmt: skip
"""Functions of sys that tell a setting."""

ELSEWHERE = ("modules", "path_importer_cache", "flags")
"""Attributes of sys that are looked at by themselves."""

VOLATILE = ("_git", "last_traceback", "exc_traceback", "exc_value", "exc_type", "lazy_modules")

SPEC = ("name", "origin", "cached", "has_location", "parent", "submodule_search_locations", "loader_state", "_initializing")


def process():
    """All of it."""
    return {
        "sys": system(),
        "flags": flags(),
        "modules": dict((name, module(sys.modules[name])) for name in sorted(sys.modules) if sys.modules[name]),
        "path_importer_cache": dict((str(path), kind(one)) for path, one in sys.path_importer_cache.items()),
        "builtins": builtin_names(),
        "site": site_settings(),
        "sysconfig": configuration(),
        "interpreter": interpreter(),
        "os": operating_system(),
        "stack": stack(),
    }


def system():
    found = dict((name, plain(getattr(sys, name))) for name in dir(sys) if name not in ELSEWHERE + VOLATILE)
    for name in CALLED:
        if hasattr(sys, name):
            found[name + "()"] = guarded(getattr(sys, name))
    for name in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
        found[name] = stream(getattr(sys, name))
    for name in ("meta_path", "path_hooks"):
        found[name] = [kind(one) for one in getattr(sys, name)]
    found["modules_of_the_program"] = [
        name for name in sys.modules if name.partition(".")[0] in ("differ", "odd", "six", "zope", "hooked", "space")
    ]
    return found


def stream(one):
    names = ("name", "mode", "encoding", "errors", "line_buffering", "write_through", "newlines")
    found = dict((name, guarded(getattr, one, name, None)) for name in names + ("closed",)) if one else plain(one)
    if isinstance(found, dict) and isinstance(found["name"], int) and found["name"] > 2:
        found["name"] = "a descriptor"  # whose number is given by chance
    return found


def kind(one):
    """The type of a finder or hook, or its own name where it is one itself."""
    if isinstance(one, type) or hasattr(one, "__qualname__"):
        return "{}.{}".format(one.__module__, getattr(one, "__qualname__", one.__name__))
    return thing(type(one)) if one is None else "a {}.{}".format(type(one).__module__, type(one).__name__)


def flags():
    return dict((name, getattr(sys.flags, name)) for name in dir(sys.flags) if name[0] != "_" and name not in ("index", "count"))


def module(one):
    """The attributes by which a module tells where it is from."""
    found = dict((name, plain(getattr(one, name, "none"))) for name in ("__name__", "__file__", "__cached__", "__package__"))
    if hasattr(one, "__path__"):
        found["__path__"] = [thing(type(one.__path__)), guarded(list, one.__path__)]
    found["__loader__"] = kind(getattr(one, "__loader__", None))
    found["__spec__"] = spec(getattr(one, "__spec__", None))
    return found


def spec(one):
    if one is None:
        return None
    found = dict((name, plain(getattr(one, name, "none"))) for name in SPEC)
    where = one.submodule_search_locations
    found["submodule_search_locations"] = where if where is None else [thing(type(where)), guarded(list, where)]
    found["loader"] = kind(one.loader)
    return found


def builtin_names():
    builtins = sys.modules["builtins" if sys.version_info[0] > 2 else "__builtin__"]

    found = dict((name, plain(getattr(builtins, name))) for name in dir(builtins) if name != "_")
    for name in ("exit", "quit", "copyright", "credits", "license", "help"):
        found[name + ".repr"] = guarded(lambda name=name: repr(getattr(builtins, name)))
    return found


def site_settings():
    """Imported only now: whether it was there before is told by the modules."""
    import site

    found = dict((name, plain(getattr(site, name, "none"))) for name in ("ENABLE_USER_SITE", "PREFIXES"))
    for name in ("getsitepackages", "getusersitepackages", "getuserbase"):
        found[name] = guarded(getattr(site, name, None)) if hasattr(site, name) else "none"
    for name in ("USER_SITE", "USER_BASE"):
        found[name] = plain(getattr(site, name))
    return found


def configuration():
    import sysconfig

    found = {"paths": guarded(sysconfig.get_paths), "platform": guarded(sysconfig.get_platform)}
    found["scheme"] = guarded(getattr(sysconfig, "get_default_scheme", lambda: None))
    for name in sysconfig.get_scheme_names():
        found["paths of " + name] = guarded(sysconfig.get_paths, name)
    found["variables"] = dict(
        (name, value) for name, value in plain(sysconfig.get_config_vars()).items() if "/" in str(value) or value == ""
    )
    return found


def interpreter():
    return {
        "gc": [gc.isenabled(), gc.get_threshold(), getattr(gc, "get_freeze_count", int)() > 0, gc.get_debug(), plain(gc.garbage)],
        "gc.callbacks": plain(getattr(gc, "callbacks", [])),
        "warnings.filters": plain([[plain(part) if not hasattr(part, "pattern") else part.pattern for part in one] for one in warnings.filters]),
        "warnings.showwarning": plain(warnings.showwarning),
        "atexit": guarded(getattr(atexit, "_ncallbacks", int)),
        "threads": [sorted(one.name for one in threading.enumerate()), threading.active_count(), threading.current_thread().name],
        "main thread": guarded(lambda: threading.main_thread().ident == threading.current_thread().ident),
        "excepthook": [plain(sys.excepthook is sys.__excepthook__), plain(sys.displayhook is sys.__displayhook__)],
        "locale": [guarded(locale.setlocale, getattr(locale, name)) for name in ("LC_CTYPE", "LC_NUMERIC", "LC_MESSAGES")],
        "preferred encoding": guarded(locale.getpreferredencoding, False),
        "__main__": main_names(),
    }


def main_names():
    """The names in __main__, and what they are; __file__ and the like are told with the other modules."""
    names = vars(sys.modules["__main__"])
    return dict((name, thing(type(names[name]))) for name in names)


def operating_system():
    """What the kernel keeps of a process; descriptors above 2 by what they lead to, as numbers are given by chance."""
    mask = os.umask(0)
    os.umask(mask)
    found = {
        "environ": dict(os.environ),
        "environ order": list(os.environ),
        "umask": mask,
        "cwd": os.getcwd(),
        "descriptors": descriptors(),
        "signals": signals(),
        "limits": dict((name, resource.getrlimit(getattr(resource, name))) for name in dir(resource) if name.startswith("RLIMIT_")),
        "priority": os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None,
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()],
        "leads": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    }
    for name in ("cmdline", "comm", "environ"):
        with open("/proc/self/" + name, "rb") as stream:
            found["proc " + name] = plain(stream.read().decode("utf-8", "replace"))
    found["proc exe"] = os.readlink("/proc/self/exe")
    with open("/proc/self/status") as stream:
        wanted = ("SigPnd", "SigBlk", "SigIgn", "SigCgt", "Shd", "Cap", "NoNewPrivs", "Seccomp", "Threads", "Umask")
        found["proc status"] = [line.strip() for line in stream if line.startswith(wanted)]
    return found


def descriptors():
    found = {"others": []}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue  # the directory itself
        if target != "/proc/{}/fd".format(os.getpid()):
            if int(name) > 2:
                found["others"].append(target.split("[")[0])
            else:
                found[name] = target.split("[")[0]
    found["others"].sort()
    return found


def signals():
    found = {}
    for name in dir(signal):
        if name.startswith("SIG") and "_" not in name:
            found[name] = guarded(lambda name=name: str(signal.getsignal(getattr(signal, name))))
    if hasattr(signal, "pthread_sigmask"):
        found["blocked"] = plain([int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])])
    found["wakeup"] = guarded(lambda: signal.set_wakeup_fd(-1))
    found["timer"] = guarded(signal.getitimer, signal.ITIMER_REAL)
    return found


def stack():
    """Who called whom, from the outermost on, but for the innermost frames, which are ours."""
    return [[frame[0], frame[2], frame[3]] for frame in traceback.extract_stack()]
