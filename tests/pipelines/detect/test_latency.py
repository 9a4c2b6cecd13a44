"""Quantiles that moved, the class of the input that moved them, and an objective; silence where answers are longer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
import pytest

from pipelines.detect.detectors.latency import Latency
from pipelines.detect.detectors.latency_state import (
    FIRST,
    TESTS,
    WIDTH,
    K,
    bins,
    edge_of,
    histograms,
    over,
    quantile_bins,
    quantile_ms,
)
from pipelines.detect.side import TTFT
from schemas.rollups import BUCKET_GAMMA
from tests.pipelines.detect.beside import Calls, play, series
from tests.pipelines.detect.counts import HOUR, SECOND, T0

SMALL, LARGE = series(input_size="1k-8k"), series(input_size="over 200k")
MODELS = [series(model="small"), series(model="large")]
Factor = Callable[[float, list[str]], np.ndarray | float]


def minutes(at: str) -> float:
    return (datetime.fromisoformat(at).timestamp() * SECOND - T0 - 6 * HOUR) / 60 / SECOND


def calls(*, ttft: Factor = lambda h, b: 1.0, latency: Factor = lambda h, b: 1.0, output: Factor = lambda h, b: 1.0):
    """A tenth of the calls is large and waits longer; a call takes 12 ms a token."""

    def make(draws: np.random.Generator, hour: float, count: int) -> Calls:
        large = draws.random(count) < 0.1
        below = [LARGE if one else SMALL for one in large]
        tokens = draws.lognormal(5, 0.8, count) * output(hour, below)
        first = np.where(large, 3700, 1100) * draws.lognormal(0, 0.45, count) * ttft(hour, below)
        whole = (first + 12 * tokens) * latency(hour, below)
        return Calls(below, np.where(large, 300_000, 4000), tokens, np.zeros(count), whole, first)

    return make


def from_six(factor: float, name: str = "", until: float = 99.0) -> Factor:
    return lambda hour, below: np.where([6 <= hour < until and name in ("", each) for each in below], factor, 1.0)


def test_a_histogram_gives_the_calls_above_a_limit_and_its_quantiles():
    at = edge_of(np.array([10, 20, 30]))
    cells = np.array([[0, at[0], 50], [0, at[1], 45], [0, at[2], 5], [1, TTFT + at[0], 2]])
    learned = histograms(cells, 2)
    assert learned.sum(axis=-1).tolist() == [[100, 0], [0, 2]]
    assert quantile_bins(learned)[0, :3].tolist() == [10, 20, 30]
    assert quantile_bins(learned)[1].tolist() == [0, 0, 0, 10, 10, 10]
    counts = over(cells, np.full((2, K), at[0]))
    assert counts[0, 0].tolist() == [50, 100]
    assert counts[1, TESTS.index((1, 0.5))].tolist() == [0, 2]
    assert quantile_ms(learned[0, 0], 0.5) == pytest.approx(BUCKET_GAMMA ** (FIRST + 9.5 * WIDTH), rel=0.01)


@pytest.mark.parametrize("bucket", [0, FIRST, FIRST + 1, FIRST + WIDTH, 700, 4000])
def test_no_bucket_is_above_the_end_of_its_bin_but_in_the_last(bucket: int):
    (found,) = bins(np.array([bucket])).tolist()
    assert bucket <= edge_of(found) or found == 127


def test_large_inputs_that_wait_twice_as_long_are_found_by_their_class():
    told = play(calls(ttft=from_six(2.0, LARGE)), 6.5, Latency(), rate=0.63)
    assert told[0].state == "firing"
    assert told[0].rule.startswith("ttft_")
    assert told[0].series == {"app": "bot", "input_size": "over 200k"}
    assert minutes(told[0].window.end) <= 15
    assert "time to first token over" in told[0].title
    assert "WHEN input_tokens <= 200000 THEN '128k-200k' ELSE 'over 200k'" in told[0].evidence.sql
    assert "ttft_ms > " in told[0].evidence.sql


def test_everything_slow_is_one_alert_of_the_app_and_is_over():
    told = play(calls(latency=from_six(3.0, until=6.5), ttft=from_six(3.0, until=6.5)), 9, Latency(), rate=1.0)
    assert [a.state for a in told if a.state != "update"] == ["firing", "resolved"]
    assert told[0].series == {"app": "bot"}
    assert "went from" in told[0].cause[0].text
    assert told[-1].runbook


def test_a_day_of_chance_is_silent():
    assert play(calls(), 24, Latency(), rate=0.3) == []


def test_longer_answers_take_longer_and_are_no_regression():
    assert play(calls(output=from_six(2.0), latency=lambda h, b: 1.0), 8, Latency(), rate=0.6) == []


def test_another_mix_of_models_moves_the_app_and_is_no_regression():
    def make(draws: np.random.Generator, hour: float, count: int) -> Calls:
        large = draws.random(count) < (0.2 if hour < 6 else 0.7)
        time = np.where(large, 4000, 500) * draws.lognormal(0, 0.3, count)
        ones = np.ones(count)
        return Calls([MODELS[int(one)] for one in large], 1000 * ones, 100 * ones, 0 * ones, time, time / 2)

    assert play(make, 8, Latency(), rate=0.6) == []


def test_an_objective_is_missed_whatever_was_learned():
    slow = calls(latency=lambda h, b: 1.0)
    assert play(slow, 3, Latency(), rate=0.6) == []
    told = play(slow, 3, Latency(slo_ms=4000.0, slo_share=0.02), rate=0.6)
    assert told[0].rule == "latency_slo"
    assert told[0].expected == 0.02
    assert "the objective allows 2.0%" in told[0].cause[0].text
