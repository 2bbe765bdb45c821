from odd.circle_fails import other  # noqa: F401

name = 1
