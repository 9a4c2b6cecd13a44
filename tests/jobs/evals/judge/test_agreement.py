"""Cohen's kappa against scikit-learn and against 2,000 draws; the calibration table."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from jobs.evals.judge.agreement import agreement


def draw(rng, n, share, error):
    people = rng.random(n) < share
    judge = np.where(rng.random(n) < error, ~people, people)
    return judge, people


@pytest.mark.parametrize(("share", "error"), [(0.5, 0.1), (0.9, 0.05), (0.2, 0.4)])
def test_kappa_is_that_of_the_textbook(share, error):
    judge, people = draw(np.random.default_rng(1), 400, share, error)
    found = agreement(list(judge), list(people), [float(j) for j in judge])
    assert found.kappa == pytest.approx(cohen_kappa_score(judge, people), abs=1e-12)
    assert found.observed == np.mean(judge == people)
    assert found.low < found.kappa < found.high


def test_the_interval_covers_the_true_kappa():
    rng = np.random.default_rng(2)
    truth_judge, truth_people = draw(np.random.default_rng(3), 2_000_000, 0.7, 0.15)
    truth = cohen_kappa_score(truth_judge, truth_people)
    inside = 0
    for _ in range(2_000):
        judge, people = draw(rng, 200, 0.7, 0.15)
        found = agreement(judge, people, judge.astype(float))
        inside += found.low <= truth <= found.high
    assert inside / 2_000 == pytest.approx(0.95, abs=0.02)


def test_few_labels_or_little_agreement_do_not_block():
    alike = agreement([True] * 25 + [False] * 25, [True] * 25 + [False] * 25, [1.0] * 50)
    assert (alike.kappa, alike.may_block, alike.reason) == (1.0, True, "")
    assert agreement([True] * 25, [True] * 25, [1.0] * 25).reason == "25 human labels, 50 are needed"
    same = agreement([True] * 60, [True] * 60, [1.0] * 60)
    assert (same.kappa, same.low, same.may_block) == (None, None, False)
    chance = agreement([True, False] * 50, [True, True, False, False] * 25, [0.5] * 100)
    assert (chance.kappa, chance.reason) == (0.0, "kappa 0.00 is below 0.4")
    assert agreement([], [], []).labels == 0


def test_the_table_says_how_good_answers_of_a_score_are():
    found = agreement([True] * 4, [True, True, False, True], [0.05, 1.0, 0.9, 0.05])
    assert [(r.low, r.high, r.answers, r.good_share) for r in found.table] == [(0.0, 0.2, 2, 1.0), (0.8, 1.0, 2, 0.5)]
    assert found.table[1].mean_score == pytest.approx(0.95)


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="not the same answers"):
        agreement([True], [], [0.1])
