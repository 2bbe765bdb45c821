try:
    import odd.raises  # noqa: F401
except ValueError as error:
    raise RuntimeError("because of that") if error else error
