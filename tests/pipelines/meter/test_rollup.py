"""What a rollup says, next to a count by hand; and that no split of the calls shows in it."""

import math
from collections import Counter

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.decode import METERED
from pipelines.meter import Plan, combine, merge, roll_up
from pipelines.meter.measures import bucket_bounds, buckets, call_hashes
from schemas.errors import SettingsError
from schemas.rollups import BUCKET_GAMMA, CALL_GAMMA, MAYBE_BUCKETS, NOT_USER_FACING, ROLLUP, SUMS, completed

SECOND = 1_700_000_000


def row(tables, key, **pairs):
    """The one row of the series ``pairs`` (in order) in the tables of ``key``."""
    series = msgspec.json.encode(pairs).decode()
    (found,) = [r for r in tables[0, key].to_pylist() if r["series"] == series]
    return found


def test_a_call_counts_in_every_family_it_has_a_value_for(metered):
    tables = roll_up(metered({"feature": "chat", "team": "core", "tenant": "acme", "user": "u1"}))
    assert set(tables) == {(0, "bot"), (0, "*")}
    assert all(t.schema == ROLLUP for t in tables.values())
    dims = sorted(tables[0, "bot"]["dims"].to_pylist())
    assert dims == ["app", "app,feature", "app,feature,model", "app,model", "app,team", "app,tenant", "app,user"]
    assert sorted(tables[0, "*"]["dims"].to_pylist()) == ["", "model", "team", "tenant"]
    assert tables[0, "*"]["series"].to_pylist()[0] == "{}"
    assert row(tables, "bot", app="bot", feature="chat", model="m1")["dims"] == "app,feature,model"


def test_sums_are_exact_and_null_is_counted_as_missing(metered):
    big = 2**53 - 1
    tables = roll_up(
        metered(
            {"input_tokens": big, "output_tokens": 1, "cost_nanousd": 2**55 + 1},
            {"input_tokens": big, "output_tokens": 2, "cost_nanousd": 2**55 + 1},
            {"input_tokens": None, "cost_nanousd": None},
        )
    )
    found = row(tables, "bot", app="bot")
    assert found["input_tokens"] == 2 * big
    assert found["cost_nanousd"] == 2 * (2**55 + 1)
    assert (found["calls"], found["output_tokens"], found["unpriced"], found["usage_missing"]) == (3, 3, 1, 1)


@pytest.mark.parametrize(
    ("facts", "counted"),
    [
        ({"status": "error"}, {"errors"}),
        ({"status": "cancelled"}, set()),
        ({"status": "blocked"}, {"blocked"}),
        ({"guardrails": [{"name": "pii", "action": "block"}]}, {"blocked"}),
        ({"guardrails": [{"name": "pii", "action": "flag"}]}, set()),
        ({"refused": True}, {"refused"}),
        ({"refused": False, "finish_reason": "stop"}, set()),
        ({"finish_reason": "content_filter"}, {"refused"}),
        ({"finish_reason": "refusal"}, {"refused"}),
        ({"finish_reason": "SAFETY"}, {"refused"}),
        ({"finish_reason": "length"}, {"truncated"}),
        ({"finish_reason": "max_tokens"}, {"truncated"}),
        ({"finish_reason": "MAX_TOKENS"}, {"truncated"}),
        ({"fallback_from": "gpt-4o"}, {"fallbacks"}),
        ({"retrieval": True, "retrieval_docs_count": 0}, {"retrievals", "empty_retrievals"}),
        ({"retrieval": True, "retrieval_docs_count": None}, {"retrievals"}),
        ({"answer_cache": "exact"}, {"cache_exact"}),
        ({"answer_cache": "semantic"}, {"cache_semantic"}),
        ({"answer_cache": "none"}, set()),
    ],
)
def test_what_a_call_counts_as(metered, facts, counted):
    found = row(roll_up(metered({"input_tokens": 1, "cost_nanousd": 1, **facts})), "bot", app="bot")
    others = {name for name in SUMS if name not in ("calls", "input_tokens", "cost_nanousd") and found[name]}
    assert others == counted


