def __getattr__(name):
    if name != "later":
        raise AttributeError("no " + name)
    import importlib

    return importlib.import_module("odd.lazy.later")


def __dir__():
    return ["later"]
