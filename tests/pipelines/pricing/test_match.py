"""Which entry of the book a name finds: prefixes of gateways and clouds, and names that many providers share."""

from __future__ import annotations

import pytest

from pipelines.pricing import PriceBooks

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{SONNET}"
FIREWORKS = "accounts/fireworks/models/deepseek-v3p2"
VERTEX = "projects/p/locations/us/publishers/google/models/gemini-2.5-pro"


@pytest.mark.parametrize(
    ("provider", "name", "entry"),
    [
        ("anthropic", "anthropic/claude-sonnet-4-5-20250929", "anthropic:claude-sonnet-4-5"),
        (None, "anthropic/claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("litellm", "anthropic/claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        (None, SONNET, "aws:regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws.bedrock", SONNET, "aws:regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (None, f"bedrock/converse/{SONNET}", "aws:regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (None, PROFILE, "aws:regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws.bedrock", PROFILE, "aws:regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (
            None,
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20240620-v1:0",
            "aws:regional.anthropic.claude-3-5-sonnet-20240620-v1:0",
        ),
        ("gcp.gemini", "models/gemini-2.5-pro", "google:gemini-2.5-pro"),
        (None, "models/gemini-2.5-pro", "google:gemini-2.5-pro"),
        ("gcp.vertex_ai", "publishers/anthropic/models/claude-sonnet-4-5@20250929", "google:claude-sonnet-4-5"),
        (None, VERTEX, "google:gemini-2.5-pro"),
        ("fireworks_ai", FIREWORKS, "fireworks:deepseek-v3p2"),
        (None, FIREWORKS, "fireworks:deepseek-v3p2"),
        ("fireworks_ai", f"fireworks_ai/{FIREWORKS}", "fireworks:deepseek-v3p2"),
        ("fireworks_ai", "deepseek-v3p2", "fireworks:deepseek-v3p2"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme:bot:AbC123", "openai:ft:gpt-4o-mini"),
        (None, "ft:gpt-4o-mini-2024-07-18:acme:bot:AbC123", "openai:ft:gpt-4o-mini"),
        (None, "gpt-4o", "openai:gpt-4o"),
    ],
)
def test_a_name_is_found_with_and_without_what_stands_before_it(
    books: PriceBooks, provider: str | None, name: str, entry: str
) -> None:
    match = books.books[0].explain(provider, name)
    assert match is not None
    assert f"{match.provider}:{match.entry['id']}" == entry
    assert match.how


@pytest.mark.parametrize("name", ["meta-llama/llama-3.1-8b-instruct", "deepseek-ai/DeepSeek-R1", "qwen/qwen3-32b"])
@pytest.mark.parametrize("provider", [None, "our-gateway"])
def test_a_model_that_providers_sell_at_several_prices_has_none_until_the_provider_is_known(
    books: PriceBooks, provider: str | None, name: str
) -> None:
    assert books.books[0].explain(provider, name) is None
    assert books.books[0].explain("huggingface_novita", name) is not None


def test_a_name_that_all_lists_price_alike_needs_no_provider(books: PriceBooks) -> None:
    match = books.books[0].explain(None, "text-embedding-3-small")
    assert match is not None
    assert match.how == "the lists that have this name give one price: azure, openai"


def test_free_is_a_mark_of_openrouter_only(books: PriceBooks) -> None:
    book = books.books[0]
    name = "google/gemini-2.0-flash-exp:free"
    free = [book.rates((provider, name, None, None), 0, 0) for provider in ("openrouter", None)]
    assert all(rates is not None and rates.free for rates in free)
    paid = book.rates(("gcp.gemini", name, None, None), 0, 0)
    assert paid is None or not paid.free
