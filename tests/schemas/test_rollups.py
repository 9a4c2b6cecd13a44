"""Rollups of earlier versions are completed; those of today are not touched."""

from __future__ import annotations

import pyarrow as pa
import pytest

from schemas.rollups import ROLLUP, SUMS, completed


def test_a_rollup_of_today_is_handed_on_without_a_cast():
    table = ROLLUP.empty_table()
    assert completed(table) is table


def test_a_sum_that_an_earlier_version_did_not_count_is_0_and_another_missing_column_is_an_error():
    row = {name: None for name in ROLLUP.names} | {"dims": "app", "series": '{"app":"a"}', "second": 7}
    table = pa.Table.from_pylist([row | dict.fromkeys(SUMS, 3)], ROLLUP)
    earlier = table.drop_columns(["cost_differs", "costs_compared"])
    found = completed(earlier)
    assert found.schema == ROLLUP
    assert found.to_pylist() == [table.to_pylist()[0] | {"cost_differs": 0, "costs_compared": 0}]
    with pytest.raises(KeyError):
        completed(table.drop_columns(["second"]))
