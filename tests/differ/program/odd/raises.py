"""Fails."""


def raising():
    raise ValueError("at import")  # with a comment


raising()
