"""What ``doctor`` shows of the rows that landed."""

from __future__ import annotations

import duckdb

from tailrace.cli.doctor import lines
from tailrace.monitor.doctor import _UNKNOWN_FIELDS, Hop, differing_costs, far_clocks, unknown_fields


def test_unknown_fields_of_the_last_day_are_counted_by_name():
    lake = duckdb.connect()
    for table in ("raw_calls", "raw_feedback", "raw_evals"):
        lake.execute(f"CREATE TABLE {table} (_flags VARCHAR[], _landed_at TIMESTAMPTZ)")
    lake.execute("INSERT INTO raw_calls SELECT ['clamped', 'unknown_field:input_token'], now() FROM range(3)")
    lake.execute("INSERT INTO raw_calls SELECT ['unknown_field:usr'], now() - INTERVAL 2 DAY FROM range(9)")
    lake.execute("INSERT INTO raw_feedback VALUES (['unknown_field:value'], now()), (NULL, now())")
    hop = unknown_fields(lake.execute(_UNKNOWN_FIELDS).to_arrow_table().to_pylist())
    assert hop.ok
    assert hop.detail == (
        "unknown fields in what landed in the last 24 h: input_token (did you mean tokens.input?): 3 calls, "
        "value (did you mean score?): 1 feedback events"
    )
    lake.close()


def test_a_lake_without_unknown_fields_says_so_and_a_flood_of_names_is_cut():
    assert unknown_fields([]).detail == "no unknown field in what landed in the last 24 h"
    rows = [{"kind": "call", "flag": f"unknown_field:input_token{i}", "events": 1} for i in range(100)]
    assert unknown_fields(rows).detail.endswith("input_token4 (did you mean tokens.input?): 1 calls, and 95 more names")


def test_far_clocks_are_counted_with_how_far_they_are_and_what_history_needs():
    assert far_clocks({"events": 0, "past": 0, "us": None}).detail == "no far clock in what landed in the last 24 h"
    hop = far_clocks({"events": 4291, "past": 4290, "us": 61 * 86_400_000_000})
    assert hop.ok
    assert "4,291 events" in hop.detail
    assert "up to 61 days from their arrival" in hop.detail
    assert "emit --history" in hop.detail


def test_on_a_terminal_a_hop_is_wrapped_between_words_and_in_a_pipe_it_is_one_line():
    detail = "4,991 events that landed in the last 24 h have a time up to 1,128 days from their arrival: \x1b[31mred"
    hop = Hop("clocks", False, f"{detail}\nsecond", "send such with `tailrace emit --history`")
    clean = detail.replace("\x1b", "\ufffd")
    wrapped = list(lines(hop, 80))
    assert max(map(len, wrapped)) <= 80
    assert wrapped[0] == "FAILED  clocks     4,991 events that landed in the last 24 h have a time up to"
    assert wrapped[1] == "                   1,128 days from their arrival: \ufffd[31mred"
    assert list(lines(hop, None)) == [
        f"FAILED  clocks     {clean}",
        "                   second",
        "        send such with `tailrace emit --history`",
    ]


def test_a_value_that_does_not_fit_is_told_apart_from_a_wrong_name():
    rows = [
        {"kind": "call", "flag": f"unknown_field:{name}", "events": 1} for name in ("status", "tools.0.ms", "stats")
    ]
    assert unknown_fields(rows).detail.endswith(
        "status (its value does not fit the field): 1 calls, "
        "tools.0.ms (its value does not fit the field): 1 calls, stats (did you mean status?): 1 calls"
    )


def test_the_share_of_reported_costs_that_differ_is_shown_with_where_most_of_them_are():
    nothing = {"compared": None, "differing": None, "most": None}
    assert differing_costs(nothing).detail == "no call of today or yesterday has a reported cost to compare with"
    hop = differing_costs({"compared": 3400, "differing": 408, "most": "bot openrouter gpt-4o"})
    assert hop.ok
    assert hop.detail.startswith("408 of 3,400 reported costs of today and yesterday (12.0%) are more than 1 % off")
    assert "most of bot openrouter gpt-4o" in hop.detail
