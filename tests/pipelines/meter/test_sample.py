"""Which texts are looked at, and at what rate."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.meter.measures import call_hashes
from pipelines.meter.sample import BLOCK, Sampler, block_of, block_start, choose, samples


def test_the_first_blocks_double_and_then_all_are_alike():
    offsets = np.array([0, 255, 256, 511, 512, 1023, 1024, 2047, 2048, 3071, 3072])
    assert block_of(offsets).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_reading_again_starts_at_the_block_before():
    for offset in (0, 300, 5000, 8191, 8192, 9000, 70_000):
        start = block_start(offset)
        before = int(block_of(np.array([offset]))[0]) - 1
        assert before < 0 or int(block_of(np.array([start]))[0]) <= before


def test_a_quiet_stream_is_sampled_whole():
    sampler = Sampler(target_per_s=10)
    offsets = np.arange(3 * BLOCK)
    assert (sampler.rates(0, offsets, offsets * 1_000_000) == 1.0).all()


def test_a_loud_stream_gives_the_target_from_its_second_block_on():
    sampler = Sampler(target_per_s=10)
    offsets = np.arange(4 * BLOCK)
    rates = sampler.rates(0, offsets, offsets * 1000)  # 1,000 calls a second
    assert (rates[:256] == 1.0).all()
    assert np.allclose(rates[BLOCK:], 0.01, rtol=0.01)


@pytest.mark.parametrize("least_step", [1, -3000], ids=["in order", "jumbled"])
def test_batches_change_no_rate(least_step):
    offsets = np.arange(3 * BLOCK)
    times = np.cumsum(np.random.default_rng(3).integers(least_step, 40_000, len(offsets)))
    whole = Sampler(10).rates(0, offsets, times)
    split = Sampler(10)
    parts = [
        split.rates(0, o, t)
        for o, t in zip(np.split(offsets, [7, 300, 5000]), np.split(times, [7, 300, 5000]), strict=True)
    ]
    assert (np.concatenate(parts) == whole).all()
    again = Sampler(10)
    start = block_start(2 * BLOCK + 100)
    again.rates(0, offsets[start : 2 * BLOCK + 100], times[start : 2 * BLOCK + 100])
    assert (again.rates(0, offsets[2 * BLOCK + 100 :], times[2 * BLOCK + 100 :]) == whole[2 * BLOCK + 100 :]).all()


def test_the_rate_is_kept_whatever_the_ids():
    ids = pa.chunked_array([pa.array([f"019aa5b7-7c00-7000-8000-{i:012x}" for i in range(20_000)])])
    share = len(choose(call_hashes(ids), np.full(20_000, 0.1))) / 20_000
    assert 0.09 < share < 0.11
    assert len(choose(call_hashes(ids), np.ones(20_000))) == 20_000


def test_a_flood_does_not_starve_the_quiet_minutes_after_it():
    sampler = Sampler(target_per_s=10)
    flood, quiet = np.arange(3000), np.arange(3000, 3200)
    sampler.rates(0, flood, flood * 100)  # 10,000 a second
    rates = sampler.rates(0, quiet, 40_000_000 + (quiet - 3000) * 1_000_000)  # then one a second
    assert (rates[-100:] == 1.0).all()


def test_a_time_that_goes_back_within_a_block_changes_no_bucket():
    offsets = np.arange(4 * BLOCK)
    exact = offsets * 20_000  # 50 calls a second
    mixed = exact - np.random.default_rng(4).integers(0, 2_000_000, len(offsets))  # each up to two seconds old
    ordered, jumbled = Sampler(10).rates(0, offsets, exact), Sampler(10).rates(0, offsets, mixed)
    assert np.allclose(ordered[BLOCK:], 0.2, rtol=0.01)
    assert abs(jumbled[BLOCK:].mean() - 0.2) < 0.02


def test_samples_of_a_batch_come_in_the_order_of_log_time_over_all_partitions():
    n = 8
    minutes = [0, 1, 2, 3, 0, 1, 2, 3]
    columns = {
        "id": [f"id-{i}" for i in range(n)],
        "app": ["bot"] * n,
        "ts": pa.array([0] * n, pa.timestamp("us", tz="UTC")),
        "_kafka_time": pa.array([m * 60_000_000 for m in minutes], pa.timestamp("us", tz="UTC")),
        "_partition": [0] * 4 + [1] * 4,
        "_offset": [0, 1, 2, 3, 0, 1, 2, 3],
        "_epoch": [0] * n,
    } | {name: pa.nulls(n, pa.string()) for name in ("feature", "model", "tenant", "user", "prompt_version")}
    said = [f"text {i}" for i in range(n)]
    texts = pa.table({"row": range(n), "input_text": said, "output_text": pa.nulls(n), "retrieval_query": pa.nulls(n)})
    found = samples(pa.table(columns), texts, np.ones(n), times=np.array(minutes) * 60_000_000)
    assert [(s.partition, s.offset) for s in found] == [(p, o) for o in range(4) for p in (0, 1)]
    assert [s.text for s in found] == [f"text {s.partition * 4 + s.offset}" for s in found]
