from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from pipelines.drift.compose import iso
from pipelines.drift.partition import SLICE, Partition
from pipelines.drift.points import Point
from pipelines.drift.strata import ReferenceConfig
from pipelines.drift.watch import Watch, WatchConfig
from schemas.alerts import Alert, alert_id

Make = Callable[..., list[Point]]
STEADY = {t: 1.0 for t in range(8)}
SHIFTED = {**STEADY, 20: 12.0}  # 60 % are of a topic never seen
CONFIG = WatchConfig()


def judge(points: list[Point], watch: Watch | None = None) -> list[Alert]:
    return (watch or Watch("bot", "input", CONFIG)).step(points)


def shifted(texts: Make, seed: int, shares: dict[int, float], *, calm: int = 600, drift: int = 300) -> list[Point]:
    return [
        *texts(seed, STEADY, calm),
        *texts(seed, shares, drift, start=calm),
        *texts(seed, STEADY, 300, start=calm + drift),
    ]


def test_a_topic_shift_fires_once_and_is_resolved_once(texts: Make) -> None:
    alerts = judge(shifted(texts, 1, SHIFTED))
    assert [a.state for a in alerts] == ["firing", "resolved"]
    first, last = alerts
    assert first.detector == "drift"
    assert first.rule == "input_drift"
    assert first.series == {"app": "bot", "side": "input"}
    assert (first.seq, last.seq, first.id) == (0, 1, last.id)
    assert first.cause[0].dimension == "topic"
    assert "topic 20" in first.cause[0].value
    assert "grew from 0% to" in first.cause[0].text
    assert first.observed == pytest.approx(0.6, abs=0.2)
    assert first.expected < 0.05
    assert all(int(c.split("-")[1]) >= 600 for c in first.evidence.call_ids)
    assert "are like the texts of one topic" in first.title
    assert first.cause[0].value not in first.title, "a title goes wherever an alert is listed: no text of a prompt"


def test_a_big_shift_is_found_within_a_hundred_texts(texts: Make) -> None:
    for seed in range(5):
        points = shifted(texts, seed, SHIFTED)
        watch = Watch("bot", "input", CONFIG)
        assert not judge(points[:600], watch)
        assert judge(points[600:720], watch), seed


def test_fifteen_percent_of_a_new_topic_are_found_in_thirty_minutes(texts: Make) -> None:
    shares = {**STEADY, 20: 8 * 0.15 / 0.85}
    found = [bool(judge([*texts(seed, STEADY, 900), *texts(seed, shares, 1080, start=900)])) for seed in range(8)]
    assert sum(found) >= 4


def test_a_known_topic_that_grows_is_found_too(texts: Make) -> None:
    alerts = judge([*texts(3, STEADY, 900), *texts(3, {**STEADY, 2: 8.0}, 900, start=900)])
    assert [a.state for a in alerts][:1] == ["firing"]
    assert "topic 2," in alerts[0].cause[0].value


def test_steady_texts_never_fire(texts: Make) -> None:
    fired = sum(bool(judge(texts(seed, STEADY, 1000))) for seed in range(6))
    assert fired == 0


@pytest.mark.extended
def test_texts_that_come_in_runs_do_not_fire(texts: Make) -> None:
    fired = sum(bool(judge(texts(seed, STEADY, 1000, stay=0.85, users=0))) for seed in range(6))
    assert fired == 0


def test_the_same_few_texts_over_and_over_do_not_fire(texts: Make) -> None:
    pool = texts(4, STEADY, 12)
    stream = texts(5, STEADY, 2000)
    repeated = [
        msgspec.structs.replace(p, vector=pool[i].vector, scale=pool[i].scale, text=pool[i].text)
        for p in stream
        for i in [hash_of(p) % len(pool)]
    ]
    assert judge(repeated) == []


def hash_of(point: Point) -> int:
    return sum(point.vector) * 2654435761 >> 7


