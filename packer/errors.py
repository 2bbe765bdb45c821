"""What can go wrong for a user: every error names the thing, the cause and, where there is one, the way out."""

from __future__ import annotations


class PackError(Exception):
    """A failure that is told to the user in one message, never as a traceback.

    :param message: ``what went wrong: why``, lower case, no final period.
    :param hint: what to try; shown on a line of its own.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PackError):
    """The command line or configuration is wrong (exit status 2)."""
