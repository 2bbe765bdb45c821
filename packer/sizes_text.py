"""The sizes of an archive for programs, as JSON values, and for people, as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from packer.native import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packer.sizes import LayerSize, Sizes, SliceSize, Stored

LARGEST = 20
"""Files that are named."""

Row = tuple[str, ...]


def as_json(found: Sizes) -> dict[str, Any]:
    """Give sizes as JSON values; ``docs/json.md`` has their form."""
    return {
        "parts": asdict(found.parts),
        "unpacked": found.unpacked,
        "other": found.other,
        "shared": found.shared,
        "delta": {"stored": found.delta_stored, "raw": found.delta_raw},
        "slices": [_slice(one) for one in found.slices],
        "layers": [
            {name: value for name, value in asdict(layer).items() if name not in ("name", "kind")}
            for layer in found.layers
        ],
        "files": [asdict(file) for file in found.files[:LARGEST]],
    }


def _slice(one: SliceSize) -> dict[str, Any]:
    adds = {"total": one.adds.total, **asdict(one.adds)}
    return {**{name: value for name, value in asdict(one).items() if name not in ("name", "python")}, "adds": adds}


def table(found: Sizes) -> str:
    """Give the same for reading."""
    parts = [*_part_rows(found), (f"{found.total:,}", percent(found.total, found.total), "the file")]
    return "\n".join(
        [
            *_grid(parts, words=1),
            "",
            *_grid(_blob_rows(found), words=1),
            "",
            "slices, most preferred first; adds: own + delta, in no slice above; fetches: what a first launch reads",
            *_grid(_slice_rows(found), words=1),
            "",
            "layers, largest first; adds: each file once; share: of the file",
            *_grid(_layer_rows(found), words=2),
            "",
            "files with the most stored bytes; inside a blob these are an estimate",
            *_grid(_file_rows(found), words=2),
        ]
    )


def percent(part: int, whole: int) -> str:
    """``12.3 %``."""
    return f"{100 * part / whole:.1f} %"


def part_names(found: Sizes) -> list[tuple[str, int]]:
    """Name the parts of the file that are there."""
    parts = found.parts
    named = [
        ("launcher and padding", parts.front), ("blobs", parts.blobs), ("index", parts.index),
        ("signature", parts.signature), ("trailer", parts.trailer),
    ]  # fmt: skip
    return [(name, size) for name, size in named if size]


def user_names(found: Sizes, slices: Sequence[int]) -> str:
    """Name slices in short."""
    if len(slices) == len(found.slices):
        return "all"
    return ", ".join(printable(found.labels[number]) for number in slices) or "none"


def layer_name(found: Sizes, number: int) -> str:
    """Name the layer that a layer is listed under."""
    return next(layer.name for layer in found.layers if layer.layer == found.homes[number])


def largest_layers(found: Sizes) -> list[LayerSize]:
    """Order layers by what they add, with their bytecode."""
    return sorted(found.layers, key=lambda layer: -(layer.adds + layer.bytecode))


def _part_rows(found: Sizes) -> list[Row]:
    return [(f"{size:,}", percent(size, found.total), name) for name, size in part_names(found)]


def _blob_rows(found: Sizes) -> list[Row]:
    rows = [
        (found.shared, "stored for more than one slice"),
        (found.delta_stored, f"stored as deltas, for {found.delta_raw:,} bytes"),
        *([(found.other, "stored for no file of a layer")] if found.other else []),
    ]
    return [(f"{size:,}", percent(size, found.total), what) for size, what in rows]


def _slice_rows(found: Sizes) -> list[Row]:
    head = ("layers", "unpacked", "stored", "adds", "own", "delta", "bytecode", "fetches", "slice")
    rows: list[Row] = [
        (
            f"{one.layers}", f"{one.unpacked:,}", f"{one.stored:,}", *_added(one.adds), f"{one.fetches:,}",
            printable(one.name),
        )
        for one in found.slices
    ]  # fmt: skip
    return [head, *rows]


def _added(adds: Stored) -> Row:
    """Give the total, the same as the sum of two, and how much of it is bytecode."""
    own, delta = adds.own + adds.bytecode, adds.delta + adds.bytecode_delta
    return f"{adds.total:,}", f"{own:,}", f"{delta:,}", f"{adds.bytecode + adds.bytecode_delta:,}"


def _layer_rows(found: Sizes) -> list[Row]:
    head = ("unpacked", "stored", "adds", "bytecode", "share", "slices", "layer")
    rows: list[Row] = [
        (
            f"{layer.unpacked:,}", f"{layer.stored:,}", f"{layer.adds:,}", f"{layer.bytecode:,}",
            percent(layer.adds + layer.bytecode, found.total), user_names(found, layer.slices), printable(layer.name),
        )
        for layer in largest_layers(found)
    ]  # fmt: skip
    return [head, *rows]


def _file_rows(found: Sizes) -> list[Row]:
    head = ("unpacked", "stored", "share", "file", "layer")
    rows: list[Row] = [
        (
            f"{file.size:,}", f"{file.stored:,}", percent(file.stored, found.total), printable(file.path),
            printable(layer_name(found, file.layer)),
        )
        for file in found.files[:LARGEST]
    ]  # fmt: skip
    return [head, *rows]


def _grid(rows: Sequence[Row], *, words: int) -> list[str]:
    """Align columns: numbers to the right, and the last ones, ``words`` many, to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = len(widths) - words
    return [
        "  ".join(
            ["", *(cell.rjust(width) for cell, width in zip(row[:numbers], widths[:numbers], strict=True))]
            + [cell.ljust(width) for cell, width in zip(row[numbers:], widths[numbers:], strict=True)]
        ).rstrip()
        for row in rows
    ]
