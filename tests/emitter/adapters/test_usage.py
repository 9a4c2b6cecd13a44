"""Every provider's usage comes out in one counting: input includes cached, output includes reasoning."""

import gzip
import json
from pathlib import Path
from typing import Any

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
