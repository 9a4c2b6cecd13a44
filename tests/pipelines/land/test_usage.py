"""Counters of what landed: they only grow, hold nothing about users, and are bounded."""

import json
from decimal import Decimal

import pyarrow as pa

from pipelines.land.observed import OTHER, only
from pipelines.land.usage import CONTENT, MOST_SERIES, Usage
from schemas.arrow import CALLS
from schemas.usage import compared


def calls(*rows):
    """Rows of (app, model, cost, input, output, duplicate)."""
    names = ("app", "model", "cost_usd", "input_tokens", "output_tokens", "_dup")
    kinds = (pa.string(), pa.string(), pa.decimal128(18, 9), pa.int64(), pa.int64(), pa.bool_())
    columns = zip(*rows, strict=True)
    table = pa.table({n: pa.array(c, k) for n, k, c in zip(names, kinds, columns, strict=True)})
    return marked(table, [(None, None, None)] * len(rows))


def marked(table, marks):
    """``table`` with rows of (cost_status, flags, reported cost); all of them have a computed cost."""
    kinds = {"cost_status": pa.string(), "_flags": pa.list_(pa.string()), "cost_reported_usd": pa.decimal128(18, 9)}
    if "input_cost_usd" not in table.column_names:
        table = table.append_column("input_cost_usd", pa.array([Decimal(1)] * table.num_rows, pa.decimal128(18, 9)))
        table = table.append_column("answer_cache", pa.nulls(table.num_rows, pa.string()))
    for (name, kind), column in zip(kinds.items(), zip(*marks, strict=True), strict=True):
        at = table.schema.get_field_index(name)
        table = table.remove_column(at) if at >= 0 else table
        table = table.append_column(name, pa.array(column, kind))
    return table


NOTHING = [None, None, None, None, None]


def alerts(*rows):
    return pa.table(dict(zip(("detector", "severity", "state"), map(list, zip(*rows, strict=True)), strict=True)))


def test_calls_cost_and_tokens_add_up_by_app_and_model():
    usage = Usage()
    usage.add({"raw_calls": calls(("a", "m", Decimal("0.1"), 3, 4, None), ("a", "m", Decimal("0.2"), 5, 6, False))})
    usage.add({"raw_calls": calls(("a", "m", Decimal("0.000000001"), 1, 1, None))})
    assert usage.facts()["calls"] == [["a", "m", "3", None, "0.300000001", "9", "11", *NOTHING]]


def test_what_was_never_reported_has_no_value_and_is_no_zero():
    usage = Usage()
    usage.add({"raw_calls": calls(("a", None, None, None, None, None), ("b", "m", Decimal(0), 0, None, None))})
    assert sorted(usage.facts()["calls"]) == [
        ["a", "", "1", "1", None, None, None, *NOTHING],
        ["b", "m", "1", None, "0.000000000", "0", None, *NOTHING],
    ]


def test_partly_priced_calls_and_costs_that_differ_are_counted():
    usage = Usage()
    rows = calls(*[("a", "m", Decimal(1), 1, 1, None)] * 3)
    marks = [("partly_priced", None, None), ("computed", ["cost_differs"], Decimal(2)), ("computed", None, Decimal(0))]
    usage.add({"raw_calls": marked(rows, marks)})
    assert usage.facts()["calls"] == [["a", "m", "3", None, "3.000000000", "3", "3", "1", "1", "1", "1", None]]
    assert compared(usage.facts()) == (1, 1)
    assert compared({"calls": [["a", "m", "3", None, "3", "3", "3", "1", "1", "1"]]}) == (0, 1), "of a version before"


def test_texts_are_not_copied_to_count_calls_and_no_duplicate_means_no_copy_at_all():
    assert set(CONTENT) <= set(CALLS.names)
    table = calls(("a", "m", Decimal(1), 3, 4, None), ("a", "m", Decimal(1), 3, 4, True))
    assert only(table, pa.chunked_array([[True, True]])) is table
    assert only(table, pa.chunked_array([[True, False]])).num_rows == 1
    with_texts, without = Usage(), Usage()
    without.add({"raw_calls": table})
    with_texts.add({"raw_calls": table.append_column("output_text", pa.array(["x", "y"]))})
    assert with_texts.facts() == without.facts()


def test_duplicates_do_not_count():
    usage = Usage()
    usage.add({"raw_calls": calls(("a", "m", Decimal(1), 1, 1, True), ("a", "m", Decimal(1), 1, 1, None))})
    assert usage.facts()["calls"] == [["a", "m", "1", None, "1.000000000", "1", "1", *NOTHING]]


def test_shadow_calls_are_counted_beside_all_calls_and_their_cost_is_paid():
    usage, rows = Usage(), calls(*[("a", "m", Decimal(1), 1, 1, None)] * 3)
    usage.add({"raw_calls": rows.append_column("variant", pa.array([None, "shadow", "canary-v8"]))})
    assert usage.facts()["calls"] == [["a", "m", "3", None, "3.000000000", "3", "3", None, None, None, None, "2"]]


def test_a_restart_goes_on_from_what_was_shown():
    usage = Usage()
    batch = {
        "raw_calls": calls(("a", "m", Decimal("0.1"), 3, None, None)),
        "alerts": alerts(("spike", "warning", "firing")),
    }
    usage.add(batch)
    again = Usage(json.loads(json.dumps(usage.facts())))
    assert again.facts() == usage.facts()
    again.add(batch)
    assert {name: again.facts()[name] for name in ("calls", "alerts")} == {
        "calls": [["a", "m", "2", None, "0.200000000", "6", None, *NOTHING]],
        "alerts": [["spike", "warning", "firing", 2]],
    }


def test_the_number_of_series_is_bounded_and_nothing_is_lost_beyond_it():
    usage = Usage()
    for first in range(0, 1000, 100):
        usage.add({"raw_calls": calls(*((f"app-{n}", "m", None, 1, None, None) for n in range(first, first + 100)))})
    found = usage.facts()["calls"]
    assert len(found) == MOST_SERIES + 1
    assert sum(int(row[2]) for row in found) == 1000
    assert [row[2] for row in found if row[0] == OTHER] == [str(1000 - MOST_SERIES)]


def test_a_label_is_printable_and_short():
    usage = Usage()
    usage.add({"raw_calls": calls(("\x1b[31m" + "x" * 500, "m\n", None, None, None, None))})
    ((app, model, *_),) = usage.facts()["calls"]
    assert app == "\ufffd[31m" + "x" * 95
    assert model == "m\ufffd"
