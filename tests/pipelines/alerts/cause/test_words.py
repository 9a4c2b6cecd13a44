"""The words of a cause: who, how much of the rise, and what about it changed."""

from __future__ import annotations

from pipelines.alerts.cause.split import Totals, split
from pipelines.alerts.cause.words import Changed, factors, split_words


def changed(before: Totals, now: Totals, *, minutes: float = 1.0) -> Changed:
    return Changed(before, now, split([(before, now)], "cost"), "cost", minutes)


def test_a_runaway_user_made_more_calls_of_the_usual_length() -> None:
    words = split_words("user u_812", 0.91, changed(Totals(12, 12_000, 24 * 10**6), Totals(640, 660_000, 132 * 10**7)))
    assert words == ("user u_812 is 91% of the rise; its calls went from 12 to 640 a minute, tokens per call unchanged")


def test_longer_calls_a_higher_price_and_lost_cache_reads_are_named() -> None:
    usual = Totals(100, 100_000, 100 * 10**6, 100 * 10**6)
    longer = Totals(100, 400_000, 400 * 10**6, 400 * 10**6)
    assert factors(changed(usual, longer)) == "tokens per call went from 1,000 to 4,000"
    expensive = Totals(100, 100_000, 800 * 10**6, 0)
    assert factors(changed(usual, expensive)) == (
        "tokens per call unchanged, USD per million tokens went from 2 to 8, "
        "cache reads saved 50% of the cost before and 0% now"
    )


def test_calls_that_moved_to_an_expensive_model_are_named() -> None:
    cells = [
        (Totals(90, 90_000, 9 * 10**6), Totals(50, 50_000, 5 * 10**6)),
        (Totals(10, 10_000, 20 * 10**6), Totals(50, 50_000, 100 * 10**6)),
    ]
    before, now = Totals(100, 100_000, 29 * 10**6), Totals(100, 100_000, 105 * 10**6)
    words = factors(Changed(before, now, split(cells, "cost"), "cost", 1.0))
    assert words == "tokens per call unchanged, its calls moved to features or models with more cost a call"


def test_a_newcomer_has_no_before() -> None:
    assert factors(changed(Totals(0, 0, 0), Totals(90, 9000, 10**9), minutes=5.0)) == (
        "18 calls a minute, next to nothing before"
    )
