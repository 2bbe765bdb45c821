"""packer/results.py: JSON comes back as it was, and shards of one matrix are put together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support import matrices

from packer import results

WHOLE = matrices.matrix(additions=matrices.ADDITIONS)


def test_json_is_read_back() -> None:
    assert results.from_json(json.loads(json.dumps(WHOLE.json()))) == WHOLE


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        (matrices.GOOD, True), (matrices.PREDICTED, True), (matrices.NONE, True), (matrices.UNKNOWN, True),
        (matrices.REQUIRED, False), (matrices.FAILED, False), (matrices.DIFFERS, False), (matrices.UNUSABLE, False),
    ],
    ids=lambda one: getattr(one, "host", ""),
)  # fmt: skip
def test_what_is_wrong(row: results.Row, passed: bool) -> None:
    assert (row.passed, matrices.matrix(row).passed) == (passed, passed)


def test_shards_are_put_together() -> None:
    shards = [
        matrices.matrix(*matrices.ROWS[:3]), matrices.matrix(*matrices.ROWS[3:], additions=matrices.ADDITIONS),
    ]  # fmt: skip
    assert results.merged(shards) == WHOLE


def test_what_does_not_belong_together_is_not_merged() -> None:
    one, other = matrices.matrix(matrices.GOOD), matrices.matrix(matrices.FAILED)
    with pytest.raises(ValueError, match="host good is in two of them"):
        results.merged([one, other, one])
    with pytest.raises(ValueError, match=f"archive {'1' * 64} is not {'0' * 64}"):
        results.merged([one, replace(other, id="1" * 64)])
    with pytest.raises(ValueError, match="archive http is not"):
        results.merged([one, replace(other, id="")])
