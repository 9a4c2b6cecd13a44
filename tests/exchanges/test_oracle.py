"""Real usage objects cost what a third-party library computes, to 1e-9 USD; every other one has a stated reason."""

from pathlib import Path

from exchange_harness import data, oracle


def test_costs_of_real_usage_objects_agree_with_a_third_party_library(test_data: Path) -> None:
    cases = data.rows("usage_price_oracle")
    found = oracle.readings(cases, oracle.books(library_rates=True))
    agreement = oracle.agreement(cases, found)
    assert (agreement.usages, agreement.costs) == (1577, 2644)
    assert agreement.costs_agree / agreement.costs >= 0.995
    assert agreement.usages_agree / agreement.usages >= 0.995
    assert agreement.unexplained == 0, oracle.disagreements(found)


def test_usages_without_a_price_have_the_tokens_that_the_library_reads(test_data: Path) -> None:
    cases = data.rows("usage_price_oracle")
    found = oracle.readings(cases, oracle.books(library_rates=True))
    without, same = oracle.only_tokens(cases, found)
    assert (without, same) == (281, 281)


def test_corrected_rates_are_the_only_other_difference(test_data: Path) -> None:
    """With the rates that ship, the disagreements beyond those are of models whose rates were corrected since."""
    cases = data.rows("usage_price_oracle")
    then = oracle.readings(cases, oracle.books(library_rates=True))
    now = oracle.readings(cases, oracle.books(library_rates=False))
    before = {(r.number, r.provider, r.flavor) for r in then if not r.agrees}
    changed = {r.model for r in now if not r.agrees and (r.number, r.provider, r.flavor) not in before}
    assert changed == {
        "claude-sonnet-4-5-20250929",
        "deepseek-v4-flash",
        "gpt-4o-audio-preview-2024-12-17",
        "ministral-8b-latest",
        "mistral-medium-latest",
        "mistral-small-latest",
        "openai.gpt-5.6-luna",
    }
