import os
import pkgutil

loader = globals().get("__loader__")
here = os.path.dirname(__file__)
FOUND = [
    str(type(loader)),
    loader and len(loader.get_data(os.path.join(here, "data", "words.txt"))),
    loader and loader.is_package("odd.asks"),
    loader and loader.name,
    loader and loader.path,
    loader and loader == __spec__.loader,
    pkgutil.get_data(__name__, "data/words.txt").decode(),
    open(os.path.join(here, "readme.txt")).read(),
]
