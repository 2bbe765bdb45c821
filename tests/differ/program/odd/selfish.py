import sys


class Selfish(object):
    answer = 42
    __name__ = "selfish"

    def __repr__(self):
        return "what replaced a module"


sys.modules[__name__] = Selfish()
