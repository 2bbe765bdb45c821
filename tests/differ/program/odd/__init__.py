"""A package in which all is as odd as it can be."""

__all__ = ["in_all", "NAME"]
NAME = "odd"


def point():
    return "the point"
