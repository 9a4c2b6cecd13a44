"""One verdict for every bad and odd event, and one for land and meter."""

from __future__ import annotations

import json
import math
import re
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decode import REASONS, DuplicateWindow, Reject, decode, decode_metered, verdict
from pipelines.decode.check import admit
from pipelines.decode.explain import explain
from pipelines.decode.reasons import FIELD_REASONS, FLAGS, UNKNOWN_FIELD
from pipelines.pricing import PriceBooks
from schemas.arrow import CALLS, DEAD, DEAD_BYTES, EVALS, FEEDBACK
from schemas.records import Records
from tailrace_emitter.event import Call


def plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, ".9f")
    return value.isoformat() if hasattr(value, "isoformat") else value


def test_the_corpus_is_large_and_every_reason_of_the_closed_list_is_in_it(corpus):
    reasons = {case.reason for case in corpus if case.reason}
    assert len(corpus) >= 150
    assert set(REASONS) <= reasons
    assert {r.split(":")[0] for r in reasons if ":" in r} == set(FIELD_REASONS)
    assert reasons == {
        r for r in reasons if r in REASONS or re.fullmatch(r"(missing|type|range|not_finite):[a-z_.0-9]+", r)
    }


@pytest.mark.row(33, 34, 35, 36, 37)
def test_every_bad_event_is_dead_for_its_reason_between_neighbours_that_land(corpus, books, batch, call):
    dead = [case for case in corpus if case.reason]
    values = [v for case in dead for v in (call(user=case.name), case.value)] + [call()]
    decoded = decode(batch(values), books, DuplicateWindow(), epoch=3, landed_at=5)
    assert [(n, r) for n, r in zip([c.name for c in dead], decoded.dead["reason"].to_pylist(), strict=True)] == [
        (c.name, c.reason) for c in dead
    ]
    assert decoded.dead["_offset"].to_pylist() == list(range(1, len(values), 2))
    assert decoded.calls["_offset"].to_pylist() == list(range(0, len(values), 2))
    assert decoded.calls["user_id"].to_pylist() == [*(c.name for c in dead), None]
    assert decoded.dead_bytes["bytes"].to_pylist() == [c.value for c in dead]
    assert decoded.dead.schema.equals(DEAD)
    assert decoded.dead_bytes.schema.equals(DEAD_BYTES)


@pytest.mark.row(35, 43, 46)
def test_every_odd_event_lands_with_its_columns_and_flags(corpus, books, batch):
    odd = [case for case in corpus if case.reason is None]
    decoded = decode(batch([case.value for case in odd]), books, DuplicateWindow(), epoch=0, landed_at=0)
    assert decoded.dead.to_pylist() == []
    rows = {row["_offset"]: row for t in (decoded.calls, decoded.feedback, decoded.evals) for row in t.to_pylist()}
    for offset, case in enumerate(odd):
        row = rows[offset]
        assert (case.name, row["_flags"] or []) == (case.name, case.flags)
        got = {name: plain(row[name]) for name in case.columns}
        assert (case.name, got) == (case.name, case.columns)
    assert decoded.calls.schema.equals(CALLS)
    assert decoded.feedback.schema.equals(FEEDBACK)
    assert decoded.evals.schema.equals(EVALS)


def test_land_and_meter_agree_on_every_event_of_the_corpus(corpus, books, batch):
    records = batch([case.value for case in corpus])
    landed = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0)
    metered = decode_metered(records, books, DuplicateWindow(), epoch=0)
    assert metered.dead == landed.dead.num_rows
    assert (metered.feedback, metered.evals, metered.dups) == (landed.feedback.num_rows, landed.evals.num_rows, 0)
    same = ["id", "_offset", "_kafka_time", "ts", "app", "model", "cost_usd", "cost_status", "price_version"]
    same += ["input_tokens", "output_tokens", "latency_ms", "error_type", "prompt_version"]
    assert metered.table.select(same).equals(landed.calls.select(same))
    assert metered.table.num_rows == landed.calls.num_rows > 50


@pytest.mark.row(36)
def test_sums_over_the_corpus_stay_finite(corpus, books, batch):
    decoded = decode(batch([case.value for case in corpus]), books, DuplicateWindow(), epoch=0, landed_at=0)
    for table in (decoded.calls, decoded.evals, decoded.feedback):
        for column in table.columns:
            if pa.types.is_floating(column.type):
                assert all(math.isfinite(x) for x in column.to_pylist() if x is not None)
    found = {f.partition(":")[0] for flags in decoded.calls["_flags"].to_pylist() for f in flags or ()}
    assert {*FLAGS, UNKNOWN_FIELD} >= found


