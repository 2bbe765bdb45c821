"""Every difference between a packed program and the same wheels in a venv, with the reason why it is so."""

from __future__ import annotations

from .comparing import Difference

DIFFERENCES: tuple[Difference, ...] = ()
