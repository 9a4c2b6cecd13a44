"""Distributions of what landed: exact, bounded, and they go on after a restart."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pipelines.land.observed import DURATION_S, MOST, OTHER, Observed
from tests.monitoring.home import decoded

GUARDRAILS = pa.list_(pa.struct([("name", pa.string()), ("action", pa.string())]))


def calls(rows):
    names = ("app", "provider", "model", "op", "status", "latency_ms", "ttft_ms", "input_tokens", "output_tokens")
    kinds = [pa.string()] * 5 + [pa.float64()] * 2 + [pa.int64()] * 2
    columns = {n: pa.array([row.get(n) for row in rows], k) for n, k in zip(names, kinds, strict=True)}
    return pa.table({**columns, "guardrails": pa.array([row.get("guardrails") for row in rows], GUARDRAILS)})


def facts(*rows):
    observed = Observed()
    observed.add_calls(calls(rows))
    return observed.facts()


def test_a_value_at_a_bound_is_within_it_and_one_above_the_last_has_no_bound():
    ((key, values),) = facts(
        {"app": "a", "latency_ms": 10.0}, {"app": "a", "latency_ms": 10.1}, {"app": "a", "latency_ms": 1e6}
    )["duration"]
    assert key == ["a", "", "", ""]
    assert values[:2] == [1, 1]
    assert (values[len(DURATION_S)], values[-1]) == (1, pytest.approx(1000.0201))


def test_what_was_never_reported_has_no_histogram():
    found = facts({"app": "a"}, {"app": "b", "input_tokens": 0})
    assert set(found) == {"input_tokens", "ends"}
    assert [key for key, _ in found["input_tokens"]] == [["b", "", "", ""]]


def test_a_call_without_a_status_ended_well():
    assert facts({"app": "a"}, {"app": "a", "status": "error"})["ends"] == [[["a", "ok"], 1], [["a", "error"], 1]]


def test_guardrails_count_calls_on_which_they_did_something():
    twice = [{"name": "pii", "action": "redact"}] * 2 + [{"name": "pii", "action": "pass"}]
    found = facts({"app": "a", "guardrails": twice}, {"app": "b"}, {"app": "a", "guardrails": twice[:1]})
    assert found["guardrails"] == [[["a", "pii", "redact"], 2]]


def test_batches_and_restarts_do_not_show():
    tables = [decoded(first, 50) for first in (0, 50, 100)]
    whole, parts = Observed(), Observed()
    for each in tables:
        whole.add_calls(each["raw_calls"])
        whole.add_dead(each["dead"])
        parts = Observed(json.loads(json.dumps(parts.facts())))
        parts.add_calls(each["raw_calls"])
        parts.add_dead(each["dead"])
    assert parts.facts() == whole.facts()
    assert whole.facts()["dead"] == [[["llm.events", "not_json"], 15]]
    assert set(whole.facts()) >= {"duration", "first_chunk", "input_tokens", "output_tokens", "ends", "guardrails"}


def test_keys_are_bounded():
    found = facts(*({"app": f"a{n}", "latency_ms": 1.0, "status": "ok"} for n in range(MOST + 50)))
    for name in ("duration", "ends"):
        assert len(found[name]) == MOST + 1
    assert dict((tuple(key), value) for key, value in found["ends"])[OTHER, OTHER] == 50


def test_facts_of_another_shape_are_left_out():
    assert Observed({"duration": [[["a"], [1]]], "ends": [[["a"], 1]]}).facts() == {}


def test_what_users_did_not_get_is_in_tokens_only():
    rows = [{"app": "a", "status": "ok", "latency_ms": 10.0, "ttft_ms": 1.0, "input_tokens": 5}] * 3
    hidden = [{"name": "pii", "action": "block"}]
    table = calls([*rows, {**rows[0], "status": "error", "guardrails": hidden}])
    observed = Observed()
    observed.add_calls(table.append_column("variant", pa.array([None, "b", "Shadow/2", "canary"])))
    found = observed.facts()
    assert found["ends"] == [[["a", "ok"], 2]]
    assert "guardrails" not in found
    counts = {name: sum(found[name][0][1][:-1]) for name in ("duration", "first_chunk", "input_tokens")}
    assert counts == {"duration": 2, "first_chunk": 2, "input_tokens": 4}
    only = Observed()
    only.add_calls(table.append_column("variant", pa.array(["shadow"] * 4)))
    assert set(only.facts()) == {"input_tokens"}