def test_one_user_who_floods_with_new_texts_is_no_drift(texts: Make) -> None:
    calm = texts(6, STEADY, 900)
    flood = [msgspec.structs.replace(p, user="u-runaway") for p in texts(6, {20: 1.0}, 400, start=900)]
    mixed = [p for pair in zip(flood, texts(6, STEADY, 400, start=900), strict=True) for p in pair]
    assert judge([*calm, *mixed]) == []


@pytest.mark.extended
def test_a_change_of_mix_between_features_is_no_drift(texts: Make) -> None:
    assert judge([*two_features(texts, 7, 1500, 0.8), *two_features(texts, 7, 1500, 0.2, start=1500)]) == []


def test_a_change_of_mix_between_tenants_is_no_drift(texts: Make) -> None:
    def tenants(count: int, share: float, start: int) -> list[Point]:
        a = texts(8, {0: 1, 1: 1, 2: 1}, count, start=start, tenant="a")
        b = texts(9, {3: 1, 4: 1, 5: 1}, count, start=start, tenant="b")
        return [x if i * share % 1 < share else y for i, (x, y) in enumerate(zip(a, b, strict=True))]

    assert judge([*tenants(1200, 0.7, 0), *tenants(1200, 0.4, 1200)]) == []


def test_a_shift_within_one_feature_names_it(texts: Make) -> None:
    calm = two_features(texts, 10, 1200, 0.5)
    drift = two_features(texts, 10, 400, 0.5, start=1200, second=SHIFTED)
    first = judge([*calm, *drift])[0]
    assert first.series == {"app": "bot", "feature": "search", "side": "input"}
    assert first.cause[0].dimension == "topic"


def two_features(
    texts: Make, seed: int, count: int, share: float, *, start: int = 0, second: dict[int, float] | None = None
) -> list[Point]:
    a = texts(seed, {0: 1, 1: 1, 2: 1, 3: 1}, count, start=start, feature="chat")
    b = texts(seed + 50, second or {4: 1, 5: 1, 6: 1, 7: 1}, count, start=start, feature="search")
    return [x if i * share % 1 < share else y for i, (x, y) in enumerate(zip(a, b, strict=True))]


def test_one_by_one_equals_in_batches(texts: Make) -> None:
    points = shifted(texts, 11, SHIFTED)
    one = Watch("bot", "input", CONFIG)
    alerts = [alert for p in points for alert in one.step([p])]
    many = Watch("bot", "input", CONFIG)
    assert [a for i in range(0, len(points), 64) for a in many.step(points[i : i + 64])] == alerts
    assert many.snapshot() == one.snapshot()
    assert len(alerts) == 2


@pytest.mark.parametrize("cut", [40, 333, 640, 700, 950])
def test_snapshot_and_resume_equal_never_stopping(texts: Make, cut: int) -> None:
    points = shifted(texts, 12, SHIFTED)
    whole = Watch("bot", "input", CONFIG)
    alerts = whole.step(points)
    first = Watch("bot", "input", CONFIG)
    before = first.step(points[:cut])
    again = Watch.restore(first.snapshot(), CONFIG)
    assert before + again.step(points[cut:]) == alerts
    assert again.snapshot() == whole.snapshot()


def test_another_versions_snapshot_is_refused(texts: Make) -> None:
    watch = Watch("bot", "input", CONFIG)
    watch.step(texts(13, STEADY, 10))
    state = msgspec.msgpack.decode(watch.snapshot())
    state["version"] = 99
    with pytest.raises(msgspec.ValidationError, match="version 99"):
        Watch.restore(msgspec.msgpack.encode(state), CONFIG)


def test_the_id_depends_on_rule_series_and_window_alone(texts: Make) -> None:
    points = shifted(texts, 14, SHIFTED)
    first = judge(points)[0]
    again = judge([msgspec.structs.replace(p, wall=p.wall + 5_000_000) for p in points])[0]
    assert again.id == first.id
    onset = next(p.ts for p in points if iso(p.ts) == first.window.start)
    assert first.id == alert_id("input_drift", first.series, onset)