def test_a_detail_never_quotes_what_the_app_wrote(corpus):
    secret = "hunter2hunter2"
    for fields in (
        {"status": secret},
        {"tokens": {"input": secret}},
        {"type": secret},
        {"id": secret},
        {"_" + secret: 1},
    ):
        event = {
            "v": 1,
            "type": "call",
            "id": "0199f3a4-0000-7000-8000-000000000001",
            "ts": 0,
            "app": "a",
            "model": "m",
        }
        rejected = verdict(json.dumps(event | fields).encode())
        assert isinstance(rejected, Reject)
        assert secret not in rejected.reason + rejected.detail


def test_the_slow_way_gives_what_the_fast_way_gives(corpus, call):
    for value in [case.value for case in corpus if case.reason is None] + [call()]:
        fast, slow = admit(value), explain(value)
        assert not isinstance(fast, Reject)
        assert not isinstance(slow, Reject)
        assert (fast[1], fast[2]) == (slow[1], slow[2])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*Call.__struct_fields__, "call_id", "kind", "score", "name", "new", "_x"])


EVENTS = st.builds(
    lambda fields, kind: json.dumps(base(kind) | fields).encode(),
    st.dictionaries(FIELDS, JSON_VALUES, max_size=6),
    st.sampled_from(["call", "feedback", "eval"]),
)


def base(kind: str) -> dict[str, Any]:
    return {"v": 1, "type": kind, "id": "0199f3a4-0000-7000-8000-000000000001", "ts": 0, "app": "a", "model": "m"}


@settings(max_examples=50, deadline=None)
@given(values=st.lists(EVENTS, min_size=1, max_size=12))
def test_any_json_in_any_field_gets_one_verdict_and_lands_or_dies_alone(books, values):
    check_alone(books, values)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
@pytest.mark.row(33, 34, 35)
def test_any_mutation_of_bytes_gets_one_verdict_and_lands_or_dies_alone(books, corpus, data):
    short = [c.value for c in corpus if c.value and len(c.value) < 4000]
    values = []
    for _ in range(data.draw(st.integers(1, 12))):
        value = bytearray(data.draw(st.sampled_from(short)))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(value)))
            value[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        values.append(bytes(value))
    check_alone(books, values)


def check_alone(books: PriceBooks, values: list[bytes]) -> None:
    """Good events stand between the values: every one of them lands, at its own offset, whatever the values are."""
    good = [json.dumps(base("call") | {"id": str(uuid.UUID(int=i))}).encode() for i in range(len(values))]
    mixed = [v for pair in zip(good, values, strict=True) for v in pair]
    n = len(mixed)
    records = Records("llm.events", [0] * n, list(range(n)), [10**15] * n, [None] * n, list(mixed), [()] * n)
    found = [verdict(value) for value in values]
    assert [verdict(value) for value in values] == found
    reasons = {i: one.reason for i, one in enumerate(found) if isinstance(one, Reject)}
    dead = list(reasons)

    landed = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0)
    metered = decode_metered(records, books, DuplicateWindow(), epoch=0)
    assert landed.dead["_offset"].to_pylist() == [2 * i + 1 for i in dead]
    assert landed.dead["reason"].to_pylist() == list(reasons.values())
    assert landed.dead_bytes["bytes"].to_pylist() == [values[i] for i in dead]
    assert landed.accepted + len(dead) == n
    calls = dict(zip(landed.calls["_offset"].to_pylist(), landed.calls["id"].to_pylist(), strict=True))
    assert [calls[2 * i] for i in range(len(values))] == [str(uuid.UUID(int=i)) for i in range(len(values))]
    assert metered.dead == len(dead)
    assert metered.table.num_rows + metered.dups + metered.feedback + metered.evals + metered.dead == n
    assert all(r in REASONS or r.split(":")[0] in FIELD_REASONS for r in landed.dead["reason"].to_pylist())


def test_thousands_of_keys_that_become_equal_cost_no_more_than_their_number():
    keys = {"".join(chr(1 + i // 6**d % 6) for d in range(6)): i for i in range(18_000)}
    found = verdict(json.dumps(base("call") | {"extra": keys}).encode())
    assert not isinstance(found, Reject)
    assert found.flags == ("replaced_utf8", "extra_cut")
    assert len(found.event.extra) == 64
