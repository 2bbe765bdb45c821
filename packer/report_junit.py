"""A matrix as JUnit XML, as services for continuous integration show tests: a suite per host, whose first test is
that a slice runs there, and one more per case that was run."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from packer.page import writable as _text
from packer.report_text import by_reason, choice_of

if TYPE_CHECKING:
    from packer.results import Matrix, Ran, Row


def xml(matrix: Matrix) -> str:
    """Give the document."""
    suites = ElementTree.Element("testsuites", name=_text(matrix.file))
    for row in matrix.rows:
        suites.append(_suite(row))
    for key in ("tests", "failures", "errors"):
        suites.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    suites.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _suite(row: Row) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_text(row.host))
    suite.append(_selection(row))
    for ran in row.seen.cases if row.seen else ():
        suite.append(_case(row, ran))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(test.find(tag) is not None for test in suite)))
    suite.set("tests", str(len(suite)))
    suite.set("time", f"{sum(float(test.get('time', '0')) for test in suite):.3f}")
    return suite


def _selection(row: Row) -> ElementTree.Element:
    """Give the test of a host's choice: that none runs fails where one is required, and elsewhere is only said."""
    test = _test(row, "selection", 0.0)
    choice = choice_of(row)
    why = [f"{', '.join(names)}: {why}" for why, names in by_reason(choice.reasons).items()] if choice else []
    if row.seen and row.seen.error:
        _add(test, "error", row.seen.error, "")
    elif not row.agrees and row.seen and row.seen.choice and row.predicted:
        said = f"selects {row.seen.choice.slice or 'none'}, predicted was {row.predicted.slice or 'none'}"
        _add(test, "failure", said, "\n".join(why))
    elif row.required and choice is None:
        _add(test, "failure", "nothing is known of it", "")
    elif choice and choice.slice is None:
        _add(test, "failure" if row.required else "skipped", "no slice runs there", "\n".join(why))
    runs = [f"{choice.slice}, {choice.python or 'its own Python'}"] if choice and choice.slice else []
    _output(test, "\n".join([row.title, *runs]))
    return test


def _case(row: Row, ran: Ran) -> ElementTree.Element:
    test = _test(row, " ".join((ran.case, *ran.arguments)), (ran.first or 0.0) + (ran.warm or 0.0))
    if not ran.passed:
        _add(test, "failure", ran.why, "")
    _output(test, ran.output)
    return test


def _test(row: Row, name: str, time: float) -> ElementTree.Element:
    return ElementTree.Element("testcase", classname=_text(row.host), name=_text(name), time=f"{time:.3f}")


def _add(test: ElementTree.Element, tag: str, message: str, more: str) -> None:
    ElementTree.SubElement(test, tag, message=_text(message)).text = _text(more)


def _output(test: ElementTree.Element, output: str) -> None:
    if output:
        ElementTree.SubElement(test, "system-out").text = _text(output)