def test_a_shift_that_stays_becomes_the_new_normal(texts: Make) -> None:
    config = WatchConfig(accept_s=600.0)
    points = [*texts(15, STEADY, 600), *texts(15, SHIFTED, 1500, start=600)]
    alerts = Watch("bot", "input", config).step(points)
    assert [a.state for a in alerts] == ["firing", "resolved"]
    assert "new normal" in alerts[1].title


def test_too_few_texts_are_not_judged(texts: Make) -> None:
    watch = Watch("bot", "input", CONFIG)
    assert watch.step([*texts(16, STEADY, 40), *texts(16, {20: 1.0}, 30, start=40)]) == []
    assert watch.standing == "learning"


def test_memory_stays_bounded(texts: Make) -> None:
    config = WatchConfig(reference=ReferenceConfig(size=100), window=50)
    watch = Watch("bot", "input", config)
    watch.step(texts(17, STEADY, 700))
    size = len(watch.snapshot())
    watch.step(texts(17, STEADY, 700, start=700))
    assert len(watch.snapshot()) < size * 1.3
    assert len(watch.snapshot()) < 500_000


def test_what_comes_while_a_checkpoint_is_sent_is_not_in_its_position(texts: Make) -> None:
    partition = Partition(0, CONFIG)
    partition.due = True
    partition.apply(texts(21, STEADY, 5), 5, 5)
    sending = partition.save()
    sent = dict([next(sending)])
    partition.apply(texts(22, STEADY, 45), 50, 50)
    sent |= dict(sending)
    restored = Partition.load(0, sent, CONFIG)
    assert (restored.samples_next, restored.embeddings_next) == (5, 5)
    assert (partition.texts_since, partition.due) == (45, False), "the next checkpoint has those"


def test_a_batch_is_judged_in_slices_and_its_positions_move_with_the_last(texts: Make) -> None:
    partition, whole = Partition(0, CONFIG), Partition(0, CONFIG)
    points = texts(23, STEADY, 3 * SLICE + 1)
    slices = partition.slices(points, 25, 7)
    for n in range(1, 5):
        assert next(slices) == []
        assert partition.event_time == max(p.ts for p in points[: n * SLICE])
        assert (partition.samples_next, partition.texts_since) == (0, 0)
    assert next(slices, None) is None
    whole.apply(points, 25, 7)
    assert (partition.samples_next, partition.embeddings_next, partition.texts_since) == (25, 7, len(points))
    assert [w.snapshot() for w in partition.watches.values()] == [w.snapshot() for w in whole.watches.values()]


def test_more_features_than_are_tracked_share_one_reference(texts: Make) -> None:
    config = WatchConfig(reference=ReferenceConfig(features=3))
    watch = Watch("bot", "input", config)
    for i, point in enumerate(texts(18, STEADY, 300)):
        watch.step([msgspec.structs.replace(point, feature=f"f{i % 30}")])
    assert len(watch.strata) == 4


def test_apps_that_call_themselves_anew_with_every_text_cost_no_memory_and_no_alert(texts: Make) -> None:
    partition = Partition(0, replace(CONFIG, most_texts=2_000))
    shop = shifted(texts, 1, SHIFTED)
    told = partition.apply(shop[:600], 600, 600)
    for i, point in enumerate(texts(19, STEADY, 500)):
        told += partition.apply([msgspec.structs.replace(point, app=f"app-{i}")], 600 + i, 600 + i)
    assert sum(watch.held for watch in partition.watches.values()) <= 2_000
    assert 10 < len(partition.watches) < 100
    assert partition.shed == 501 - len(partition.watches)
    assert list(partition.watches)[-1] == '["app-499","input"]'
    restored = Partition.load(0, dict(partition.save()), partition.config)
    told += restored.apply(shop[600:], 2_000, 2_000)
    assert [(a.state, a.series["app"]) for a in told] == [("firing", "bot"), ("resolved", "bot")]
    assert told == judge(shop), "what goes on beside an app changes nothing for it"
    assert sum(watch.held for watch in restored.watches.values()) <= 2_000
