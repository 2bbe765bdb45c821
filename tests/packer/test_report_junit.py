"""packer/report_junit.py: the structure that services read, as Jenkins' schema (junit-10.xsd) has it."""

from __future__ import annotations

from xml.etree import ElementTree

from junitparser import Error, Failure, JUnitXml, Skipped
from support import matrices

from packer import report_junit
from packer.results import Row, Seen

_COUNTS = {"tests", "failures", "errors", "time"}
SCHEMA = {
    "testsuites": ({"name"} | _COUNTS, set(), {"testsuite"}),
    "testsuite": ({"name"} | _COUNTS, {"skipped", "timestamp", "hostname", "id"}, {"testcase"}),
    "testcase": ({"name"}, {"classname", "time"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    "failure": (set(), {"message", "type"}, set()),
    "error": (set(), {"message", "type"}, set()),
    "skipped": (set(), {"message", "type"}, set()),
    "system-out": (set(), set(), set()),
}
"""Element -> attributes that it must have, others that it may have, and elements in it; the others are text."""

DOCUMENT = report_junit.xml(matrices.matrix())


def test_the_structure_is_the_schemas() -> None:
    for element in ElementTree.fromstring(DOCUMENT).iter():
        must, may, inside = SCHEMA[element.tag]
        assert must <= set(element.attrib) <= must | may, element.tag
        assert {child.tag for child in element} <= inside, element.tag
        assert not inside or not (element.text or "").strip()
        for key in set(element.attrib) & {"tests", "failures", "errors", "skipped"}:
            assert element.attrib[key].isdecimal()
        if "time" in element.attrib:
            assert float(element.attrib["time"]) >= 0


def test_another_reader_counts_the_same() -> None:
    read = JUnitXml.fromstring(DOCUMENT.encode())
    said = (read.tests, read.failures, read.errors)
    assert said == (12, 3, 1)
    read.update_statistics()  # type: ignore[no-untyped-call]
    assert (read.tests, read.failures, read.errors) == said
    suites = {suite.name: suite for suite in read}
    assert list(suites) == [row.host for row in matrices.ROWS]
    results = {name: [tuple(map(type, case.result)) for case in suite] for name, suite in suites.items()}
    assert results == {
        "good": [(), ()], "predicted": [()], "none": [(Skipped,)], "required": [(Failure,)],
        "failed": [(), (), (Failure,)], "differs": [(Failure,), ()], "unusable": [(Error,)], "unknown": [()],
    }  # fmt: skip
    (case,), failed = suites["required"], list(suites["failed"])[2]
    assert case.result[0].message == "no slice runs there"
    assert "cp39-manylinux_2_17_x86_64: needs CPython cp313, cp311, cp39, found cp37" in case.result[0].text
    assert (failed.name, failed.classname, failed.time) == ("get --version", "failed", 1.375)
    assert failed.result[0].message == "ends with 3, not 0"
    assert failed.system_out == "no <b>\\x1b[1m\n"


def test_a_required_host_of_which_nothing_is_known_fails() -> None:
    tree = ElementTree.fromstring(report_junit.xml(matrices.matrix(Row("h", "t", True, None))))
    assert [one.get("message") for one in tree.iter("failure")] == ["nothing is known of it"]


def test_what_xml_cannot_have_is_written_out() -> None:
    output = "".join(map(chr, range(0x100))) + "\ud800\ufffe\U0001f40d"
    row = Row("h\x00", "t", False, None, Seen(None, "", (matrices.ran(output=output),)))
    tree = ElementTree.fromstring(report_junit.xml(matrices.matrix(row)))
    assert tree[0].get("name") == "h\\x00"
    read = tree.findtext(".//testcase[2]/system-out")
    assert read is not None
    assert read.startswith("\\x00\\x01")
    assert read.endswith("\xff\\ud800\\ufffe\U0001f40d")
