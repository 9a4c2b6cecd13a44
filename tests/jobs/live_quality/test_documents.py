"""Documents that vanish are found, and topics that come and go are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from jobs.live_quality import Settings, live_quality
from jobs.live_quality.documents import judge_index
from tests.jobs.data_quality import lake as made
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)


def retrievals(rng, documents=200, windows=15, a_window=4000, *, gone=0, moody=0.0):
    """Counts of documents by window, the newest first; ``gone`` of them are not in the newest."""
    weights = rng.pareto(1.5, documents) + 0.3
    found = np.zeros((documents, windows), np.int64)
    for window in range(windows):
        mood = np.exp(moody * rng.standard_normal(documents))
        now = weights * mood
        if window == 0:
            now[rng.permutation(documents)[:gone]] = 0
        found[:, window] = rng.multinomial(a_window, now / now.sum())
    return found


def test_a_rebuild_that_drops_a_third_is_found():
    rng = np.random.default_rng(1)
    found = [judge_index("bot", "kb", 24, retrievals(rng, gone=60)) for _ in range(20)]
    assert sum(each is not None and each.is_worse for each in found) == 20


@pytest.mark.parametrize("moody", [0.0, 0.5, 1.5])
def test_topics_that_come_and_go_are_no_alert(moody):
    rng = np.random.default_rng(2)
    found = [judge_index("bot", "kb", 24, retrievals(rng, moody=moody)) for _ in range(200)]
    assert sum(each is not None and each.is_worse for each in found) == 0


def test_with_few_documents_or_windows_nothing_is_said():
    rng = np.random.default_rng(3)
    assert judge_index("bot", "kb", 24, retrievals(rng, documents=10)) is None
    assert judge_index("bot", "kb", 24, retrievals(rng, windows=4)) is None
    assert judge_index("bot", "kb", 24, np.zeros((0, 15), np.int64)) is None


@pytest.fixture
def config(tmp_path):
    """Twelve days of an index of 40 documents; the last day lacks 12 of them."""
    rng = np.random.default_rng(4)
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    calls = []
    for n in range(12 * 60):
        at = NOW - timedelta(days=12) + timedelta(minutes=24 * n)
        names = rng.choice(28 if at >= NOW - timedelta(days=1) else 40, 8, replace=False)
        docs = [{"id": f"d{name}", "rank": rank, "score": None} for rank, name in enumerate(names, 1)]
        calls.append(made.call(n, at, retrieval_docs=docs, retrieval_index="o'kb"))
    made.land(config, NOW - timedelta(minutes=1), raw_calls=calls)
    return config


def test_the_alert_is_told_once_and_its_sql_returns_its_share(config):
    """The golden message: what a person reads."""
    with ReadOnlyLake.open(config) as lake:
        (alert,) = live_quality(lake, NOW, Settings()).alerts
        (row,) = lake.query(alert.evidence.sql).to_pylist()
        assert live_quality(lake, NOW + timedelta(minutes=10), Settings()).alerts == ()  # once an hour
    assert alert.title == (
        "app bot: 30% of 40 documents of index o'kb that come up all the time were not retrieved for 24 h, "
        "at most 0% in any 24 h of the two weeks before"
    )
    assert (alert.rule, alert.series) == ("live_documents_vanished", {"app": "bot", "index": "o'kb"})
    assert alert.observed == row["observed"] == 0.3
    made.land_alerts(config, NOW, [alert], 0)
    with ReadOnlyLake.open(config) as lake:
        assert live_quality(lake, NOW, Settings()).alerts == ()
