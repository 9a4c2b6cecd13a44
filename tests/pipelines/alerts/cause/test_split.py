"""The parts of a change add up to it exactly, and each factor is in the part of its name."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.alerts.cause.split import Split, Totals, split, total

_NANO = 10**9


def _totals(numbers: tuple[int, int, int, int, int]) -> Totals:
    """Calls, tokens per call, price, and the share that cache reads save, in hundredths."""
    calls, rest, tokens, price, saved = numbers
    uncached = calls * tokens * price + rest
    return Totals(Fraction(calls), calls * tokens, uncached - uncached * saved // 100, uncached * saved // 100)


_SIDE = st.tuples(
    st.integers(0, 10**6), st.integers(0, 99), st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 99)
).map(_totals)
_CELLS = st.lists(st.tuples(_SIDE, _SIDE), min_size=1, max_size=12)


@given(_CELLS, st.sampled_from(["cost", "tokens", "calls"]))
def test_the_parts_add_up_to_the_change_to_the_last_nano_usd(cells: list[tuple[Totals, Totals]], measure: str) -> None:
    before, now = total(cells)
    parts = split(cells, measure)  # type: ignore[arg-type]
    assert parts.change == getattr(now, measure) - getattr(before, measure)
    assert all(Fraction(part).denominator == 1 for part in vars(parts).values())


@given(_CELLS)
def test_a_change_per_call_has_no_volume(cells: list[tuple[Totals, Totals]]) -> None:
    before, now = total(cells)
    parts = split(cells, "cost", volume=False)
    if before.calls:
        assert parts.volume == 0
        assert parts.change == now.cost - round(before.cost * now.calls / before.calls)


def _cell(calls: int, tokens: int, usd_per_million: int, saved: int = 0) -> Totals:
    uncached = calls * tokens * usd_per_million * 1000
    return Totals(calls, calls * tokens, uncached * (100 - saved) // 100, uncached * saved // 100)


_USUAL = _cell(100, 1000, 2, saved=50)


@pytest.mark.parametrize(
    ("now", "part"),
    [
        (_cell(300, 1000, 2, saved=50), "volume"),
        (_cell(100, 2500, 2, saved=50), "tokens_per_call"),
        (_cell(100, 1000, 7, saved=50), "price"),
        (_cell(100, 1000, 2, saved=10), "cache"),
    ],
)
def test_a_factor_that_moves_alone_is_the_whole_change(now: Totals, part: str) -> None:
    assert split([(_USUAL, now)], "cost") == Split(**{part: now.cost - _USUAL.cost})


def test_calls_that_move_to_a_more_expensive_model_are_mix() -> None:
    cells = [(_cell(70, 1000, 1), _cell(40, 1000, 1)), (_cell(30, 1000, 10), _cell(60, 1000, 10))]
    assert split(cells, "cost") == Split(mix=30 * 1000 * 9 * 1000)
    assert split(cells, "tokens") == Split()


def test_calls_that_move_to_a_model_never_used_before_are_mix() -> None:
    cells = [(_cell(100, 1000, 1), _cell(70, 1000, 1)), (Totals(0, 0, 0), _cell(30, 1000, 20))]
    assert split(cells, "cost") == Split(mix=30 * 1000 * 19 * 1000)


def test_a_series_without_a_baseline_is_volume() -> None:
    assert split([(Totals(0, 0, 0), _USUAL)], "cost") == Split(volume=_USUAL.cost)


def test_a_loss_of_cache_reads_is_told_apart_from_a_higher_price() -> None:
    now = _cell(100, 1000, 4, saved=0)
    parts = split([(_USUAL, now)], "cost")
    assert parts == Split(price=_USUAL.cost, cache=2 * _USUAL.cost)
    assert parts.change == now.cost - _USUAL.cost


def test_tokens_have_no_price_and_calls_are_volume_alone() -> None:
    now = _cell(150, 2000, 9)
    assert split([(_USUAL, now)], "tokens") == Split(volume=50_000, tokens_per_call=150_000)
    assert split([(_USUAL, now)], "calls") == Split(volume=50)
