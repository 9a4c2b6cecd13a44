"""A set covers the topics of the traffic: in proportion, with a floor for rare ones, and vanished ones leave."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from jobs.golden import GoldenSettings
from jobs.golden.cases import chat_text
from jobs.golden.choose import Before, Chosen, choose
from jobs.golden.topics import FEWEST, Topics, topics
from pipelines.drift.embed import EmbedderUnavailableError
from pipelines.drift.vectors import Floats
from tests.jobs.golden.lake import DAY, NOW, Home
from tests.jobs.golden.lake import call as landed
from tests.jobs.golden.lake import failed as landed_failure
from tests.jobs.golden.test_choose import call, id_of, number

DAY_US = 86_400_000_000


def about(topic: str, number: int) -> str:
    """A text of ``topic`` that shares no three words with another."""
    return " ".join([topic, *(f"w{number}x{i}" for i in range(11))])


def vectors(texts: Sequence[str]) -> Floats:
    """Near one axis for each first word; equal for texts that differ in capitals only."""
    found = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in zip(found, texts, strict=True):
        digest = hashlib.sha256(text.casefold().encode()).digest()
        row[hashlib.sha256(text.split()[0].casefold().encode()).digest()[0] % 32] = 1.0
        row[32:] = 0.12 * (np.frombuffer(digest, dtype=np.uint8).astype(np.float32) / 128 - 1)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


TRAFFIC = {"orders": 300, "refunds": 60, "login": 36, "recipes": 4}


def live(counts: dict[str, int] = TRAFFIC, size: int = 24) -> Topics:
    found = topics([about(name, i) for name, n in counts.items() for i in range(n)], vectors, size=size)
    assert found
    return found


def failed(number: int, topic: str, *reasons: str, **changes: Any) -> dict[str, Any]:
    return call(number, *reasons, text=about(topic, number), **changes)


def run(calls: Sequence[dict[str, Any]], before: Before | None = None, **changes: Any) -> Chosen:
    found = {"topics": live(), **changes}
    settings = GoldenSettings(size=40, healthy=0.1)
    return choose(before or Before(), calls, settings, set_name="production", version=2, **found)


def per_topic(chosen: Chosen) -> Counter[str]:
    return Counter(chat_text(case).split()[0] for case in chosen.cases)


def test_topics_are_covered_in_proportion_to_their_traffic_with_a_floor_for_rare_ones() -> None:
    fails = {"orders": 50, "refunds": 50, "login": 900, "recipes": 1}  # of login most failed: an outage
    calls = [failed(1000 * t + i, name) for t, (name, n) in enumerate(fails.items()) for i in range(n)]
    chosen = run(calls)
    assert chosen.coverage == pytest.approx(1.0)
    found = per_topic(chosen)
    assert found["recipes"] == 1, "the floor"
    assert (found["orders"], found["refunds"], found["login"]) == (29, 6, 4)
    without = per_topic(choose(Before(), calls, GoldenSettings(size=40), set_name="production", version=1))
    assert without["recipes"] == 0
    assert without["login"] > 30


def test_a_topic_without_a_failure_gets_a_healthy_call_beside_their_share() -> None:
    calls = [failed(i, "orders") for i in range(100)]
    calls += [failed(1000 + i, name, "healthy") for i, name in enumerate(["refunds", "login", "recipes"] * 30)]
    chosen = run(calls)
    healthy = [case for case in chosen.cases if case["reasons"] == ["healthy"]]
    assert {chat_text(case).split()[0] for case in healthy} == {"refunds", "login", "recipes"}
    assert 4 <= len(healthy) <= 20, "more than a tenth of forty where no failed call asks such a thing, never half"
    assert chosen.coverage == pytest.approx(1.0)


def test_each_stratum_has_a_case_though_its_topic_is_rare() -> None:
    calls = [failed(i, "orders") for i in range(200)] + [failed(900, "orders", "drift", app="small")]
    assert 900 in {number(case) for case in run(calls).cases}


def test_what_is_asked_in_other_words_is_one_case() -> None:
    text = about("orders", 1)
    calls = [failed(1, "orders"), call(2, text="ORDERS " + text.upper().partition(" ")[2]), failed(3, "orders")]
    calls[1]["messages"][0]["text"] = text.replace("w1x10", "W1X10").title()
    chosen = run(calls)
    assert (sorted(map(number, chosen.cases)), chosen.near_duplicates) == ([1, 3], 1)


def test_cases_of_topics_that_vanished_leave_unless_somebody_accepted_them_or_they_failed_again() -> None:
    calls = [failed(i, "parcels") for i in range(3)] + [failed(10, "orders")]
    first = run(calls)
    assert sorted(map(number, first.cases)) == [0, 1, 2, 10]
    reviews = {id_of(0): {"verdict": "accepted", "expected": None}}
    second = run([calls[1]], Before(first.cases, reviews=reviews))
    assert sorted(map(number, second.cases)) == [0, 1, 10]
    assert (second.vanished, second.dropped) == (1, 1)
    third = run([], Before(second.cases, reviews=reviews, recent_versions={2}))
    assert sorted(map(number, third.cases)) == [0, 1, 10], "what came lately stays"
    assert per_topic(run([], Before(second.cases), topics=None)) == {"parcels": 2, "orders": 1}, "topics unknown"


def test_the_last_case_of_a_topic_gives_room_after_the_others() -> None:
    first = run([failed(0, "recipes"), *(failed(1 + i, "orders") for i in range(39))])
    assert len(first.cases) == 40
    second = run([failed(100 + i, "orders") for i in range(60)], Before(first.cases))
    assert (second.dropped, per_topic(second)["recipes"]) == (12, 1)


def test_to_choose_again_from_the_same_calls_changes_nothing() -> None:
    calls = [failed(i, name) for i, name in enumerate(["orders", "refunds", "recipes"] * 60)]
    calls += [failed(500 + i, name, "healthy") for i, name in enumerate(["orders", "login"] * 40)]
    first = run(calls)
    again = run(calls, Before(first.cases, recent_versions={2}))
    assert (again.cases, again.added, again.dropped) == (first.cases, 0, 0)


def test_a_small_sample_has_no_topics() -> None:
    assert topics([about("orders", i) for i in range(FEWEST - 1)], vectors, size=40) is None


def test_a_refresh_covers_the_traffic_of_the_last_weeks_and_says_how_much(home: Home) -> None:
    calls = [landed(i, text=about("orders", i)) for i in range(150)]
    calls += [landed(200 + i, text=about("login", i)) for i in range(30)]
    calls += [landed_failure(300 + i, text=about("orders", 300 + i)) for i in range(30)]
    # what is no traffic of a user: another environment, an embedding, hashed texts, twice
    odd: list[dict[str, Any]] = [{"env": "staging"}, {"op": "embeddings"}, {"content_mode": "hashed"}, {"_dup": True}]
    calls += [landed(400 + i, text=about("spam", i), **odd[i % 4]) for i in range(40)]
    home.land(calls)
    settings = GoldenSettings(size=20, healthy=0.1, traffic=500)
    seen: list[str] = []

    def embed(texts: Sequence[str]) -> Floats:
        seen.extend(texts)
        return vectors(texts)

    report = home.refresh(settings, vectors=embed)
    assert not [text for text in seen if text.startswith("spam")]
    assert report.coverage == pytest.approx(1.0)
    assert f"cover 100.0% of the traffic ({report.topics} topics)" in report.text()
    assert {chat_text(case).split()[0] for case in home.cases().values()} == {"orders", "login"}
    again = home.refresh(settings, vectors=vectors)
    assert not again.changed


def test_a_refresh_drops_what_nobody_asked_about_for_four_weeks(home: Home) -> None:
    home.land([landed_failure(i, text=about("parcels", i)) for i in range(5)])
    settings = GoldenSettings(size=20, traffic=500)
    assert "topics are not covered: the last weeks have 5 calls" in home.refresh(settings, vectors=vectors).text()
    later = NOW + 40 * DAY_US
    at = datetime.fromtimestamp((later - DAY_US) / 1e6, UTC)
    home.land([landed(100 + i, text=about("orders", i), ts=at, day=at.date()) for i in range(120)])
    report = home.refresh(settings, now=lambda: later, vectors=vectors)
    assert (report.vanished, report.dropped, report.cases) == (5, 5, 0)
    assert "5 cases left whose topic nobody asks about any more" in report.text()
    assert at.date() != DAY


def test_without_the_model_failures_are_chosen_by_their_strata_and_the_report_says_why(home: Home) -> None:
    home.land([landed(i) for i in range(120)] + [landed_failure(200 + i) for i in range(5)])

    def away(texts: Sequence[str]) -> Floats:
        raise EmbedderUnavailableError("no folder of a model")

    report = home.refresh(GoldenSettings(size=20, traffic=500), vectors=away)
    assert (report.cases, report.topics, report.coverage) == (5, None, None)
    assert "topics are not covered: no folder of a model" in report.text()
