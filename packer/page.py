"""What pages have in common: each is one file that needs nothing else, no script, no font, no network; well-formed XML,
too."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from packer.native import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #fff; --ink: #22262b; --soft: #667078; --line: #e4e1db; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181c; --card: #1d2126; --ink: #e6e8ea; --soft: #98a2ab; --line: #30363d; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 36px 24px 60px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 4px; }
p { margin: 0 0 14px; color: var(--soft); max-width: 80ch; }
small { color: var(--soft); font-size: 13px; }
.figures { display: flex; flex-wrap: wrap; gap: 12px; margin: 22px 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 18px;
  flex: 1 1 150px; }
.figures b { display: block; font-size: 22px; line-height: 1.3; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 14px 0; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px; }
"""


_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


def document(title: str, style: str, parts: Iterable[str]) -> str:
    """Give a page.

    :param title: escaped.
    :param style: what its own parts look like.
    """
    head = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"/>',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>",
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{title}</title><style>{_STYLE}{style}</style></head><body><main>",
    ]
    return "\n".join([*head, *parts, "</main></body></html>"]) + "\n"


def text(name: str) -> str:
    """Make anything fit to stand in a page."""
    return html.escape(writable(printable(name)))


def writable(text: str) -> str:
    """Write out what XML cannot have."""
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def figures(figures: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Give what is told first.

    :param figures: each a number as it is shown, what it counts, and what is shown when it is pointed at.
    """
    yield '<div class="figures">'
    for shown, what, more in figures:
        yield f'<div title="{text(more)}"><b>{text(shown)}</b><small>{text(what)}</small></div>'
    yield "</div>"
