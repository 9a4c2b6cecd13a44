"""Azure deployments have names of their own: a map in the settings says which model each is."""

from __future__ import annotations

import pytest

from pipelines.pricing import PriceBook, default_book
from pipelines.pricing.book import Rates
from schemas.errors import SettingsError

RULES = [{"deployment": "Chat-Prod", "model": "gpt-4o-mini"}, {"deployment": "gpt-4o", "model": "gpt-4.1"}]


@pytest.fixture(scope="module")
def book() -> PriceBook:
    """The book that ships, with two deployments."""
    return default_book(RULES)


def rates(book: PriceBook, provider: str | None, model: str, response_model: str | None = None) -> Rates | None:
    return book.rates((provider, model, response_model, None), *book.moment(1_787_227_200_000_000))


@pytest.mark.parametrize("provider", ["azure.ai.openai", "azure", "azure_openai"])
def test_a_deployment_costs_what_its_model_costs(book: PriceBook, provider: str) -> None:
    assert rates(book, provider, "chat-prod") == rates(book, provider, "gpt-4o-mini") is not None
    assert rates(book, provider, "CHAT-PROD", "CHAT-PROD") == rates(book, provider, "gpt-4o-mini")
    assert rates(book, provider, "gpt-4o") == rates(book, provider, "gpt-4.1")
    assert rates(default_book(), provider, "chat-prod") is None


def test_the_model_that_answered_decides(book: PriceBook) -> None:
    assert rates(book, "azure", "chat-prod", "gpt-4o-2024-05-13") == rates(book, "openai", "gpt-4o-2024-05-13")
    # the answer names the model gpt-4o, although a deployment has this name too
    assert rates(book, "azure", "chat-prod", "gpt-4o") == rates(book, "openai", "gpt-4o")


def test_other_providers_have_no_deployments(book: PriceBook) -> None:
    assert rates(book, "openai", "chat-prod") is None
    assert rates(book, None, "chat-prod") is None
    assert rates(book, "openai", "gpt-4o") == rates(default_book(), "openai", "gpt-4o")


def test_the_map_is_part_of_the_book(book: PriceBook) -> None:
    assert book.version not in (default_book().version, default_book(RULES[:1]).version)
    read = PriceBook.from_json(book.to_json())
    assert read.version == book.version
    assert read.deployed("azure", "chat-prod") == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"deployment": "", "model": "gpt-4o"}], "azure_deployments: not the name of a deployment"),
        ([{"deployment": "a/b", "model": "gpt-4o"}], "azure_deployments.a/b: not the name of a deployment"),
        ([{"deployment": "chat", "model": ""}], "azure_deployments.chat: no model"),
        ([{"deployment": "chat", "model": "gtp-4o"}], "azure_deployments.chat: no price list has gtp-4o"),
        (
            [{"deployment": "chat", "model": "gpt-4o"}, {"deployment": "CHAT", "model": "gpt-4.1"}],
            "azure_deployments.chat: two models, gpt-4o and gpt-4.1",
        ),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(rules: list[dict[str, str]], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        default_book(rules)
    assert message in str(caught.value)


def test_a_deployment_of_a_model_that_only_the_settings_price() -> None:
    mine = {"model": "ours-*", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    book = default_book([mine, {"deployment": "chat", "model": "ours-1"}])
    assert rates(book, "azure", "chat") is not None
