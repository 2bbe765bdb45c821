import sys

sys.setrecursionlimit(120)


def again(number):
    return again(number + 1)


again(0)