def test_shadow_and_canary_calls_are_counted_apart_but_in_series_of_their_variant(metered):
    calls = metered(
        {"variant": None, "cost_nanousd": 1},
        {"variant": "control", "status": "error", "cost_nanousd": 1},
        {"variant": "shadow-x", "status": "error", "cost_nanousd": 1},
        {"variant": "Canary", "refused": True, "cost_nanousd": 1},
    )
    tables = roll_up(calls)
    whole = row(tables, "bot", app="bot")
    assert (whole["calls"], whole["errors"], whole["refused"], whole["cost_nanousd"]) == (4, 2, 1, 4)
    apart = {name: whole[name] for name in NOT_USER_FACING}
    assert apart == {"shadow_calls": 2, "shadow_errors": 1, "shadow_blocked": 0, "shadow_refused": 1}
    own = row(tables, "bot", app="bot", variant="shadow-x")
    assert (own["calls"], own["errors"], own["shadow_calls"], own["shadow_errors"]) == (1, 1, 0, 0)


def test_triggers_are_counted_by_name_and_action_once_a_call(metered):
    twice = [
        {"name": "pii", "action": "redact"},
        {"name": "pii", "action": "redact"},
        {"name": "tox", "action": "pass"},
    ]
    tables = roll_up(metered({"guardrails": twice}, {"guardrails": twice[:1]}, {"guardrails": None}))
    found = row(tables, "bot", app="bot")
    assert found["guardrails"] == [{"name": "pii", "action": "redact", "calls": 2}]
    (shown,) = [e for e in found["exemplars"] if e["measure"].startswith("guardrail")]
    assert (shown["measure"], shown["offset"]) == ("guardrail:pii:redact", 0)


def test_error_types_are_counted_with_their_status(metered):
    tables = roll_up(
        metered(*[{"status": "error", "error_type": "Timeout"}] * 2, {"status": "ok", "error_type": "Retry"})
    )
    found = row(tables, "bot", app="bot")
    assert found["error_types"] == [
        {"name": "Retry", "action": "ok", "calls": 1},
        {"name": "Timeout", "action": "error", "calls": 2},
    ]
    assert {e["measure"] for e in found["exemplars"]} == {"error:Retry", "error:Timeout", "hash"}


def test_exemplars_are_the_dearest_the_longest_the_slowest_and_some_by_hash(metered):
    rows = [{"cost_nanousd": c, "input_tokens": 100 - c, "latency_ms": float(c), "user": "u"} for c in range(10)]
    tables = roll_up(metered(*rows))
    shown = row(tables, "bot", app="bot")["exemplars"]
    by_measure = {m: [e["offset"] for e in shown if e["measure"] == m] for m in ("cost", "tokens", "latency", "hash")}
    assert by_measure["cost"] == [9, 8, 7]
    assert by_measure["tokens"] == [0, 1, 2]
    assert by_measure["latency"] == [9, 8, 7]
    assert len(by_measure["hash"]) == 3
    assert [e["value"] for e in shown if e["measure"] == "latency"] == [9000, 8000, 7000], "microseconds"
    wide = row(tables, "bot", app="bot", user="u")["exemplars"]
    assert Counter(e["measure"] for e in wide) == {"cost": 1, "tokens": 1, "latency": 1, "hash": 1}


def test_a_bucket_holds_what_its_bounds_say():
    ms = [0.0, 0.3, 1.0, 1.01, 1.02, 1.03, 500.0, 86_400_000.0, float(2**53)]
    for value, bucket in zip(ms, buckets(pa.chunked_array([pa.array(ms)])), strict=True):
        over, up_to = bucket_bounds(int(bucket))
        assert over * (1 - 1e-12) <= value <= up_to * (1 + 1e-12)
        assert bucket < 2**15
    assert buckets(pa.chunked_array([pa.array([None], pa.float64())])).tolist() == [-1]


