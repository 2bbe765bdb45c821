"""packer/results.py: JSON comes back as it was, and shards of one matrix are put together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

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


NAMES = tuple(row.host for row in matrices.ROWS)


def shard(number: int, count: int, **more: Any) -> results.Matrix:
    """One of the parts of a run."""
    part = matrices.matrix(*matrices.ROWS[number - 1 :: count])
    return replace(part, **{"shard": (number, count), "plan": NAMES, **more})


def test_parts_of_a_run_are_put_together_in_its_order() -> None:
    parts = [results.from_json(json.loads(json.dumps(shard(number, 3).json()))) for number in (3, 1, 2)]
    assert parts[0] == shard(3, 3)
    assert results.merged(parts) == replace(matrices.matrix(), plan=NAMES)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([shard(1, 2)], "it is a part of a run: of 2 shards there is no 2"),
        ([shard(2, 4)], "it is a part of a run: of 4 shards there is no 1, 3, 4"),
        ([shard(1, 10**15)], "it is a part of a run: of 1000000000000000 shards there is no 2, 3, 4, 5,"),
        ([shard(1, 2), shard(1, 2)], "shard 1 of 2 is there twice"),
        ([shard(1, 3), shard(2, 2)], "they are parts of different runs: shard 1 of 3, shard 2 of 2"),
        ([shard(1, 2), matrices.matrix(*matrices.ROWS[1::2])], "they are parts of different runs: shard 1 of 2, no "),
        ([shard(1, 2), shard(2, 2, plan=NAMES[1:])], "they are parts of different runs, which do not have the same "),
        ([shard(1, 2), shard(2, 2, rows=())], "nothing was seen of predicted, required, differs, unknown"),
        ([replace(matrices.matrix(*matrices.ROWS[1:]), plan=NAMES)], "nothing was seen of good"),
    ],
)
def test_a_part_that_is_lost_is_named(parts: list[results.Matrix], error: str) -> None:
    with pytest.raises(ValueError, match=f"^{error}"):
        results.merged(parts)


def test_a_required_host_of_which_nothing_is_known() -> None:
    assert not replace(matrices.UNKNOWN, required=True).passed


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"file": 1}, "file must be a string, is 1"),
        ({"slices": "x"}, "slices must be a list, is 'x'"),
        ({"hosts": {}}, "hosts must be a list, is {}"),
        ({"hosts": ["h"]}, "one of rows must be an object, is 'h'"),
        ({"host": ["h"]}, r"host must be a string, is \['h'\]"),
        ({"required": 1}, "required must be true or false, is 1"),
        ({"seen": []}, r"seen must be an object, is \[\]"),
        ({"predicted": {"slice": None, "python": None, "reasons": {"s": "why"}}}, "one of reasons must be a list, is"),
        ({"shard": [3, 2]}, r"there is no shard \[3, 2\]"),
        ({"shard": [1]}, r"there is no shard \[1\]"),
        ({"shard": ["1", 2]}, "one of shard must be a number, is '1'"),
    ],
)  # fmt: skip
def test_what_is_of_another_type_is_named(change: dict[str, Any], error: str) -> None:
    said = json.loads(json.dumps(matrices.matrix(matrices.GOOD).json()))
    ((key, _),) = change.items()
    (said if key in said else said["hosts"][0]).update(change)
    with pytest.raises((TypeError, ValueError), match=f"^{error}"):
        results.from_json(said)


def test_what_does_not_belong_together_is_not_merged() -> None:
    one, other = matrices.matrix(matrices.GOOD), matrices.matrix(matrices.FAILED)
    with pytest.raises(ValueError, match="host good is in two of them"):
        results.merged([one, other, one])
    with pytest.raises(ValueError, match=f"archive {'1' * 64} is not {'0' * 64}"):
        results.merged([one, replace(other, id="1" * 64)])
    with pytest.raises(ValueError, match="archive http is not"):
        results.merged([one, replace(other, id="")])
