"""The sizes of an archive as a page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packer import files
from packer.errors import PackError
from packer.native import printable
from packer.page import document, figures
from packer.page import text as _text
from packer.sizes_text import LARGEST, largest_layers, layer_name, part_names, percent, user_names
from packer.treemap import Rectangle, squarify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from packer.sizes import FileSize, LayerSize, Sizes, SliceSize

MAP = Rectangle(0, 0, 1200, 720)
"""The treemap, in its own unit: about a pixel on a wide screen."""

SMALLEST = 60.0
"""Area of a file that gets a rectangle of its own."""

_LETTER = 6.3
"""Width of a letter in the map, on the large side."""

_HEAD = 17.0
"""Height of a layer's name in the map."""

_STYLE = """
:root { --own: #4c78b8; --delta: #3aa387; --bytecode: #e0a13a; --bytecode-delta: #c9705b; --before: #dcdfe3;
  --rest: #c3c8ce; --light: 80%; --lighter: 89%; --strong: 42%; }
@media (prefers-color-scheme: dark) {
  :root { --own: #6b9be0; --delta: #4fc2a3; --bytecode: #e8b45c; --bytecode-delta: #dd8a76; --before: #353b43;
    --rest: #454c55; --light: 31%; --lighter: 23%; --strong: 24%; }
}
.bar { display: flex; height: 26px; border-radius: 6px; overflow: hidden; gap: 1px; }
.bar i { min-width: 1px; }
.slices { display: grid; grid-template-columns: max-content 1fr; gap: 12px 18px; align-items: center; }
.slices small { display: block; }
@media (max-width: 760px) { .slices { grid-template-columns: 1fr; gap: 8px; } }
.own { background: var(--own); } .delta { background: var(--delta); } .bytecode { background: var(--bytecode); }
.bytecode-delta { background: var(--bytecode-delta); } .before { background: var(--before); }
.rest { background: var(--rest); } .striped { background: repeating-linear-gradient(45deg, var(--soft) 0 2px,
  var(--line) 2px 5px); } .faint { background: var(--line); border: 1px solid var(--soft); }
svg { display: block; width: 100%; height: auto; border-radius: 10px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); pointer-events: none; }
svg .name { font-weight: 600; } svg .bytes { opacity: .65; }
svg .layer { fill: hsl(var(--hue) 45% var(--strong) / .55); }
svg .file { fill: hsl(var(--hue) 42% var(--light)); } svg .code { fill: hsl(var(--hue) 30% var(--lighter)); }
svg .many { fill: hsl(var(--hue) 18% var(--light)); } svg .part { fill: var(--rest); }
svg .stripes { fill: url(#stripes); pointer-events: none; } svg path { stroke: var(--ink); opacity: .22; }
svg rect:hover { filter: brightness(1.12); }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { padding: 6px 14px; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
tr + tr td { border-top: 1px solid var(--line); }
.word { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 14ch; }
"""

_KINDS = {
    "own": "stored on its own", "delta": "delta", "bytecode": "bytecode", "bytecode-delta": "bytecode, delta",
    "before": "already in a slice above",
}  # fmt: skip
"""Colours of the slices' bars."""


def write(path: Path, archive: Path, found: Sizes) -> None:
    """Write the page.

    :param archive: the file that was measured.
    :raises PackError: if the page cannot be written, or would replace the archive.
    """
    files.refuse_unwritable(path, option="--html")
    if path.exists() and path.samefile(archive):
        raise PackError(f"cannot write {path}: it is the archive", hint="name another file with --html")
    with files.replacing(path, option="--html") as stream:
        stream.write(page(archive.name, found).encode())


def page(name: str, found: Sizes) -> str:
    """Give the page, which is well-formed XML, too.

    :param name: of the archive.
    """
    title = _text(name)
    parts = [
        f"<h1>{title}</h1>",
        *_figures(found),
        "<h2>Slices</h2>",
        "<p>Most preferred first. A bar is all that a slice uses; the coloured part is what no slice above it has.</p>",
        *_bars(found),
        "<h2>Layers and their files</h2>",
        "<p>Areas are stored bytes; all of it is the file. What several layers have is shown in the first of them.",
        "How much of a blob belongs to one of its files is an estimate.</p>",
        *_map(found),
        "<h2>Layers</h2>",
        "<p>Stored: all that a layer has. Adds: what no layer before it has, so that every file counts once.</p>",
        *_layers(found),
        "<h2>Largest files</h2>",
        *_files(found),
    ]
    return document(f"{title}: where the bytes are", _STYLE, parts)


