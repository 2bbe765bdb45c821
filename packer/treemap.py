"""Rectangles whose areas stand for numbers: a squarified treemap (Bruls, Huizing and van Wijk, 2000)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Rectangle:
    """A place on the page; all in the same unit."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Width times height."""
        return self.width * self.height


def squarify(weights: Sequence[float], place: Rectangle) -> list[Rectangle]:
    """Cut a rectangle into ones that are as square as can be, row by row along the shorter side of what is left.

    :param weights: not negative; the largest first makes the best picture.
    :return: as many rectangles, in the same order; without an area where all weights are 0.
    """
    scale = place.area / sum(weights) if sum(weights) else 0.0
    areas = [weight * scale for weight in weights]
    found: list[Rectangle] = []
    while len(found) < len(areas):
        row = _row(areas[len(found) :], min(place.width, place.height))
        cut, place = _cut(row, place)
        found += cut
    return found


def _row(areas: Sequence[float], side: float) -> Sequence[float]:
    """Take areas as long as the longest rectangle of the row gets no longer."""
    whole, least, most, worst = 0.0, areas[0], areas[0], float("inf")
    for count, area in enumerate(areas):
        whole, least, most = whole + area, min(least, area), max(most, area)
        if not least or not side:  # nothing that could be seen
            return areas[:count] if whole and side else areas
        ratio = max(side**2 * most / whole**2, whole**2 / (side**2 * least))
        if ratio > worst:
            return areas[:count]
        worst = ratio
    return areas


def _cut(row: Sequence[float], place: Rectangle) -> tuple[list[Rectangle], Rectangle]:
    """Lay a row along the shorter side; give its rectangles and what is left."""
    whole = sum(row)
    if place.width >= place.height:
        depth = min(whole / place.height, place.width) if place.height else 0.0
        lengths = [area / depth if depth else 0.0 for area in row]
        starts = itertools.accumulate(lengths[:-1], initial=place.y)
        cut = [Rectangle(place.x, start, depth, length) for start, length in zip(starts, lengths, strict=True)]
        return cut, Rectangle(place.x + depth, place.y, place.width - depth, place.height)
    turned, left = _cut(row, Rectangle(place.y, place.x, place.height, place.width))
    return [_turned(one) for one in turned], _turned(left)


def _turned(one: Rectangle) -> Rectangle:
    return Rectangle(one.y, one.x, one.height, one.width)
