"""Rows 42 to 46: late, skewed, repeated, contradicting and newer events, end to end."""

import time
from datetime import UTC

import pytest
from fault_harness.scene import Scene
from fault_harness.traffic import call

from warehouse.query.readonly import ReadOnlyLake

DAY_MS = 86_400_000


@pytest.mark.row(44, 45)
def test_row_44_and_45_an_id_sent_again_counts_once_and_the_first_one_counts(scene: Scene) -> None:
    first = [call() for _ in range(20)]
    scene.traffic.send_all(first, partition=0)
    scene.traffic.flush()
    scene.traffic.send_all(first, partition=0)
    scene.traffic.flush()
    land = scene.land_until_settled()
    land.kill()
    other = [{**event, "tokens": {"input": 999_999, "output": 1}} for event in first]
    scene.traffic.send_all(other, partition=0)  # the same id, other content, after a restart
    scene.start("meter")
    scene.land_until_settled()
    scene.metered()
    scene.check(kills=1)
    reader = ReadOnlyLake.open(scene.lake_config)
    shown = reader.query("SELECT count(*) AS n, sum(cost_usd) AS usd FROM calls").to_pylist()
    reader.close()
    assert shown == [{"n": 20, "usd": scene.traffic.sent.usd}]
    assert scene.lake.rows("raw_calls", "count(*)") == [(60,)]


@pytest.mark.faults
@pytest.mark.row(42, 43)
def test_row_42_and_43_late_and_skewed_events_land_in_few_days_with_their_own_times(scene: Scene) -> None:
    now = int(time.time() * 1000)
    times = [now, now - 3 * DAY_MS, now - 400 * DAY_MS, now + DAY_MS, now + 3 * DAY_MS, 0, 253_402_300_799_000]
    for when in times:
        scene.traffic.good(10, ts=when)
    scene.start("meter")
    scene.land_until_settled()
    scene.metered()
    scene.check()
    rows = scene.lake.rows("raw_calls", "ts, day, _kafka_time, count(*)", "true GROUP BY ALL ORDER BY ts")
    assert {int(ts.timestamp() * 1000) for ts, *_ in rows} == set(times)
    is_plausible = {when for when in times if now - 7 * DAY_MS <= when <= now + DAY_MS}
    assert len(is_plausible) == 3, "today, three days late, a day ahead"
    for ts, day, kafka_time, _ in rows:
        own = int(ts.timestamp() * 1000) in is_plausible
        assert day == (ts if own else kafka_time).astimezone(UTC).date(), ts
    reader = ReadOnlyLake.open(scene.lake_config)
    skewed = reader.query("SELECT count(*) AS n FROM raw_calls WHERE list_contains(_flags, 'clock_skew')").to_pylist()
    reader.close()
    assert skewed[0]["n"] >= 20


@pytest.mark.faults
@pytest.mark.row(46)
def test_row_46_fields_of_a_newer_emitter_are_kept(scene: Scene) -> None:
    scene.traffic.good(5, brand_new={"a": [1, 2]}, another="x")
    scene.land_until_settled()
    scene.check()
    kept = scene.lake.rows("raw_calls", "extra::VARCHAR")
    assert len(kept) == 5
    assert all("brand_new" in text and "another" in text for (text,) in kept)