def test_a_quantile_of_the_buckets_is_within_one_percent(metered):
    values = np.random.default_rng(7).lognormal(6, 1, 2000)
    found = row(roll_up(metered(*[{"latency_ms": float(v)} for v in values])), "bot", app="bot")
    counts = [(b["bucket"], b["calls"]) for b in found["latency"]]
    assert counts == sorted(counts)
    ranks = np.cumsum([c for _, c in counts])
    bucket = counts[int(np.searchsorted(ranks, 0.95 * ranks[-1]))][0]
    middle = 2 * BUCKET_GAMMA**bucket / (BUCKET_GAMMA + 1)
    assert math.isclose(middle, np.sort(values)[int(0.95 * 2000) - 1], rel_tol=0.0101)


def test_other_values_share_one_series_even_with_a_value_of_that_name(metered):
    calls = metered({"user": "a"}, {"user": "b"}, {"user": "other"}, {"user": None})
    tables = roll_up(calls, tracked={"user": np.array([True, False, True, False])})
    users = {r["series"]: r["calls"] for r in tables[0, "bot"].to_pylist() if r["dims"] == "app,user"}
    assert users == {'{"app":"bot","user":"a"}': 1, '{"app":"bot","user":"other"}': 2}


def test_hostile_names_stay_what_they_are(metered):
    evil = '"}\n\\,\x00ü🎉'
    tables = roll_up(metered({"app": evil, "feature": evil}))
    found = row(tables, evil, app=evil, feature=evil)
    assert msgspec.json.decode(found["series"]) == {"app": evil, "feature": evil}


def test_event_times_from_the_year_1_to_9999_do_not_break_it(metered):
    calls = metered(
        *[{"ts": t, "user": f"u{i}"} for i, t in enumerate((-62_135_596_800_000_000, 0, 253_402_300_799_999_999))]
    )
    seconds = sorted(set(roll_up(calls)[0, "*"]["second"].to_pylist()))
    assert seconds == [-62_135_596_800, 0, 253_402_300_799]


def test_no_calls_make_no_rows():
    assert roll_up(METERED.empty_table()) == {}


def test_a_family_of_an_unknown_dimension_is_refused():
    with pytest.raises(SettingsError, match="nope"):
        Plan(app=(("nope",),))


def test_hashes_of_ids_are_spread_and_stable():
    ids = pa.chunked_array([pa.array([f"0190a000-0000-7000-8000-{i:012x}" for i in range(4096)])])
    hashes = call_hashes(ids)
    assert len(set(hashes.tolist())) == 4096
    shares = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16) / 4096
    assert shares.min() > 0.04
    assert call_hashes(ids.slice(4000, 3)).tolist() == hashes[4000:4003].tolist()


call = st.fixed_dictionaries(
    {
        "app": st.sampled_from(["a", "b"]),
        "feature": st.sampled_from([None, "f", "g"]),
        "user": st.sampled_from([None, "u", "v", "w"]),
        "tenant": st.sampled_from([None, "t"]),
        "ts": st.integers(0, 3).map(lambda s: (SECOND + s) * 1_000_000 + 17),
        "status": st.sampled_from(["ok", "error", "blocked"]),
        "error_type": st.sampled_from([None, "E1", "E2"]),
        "input_tokens": st.none() | st.integers(0, 50),
        "cost_nanousd": st.none() | st.integers(0, 50) | st.just(2**60),
        "latency_ms": st.none() | st.floats(0, 1e5),
        "guardrails": st.none()
        | st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["p", "q"]), "action": st.sampled_from(["pass", "flag"])}),
            min_size=1,
            max_size=3,
        ),
        "_partition": st.integers(0, 1),
    }
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(call, min_size=1, max_size=40), data=st.data())
def test_any_split_into_batches_merges_to_the_same_rollups(metered, rows, data):
    # more than one 2**60 in a cell would not fit a signed 64-bit sum
    dear = [r for r in rows if r["cost_nanousd"] == 2**60]
    for r in dear[2:]:
        r["cost_nanousd"] = 1
    calls = metered(*rows)
    batch_of = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    plan = Plan(app=((), ("user",), ("feature",)), span=((), ("tenant",)))
    together = roll_up(calls, plan)
    apart = [roll_up(calls.filter(pa.array(batch_of == b)), plan) for b in range(4)]
    for key in ("a", "b", "*"):
        whole = [t for (_, k), t in together.items() if k == key]
        split = [t for p in apart for (_, k), t in p.items() if k == key]
        if whole:
            expected = combine(whole)
            assert combine(split) == expected
            assert combine(split[::-1]) == expected
            assert merge(combine(split[:1]), combine([*split[1:], expected.slice(0, 0)])) == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(call, min_size=1, max_size=30))
