"""A matrix as a page to look at: hosts by slices, with what there is to say of each behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packer import supposed
from packer.page import document, figures, text
from packer.report_text import INDEX_UNASKED, choice_of, seconds, title, together

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from packer.results import Addition, Matrix, Ran, Row

_STYLE = """
:root { --good: #2e8b62; --fits: #bfe3d0; --fits-ink: #1f6848; --not: #eceae6; --not-ink: #a7a49d; --bad: #cc4237;
  --differs: #e0a13a; --tint: #fdf0ee; --code: #f3f1ed; }
@media (prefers-color-scheme: dark) {
  :root { --good: #3fae7f; --fits: #234a3a; --fits-ink: #8fd8b6; --not: #262b31; --not-ink: #5b646d; --bad: #e2685c;
    --differs: #e8b45c; --tint: #2c2022; --code: #15181c; }
}
code, pre { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); }
.filter { display: inline-flex; margin: 10px 0 0; border: 1px solid var(--line); border-radius: 8px; overflow: hidden;
  background: var(--card); font-size: 13px; }
.filter label { padding: 5px 14px; cursor: pointer; } .filter label + label { border-left: 1px solid var(--line); }
.filter input { position: absolute; opacity: 0; } .filter label:has(input:checked) { background: var(--ink);
  color: var(--page); }
.filter label:has(input:focus-visible) { outline: 2px solid var(--good); outline-offset: -2px; }
main:has(#wrong:checked) .host:not(.wrong), main:has(#none:checked) .host:not(.none) { display: none; }
.grid { background: var(--card); border: 1px solid var(--line); border-radius: 10px; min-width: max-content; }
.row { display: grid; grid-template-columns: 250px max-content minmax(300px, 1fr); gap: 0 18px; align-items: center;
  padding: 5px 16px; }
.head { align-items: end; position: sticky; top: 0; z-index: 1; background: var(--card); padding-top: 14px;
  border-bottom: 1px solid var(--line); border-radius: 10px 10px 0 0; color: var(--soft); font-size: 13px; }
.cells { display: flex; gap: 3px; }
.slice { writing-mode: vertical-rl; transform: rotate(180deg); width: 28px; line-height: 28px; white-space: nowrap;
  font-size: 12px; }
.slice b { color: var(--ink); }
.host + .host { border-top: 1px solid var(--line); }
.host > summary { cursor: pointer; list-style: none; }
.host > summary::-webkit-details-marker { display: none; }
.host > summary:hover { background: color-mix(in srgb, var(--ink) 4%, transparent); }
.host.wrong { background: var(--tint); box-shadow: inset 3px 0 var(--bad); }
.name { min-width: 0; line-height: 1.25; padding-left: 16px; position: relative; }
.name::before { content: "\\25b8"; position: absolute; left: 0; top: 1px; color: var(--not-ink); font-size: 12px; }
.host[open] > summary .name::before { transform: rotate(90deg); }
 .name b { overflow-wrap: anywhere; } .name small { display: block;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; font-size: 12px; }
.tag { font-size: 11px; font-weight: 400; border: 1px solid var(--line); border-radius: 9px; padding: 0 7px;
  margin-left: 6px; color: var(--soft); white-space: nowrap; }
.cell { width: 28px; height: 26px; border-radius: 5px; display: grid; place-items: center; font-style: normal;
  font-size: 13px; font-weight: 700; }
.legend span { display: inline-flex; align-items: center; }
.legend i { display: inline-grid; place-items: center; width: 20px; height: 18px; border-radius: 4px; font-size: 11px;
  font-style: normal; font-weight: 700; }
.chosen { background: var(--good); color: #fff; } .chosen::before { content: "\\2713"; }
.fits { background: var(--fits); color: var(--fits-ink); } .fits::before { content: "\\00b7"; }
.not { background: var(--not); color: var(--not-ink); } .not::before { content: "\\00d7"; font-weight: 400; }
.failed { background: var(--bad); color: #fff; } .failed::before { content: "!"; }
.differs { background: var(--differs); color: #2a1c00; } .differs::before { content: "\\2260"; }
.unknown { border: 1px dashed var(--not-ink); color: var(--not-ink); } .unknown::before { content: "?"; }
.verdict { font-size: 13px; line-height: 1.35; min-width: 0; max-width: 520px; }
.verdict small { font-size: 12px; overflow-wrap: anywhere; }
.quiet { font-weight: 600; }
.more { padding: 4px 16px 18px 32px; font-size: 13.5px; max-width: 1200px; }
.more summary { cursor: pointer; }
.more h3 { font-size: 13px; margin: 14px 0 4px; color: var(--soft); font-weight: 500; }
.more ul { margin: 0; padding: 0; list-style: none; } .more li { padding: 3px 0 3px 36px; position: relative; }
.more li > .cell { position: absolute; left: 0; top: 3px; width: 24px; height: 20px; font-size: 11px; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; margin: 6px 0;
  max-height: 420px; overflow: auto; white-space: pre-wrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 12px; margin: 12px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.card code { display: block; background: var(--code); border-radius: 6px; padding: 6px 10px; margin: 0 0 8px; }
.card small { display: block; } .card .tag { margin: 0 4px 4px 0; display: inline-block; }
"""

_LOOKS = {
    "chosen": "runs",
    "fits": "fits, but another is preferred",
    "not": "does not run there",
    "failed": "runs, and a case failed",
    "differs": "seen is another choice than predicted",
    "unknown": "not known",
}
"""Of cells."""


def page(matrix: Matrix) -> str:
    """Give the page."""
    name = text(matrix.file)
    parts = [
        f"<h1>{name}</h1>",
        f"<small>{text(title(matrix).removeprefix(matrix.file).lstrip(': '))}</small>",
        *figures(list(_figures(matrix))),
        *_grid(matrix),
        *_additions(matrix.additions),
    ]
    return document(f"{name}: where it runs", _STYLE, parts)


def _figures(matrix: Matrix) -> Iterator[tuple[str, str, str]]:
    rows = matrix.rows
    running = [row.host for row in rows if (choice := choice_of(row)) and choice.slice is not None]
    lacking = [row.host for row in rows if (choice := choice_of(row)) and choice.slice is None]
    required = [row.host for row in rows if row.required]
    yield f"{len(running)} of {len(rows)}", "hosts have a slice that runs", ", ".join(running)
    yield str(len(lacking)), "have none", ", ".join(lacking)
    if required:
        fulfilled = [name for name in required if name in running]
        yield f"{len(fulfilled)} of {len(required)}", "required hosts have one", ", ".join(required)
    if any(row.seen for row in rows):
        cases = [ran for row in rows if row.seen for ran in row.seen.cases]
        yield f"{sum(ran.passed for ran in cases)} of {len(cases)}", "cases passed", ""
        compared = [row for row in rows if row.predicted and row.seen and row.seen.choice]
        differing = [row.host for row in compared if not row.agrees]
        agreeing = f"{len(compared) - len(differing)} of {len(compared)}" if differing else "all"
        yield from [(agreeing, "choices are as predicted", ", ".join(differing))] if compared else []
        unusable = [row.host for row in rows if row.seen and row.seen.error]
        yield from [(str(len(unusable)), "hosts could not be used", ", ".join(unusable))] if unusable else []


# The grid -------------------------------------------------------------------------------------------------------


def _grid(matrix: Matrix) -> Iterator[str]:
    yield "<h2>Hosts and slices</h2>"
    yield "<p>Slices stand from left to right as they are preferred. A host opens to say why.</p>"
    yield '<div class="filter">'
    for identity, what in (("all", "all hosts"), ("wrong", "something is wrong"), ("none", "no slice runs")):
        checked = ' checked="checked"' if identity == "all" else ""
        yield f'<label><input type="radio" name="shown" id="{identity}"{checked}/>{what}</label>'
    yield "</div>"
    there = {_look(row, name) for row in matrix.rows for name in matrix.slices}
    shown = "".join(f'<span><i class="{look}"></i>{what}</span>' for look, what in _LOOKS.items() if look in there)
    yield f'<div class="legend">{shown}</div><div class="grid">'
    yield '<div class="row head"><span>host</span><span class="cells">'
    labels = zip(matrix.slices, _labels(matrix.slices), strict=True)
    yield "".join(f'<span class="slice" title="{text(name)}">{label}</span>' for name, label in labels)
    yield "</span><span>what runs</span></div>"
    helped = {host: one for one in matrix.additions for host in one.hosts}
    for row in matrix.rows:
        yield from _host(row, matrix.slices, helped.get(row.host))
    yield "</div>"


def _labels(names: Sequence[str]) -> Iterator[str]:
    """Write slices' names so that their Pythons can be found at once, without a machine that all of them are for."""
    parsed = [supposed.parse(name) for name in names]
    same = len({one[0].platform.arch for one in parsed if one}) == 1
    for name, one in zip(names, parsed, strict=True):
        if one is None:  # another packer may call slices as it likes
            yield text(name)
            continue
        target, brings = one
        platform = target.platform.name.replace(f"_{target.platform.arch}", "") if same else target.platform.name
        yield f"<b>{text(target.python.tag)}</b> {text(platform)}{text(brings.value.replace('-', ' '))}"


def _look(row: Row, name: str) -> str:
    """Decide what a cell looks like."""
    choice = choice_of(row)
    if choice is None:
        return "unknown"
    if not row.agrees and row.predicted and name in (row.predicted.slice, choice.slice):
        return "differs"
    if name == choice.slice:
        return "chosen" if all(ran.passed for ran in (row.seen.cases if row.seen else ())) else "failed"
    return "not" if choice.reasons.get(name) else "fits"


def _why(row: Row, name: str) -> str:
    """Say what a cell means on this host."""
    choice = choice_of(row)
    if choice is None:
        return "not known"
    if not row.agrees and row.predicted and row.predicted.slice == name:
        return "; ".join(["predicted, and not selected there", *choice.reasons.get(name, ())])
    if choice.slice == name:
        said = f"runs with {choice.python or 'its own Python'}"
        return said if row.agrees else f"{said}; not predicted"
    return "; ".join(choice.reasons.get(name, ())) or "fits, but another is preferred"


def _host(row: Row, slices: Sequence[str], helped: Addition | None) -> Iterator[str]:
    choice = choice_of(row)
    lacking = choice is not None and choice.slice is None
    marks = f"{' none' if lacking else ''}{'' if row.passed else ' wrong'}"
    yield f'<details class="host{marks}"><summary class="row"><span class="name"><b>{text(row.host)}</b>'
    yield '<span class="tag">required</span>' if row.required else ""
    yield f"<small>{text(row.title)}</small>" if row.title != row.host else ""
    yield '</span><span class="cells">'
    yield "".join(
        f'<i class="cell {_look(row, name)}" title="{text(name)}\n{text(_why(row, name))}"></i>' for name in slices
    )
    yield f'</span><span class="verdict">{"<br/>".join(_verdict(row))}</span></summary><div class="more">'
    yield from _more(row, slices, helped)
    yield "</div></details>"


def _verdict(row: Row) -> Iterator[str]:
    """Say in two lines what came of a host."""
    choice = choice_of(row)
    if row.seen and row.seen.error:
        yield f'<span class="bad">could not be used</span>: {text(row.seen.error)}'
        return
    if choice is None:
        yield "<small>not known</small>"
    elif choice.slice is None:
        yield f'<span class="{"bad" if row.required else "quiet"}">none</span>'
        nearest = min(choice.reasons.values(), key=len) if choice.reasons else ()
        yield f"<small>{text(nearest[0])}</small>" if nearest else ""
    else:
        yield f"{text(choice.slice)} <small>{text(choice.python or 'its own Python')}</small>"
    if row.seen and row.seen.cases:
        passed = sum(ran.passed for ran in row.seen.cases)
        good = passed == len(row.seen.cases)
        times = [seconds(row.seen.cases[0].first), seconds(row.seen.cases[0].warm)]
        said = f"{passed} of {len(row.seen.cases)} cases passed"
        shown = ", then ".join(filter(None, times))
        yield f'<span class="{"good" if good else "bad"}">{said}</span> <small>{shown}</small>'


def _more(row: Row, slices: Sequence[str], helped: Addition | None) -> Iterator[str]:
    if row.seen and row.seen.cases:
        yield "<h3>cases</h3><ul>"
        for ran in row.seen.cases:
            yield from _case(ran)
        yield "</ul>"
    if helped:
        yield "<h3>what would have to be added</h3>"
        yield f"<code>{text(helped.change)}</code> <small>{text(_cost(helped))}</small>"
    yield "<h3>slices</h3><ul>"
    for name in slices:
        said = f"{text(name)} <small>{text(_why(row, name))}</small>"
        yield f'<li><i class="cell {_look(row, name)}"></i>{said}</li>'
    yield "</ul>"


def _case(ran: Ran) -> Iterator[str]:
    look = "chosen" if ran.passed else "failed"
    times = ", then ".join(filter(None, (seconds(ran.first), seconds(ran.warm))))
    ended = "not over in time" if ran.status is None else f"status {ran.status}"
    words = " ".join((ran.case, *ran.arguments))
    yield f'<li><i class="cell {look}"></i>{text(words)} <small>{ended}{f", {times}" if times else ""}</small>'
    if ran.why:
        yield f'<div class="bad">{text(ran.why)}</div>'
    if ran.output:
        shown = "\n".join(text(line) for line in ran.output.splitlines())
        opened = "" if ran.passed else ' open="open"'
        yield f"<details{opened}><summary><small>output</small></summary><pre>{shown}</pre></details>"
    yield "</li>"


# What would have to be added ------------------------------------------------------------------------------------


def _additions(additions: Sequence[Addition]) -> Iterator[str]:
    if not additions:
        return
    yield f"<h2>What would have to be added</h2><p>{INDEX_UNASKED}</p>" + '<div class="cards">'
    for one in additions:
        yield '<div class="card">'
        yield f"<code>{text(one.change)}</code>" if one.change else ""
        yield "".join(f'<span class="tag">{text(host)}</span>' for host in one.hosts)
        yield f"<small>{text(_cost(one))}</small></div>"
    yield "</div>"
    if all_of_it := together(additions):
        yield f"<p>All of that: <code>{text(all_of_it)}</code></p>"


def _cost(one: Addition) -> str:
    if not one.change:
        return one.provided
    return f"{one.cost}{f'; provided that {one.provided}' if one.provided else ''}"
