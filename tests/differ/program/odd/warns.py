import warnings

warnings.warn("at import")
warnings.warn("an old thing at import", DeprecationWarning)


def warn():
    warnings.warn("in a function", UserWarning, 2)
    warnings.warn("in a function, of the future", FutureWarning)
