"""Answers of an app through the watch: made of words and marks whose shares are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from pipelines.drift import style
from pipelines.drift.partition import Partition
from pipelines.drift.points import Point, decode, encode, join, to_embed
from pipelines.drift.watch import Watch, WatchConfig
from schemas.alerts import Alert
from schemas.rollups import Sample

CONFIG = WatchConfig()
Make = Callable[..., list[Point]]


def answers(
    seed: int, count: int, *, start: int = 0, bullets: float = 0.2, words: int = 60, feature: str = "", tenant: str = ""
) -> list[Point]:
    """``count`` answers of about ``words`` words; a share ``bullets`` of them is a list."""
    draws = np.random.default_rng([seed, start])
    vocabulary = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(300)]
    samples = []
    for i in range(start, start + count):
        size = max(3, int(words * np.exp(0.6 * draws.normal())))
        chosen = draws.choice(vocabulary, size).tolist()
        joint = "\n- " if draws.random() < bullets else " "
        text = joint.join(" ".join(chosen[k : k + 8]).capitalize() + "." for k in range(0, size, 8))
        ts = 1_790_000_000_000_000 + int(i / 0.6 * 1e6)
        samples.append(
            Sample(f"call-{i}", "bot", "output", text, ts, 0, i, feature=feature or None, tenant=tenant or None)
        )
    none = np.zeros((0, 384), np.int8), np.zeros(0, np.float32)
    return join(samples, [s.ts + 400_000 for s in samples], *none)


def judge(points: Sequence[Point], watch: Watch | None = None) -> list[Alert]:
    return (watch or Watch("bot", "output", CONFIG)).step(points)


def test_another_style_fires_once_names_what_moved_and_is_resolved() -> None:
    points = [*answers(1, 700), *answers(1, 250, start=700, bullets=0.8), *answers(1, 300, start=950)]
    alerts = judge(points)
    assert [a.state for a in alerts] == ["firing", "resolved"]
    first = alerts[0]
    assert (first.rule, first.series) == ("output_drift", {"app": "bot", "side": "output"})
    named = [c.value for c in first.cause if c.dimension == "style"]
    assert set(named) & {"bullets", "lines"}
    assert "bot: answers changed style (" in first.title
    assert "no change of prompts" not in first.title, "the prompts are not judged"
    assert alerts[1].id == first.id
    assert "gate" in " ".join(first.runbook)


def test_the_sql_of_the_alert_counts_the_same_share() -> None:
    points = [*answers(2, 700), *answers(2, 250, start=700, words=25)]
    [alert] = judge(points)
    table = [(p.call_id, p.app, p.side, p.feature, p.partition, p.offset, list(p.vector)) for p in points]
    lake = duckdb.connect()
    lake.execute(
        "CREATE TABLE embeddings (call_id VARCHAR, app VARCHAR, side VARCHAR, feature VARCHAR, source_partition INT, "
        "source_offset BIGINT, vector TINYINT[])"
    )
    lake.executemany("INSERT INTO embeddings VALUES (?, ?, ?, ?, ?, ?, ?)", table)
    [[observed]] = lake.execute(alert.evidence.sql).fetchall()
    assert observed == pytest.approx(alert.observed)


def test_a_feature_that_changes_is_named() -> None:
    calm = [p for i in range(700) for p in answers(3, 1, start=i, feature=("chat", "mail")[i % 2])]
    after = [
        p
        for i in range(700, 1100)
        for p in answers(3, 1, start=i, feature=("chat", "mail")[i % 2], bullets=0.9 if i % 2 else 0.2)
    ]
    [alert] = judge([*calm, *after])[:1]
    assert alert.series == {"app": "bot", "feature": "mail", "side": "output"}


def test_a_tenant_that_changes_is_the_first_cause() -> None:
    def some(since: int, until: int, bullets: float) -> list[Point]:
        return [
            p
            for i in range(since, until)
            for p in answers(4, 1, start=i, tenant=f"t{i % 4}", bullets=bullets if i % 4 == 1 else 0.2)
        ]

    [alert] = judge([*some(0, 800, 0.2), *some(800, 1500, 0.95)])[:1]
    assert (alert.cause[0].dimension, alert.cause[0].value) == ("tenant", "t1")


def test_another_mix_of_tenants_is_no_change_of_style() -> None:
    def some(since: int, until: int, share: float) -> list[Point]:
        draws = np.random.default_rng(since)
        short = (draws.random(until - since) < share).tolist()
        return [
            p
            for i in range(since, until)
            for p in answers(5, 1, start=i, tenant=f"t{short[i - since]}", words=20 if short[i - since] else 90)
        ]

    assert judge([*some(0, 900, 0.5), *some(900, 1700, 0.7)]) == []


def test_steady_answers_never_fire() -> None:
    assert [a for seed in range(4) for a in judge(answers(10 + seed, 1500))] == []


def test_other_prompts_explain_other_answers(texts: Make) -> None:
    """The prompts move, an alert says so, and the answers that come with them are no second one."""
    partition = Partition(0, CONFIG)
    steady = {t: 1.0 for t in range(8)}
    prompts = [*texts(1, steady, 700), *texts(1, {**steady, 20: 12.0}, 500, start=700)]
    replies = [*answers(6, 700), *answers(6, 500, start=700, bullets=0.5)]
    found = [a for pair in zip(prompts, replies, strict=True) for a in partition.apply(pair, 0, 0)]
    assert {a.rule for a in found} == {"input_drift"}


def both(prompts: Sequence[Point], replies: Sequence[Point], config: WatchConfig = CONFIG) -> list[Alert]:
    """The alerts of prompts and of the answers to them, one after the other; with a restart in between."""
    partition, found = Partition(0, config), list[Alert]()
    for i, pair in enumerate(zip(prompts, replies, strict=True)):
        found += partition.apply(pair, 0, 0)
        if i == len(prompts) // 2:
            partition = Partition.load(0, dict(partition.save()), config)
    return found


def test_answers_that_change_more_clearly_than_their_prompts_wait_for_these(texts: Make) -> None:
    """One answer shows its style, topics take five prompts: the alarm of the answers would come first."""
    steady = {t: 1.0 for t in range(8)}
    prompts = [*texts(2, steady, 700), *texts(2, {**steady, 20: 30.0}, 300, start=700)]
    found = both(prompts, [*answers(11, 700), *answers(11, 300, start=700, bullets=0.98, words=15)])
    assert [(a.rule, a.state) for a in found] == [("input_drift", "firing")]


@pytest.mark.extended
def test_answers_go_back_with_their_prompts_and_are_judged_again_by_what_was_before(texts: Make) -> None:
    steady = {t: 1.0 for t in range(8)}
    prompts = [
        *texts(3, steady, 700),
        *texts(3, {**steady, 20: 30.0}, 300, start=700),
        *texts(3, steady, 900, start=1000),
    ]
    calm = [*answers(12, 700), *answers(12, 300, start=700, bullets=0.98), *answers(12, 600, start=1000)]
    found = both(prompts, [*calm, *answers(12, 300, start=1600, bullets=0.9)])
    assert [(a.rule, a.state) for a in found] == [
        ("input_drift", "firing"),
        ("input_drift", "resolved"),
        ("output_drift", "firing"),
    ]


@pytest.mark.extended
def test_where_other_prompts_become_normal_so_do_the_answers_to_them(texts: Make) -> None:
    config = WatchConfig(accept_s=600.0)
    steady = {t: 1.0 for t in range(8)}
    prompts = [*texts(4, steady, 700), *texts(4, {20: 1.0, 21: 1.0}, 2300, start=700)]
    replies = [
        *answers(13, 700),
        *answers(13, 1800, start=700, bullets=0.9),
        *answers(13, 500, start=2500, bullets=0.1),
    ]
    found = both(prompts, replies, config)
    assert [(a.rule, a.state) for a in found][:2] == [("input_drift", "firing"), ("input_drift", "resolved")]
    [alert] = [a for a in found if a.rule == "output_drift" and a.state == "firing"]
    changed = datetime.fromtimestamp(replies[2500].ts / 1e6, UTC)
    assert datetime.fromisoformat(alert.window.start) > changed - timedelta(minutes=2)


def test_steady_prompts_are_said_to_be_steady(texts: Make) -> None:
    partition = Partition(0, CONFIG)
    prompts = texts(1, {t: 1.0 for t in range(8)}, 1000)
    replies = [*answers(7, 700), *answers(7, 300, start=700, bullets=0.8)]
    found = [a for pair in zip(prompts, replies, strict=True) for a in partition.apply(pair, 0, 0)]
    assert [a.rule for a in found if a.state == "firing"] == ["output_drift"]
    assert ", no change of prompts: " in found[0].title


def test_a_snapshot_changes_nothing() -> None:
    points = [*answers(8, 650), *answers(8, 250, start=650, bullets=0.7)]
    one = Watch("bot", "output", CONFIG)
    whole = one.step(points)
    other, found = Watch("bot", "output", CONFIG), []
    for first in range(0, len(points), 75):
        other = Watch.restore(other.snapshot(), CONFIG)
        found += other.step(points[first : first + 75])
    assert found == whole
    assert whole
    assert other.snapshot() == one.snapshot()


def test_answers_are_written_without_their_text_and_come_back() -> None:
    asked = Sample("c", "bot", "input", "Why?", 1, 0, 1)
    replied = Sample("c", "bot", "output", "Because it is so.", 1, 0, 1)
    assert to_embed([asked, replied]) == ["Why?"]
    points = join([asked, replied], [5, 5], np.ones((1, 384), np.int8), np.ones(1, np.float32))
    assert [p.text for p in points] == ["Why?", ""]
    message = encode(points, [asked, replied], model="m", span=(1, 2))
    assert decode(message, 0) == (points, (1, 2))
    rows = pa.ipc.open_stream(message.value).read_all().to_pylist()
    assert [row["embedding_model"] for row in rows] == ["m", style.MODEL]
    assert (rows[1]["chars"], rows[1]["words"], rows[1]["text"]) == (17, 4, "")
