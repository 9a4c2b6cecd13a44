"""What counts as a failure, what of it is drawn, and what it costs to find it among calls that did not fail."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from jobs.golden import GoldenSettings
from jobs.golden.cases import case_id, draw
from jobs.golden.settings import NOT_PRODUCTION, criteria
from pipelines.meter.measures import REFUSED, TRUNCATED, counts
from schemas.tables import RAW_CALLS
from tests.jobs.golden.lake import DAY, NOW, WEEK_US, Home, call, failed, now, said, uid, word
from warehouse.golden import failed_calls as found
from warehouse.golden.failed_calls import Failures, Window, failures
from warehouse.golden.failure_queries import STEPS
from warehouse.lake import Lake

WEEK = Window(NOW - WEEK_US, NOW)


def look(home: Home, settings: GoldenSettings | None = None, *, most: int = 1000, **changes: Any) -> Failures:
    with Lake.open(home.config, now=now, lander=False) as lake:
        asked = criteria(settings or GoldenSettings())
        return failures(lake.connection, WEEK, asked, seed=7, most=most, **changes)


def reasons(home: Home, settings: GoldenSettings | None = None) -> dict[int, list[str]]:
    return {row["call_offset"]: sorted(row["reasons"]) for row in look(home, settings).calls}


def test_every_kind_of_failure_is_found_and_nothing_else_is(home: Home) -> None:
    old = datetime(2026, 11, 1, tzinfo=UTC)
    calls = [
        call(0),
        call(1, guardrail_triggered=True),
        call(2, guardrail_triggered=True, status="blocked", blocked_by="pii"),
        call(3, status="error", error_type="timeout"),
        call(4, refused=True),
        *(call(5 + i, finish_reason=word) for i, word in enumerate(("length", "max_tokens", "MAX_TOKENS"))),
        call(8, finish_reason="stop", guardrail_triggered=False, refused=False, status=None),
        # judged by others: by id, by response, as the last call of a trace, by all of them
        call(10),
        call(11, response_id="resp-11"),
        call(12, trace_id="t-12"),
        call(13, trace_id="t-12"),
        call(14, response_id="resp-14", trace_id="t-14"),
        call(15),
        call(16, ts=old, day=old.date()),  # the word on it is of this week
        call(17),
        # no failures of ours: twice, empty, hashed, vectors, long ago
        failed(20, _dup=True),
        failed(21),
        failed(22, text=" "),
        failed(23, input_text=None, messages=None),
        failed(24, content_mode="hashed"),
        failed(25, op="embeddings"),
        failed(26, ts=old, day=old.date()),
        failed(27, ts=datetime.fromtimestamp(NOW / 1e6, UTC)),
        call(28),
        call(29),
        call(30),
    ]
    feedback = [
        word(0, kind="thumbs", score=-1.0, call_id=uid(10)),
        word(1, kind="rating", score=0.25, response_id="resp-11"),
        word(2, kind="thumbs", score=-1.0, trace_id="t-12"),
        word(3, kind="edit", edited="first try", call_id=uid(10)),
        word(4, kind="edit", edited="better", call_id=uid(10)),
        word(5, kind="thumbs", score=-1.0, call_id=uid(999), response_id="resp-14", trace_id="t-12"),
        word(6, kind="thumbs", score=-1.0, call_id=uid(16)),
        word(7, kind="thumbs", score=1.0, call_id=uid(28)),
        word(8, kind="rating", score=0.5, call_id=uid(28)),
        word(9, kind="comment", comment="bad", call_id=uid(28)),
        word(10, kind="thumbs", score=-1.0, call_id=uid(28), ts=old, day=old.date()),
        word(11, kind="thumbs", score=-1.0, call_id=uid(28), _dup=True),
        word(12, kind="thumbs", score=-1.0, session_id="s"),
        word(13, kind="comment", comment="this is not what I asked", call_id=uid(30)),
        word(14, kind="comment", comment=" ", call_id=uid(29)),
    ]
    evals = [
        word(20, name="groundedness", score=0.4, call_id=uid(15)),
        word(21, name="tone: kind", label="FALSE", score=0.9, call_id=uid(15)),
        word(22, name="tone", score=0.5, label="pass", call_id=uid(28)),
        word(23, name="tone", score=0.1, dataset="production", call_id=uid(28)),
        word(24, name="tone", error="the judge failed", call_id=uid(28)),
    ]
    at = datetime.fromtimestamp(NOW / 1e6 - 60, UTC)
    alerts = [
        {"id": "a", "seq": 0, "detector": "drift", "detected_at": at, "call_ids": [uid(17), "no id", uid(998)]},
        {"id": "b", "seq": 0, "detector": "spike", "detected_at": at, "call_ids": [uid(29)]},
        {"id": "c", "seq": 0, "detector": "drift", "detected_at": old, "call_ids": [uid(29)]},
    ]
    late = [{"id": uid(21), "day": DAY, "_epoch": 0, "_partition": 0, "_offset": 21, "found_at": at}]
    home.land(calls, raw_feedback=feedback, raw_evals=evals, alerts=alerts, late_duplicates=late)
    report = home.refresh()
    expected = {
        1: ["guardrail"],
        2: ["guardrail", "blocked"],
        3: ["error"],
        4: ["refused"],
        5: ["truncated"],
        6: ["truncated"],
        7: ["truncated"],
        10: ["thumbs_down", "edited"],
        11: ["low_rating"],
        13: ["thumbs_down"],
        14: ["thumbs_down"],
        15: ["low_score:groundedness", "low_score:tone: kind"],
        16: ["thumbs_down"],
        17: ["drift"],
        30: ["comment"],
    }
    cases = home.cases()
    assert {offset: case["reasons"] for offset, case in cases.items()} == expected
    assert (report.candidates, report.cases, report.added, report.near_duplicates) == (15, 15, 15, 0)
    assert (cases[10]["expected"], cases[10]["expected_from"]) == ("better", "edit")
    assert {case["expected"] for offset, case in cases.items() if offset != 10} == {None}
    one = cases[3]
    assert one["case_id"] == case_id("production", uid(3))
    assert (one["call_id"], one["call_epoch"], one["call_partition"]) == (uid(3), 0, 0)
    assert one["ts"] == call(3)["ts"]
    assert one["messages"] == [{"role": "user", "text": said(3)}]
    assert one["stratum"] == '["bot", "chat", "error"]'


def test_sql_and_python_draw_alike_and_the_cut_leaves_every_stratum_its_gravest(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [failed(i, app=f"app{i % 2}", refused=i % 10 == 0 or None) for i in range(200)]
    home.land([*calls, call(300, refused=True, app="rare")])

    def cut(most: int, most_bytes: int = found.MOST_BYTES) -> list[int]:
        got = look(home, most=most, most_bytes=most_bytes)
        assert got.found == 201
        return [row["call_offset"] for row in got.calls]

    grave = {app: sorted((i for i in range(200) if i % 2 == app and i % 10 == 0), key=lot) for app in (0, 1)}
    plain = sorted((i for i in range(200) if i % 2 == 1), key=lot)
    assert grave[1] == []
    assert set(cut(3)) == {grave[0][0], plain[0], 300}
    assert cut(9)[3:] == sorted(grave[0][1:4] + plain[1:4], key=lambda i: (rank(i, grave[0], plain), i % 2))
    assert cut(1000)[:9] == cut(9)
    monkeypatch.setattr(found, "PER_STRATUM", 5)
    assert len(cut(1000)) == 11
    assert cut(1000, most_bytes=1) == cut(1), "one is read whatever it weighs"
    assert cut(1000, most_bytes=1000) == cut(1000)[: len(cut(1000, most_bytes=1000))]
    assert 1 < len(cut(1000, most_bytes=1000)) < 11


def lot(offset: int) -> str:
    return draw(7, uid(offset))


def rank(offset: int, *strata: list[int]) -> int:
    return next(stratum.index(offset) for stratum in strata if offset in stratum)


def test_a_call_is_refused_or_truncated_where_meter_counts_it_so(home: Home) -> None:
    """Each word that meter knows, as it is and in capitals, and some that mean neither."""
    known = (*REFUSED, *TRUNCATED)
    words = [w for reason in (*known, "stop", "tool_calls", "other", "") for w in (reason, reason.upper())]
    calls = [call(i, finish_reason=reason) for i, reason in enumerate([*words, None])]
    calls.append(call(len(calls), finish_reason="stop", refused=True))
    calls += [call(len(calls), blocked_by="pii", guardrails=[{"name": "pii", "action": "block"}])]
    home.land(calls)
    columns: dict[str, Any] = {
        **{name: None for name in ("cost_nanousd", "retrieval", "retrieval_docs_count")},
        "guardrails": [],
    }
    types = {"cost_nanousd": pa.int64(), "retrieval_docs_count": pa.int64()}
    types |= {"retrieval": pa.bool_(), "cost_compared": pa.bool_(), "cost_differs": pa.bool_()}
    table = pa.Table.from_pylist([{**columns, **row} for row in calls], schema=_with(RAW_CALLS.schema, types))
    counted = counts(table)
    expected = {
        i: [kind for kind in ("blocked", "refused", "truncated") if counted[kind][i]] for i in range(len(calls))
    }
    assert reasons(home) == {i: kinds for i, kinds in expected.items() if kinds}
    assert len(reasons(home)) == 2 * len(known) + 2


def _with(schema: pa.Schema, types: dict[str, pa.DataType]) -> pa.Schema:
    own = [field for field in schema if field.name not in types]
    return pa.schema([*own, *(pa.field(name, kind) for name, kind in types.items())])


def test_what_fails_in_an_environment_that_is_no_production_does_not_count_unless_one_says_so(home: Home) -> None:
    envs = [None, "prod", "eu-1", *NOT_PRODUCTION, "Staging"]
    home.land([failed(i, env=env) for i, env in enumerate(envs)])
    assert sorted(reasons(home)) == [0, 1, 2]
    assert sorted(reasons(home, GoldenSettings(envs=("Staging", "EU-1")))) == [
        2,
        envs.index("staging"),
        envs.index("Staging"),
    ]
    assert sorted(reasons(home, GoldenSettings(envs=("*",)))) == list(range(len(envs)))


SCORES: Sequence[tuple[dict[str, Any], bool]] = (
    ({"name": "groundedness", "score": 0.4}, True),
    ({"name": "groundedness", "score": 0.0}, True),
    ({"name": "groundedness", "score": 0.5}, False),
    ({"name": "similarity", "score": -0.3}, False),  # -1..1: who knows
    ({"name": "helpfulness", "score": 1.0}, False),  # 1..5: the worst, and nobody said so
    ({"name": "helpfulness", "score": 4.0}, False),
    ({"name": "stars", "score": 2.0}, True),  # low_scores
    ({"name": "stars", "score": 3.0}, False),
    ({"name": "stars", "label": "no"}, False),
    ({"name": "toxicity", "score": 0.01}, False),
    ({"name": "Hallucination v2", "score": 0.0, "label": "no"}, False),
    ({"name": "toxicity", "score": 0.9, "label": " Failed"}, True),
    ({"name": "bias", "score": 0.2}, True),  # low_scores is asked first
    ({"name": "tone", "label": "FALSE", "score": 0.9}, True),
    ({"name": "tone", "label": "incorrect"}, True),
    ({"name": "tone", "label": "pass", "score": 0.3}, False),  # the scorer has a threshold of its own
    ({"name": "tone", "label": "neutral", "score": 0.3}, True),
    ({"name": "tone", "label": "neutral"}, False),
    ({"name": "tone", "error": "the judge failed"}, False),
    ({"name": "sexual content", "score": 0.1}, False),
    ({"name": "Illicit/violent", "score": 0.0}, False),
    ({"name": "obscenity", "score": 0.2}, False),
    ({"name": "Harmlessness", "score": 0.2}, True),  # harm, but less of it
    ({"name": "unbiased", "label": "no"}, True),
    ({"name": "injection robustness", "score": 0.3}, True),
    ({"name": "error recovery", "score": 0.9}, False),
    ({"name": "error recovery", "score": 0.4}, True),
    ({"name": "jailbreak_resistance", "score": 0.1}, True),
)


def test_a_score_is_a_failure_where_low_is_bad_or_its_scorer_says_so(home: Home) -> None:
    home.land(
        [call(i) for i in range(len(SCORES))],
        raw_evals=[word(i, call_id=uid(i), **said) for i, (said, _) in enumerate(SCORES)],
    )
    got = reasons(home, GoldenSettings(low_scores={"stars": 3, "bias": 0.25}))
    assert got == {i: [f"low_score:{said['name']}"] for i, (said, low) in enumerate(SCORES) if low}


def test_a_word_on_a_trace_is_about_its_last_call_at_that_time(home: Home) -> None:
    """A word is matched by its own time: what the trace did afterwards nobody can have meant."""
    when = [DAY_START + timedelta(hours=hour) for hour in (9, 10, 10, 11)]
    calls = [call(i, trace_id="t", ts=at) for i, at in enumerate(when)]
    calls += [call(10 + i, trace_id="late", ts=at) for i, at in enumerate(when)]
    feedback = [
        word(0, kind="thumbs", score=-1.0, trace_id="t", ts=when[1] + timedelta(minutes=5)),
        word(1, kind="rating", score=0.0, trace_id="t", ts=when[3]),
        word(2, kind="thumbs", score=-1.0, trace_id="late", ts=when[0] - timedelta(minutes=1)),
        word(3, kind="thumbs", score=-1.0, trace_id="nobody's"),
    ]
    home.land(list(reversed(calls)), raw_feedback=feedback)
    assert reasons(home) == {1: ["thumbs_down"], 3: ["low_rating"], 10: ["thumbs_down"]}


DAY_START = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)


def test_texts_are_decoded_above_the_join_only(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.land([failed(1), call(2)])
    asked: dict[str, object] = {}
    execute = found._execute

    def heard(connection: Any, sql: str, params: Any) -> Any:
        asked.update(params)
        return execute(connection, sql, params)

    monkeypatch.setattr(found, "_execute", heard)
    with Lake.open(home.config, now=now, lander=False) as lake:
        failures(lake.connection, WEEK, criteria(GoldenSettings()), seed=7, most=9)
        lake.connection.execute("SET explain_output = 'optimized_only'")
        ((_, plan),) = execute(lake.connection, "EXPLAIN (FORMAT json) " + STEPS["usable"], asked).fetchall()
    above = above_each(json.loads(plan)[0], "trim")
    assert above
    assert all("JOIN" in names for names in above), "or the texts of all calls are read"


def above_each(node: dict[str, Any], sought: str) -> list[list[str]]:
    """Return, of each step of a plan that says ``sought``, the names of all steps below it."""
    below = [name for child in node["children"] for name in names_of(child)]
    own = [below] if sought in json.dumps(node["extra_info"]) else []
    return own + [found for child in node["children"] for found in above_each(child, sought)]


def names_of(node: dict[str, Any]) -> list[str]:
    kind = "JOIN" if "JOIN" in node["name"] else node["name"]
    return [kind, *(name for child in node["children"] for name in names_of(child))]


def test_a_feature_that_is_an_id_makes_one_stratum_and_the_frequent_ones_keep_theirs(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found, "FEATURES", 3)
    ids = [failed(i, feature=f"order-{i}") for i in range(50)]
    chat = [failed(100 + i, feature="chat") for i in range(4)]
    none = [failed(200 + i, feature=None) for i in range(3)]
    home.land([*ids, *chat, *none, failed(300, app="shop", feature="order-1", refused=True)])
    strata = Counter(json.loads(case["stratum"])[1] for case in _all(home) if case["app"] == "bot")
    assert strata == {"chat": 4, None: 3, "order-0": 1, "*": 49}
    assert [json.loads(c["stratum"]) for c in _all(home) if c["app"] == "shop"] == [["shop", "order-1", "error"]]
    first = look(home, most=5).calls
    assert sorted(str(row["stratum_feature"]) for row in first) == ["*", "None", "chat", "order-0", "order-1"]


def test_the_name_of_an_eval_makes_no_stratum(home: Home) -> None:
    evals = [word(i, name=f"e-{i}", score=0.0, call_id=uid(i)) for i in range(9)]
    home.land([call(i) for i in range(9)], raw_evals=evals)
    assert {case["stratum"] for case in _all(home)} == {'["bot", "chat", "low_score"]'}


def _all(home: Home) -> list[dict[str, Any]]:
    home.refresh(GoldenSettings(size=500))
    return home.ask("FROM golden")


@pytest.mark.parametrize(
    ("sizes", "most", "depth"),
    [([5], 3, 3), ([5], 9, 5), ([1, 5, 9], 3, 1), ([1, 5, 9], 4, 2), ([1, 5, 9], 12, 6), ([2, 2], 9, 2)],
)
def test_no_stratum_is_ranked_deeper_than_it_can_be_asked_for(sizes: list[int], most: int, depth: int) -> None:
    assert found._depth(sizes, most) == depth
    assert sum(min(size, depth) for size in sizes) >= min(most, sum(sizes))


def test_calls_that_did_not_fail_cost_little(home: Home) -> None:
    """300,000 of them with 1 KB of text each, in 38 days; with 64 MiB the question as it was ran out of memory."""
    home.land([failed(i) for i in range(20)], raw_feedback=[word(1, kind="thumbs", score=-1.0, trace_id="7-1-77")])
    with Lake.open(home.config, now=now, lander=False) as lake:
        for day in range(38):
            lake.connection.execute(_ORDINARY, [DAY - timedelta(days=day), 8_000])
    with Lake.open(home.config, now=now, lander=False) as lake:
        lake.connection.execute("SET memory_limit = '64MiB'")
        lake.connection.execute("SET max_temp_directory_size = '1MiB'")
        got = failures(lake.connection, WEEK, criteria(GoldenSettings()), seed=1, most=100)
    assert got.found == len(got.calls) == 21
    assert [row["reasons"] for row in got.calls if row["app"] == "ordinary"] == [["thumbs_down"]]


_ORDINARY = """
INSERT INTO raw_calls BY NAME
SELECT 1 AS v, uuid() AS id, $1::DATE + to_seconds(i) AS ts, 'ordinary' AS app, 'chat' AS feature, 'gpt-4o' AS model,
    'ok' AS status, 'stop' AS finish_reason, 'redacted' AS content_mode, concat_ws('-', day($1), 1, i) AS trace_id,
    concat('resp-', md5(concat($1, i))) AS response_id, repeat(md5(i::VARCHAR), 16) AS input_text,
    repeat(md5(concat(i, 'o')), 16) AS output_text, 0 AS _epoch, 0 AS _partition,
    ($1 - DATE '2000-01-01') * 1000000 + i AS _offset, false AS _dup, $1 AS day
FROM range($2) AS r(i)
"""
