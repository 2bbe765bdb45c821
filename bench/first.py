"""Stub."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measure import Findings
    from shop import Shop


def measure(shop: Shop, found: Findings) -> None:
    """Stub."""