def _short(size: int) -> str:
    """Three digits are enough to look at."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            number = size / factor
            return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"
    return f"{size} B"


def _share(found: Sizes, size: int) -> str:
    return f"{size:,} bytes, {percent(size, found.total)}"


# Figures and bars -----------------------------------------------------------------------------------------------


def _figures(found: Sizes) -> Iterator[str]:
    parts = ", ".join(f"{name} {_short(size)}" for name, size in part_names(found))
    shown = [
        (found.total, "the file"),
        (found.shared, "used by more than one slice"),
        *([(found.delta_stored, f"in deltas, for {_short(found.delta_raw)}")] if found.delta_stored else []),
        (found.unpacked, "all layers unpacked"),
    ]
    yield f"<small>{parts}</small>"
    yield from figures([(_short(size), what, f"{size:,} bytes") for size, what in shown])


def _bars(found: Sizes) -> Iterator[str]:
    longest = max((one.stored for one in found.slices), default=0)
    yield '<div class="slices">'
    for one in found.slices:
        yield f"<div><b>{_text(one.name)}</b>"
        yield f"<small>{one.layers} layers, {_short(one.unpacked)} unpacked</small></div>"
        yield f'<div><div class="bar" style="width: {100 * one.stored / (longest or 1):.2f}%">'
        for kind, size in _segments(one):
            if size:
                yield f'<i class="{kind}" style="flex: {size} 0 0" title="{_KINDS[kind]}: {size:,} bytes"></i>'
        before = one.stored - one.adds.total
        has = f"has {_short(before)} from slices above, " if before else ""
        yield f"</div><small>{has}adds {_short(one.adds.total)}; a first launch reads "
        yield f"{_short(one.fetches)}</small></div>"
    yield "</div>"
    there = {kind for one in found.slices for kind, size in _segments(one) if size}
    yield _legend([(kind, text) for kind, text in _KINDS.items() if kind in there])


def _segments(one: SliceSize) -> list[tuple[str, int]]:
    adds = one.adds
    sizes = (adds.own, adds.delta, adds.bytecode, adds.bytecode_delta, one.stored - adds.total)
    return list(zip(_KINDS, sizes, strict=True))


def _legend(kinds: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f'<span><i class="{kind}"></i>{text}</span>' for kind, text in kinds)
    return f'<div class="legend">{shown}</div>'


# Treemap --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Box:
    """A rectangle to be: a file, several small ones, or a part of the archive."""

    look: str
    """Class in the style sheet."""
    name: str
    """Short, shown where it fits."""
    title: tuple[str, ...]
    """Lines, shown when it is pointed at."""
    size: int
    striped: bool = False


def _map(found: Sizes) -> Iterator[str]:
    layers = largest_layers(found)
    parts = _parts(found)
    sizes = [*(layer.adds + layer.bytecode for layer in layers), sum(box.size for box in parts)]
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    places = squarify([sizes[number] for number in order], MAP)
    inside: dict[int, list[FileSize]] = {layer.layer: [] for layer in layers}
    for file in found.files:
        inside[found.homes[file.layer]].append(file)
    scale = MAP.area / (sum(sizes) or 1)
    yield f'<svg viewBox="0 0 {MAP.width:.0f} {MAP.height:.0f}"><defs>'
    yield '<pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    yield '<path d="M0 0V6" stroke-width="4"/></pattern></defs>'
    for number, place in zip(order, places, strict=True):
        if number == len(layers):
            yield from _boxes(parts, place)
        else:
            yield from _layer(found, layers[number], inside[layers[number].layer], place, scale, _hue(number))
    yield "</svg>"
    yield _legend(_looks(found))


def _looks(found: Sizes) -> list[tuple[str, str]]:
    looks = [("rest", "launcher, index and the like")]
    if any(_striped(file) for file in found.files):
        looks.append(("striped", "striped: delta"))
    if any(file.bytecode for file in found.files):
        looks.append(("faint", "faint: bytecode"))
    return looks


def _hue(number: int) -> int:
    """Give neighbours in size colours that are far apart: steps of the golden angle."""
    return int(212 + 137.508 * number) % 360


def _layer(
    found: Sizes, layer: LayerSize, inside: Sequence[FileSize], place: Rectangle, scale: float, hue: int
) -> Iterator[str]:
    """Draw a layer: its name, where there is room, and its files."""
    place = _inset(place, 1)
    size = layer.adds + layer.bytecode
    used = f"unpacked {layer.unpacked:,}, slices: {user_names(found, layer.slices)}"
    title = (layer.name, _share(found, size), used)
    yield f'<g style="--hue: {hue}">{_rectangle("layer", place, title)}'
    if place.height > 3 * _HEAD and place.width > 8 * _LETTER:
        at = f'x="{place.x + 5:.1f}" y="{place.y + 12.5:.1f}"'
        yield f'<text class="name" {at}>{_text(_heading(layer, _short(size), place.width))}</text>'
        place = Rectangle(place.x, place.y + _HEAD, place.width, place.height - _HEAD)
    yield from _boxes(list(_file_boxes(found, inside, scale)), place)
    yield "</g>"


def _heading(layer: LayerSize, size: str, width: float) -> str:
    """Give the longest of a layer's names that fits, in bold."""
    distribution, _, more = layer.name.partition("-")
    names = (layer.name, f"{distribution}-{more.partition('-')[0]}".removesuffix("-"), distribution)
    fitting = [_cut(f"{name}  {size}", width * 0.88, whole=True) for name in names]
    return next(filter(None, fitting), _cut(distribution, width * 0.88))


