"""Deep down."""


# a comment before a class
class Deep(object):
    """A class."""

    def __init__(self, number):
        self.number = number


# a comment before a function
def function(one, two=2):
    """A function."""
    return one + two


def fail(depth):
    if depth:
        fail(depth - 1)
    raise KeyError("deep down")
