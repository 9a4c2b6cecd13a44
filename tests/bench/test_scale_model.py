"""The arithmetic of the plan, on round numbers."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from _scale_model import (
    DAY_S,
    OTHER_CORES,
    Costs,
    Load,
    Prices,
    Sizing,
    distinct,
    lake,
    lakes_for,
    partitions_for,
    plan,
    rollups_per_s,
    walls,
)

FREE = Costs(**{field.name: 0.0 for field in fields(Costs)})
HALF = Sizing(utilisation=0.5, replication=3, kafka_days=7, lake_days=30, old_file_days=0)


def test_distinct_values_are_all_of_them_among_many_events_and_one_an_event_among_few():
    assert distinct(10, 1e6) == pytest.approx(10)
    assert distinct(1e9, 5) == pytest.approx(5)
    assert distinct(2, 2) == pytest.approx(1.5)
    assert distinct(1, 100) == 1


def test_a_batch_of_every_partition_has_a_message_of_each_app_and_one_of_its_own():
    load = Load(events_per_s=1e6, apps=3, values=(1,))
    made = rollups_per_s(load, partitions=4, period_s=0.5)
    assert (made.messages, made.rows) == (pytest.approx(4 / 0.5 * (1 + 3)), pytest.approx(4 / 0.5 * 3))


def test_events_keyed_by_the_app_have_each_app_in_one_partition():
    load = Load(events_per_s=1e6, apps=400, values=(1,))
    made = rollups_per_s(load, partitions=4, period_s=1, by_app=True)
    assert made.messages == pytest.approx(4 * (1 + 100))


def test_rows_are_series_and_seconds():
    load = Load(events_per_s=1e6, apps=1, values=(1, 8))
    assert rollups_per_s(load, partitions=1, period_s=4).rows == pytest.approx(9)


def test_partitions_have_room_for_twice_the_copies():
    assert [partitions_for(n) for n in (1, 6, 7, 40)] == [12, 12, 16, 80]


def test_cores_copies_and_the_ledger_follow_from_the_rate():
    costs = replace(FREE, land_prepare_s=20e-6, land_commit_s=10e-6, land_commit_wall_s=10e-6, meter_event_s=25e-6)
    one = lake(Load(40_000, 1), costs, HALF)
    assert one.meter_cores == pytest.approx(1)
    assert one.meter_copies == 2
    # three copies of land: 0.8 cores decode, 0.4 write, and two thirds of 0.4 of those writes are repeated
    assert one.land_cores == pytest.approx(0.8 + 0.4 * (1 + 0.4 * 2 / 3))
    assert one.land_copies == 3
    assert one.commit_share == pytest.approx(0.4)


def test_lakes_are_as_many_as_the_ledger_needs():
    costs = replace(FREE, land_commit_wall_s=10e-6)
    assert [lakes_for(Load(rate, 100), costs, HALF) for rate in (50_000, 50_001, 500_000)] == [1, 2, 10]


def test_bytes_and_money_are_what_is_kept_times_the_price():
    costs = replace(FREE, kafka_bytes=500, lake_bytes=300)
    prices = Prices(core_month=10, object_gb_month=0.02, disk_gb_month=0.1, object_write_million=0)
    found = plan(Load(1_000, 1), costs, HALF, prices)
    assert found.kafka_gb == pytest.approx(1_000 * 500 * DAY_S * 7 * 3 / 1e9)
    assert found.lake_gb == pytest.approx(1_000 * 300 * DAY_S * 30 / 1e9)
    assert found.cores == OTHER_CORES
    assert found.usd_month == pytest.approx(OTHER_CORES * 10 + found.lake_gb * 0.02 + found.kafka_gb * 0.1)


def test_the_first_wall_is_the_lowest_limit():
    ledger = walls(1, replace(FREE, land_commit_wall_s=10e-6), Sizing())[0]
    assert ledger.name == "transactions over the ledger"
    assert ledger.events_per_s == pytest.approx(100_000, rel=0.002)
    judged = walls(1, replace(FREE, detect_message_s=1.0), Sizing())[0]
    assert judged.name == "one app's rollups in one copy of detect"