def test_rows_equal_a_count_by_hand(metered, rows):
    calls = metered(*rows)
    expected = Counter()
    for r in calls.to_pylist():
        second = int(r["ts"].timestamp())
        if r["user"] is not None:
            expected[r["app"], r["user"], second] += 1
    found = Counter()
    for (_, key), table in roll_up(calls).items():
        for r in table.to_pylist():
            if r["dims"] == "app,user":
                pairs = msgspec.json.decode(r["series"])
                assert pairs["app"] == key
                found[pairs["app"], pairs["user"], r["second"]] += r["calls"]
    assert found == expected


def test_a_call_counts_in_the_class_of_its_input_tokens(metered):
    tokens = [None, 0, 1000, 1001, 128_001, 200_000, 200_001]
    table = roll_up(metered(*({"input_tokens": n} for n in tokens)))[0, "bot"]
    found = {r["series"]: r["calls"] for r in table.to_pylist() if r["dims"] == "app,input_size"}
    sizes = {"to 1k": 2, "1k-8k": 1, "128k-200k": 2, "over 200k": 1}
    assert found == {f'{{"app":"bot","input_size":"{name}"}}': calls for name, calls in sizes.items()}


def test_further_attempts_and_savings_are_counted_and_what_one_part_does_not_know_is_not_known(metered):
    calls = metered(
        {"attempt": 1, "cache_saved_nanousd": 7}, {"attempt": 2, "cache_saved_nanousd": None}, {"attempt": None}
    )
    table = roll_up(calls, Plan(app=((),), span=()))[0, "bot"]
    assert table.select(["retried_calls", "cache_saved_nanousd"]).to_pylist() == [
        {"retried_calls": 1, "cache_saved_nanousd": 7}
    ]
    earlier = completed(table.drop_columns(["cache_saved_nanousd"]))
    assert earlier["cache_saved_nanousd"].to_pylist() == [None]
    (both,) = combine([table, earlier]).to_pylist()
    assert (both["calls"], both["retried_calls"], both["cache_saved_nanousd"]) == (6, 2, None)


def test_calls_are_counted_by_their_tokens_and_cost_and_what_one_part_does_not_know_is_not_known(metered):
    calls = metered(
        {"input_tokens": 900, "output_tokens": 100, "cost_nanousd": 2_000_000},
        {"input_tokens": 1000, "output_tokens": None, "cost_nanousd": None},
        {"input_tokens": None, "cost_nanousd": 0},
    )
    table = roll_up(calls, Plan(app=((),), span=()))[0, "bot"]
    (found,) = table.select(MAYBE_BUCKETS).to_pylist()
    (tokens,), (cost,) = found["call_tokens"], found["call_cost"]
    assert (tokens["calls"], cost["calls"]) == (2, 1)
    for bucket, value in ((tokens["bucket"], 1000), (cost["bucket"], 2_000_000)):
        assert CALL_GAMMA ** (bucket - 1) < value <= CALL_GAMMA**bucket
    earlier = completed(table.drop_columns(["call_tokens"]))
    assert earlier["call_tokens"].to_pylist() == [None]
    (both,) = combine([table, earlier]).to_pylist()
    assert (both["calls"], both["call_tokens"], both["call_cost"][0]["calls"]) == (6, None, 2)
