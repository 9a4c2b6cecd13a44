"""The promise of the test: under no drift an alarm within n blocks has at most the chance n * alpha."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.drift.betting import bet, initial_capitals, log10_evidence
from pipelines.drift.regions import Reference, build
from pipelines.drift.topic_bets import Batch, TestConfig, alarmed, clip, design_effect, empty, judge, start
from pipelines.drift.vectors import Floats

BLOCKS = 60


def stream(pool: Floats, seed: int, config: TestConfig, *, size: int = 150) -> bool:
    """Whether ``BLOCKS`` blocks drawn from the same pool as the reference raise an alarm."""
    rng = np.random.default_rng(seed)
    zeros = np.zeros(size, dtype=np.int64)
    reference = Reference(pool[rng.integers(len(pool), size=size)], zeros, zeros, np.arange(size))
    regions = build(reference, config.clusters)
    capitals, recent = start(regions), empty(pool.shape[1])
    for _ in range(BLOCKS):
        none = np.zeros(config.block, dtype=np.int64)
        block = Batch(pool[rng.integers(len(pool), size=config.block)], none, none)
        capitals = judge(config, reference, regions, capitals, recent, block)
        recent = clip(recent, block, config.recent)
        if alarmed(config, capitals):
            return True
    return False


def topics(count: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 96))
    raw = centres[rng.integers(count, size=2000)] + 0.8 * rng.normal(size=(2000, 96))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_false_alarms_stay_under_the_nominal_rate() -> None:
    nominal = 0.05
    config = TestConfig(alpha=nominal / BLOCKS)
    pool = topics(10, 1)
    alarms = sum(stream(pool, seed, config) for seed in range(150))
    assert alarms <= 150 * nominal


def test_the_bound_itself_holds_where_the_null_is_exact() -> None:
    """No floor and no error: bets against the true shares, 400 streams."""
    blocks, nominal = 100, 0.1
    shares = np.array([0.05, 0.2, 0.5, 0.02])
    alarms = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        capitals = initial_capitals(len(shares))
        for _ in range(blocks):
            capitals = bet(capitals, rng.binomial(5, shares) / 5, shares)
            if log10_evidence(capitals) >= -np.log10(nominal / blocks):
                alarms += 1
                break
    assert 0 < alarms <= 400 * nominal


def test_neighbours_that_know_nothing_of_each_other_have_no_design_effect() -> None:
    rng = np.random.default_rng(3)
    assert design_effect(rng.integers(0, 12, size=400)) < 1.3


def test_runs_of_one_topic_have_a_design_effect() -> None:
    labels = np.repeat(np.random.default_rng(4).integers(0, 12, size=40), 10)
    assert design_effect(labels) > 6


def test_real_instructions_of_one_source_do_not_fire_and_another_source_does(test_data: Path) -> None:
    """Word counts hashed to 384 directions stand for the model: real repeats and real topic shares, in a second."""
    frame = pl.read_parquet(test_data / "texts" / "alpaca_eval_instructions.parquet")
    questions = pl.read_parquet(test_data / "texts" / "gsm8k_model_solutions.parquet")["question"].unique().sort()
    calm, new = hashed(frame["instruction"].to_list()), hashed(questions.to_list())
    config = TestConfig()
    assert not any(stream(calm, seed, config) for seed in range(10))
    rng = np.random.default_rng(0)
    zeros = np.zeros(300, dtype=np.int64)
    reference = Reference(calm[rng.integers(len(calm), size=300)], zeros, zeros, np.arange(300))
    regions = build(reference, config.clusters)
    capitals, recent = start(regions), empty(384)
    for done in range(40):
        source = [new if rng.random() < 0.6 else calm for _ in range(5)]
        block = Batch(np.stack([s[rng.integers(len(s))] for s in source]), zeros[:5], zeros[:5])
        capitals = judge(config, reference, regions, capitals, recent, block)
        recent = clip(recent, block, config.recent)
        if alarmed(config, capitals):
            assert done < 35
            break
    else:
        pytest.fail("a shift of 60 % was not found in 200 texts")


def hashed(texts: list[str]) -> Floats:
    rng = np.random.default_rng(9)
    words = {w: rng.normal(size=384) for w in sorted({w for t in texts for w in t.lower().split()})}
    raw = np.stack([sum((words[w] for w in t.lower().split()), np.full(384, 1e-3)) for t in texts])
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_evidence_does_not_depend_on_how_often_one_looks() -> None:
    capitals = initial_capitals(3)
    for _ in range(5):
        assert log10_evidence(capitals) == pytest.approx(log10_evidence(capitals.copy()))
        capitals = bet(capitals, np.array([1.0, 0.0, 0.2]), np.array([0.1, 0.1, 0.2]))
    assert log10_evidence(capitals) > 2
