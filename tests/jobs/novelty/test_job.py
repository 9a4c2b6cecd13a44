"""Notes over a real lake: once a change, with before and after, and SQL that returns their number for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobs.novelty import AllowedPairs, Settings, novelty
from jobs.novelty.pairs import AllowedPair
from pipelines.notify import format as words
from schemas.alerts import Alert
from tests.jobs.data_quality import lake as made
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
CHANGED = NOW - timedelta(minutes=30)
HOSTILE = "gpt'-- \x1b[31m"
OLD = {
    "model": "gpt-4o",
    "response_model": "gpt-4o-05",
    "provider": "openai",
    "feature": "chat",
    "finish_reason": "stop",
}
PROMPT = {"prompt_name": "answer", "prompt_version": "17"}


def calls(start, count, *, first=0, every=timedelta(minutes=10), **changes):
    return [made.call(first + n, start + n * every, **{**OLD, **PROMPT, **changes}) for n in range(count)]


def landed(config, at, **tables):
    made.land(config, at, **tables)


@pytest.fixture
def config(tmp_path):
    """Ten days of an app, a call each ten minutes."""
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    landed(config, NOW, raw_calls=calls(NOW - timedelta(days=10), 1400, cost_usd=1))
    return config


def judge(config, now=NOW, settings=None, pairs=None):
    with ReadOnlyLake.open(config) as lake:
        return novelty(lake, now, settings or Settings(), pairs)


def observed(config, alert):
    with ReadOnlyLake.open(config) as lake:
        (row,) = lake.query(alert.evidence.sql).to_pylist()
    return row["observed"]


def test_a_steady_app_gives_no_note(config):
    report = judge(config)
    assert (report.ok, report.new, report.alerts) == (True, (), ())


def test_a_silent_change_of_the_provider_is_one_note_with_before_and_after(config):
    """The golden message: what a person reads."""
    slower = {"response_model": "gpt-4o-11", "latency_ms": 1800.0, "cost_usd": 2, "output_tokens": 18}
    after = calls(CHANGED, 29, first=5000, every=timedelta(minutes=1), **slower)
    after[3]["refused"] = True
    thumbs = [made.feedback(9000 + 2 * n + 1, NOW, call_id=after[n]["id"], score=-1.0) for n in range(2)]
    landed(config, NOW, raw_calls=after, raw_feedback=thumbs)
    (alert,) = judge(config).alerts
    assert (alert.detector, alert.rule, alert.severity) == ("novelty", "new_response_model", "info")
    assert alert.series == {"app": "bot", "model": "gpt-4o", "response_model": "gpt-4o-11"}
    assert alert.window.start == "2026-11-18T11:30:00.000Z"
    assert alert.title == "app bot: model gpt-4o is answered by gpt-4o-11 now, before mostly gpt-4o-05"
    assert words.changes(alert) == [
        "cost per call $1 → $2 (×2.00)",
        "latency p50 0.90 → 1.80 s (×2.00), p95 0.90 → 1.80 s (×2.00)",
        "output 9 → 18 tokens a call (×2.00)",
        "refusals 0.0% → 3.4%, errors 0.0% → 0.0%",
        "thumbs down 0 of 0 → 2 of 2",
        "compared: 971 calls of the 7 days before, 29 since",
    ]
    assert alert.observed == observed(config, alert) == 29
    assert Alert.from_json(alert.to_json()) == alert


def test_the_same_lake_gives_the_same_alerts_and_what_was_told_is_told_once(config):
    landed(config, NOW, raw_calls=calls(CHANGED, 25, first=5000, every=timedelta(minutes=1), model=HOSTILE))
    first = judge(config).alerts
    assert judge(config).alerts == first  # killed after publishing, and nothing has landed: the same ids
    (alert,) = first
    assert (alert.rule, alert.series["model"]) == ("new_model", HOSTILE)
    assert observed(config, alert) == 25
    made.land_alerts(config, NOW, first, 0)
    assert judge(config, NOW + timedelta(minutes=10)).alerts == ()
    late = calls(NOW, 5, first=6000, every=timedelta(seconds=1), model=HOSTILE)
    landed(config, NOW + timedelta(hours=2), raw_calls=late)
    assert observed(config, alert) == 25  # later calls do not change the number of the message


def test_a_note_is_closed_after_a_day_with_the_numbers_of_the_day(config):
    landed(config, NOW, raw_calls=calls(CHANGED, 25, first=5000, every=timedelta(minutes=1), model="o3"))
    made.land_alerts(config, NOW, judge(config).alerts, 0)
    later = CHANGED + timedelta(days=1)
    landed(config, later, raw_calls=calls(NOW, 70, first=6000, every=timedelta(minutes=10), model="o3", cost_usd=3))
    (over,) = judge(config, later).alerts
    assert (over.state, over.seq, over.observed) == ("resolved", 1, 95.0)
    assert "compared: 971 calls of the 7 days before, 95 since" in words.changes(over)
    assert observed(config, over) == 95
    made.land_alerts(config, later, [over], 5)
    assert judge(config, later + timedelta(hours=1)).alerts == ()


def test_what_changes_together_is_one_note_and_a_straggler_is_an_update_of_it(config):
    new = {"model": "o3", "response_model": "o3-09", "provider": "azure", "prompt_version": "18"}
    landed(config, NOW, raw_calls=calls(CHANGED, 25, first=5000, every=timedelta(minutes=1), **new))
    (alert,) = judge(config).alerts
    assert alert.title == (
        "app bot: first calls with model o3, before mostly gpt-4o; also new: provider azure, prompt version 18"
    )
    made.land_alerts(config, NOW, [alert], 0)
    tools = {"tools": [{"name": "refund", "id": None, "ok": True, "ms": 1.0, "args": None}]}
    straggler = calls(CHANGED + timedelta(minutes=2), 4, first=7000, every=timedelta(minutes=1), **tools)
    landed(config, NOW, raw_calls=straggler)
    (update,) = judge(config, NOW + timedelta(minutes=10)).alerts
    assert (update.id, update.seq, update.state) == (alert.id, 1, "update")
    assert {"app": "bot", "tool": "refund"} in update.children
    made.land_alerts(config, NOW, [update], 5)
    assert judge(config, NOW + timedelta(minutes=20)).alerts == ()


def test_the_first_day_of_an_app_makes_no_note(config):
    landed(
        config,
        NOW,
        raw_calls=[
            made.call(5000 + n, NOW - timedelta(hours=20) + timedelta(minutes=n), app="young", model=f"m{n}")
            for n in range(300)
        ],
    )
    assert judge(config).new == ()


@pytest.mark.extended
def test_a_storm_of_new_values_is_three_notes_and_one_that_says_so(config):
    made_calls = [
        call
        for n in range(8)
        for call in calls(
            NOW - timedelta(hours=10 - n), 5, first=5000 + 10 * n, every=timedelta(seconds=9), feature=f"f{n}"
        )
    ]
    landed(config, NOW, raw_calls=made_calls)
    found = judge(config).alerts
    assert [alert.rule for alert in found] == ["new_feature"] * 3 + ["novelty_many"]
    assert "feature f3, feature f4, feature f5, feature f6, feature f7" in found[-1].title
    made.land_alerts(config, NOW, found, 0)
    again = calls(NOW, 5, first=6000, every=timedelta(seconds=9), feature="f9")
    landed(config, NOW + timedelta(hours=2), raw_calls=again)
    assert judge(config, NOW + timedelta(hours=2)).alerts == ()
    closed = judge(config, NOW + timedelta(hours=24)).alerts
    assert {alert.state for alert in closed} == {"resolved"}
    assert len(closed) == 4


def test_calls_of_shadow_and_canary_variants_are_no_change(config):
    landed(config, NOW, raw_calls=calls(CHANGED, 25, first=5000, model="o3", variant="shadow-o3"))
    assert judge(config).new == ()


@pytest.mark.extended
def test_a_value_that_comes_back_after_a_month_reopens_its_note(config):
    landed(config, NOW, raw_calls=calls(CHANGED, 25, first=5000, every=timedelta(minutes=1), model="o3"))
    told = judge(config).alerts
    made.land_alerts(config, NOW, told, 0)
    (over,) = judge(config, CHANGED + timedelta(days=1)).alerts
    made.land_alerts(config, NOW, [over], 5)
    back = NOW + timedelta(days=40)
    landed(config, back, raw_calls=calls(back - timedelta(days=9), 1296, first=10_000))
    landed(
        config,
        back,
        raw_calls=calls(back - timedelta(hours=2), 25, first=20_000, every=timedelta(minutes=1), model="o3"),
    )
    (again,) = judge(config, back).alerts
    assert (again.id, again.seq, again.state) == (over.id, 2, "firing")


def test_a_prompt_on_a_model_that_it_may_not_run_on_is_told_until_it_has_not_been_for_a_day(config):
    pairs = AllowedPairs((AllowedPair("answer", frozenset({"gpt-4o-mini"}), "17"),))
    (alert,) = judge(config, pairs=pairs).alerts
    assert alert.rule == "prompt_model_skew"
    assert alert.title.startswith("app bot: prompt answer ran on models it may not: version 17 on gpt-4o (")
    assert alert.observed == observed(config, alert) > 60
    made.land_alerts(config, NOW, [alert], 0)
    assert judge(config, NOW + timedelta(hours=1), pairs=pairs).alerts == ()
    (over,) = judge(config, NOW + timedelta(days=2), pairs=pairs).alerts
    assert (over.id, over.state) == (alert.id, "resolved")
