from __future__ import annotations

import numpy as np
import pytest

from pipelines.drift.style_bets import (
    STAKES,
    StyleConfig,
    StyleReference,
    dependence,
    judge,
    learn,
    log10_evidence,
    start,
    strongest,
)

CONFIG = StyleConfig()


def reference(positions: np.ndarray, groups: np.ndarray | None = None, config: StyleConfig = CONFIG) -> StyleReference:
    none = np.zeros(len(positions), np.int64)
    return StyleReference(config, positions, none, none if groups is None else groups)


def test_ranks_of_equal_values_are_in_their_middle() -> None:
    found = reference(np.array([[0.0], [0.0], [0.2], [0.4]]))
    assert found.ranks[:, 0].tolist() == [0.25, 0.25, 0.625, 0.875]
    assert found.place(np.array([0.3]), 0, 0).ranks.tolist() == [0.75]
    assert found.place(np.array([-1.0]), 0, 0).ranks.tolist() == [0.0]
    assert found.place(np.array([1.0]), 0, 0).ranks.tolist() == [1.0]
    assert found.ranks.mean() == 0.5


def test_a_tenant_brings_its_own_mean_rank() -> None:
    groups = np.array([1] * 50 + [2] * 50)
    found = reference(np.arange(100.0)[:, None] / 100, groups)
    assert found.expected(2)[0] == pytest.approx((50 * 0.75 + 0.5 * 30) / 80)
    assert found.expected(3)[0] == pytest.approx(0.5)


def test_the_first_bets_are_those_that_one_computes_by_hand() -> None:
    found = reference(np.arange(200.0)[:, None] / 200)
    margin = found.spread[0] * (np.sqrt(2 / 200) + 0.03 / np.sqrt(1 / 12))
    after = judge(found, None, start(1), [found.place(np.array([2.0]), 0, 0)], 1.0)
    allowed = found.expected(0)[0] + margin
    assert after[0] == pytest.approx(1 + STAKES * (1 - allowed) / allowed)
    low = 1 - found.expected(0)[0] + margin
    assert after[1] == pytest.approx(1 + STAKES * (0 - low) / low)
    assert after[2].tolist() == [1.0] * 4, "no direction is learned yet"
    assert strongest(np.array([[1.0] * 4, [9.0] * 4, [1.0] * 4])) == 1


def test_too_small_a_reference_judges_nothing() -> None:
    found = reference(np.arange(20.0)[:, None])
    block = [found.place(np.array([99.0]), 0, 0)]
    assert (judge(found, None, start(1), block, 2.0) == 1.0).all()


def test_the_direction_finds_what_no_number_shows_alone() -> None:
    """Two numbers that rise and fall together; afterwards one rises where the other falls, each as before."""
    draws = np.random.default_rng(1)
    common = draws.normal(size=600)
    found = reference(np.stack([common + 0.3 * draws.normal(size=600), common + 0.3 * draws.normal(size=600)], axis=1))
    moved = [found.place(np.array([x + 0.35, x - 0.35]), 0, 0) for x in draws.normal(size=120)]
    witness, capitals = learn(found, moved[:60]), start(2)
    for style in moved[60:]:
        capitals = judge(found, witness, capitals, [style], 1.0)
    assert log10_evidence(capitals) > 5
    assert strongest(capitals) == 4


def test_false_alarms_stay_under_the_nominal_rate() -> None:
    bets, nominal, alarms = 150, 0.1, 0
    config = StyleConfig(alpha=nominal / bets)
    for seed in range(60):
        draws = np.random.default_rng(seed)
        found = reference(draws.normal(size=(300, 6)) @ draws.normal(size=(6, 6)), config=config)
        mixing = np.random.default_rng(seed)
        mixing.normal(size=(300, 6))
        rows = draws.normal(size=(bets, 6)) @ mixing.normal(size=(6, 6))
        styles, capitals, witness = [found.place(row, 0, 0) for row in rows], start(6), None
        for i, style in enumerate(styles):
            capitals = judge(found, witness, capitals, [style], 1.0)
            witness = learn(found, styles[: i + 1]) if i >= 20 and i % 5 == 0 else witness
            if log10_evidence(capitals) >= -np.log10(config.alpha):
                alarms += 1
                break
    assert alarms <= 60 * nominal


def test_answers_that_come_in_runs_count_less() -> None:
    draws = np.random.default_rng(2)
    alone = draws.random((400, 8))
    assert dependence(alone) == pytest.approx(1.0, abs=0.15)
    assert dependence(np.repeat(draws.random((50, 8)), 8, axis=0)) > 4
    assert dependence(alone[:20]) == 1.0
    assert dependence(np.full((400, 3), 0.5)) == 1.0
