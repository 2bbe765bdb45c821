"""packer/report_html.py: a page that needs nothing else, and that a browser shows."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from PIL import Image
from support import matrices

from packer import report_html

if TYPE_CHECKING:
    from pathlib import Path

    from packer.results import Matrix

WHOLE = matrices.matrix(additions=matrices.ADDITIONS)


def many(hosts: int = 50) -> Matrix:
    """A matrix as large as a fleet."""
    rows = [replace(matrices.ROWS[number % 8], host=f"host-{number:02}") for number in range(hosts)]
    return matrices.matrix(*rows, additions=matrices.ADDITIONS)


def looks(tree: ElementTree.Element, host: str) -> list[str]:
    """What the cells of a host look like."""
    (row,) = (one for one in tree.iterfind(".//details") if one.findtext("summary/span/b") == host)
    return [cell.get("class", "").removeprefix("cell ") for cell in row.iterfind("summary/span/i")]


def test_each_cell_looks_like_what_it_means() -> None:
    tree = ElementTree.fromstring(report_html.page(WHOLE))
    assert {row.host: looks(tree, row.host) for row in matrices.ROWS} == {
        "good": ["chosen", "fits", "not"], "predicted": ["not", "not", "chosen"], "none": ["not"] * 3,
        "required": ["not"] * 3, "failed": ["not", "failed", "not"], "differs": ["differs", "differs", "not"],
        "unusable": ["not", "not", "chosen"], "unknown": ["unknown"] * 3,
    }  # fmt: skip
    wrong = [one.findtext("summary/span/b") for one in tree.iterfind(".//details") if "wrong" in one.get("class", "")]
    assert wrong == ["required", "failed", "differs", "unusable"]


def test_what_a_host_has_behind_it() -> None:
    page = report_html.page(WHOLE)
    for said in (
        "needs CPython cp313, found cp37 (/usr/bin/python3.7); needs luck, found none", "ends with 3, not 0",
        "<pre>no &lt;b&gt;\\x1b[1m</pre>", "runs with /usr/bin/cp313", "no root filesystem /srv/none",
        "predicted, and not selected there; needs CPython cp313", "<b>5 of 8</b>", "<b>1 of 2</b>", "<b>3 of 4</b>",
        "--abis ...,cp37-manylinux_2_17_x86_64", "1.25 s, then 0.12 s",
    ):  # fmt: skip
        assert said in page, said


def test_names_are_escaped() -> None:
    row = replace(matrices.FAILED, host="<i>&amp;", title="</small><script>")
    page = report_html.page(replace(matrices.matrix(row), file="<u>\x07", slices=(*matrices.SLICES, "<b>-odd")))
    tree = ElementTree.fromstring(page)
    assert not {one.tag for one in tree.iter()} & {"script", "u"}
    assert tree.findtext(".//h1") == "<u>\\x07"
    assert tree.findtext(".//summary/span/b") == "<i>&amp;"
    assert "<b>-odd" in [one.text for one in tree.iterfind(".//span[@class='slice']")]
    assert page.isascii()


def test_nothing_vanishes_that_no_page_can_have() -> None:
    row = replace(matrices.FAILED, title="a\0b<script>\ufffe\uffff\ud800\udcff", host="\x85\x7f\u2028")
    page = report_html.page(matrices.matrix(row))
    tree = ElementTree.fromstring(page.encode())  # expat reads it
    assert tree.findtext(".//summary/span/small") == "a\\x00b<script>\\ufffe\\uffff\\ud800\\xff"


def test_choices_are_held_against_what_was_predicted() -> None:
    both = report_html.page(matrices.matrix(matrices.GOOD, matrices.DIFFERS))
    assert "<b>1 of 2</b><small>choices are as predicted</small>" in both
    assert "<b>all</b><small>choices are as predicted</small>" in report_html.page(matrices.matrix(matrices.GOOD))
    assert "as predicted</small>" not in report_html.page(matrices.matrix(matrices.UNUSABLE))


def test_it_asks_for_nothing() -> None:
    page = report_html.page(WHOLE)
    assert "default-src 'none'" in page
    for word in ("http://", "https://", "<script", "<link", "@import", "src=", "url("):
        assert word not in page


# In a browser ---------------------------------------------------------------------------------------------------


def chromium(*arguments: str, page: Path) -> bytes:
    """Let a browser show a page; what it prints."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1300,2600",
        f"--user-data-dir={page.parent / 'profile'}", *arguments, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=120).stdout


def test_a_browser_has_all_cells(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(report_html.page(many()))
    shown = chromium("--dump-dom", page=page).decode()
    rows = re.findall(r"<details class=\"host.*?</summary>", shown, re.DOTALL)
    assert [len(re.findall('<i class="cell ', row)) for row in rows] == [len(matrices.SLICES)] * 50


def test_a_browser_shows_it(tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(report_html.page(many()))
    chromium(f"--screenshot={picture}", page=page)
    with Image.open(picture) as opened:
        found = {colour: count for count, colour in opened.convert("RGB").getcolors(1 << 24)}
    styles = dict(re.findall("--([a-z-]+): (#[0-9a-f]{6});", report_html._STYLE.partition("@media")[0]))
    for name in ("good", "fits", "not", "bad", "differs", "tint"):  # each fills whole cells, or rows
        assert found[tuple(bytes.fromhex(styles[name][1:]))] > 2000, name
    assert max(found.values()) < 0.9 * sum(found.values())
