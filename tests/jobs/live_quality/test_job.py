"""Labels over a real lake: found, told once, resolved, with SQL that returns the number of the message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from jobs.live_quality import Settings, live_quality
from jobs.live_quality.labels import Series, read
from schemas.alerts import Alert
from tests.jobs.data_quality import lake as made
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
HOSTILE = "18'; --"


def thumbs(rng, start, hours, share, *, first, version, an_hour=4):
    """Calls, and a thumb for each, half an hour later."""
    calls, labels = [], []
    for n in range(hours * an_hour):
        number, at = first + n, start + timedelta(hours=n / an_hour)
        calls.append(made.call(number, at - timedelta(minutes=30), prompt_version=version, feature="chat"))
        score = -1.0 if rng.random() < share else 1.0
        label = made.feedback(number, at, call_id=made.uid(number), kind="thumbs", score=score)
        labels.append(label)
    return calls, labels


@pytest.fixture
def config(tmp_path):
    """Twelve days of two prompt versions; one of them gets thumbs down for the last day."""
    rng = np.random.default_rng(1)
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    calls, labels = [], []
    for first, version, shares in ((0, "17", (0.1, 0.1)), (5000, HOSTILE, (0.1, 0.6))):
        for at, hours, share in ((12, 264, shares[0]), (1, 23, shares[1])):
            more = thumbs(rng, NOW - timedelta(days=at), hours, share, first=first, version=version)
            calls, labels, first = calls + more[0], labels + more[1], first + hours * 4
    made.land(config, NOW - timedelta(minutes=1), raw_calls=calls, raw_feedback=labels)
    return config


def judge(config, until=NOW, **fields):
    with ReadOnlyLake.open(config) as lake:
        return live_quality(lake, until, Settings(**fields))


def observed(config, alert):
    with ReadOnlyLake.open(config) as lake:
        (row,) = lake.query(alert.evidence.sql).to_pylist()
    return row["observed"]


def test_a_version_that_users_dislike_is_named_once_with_its_interval(config):
    (alert,) = judge(config).alerts
    assert (alert.detector, alert.rule, alert.severity) == ("live_quality", "live_thumbs_down", "critical")
    assert alert.series == {"app": "bot", "prompt_version": HOSTILE}
    head, _, tail = alert.title.partition(": thumbs down in ")
    assert head == f"app bot, prompt_version {HOSTILE}"
    assert " %) of " in tail
    assert alert.observed == pytest.approx(observed(config, alert))
    assert 0.5 < alert.observed < 0.8
    assert 0.05 < alert.expected < 0.15
    assert alert.window.start >= "2026-11-17T11"
    assert Alert.from_json(alert.to_json()) == alert
    assert judge(config).alerts == (alert,)  # killed after publishing, and nothing has landed: the same id
    made.land_alerts(config, NOW, [alert], 0)
    assert judge(config, NOW + timedelta(minutes=5)).alerts == ()


def test_later_labels_do_not_change_the_number_of_a_message_and_good_ones_end_it(config):
    (alert,) = judge(config).alerts
    made.land_alerts(config, NOW, [alert], 0)
    rng = np.random.default_rng(2)
    calls, labels = thumbs(rng, NOW, 23, 0.05, first=9000, version=HOSTILE)
    later = NOW + timedelta(days=1)
    made.land(config, later, raw_calls=calls, raw_feedback=labels)
    assert observed(config, alert) == pytest.approx(alert.observed)
    (over,) = judge(config, later).alerts
    assert (over.id, over.seq, over.state) == (alert.id, 1, "resolved")
    assert "back at" in over.title
    made.land_alerts(config, later, [over], 5)
    assert judge(config, later + timedelta(minutes=5)).alerts == ()


def test_an_alert_without_labels_is_closed_without_a_verdict(config):
    (alert,) = judge(config).alerts
    made.land_alerts(config, NOW, [alert], 0)
    (over,) = judge(config, NOW + timedelta(days=5)).alerts
    assert over.state == "resolved"
    assert "closed without a verdict" in over.title


def test_an_app_that_is_ignored_is_left_alone(config):
    assert judge(config, ignore=("bot",)).series == 0


def test_every_measure_is_counted_by_the_dimensions_of_its_call(tmp_path):
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    docs = [{"id": "d", "rank": 1, "score": 0.9, "cited": True}, {"id": "e", "rank": 2, "score": 0.2, "cited": None}]
    low = [{"id": "d", "rank": 1, "score": 0.1, "cited": False}]
    old, at = NOW - timedelta(days=10), NOW - timedelta(hours=1)
    calls = [made.call(n, old, retrieval_docs=docs, retrieval_index="kb", feature="chat") for n in range(120)]
    calls += [made.call(200 + n, at, retrieval_docs=low, retrieval_index="kb", feature="chat") for n in range(3)]
    named = {"kind": "accept", "score": None, "call_id": None, "feature": "draft"}
    labels = [made.feedback(1, at, kind="edit", score=None, call_id=made.uid(200)), made.feedback(2, at, **named)]
    scores = [
        made.evaluation(1, at, call_id=made.uid(200), score=0.25, evaluator_version="2"),
        made.evaluation(2, at, call_id=made.uid(201), score=None, label="FAIL", evaluator_version="2"),
        made.evaluation(3, at, call_id=made.uid(201), score=0.5, dataset="golden"),
        made.evaluation(4, at, call_id=made.uid(201), score=0.5, extra='{"inclusion_probability": 0.1}'),
        made.evaluation(5, at, call_id=made.uid(201), score=7.0),
    ]
    made.land(config, NOW - timedelta(minutes=1), raw_calls=calls, raw_feedback=labels, raw_evals=scores)
    with ReadOnlyLake.open(config) as lake:
        found = read(lake, NOW)
    assert found.lows == {("bot", "kb"): pytest.approx(0.9)}
    new = {
        series: sums
        for series, slots in found.counts.items()
        for slot, sums in slots.items()
        if slot > NOW.timestamp() - 9e4
    }
    assert new[Series("bot", "edited", None, None)] == (1.0, 2)
    assert new[Series("bot", "edited", None, None, "feature", "chat")] == (1.0, 1)
    assert new[Series("bot", "edited", None, None, "feature", "draft")] == (0.0, 1)
    assert new[Series("bot", "score", "judge", "2")] == (1.75, 2)
    assert new[Series("bot", "low_top_score", "kb", None)] == (3.0, 3)
    assert new[Series("bot", "uncited", None, None, "feature", "chat")] == (3.0, 3)
