FOUND = []
try:
    import absent_thing  # noqa: F401
except ImportError as error:
    FOUND.append([type(error).__name__, getattr(error, "name", None), getattr(error, "path", None), str(error)])
try:
    from odd.starred import absent_thing  # noqa: F401
except ImportError as error:
    FOUND.append([type(error).__name__, getattr(error, "name", None), getattr(error, "path", None), str(error)])
try:
    import odd.nested.absent_thing  # noqa: F401
except ImportError as error:
    FOUND.append([type(error).__name__, getattr(error, "name", None), getattr(error, "path", None), str(error)])
