"""Every provider's usage comes out in one counting: input includes cached, output includes reasoning."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_emitter.adapters.usage import from_anthropic, from_gemini, from_openai, tokens_of


def test_anthropic_counts_cached_parts_beside_the_input_and_here_they_are_inside() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 90,
        "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 40},
        "output_tokens": 7,
    }
    assert from_anthropic(usage) == {
        "input": 1000,
        "output": 7,
        "cache_read": 900,
        "cache_write": 90,
        "cache_write_1h": 40,
    }


def test_gemini_thoughts_are_part_of_the_output() -> None:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 20}
    assert from_gemini(usage) == {"input": 5, "output": 23, "reasoning": 20}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(
            {
                "prompt_tokens": 10120,
                "completion_tokens": 1499,
                "total_tokens": 14428,
                "prompt_tokens_details": {"cached_tokens": 128},
                "completion_tokens_details": {"reasoning_tokens": 2809},
            },
            {"input": 10120, "output": 4308, "cache_read": 128, "reasoning": 2809},
            id="xAI counts reasoning beside the completion, and the total decides",
        ),
        pytest.param(
            {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
            {"input": 20, "output": 603},
            id="Google's OpenAI endpoint reports thoughts in the total only",
        ),
        pytest.param(
            {
                "inputTokens": 100,
                "outputTokens": 50,
                "totalTokens": 12150,
                "cacheReadInputTokens": 10000,
                "cacheWriteInputTokens": 2000,
            },
            {"input": 12100, "output": 50, "cache_read": 10000, "cache_write": 2000},
            id="Bedrock's Converse, camelCase, the cache beside the input",
        ),
        pytest.param(
            {
                "prompt_tokens": 12100,
                "completion_tokens": 50,
                "total_tokens": 12150,
                "prompt_tokens_details": {
                    "cached_tokens": 10000,
                    "cache_creation_tokens": 2000,
                    "cache_creation_token_details": {"ephemeral_1h_input_tokens": 1500},
                },
            },
            {"input": 12100, "output": 50, "cache_read": 10000, "cache_write": 2000, "cache_write_1h": 1500},
            id="LiteLLM's usage of Anthropic with one-hour writes",
        ),
        pytest.param(
            {"prompt_tokens": 20, "completion_tokens": 3, "prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 4},
            {"input": 20, "output": 3, "cache_read": 16},
            id="DeepSeek's cache hits",
        ),
        pytest.param(
            {"promptTokenCount": 5, "candidatesTokenCount": 3, "toolUsePromptTokenCount": 40, "totalTokenCount": 48},
            {"input": 45, "output": 3},
            id="Gemini's tools put their results into the prompt",
        ),
        pytest.param(
            {"billed_units": {"input_tokens": 6, "output_tokens": 2}, "tokens": {"input_tokens": 66}},
            {"input": 6, "output": 2},
            id="Cohere bills its billed units",
        ),
        pytest.param({"prompt_eval_count": 26, "eval_count": 9}, {"input": 26, "output": 9}, id="Ollama's own API"),
    ],
)
def test_each_vendor_counts_in_its_own_way(usage: dict[str, Any], tokens: dict[str, int]) -> None:
    assert tokens_of(usage) == tokens


def test_real_usage_objects_are_read_as_an_independent_library_reads_them(test_data: Path) -> None:
    """genai-prices extracted each of them; of its readings (one for each API flavour) one must be ours."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    differing = []
    with gzip.open(test_data / "payloads" / "usage_price_oracle.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        body = row["body"]
        usage = body.get("usage") or body.get("usageMetadata") or body.get("meta") or body
        ours = tokens_of(usage)
        mine = tuple(ours.get(name.removesuffix("_tokens"), 0) for name in names)
        if not any(tuple(e["usage"].get(name) or 0 for name in names) == mine for e in row["extracted"]):
            differing.append(usage)
    # Mistral's num_cached_tokens, which that library does not read; and totals above the sum of the parts beside them
    cached = [u for u in differing if "num_cached_tokens" in u]
    above = [u for u in differing if u["total_tokens"] > u["prompt_tokens"] + u["completion_tokens"]]
    assert len(rows) == 1577
    assert (len(differing), len(cached), len(above)) == (31, 29, 2)


def test_what_was_not_said_is_absent_and_never_zero() -> None:
    assert from_openai({"prompt_tokens": 3}) == {"input": 3}
    assert from_openai({"prompt_tokens": True, "completion_tokens": -1}) == {}
    assert tokens_of(None) == {}


def test_parts_never_exceed_their_totals_on_recorded_exchanges(test_data: Path) -> None:
    checked, both = 0, []
    with gzip.open(test_data / "payloads" / "provider_exchanges.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            body = json.loads(line)["response_body"]
            usage = body.get("usage") if isinstance(body, dict) else None
            if not isinstance(usage, dict):
                continue
            told = tokens_of(usage)
            if "input" in told:
                read, wrote = told.get("cache_read", 0), told.get("cache_write", 0)
                assert max(read, wrote) <= told["input"]
                assert told.get("reasoning", 0) <= told.get("output", 0)
                both += [usage] if read + wrote > told["input"] else []
                checked += 1
    assert checked > 1000
    # OpenRouter, for Gemini, once reported the same tokens as written and as read: kept as said, the server marks it
    assert [u["prompt_tokens_details"]["cached_tokens"] for u in both] == [2161]


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x)))
def test_odd_usage_never_raises(usage: Any) -> None:
    assert all(count >= 0 for count in tokens_of(usage).values())
