"""What lands of every recorded exchange is what an independent reading of the same exchange says, to the last digit."""

from collections import Counter
from pathlib import Path

from exchange_harness import compare, data, native, replay, sdks


def by_provider(tally: compare.Tally) -> Counter[str]:
    found: Counter[str] = Counter()
    for (provider, _), count in tally.compared.items():
        found[provider] += count
    return found


def test_every_exchange_of_a_supported_sdk_lands_as_an_independent_reading_says(test_data: Path) -> None:
    exchanges = data.rows("provider_exchanges")
    openai, native_apis = compare.openai_exchanges(exchanges), compare.native_exchanges(exchanges)
    assert openai.differences == native_apis.differences == []
    assert openai.explained.total() == len(compare.reasons()) == 7
    assert openai.compared.total() - openai.agreed.total() == 7
    assert native_apis.compared == native_apis.agreed
    assert by_provider(openai) == Counter(
        azure_openai=61,
        cerebras=12,
        deepseek=23,
        gemini=2,
        groq=90,
        heroku=1,
        huggingface=10,
        mistral=82,
        ollama=4,
        openai=1026,
        openrouter=65,
        portkey=1,
        together=10,
        voyage=1,
        writer=2,
        zai=10,
    )
    assert by_provider(native_apis) == Counter(anthropic=363, bedrock=34, gemini=345, vertex=139)
    left_out = openai.left_out + native_apis.left_out + compare.no_client(exchanges)
    assert openai.compared.total() + native_apis.compared.total() + left_out.total() == len(exchanges) == 2988
    assert not any(why == "the SDK has no method for this path" for _, why in left_out)


def test_usage_of_other_apis_is_read_as_an_independent_reading_says(test_data: Path) -> None:
    others = [e for e in data.rows("provider_exchanges") if replay.endpoint(e) is None and sdks.endpoint(e) is None]
    tally = native.usages(others)
    assert tally.differences == []
    assert native.totals(tally) == Counter(bedrock=240, cohere=42, gemini=3, ollama=20, vertex=1)
