import atexit
import sys

atexit.register(lambda: sys.stdout.write("handler of a package\n"))


class Last(object):
    def __del__(self):
        sys.stdout.write("the module is taken apart\n")


class Unraisable(object):
    def __del__(self):
        raise ValueError("in a finalizer")


last = Last()
