"""When the disk is full, from a day of samples; said by `status`, and only where it is known."""

from __future__ import annotations

import shutil
from itertools import pairwise

import pytest

from tailrace.cli.render.status import _disk
from tailrace.home import disk
from tailrace.home.layout import Home

HOUR = 3_600_000_000
GB = 10**9


def test_the_pace_is_that_of_most_of_the_day_whatever_a_clean_up_does():
    steady = [(n * HOUR, n * GB) for n in range(24)]
    cleaned = [(t, used - (5 * GB if t > 20 * HOUR else 0)) for t, used in steady]
    assert disk.growth_per_s(steady) == pytest.approx(GB / 3600)
    assert disk.growth_per_s(cleaned) == pytest.approx(GB / 3600, rel=0.1)


@pytest.mark.parametrize("samples", [[], [(0, 1), (HOUR, 2)], [(0, 1), (HOUR // 3, 2), (HOUR // 2, 3)]])
def test_a_short_history_tells_nothing(samples):
    assert disk.growth_per_s(samples) is None


def test_samples_are_ten_minutes_apart_and_a_day_is_kept(tmp_path):
    home = Home(tmp_path)
    for minute in range(0, 3000, 5):
        disk.sample(home, str(home.data_path), at=minute * 60_000_000)
    samples = home.read_run("disk")["samples"]["home"]
    assert len(samples) == disk.KEPT
    assert {later[0] - earlier[0] for earlier, later in pairwise(samples)} == {600_000_000}
    assert samples[-1][0] == 2990 * 60_000_000


def test_a_clock_that_went_back_begins_anew(tmp_path):
    home = Home(tmp_path)
    for at in (10 * HOUR, HOUR):
        disk.sample(home, str(home.data_path), at=at)
    assert [at for at, _ in home.read_run("disk")["samples"]["home"]] == [HOUR]


def test_the_forecast_is_free_space_over_pace(tmp_path):
    home = Home(tmp_path)
    samples = [[n * HOUR, n * GB // 24] for n in range(24)]
    home.write_run("disk", {"samples": {"home": samples}})
    (found,) = disk.facts(home, "s3://bucket/x")
    assert found["growth_bytes_per_day"] == pytest.approx(GB, rel=0.001)
    assert found["full_in_s"] == pytest.approx(shutil.disk_usage(tmp_path).free / GB * 86_400, rel=0.01)


@pytest.mark.parametrize(
    ("growth", "left", "text"),
    [
        (None, None, "disk    41.2 GB free of 98.1 GB"),
        (-5, None, "disk    41.2 GB free of 98.1 GB; it does not fill up"),
        (1.3 * GB, 2_736_000, "disk    41.2 GB free of 98.1 GB; 1.3 GB more a day: full in about 31 d 16 h"),
    ],
)
def test_it_is_said_in_a_line(growth, left, text):
    facts = {"place": "home", "free_bytes": 41.2 * GB, "total_bytes": 98.1 * GB}
    assert _disk({**facts, "growth_bytes_per_day": growth, "full_in_s": left}) == text