def _file_boxes(found: Sizes, inside: Sequence[FileSize], scale: float) -> Iterator[_Box]:
    """Give a layer's files, the smallest as one."""
    shown = [file for file in inside if file.stored * scale >= SMALLEST]
    rest = inside[len(shown) :]
    for file in shown:
        kinds = f"{', bytecode' if file.bytecode else ''}{', delta' if _striped(file) else ''}"
        used = f"unpacked {file.size:,}{kinds}, slices: {user_names(found, file.slices)}"
        title = (file.path, layer_name(found, file.layer), _share(found, file.stored), used)
        name = file.path.rpartition("/")[2]
        yield _Box("code" if file.bytecode else "file", name, title, file.stored, _striped(file))
    size = sum(file.stored for file in rest)
    if size:
        name = f"{len(rest)} smaller files"
        yield _Box("many", name, (name, _share(found, size)), size)


def _striped(file: FileSize) -> bool:
    return 2 * file.delta > file.stored


def _parts(found: Sizes) -> list[_Box]:
    sizes = [*((name, size) for name, size in part_names(found) if name != "blobs"), ("no layer's", found.other)]
    boxes = [_Box("part", name, (name, _share(found, size)), size) for name, size in sizes if size]
    return sorted(boxes, key=lambda box: -box.size)


def _boxes(boxes: Sequence[_Box], place: Rectangle) -> Iterator[str]:
    """Draw boxes in a rectangle, with as much text as fits."""
    for box, at in zip(boxes, squarify([box.size for box in boxes], place), strict=True):
        at = _inset(at, 0.5)
        if at.area <= 0:
            continue
        yield _rectangle(box.look, at, box.title)
        if box.striped:
            yield _rectangle("stripes", at)
        name = _cut(box.name, at.width)
        if name and at.height >= 15:
            yield f'<text x="{at.x + 4:.1f}" y="{at.y + 12:.1f}">{_text(name)}</text>'
            size = _cut(_short(box.size), at.width, whole=True)
            if size and at.height >= 29:
                yield f'<text class="bytes" x="{at.x + 4:.1f}" y="{at.y + 25:.1f}">{size}</text>'


def _inset(place: Rectangle, margin: float) -> Rectangle:
    """Leave a gap to the neighbours."""
    width, height = max(place.width - 2 * margin, 0), max(place.height - 2 * margin, 0)
    return Rectangle(place.x + margin, place.y + margin, width, height)


def _rectangle(look: str, place: Rectangle, title: Sequence[str] = ()) -> str:
    """Draw a rectangle, which shows lines when it is pointed at."""
    shape = f'x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" height="{place.height:.1f}"'
    shown = "\n".join(map(_text, title))
    return f'<rect class="{look}" rx="2" {shape}>{f"<title>{shown}</title>" if shown else ""}</rect>'


def _cut(name: str, width: float, *, whole: bool = False) -> str:
    """Give as much of a name as fits into a width, with a mark where it goes on; nothing if that is next to nothing.

    :param whole: all of it or nothing.
    """
    shown = printable(name)
    # letters of other scripts may be twice as wide
    letters = int((width - 8) / _LETTER / (1 if shown.isascii() else 2))
    if len(shown) <= letters:
        return shown
    return "" if whole or letters < 7 else f"{shown[: letters - 1]}\u2026"


# Tables ---------------------------------------------------------------------------------------------------------


def _layers(found: Sizes) -> Iterator[str]:
    rows = [
        (
            (layer.name, user_names(found, layer.slices)),
            (
                f"{layer.unpacked:,}", f"{layer.stored:,}", f"{layer.adds:,}", f"{layer.bytecode:,}",
                percent(layer.adds + layer.bytecode, found.total),
            ),
        )
        for layer in largest_layers(found)
    ]  # fmt: skip
    return _table(("layer", "slices"), ("unpacked", "stored", "adds", "bytecode", "of the file"), rows)


def _files(found: Sizes) -> Iterator[str]:
    rows = [
        (
            (file.path, layer_name(found, file.layer)),
            (f"{file.size:,}", f"{file.stored:,}", percent(file.stored, found.total)),
        )
        for file in found.files[:LARGEST]
    ]
    return _table(("file", "layer"), ("unpacked", "stored", "of the file"), rows)


def _table(
    words: Sequence[str], numbers: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> Iterator[str]:
    """Write a table: words to the left, which may be anything, then numbers."""
    yield '<div class="wide"><table><tr>'
    yield "".join(f'<th class="word">{word}</th>' for word in words)
    yield "".join(f"<th>{word}</th>" for word in numbers) + "</tr>"
    for names, sizes in rows:
        cells = [*(f'<td class="word">{_text(name)}</td>' for name in names), *(f"<td>{size}</td>" for size in sizes)]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"
