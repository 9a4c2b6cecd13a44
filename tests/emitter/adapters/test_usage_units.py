"""What usage objects bill beside tokens: shapes as the vendors document them, in the vocabulary of genai-prices."""

from __future__ import annotations

import pytest

from tailrace_emitter.adapters.usage import from_openai, grounding, hosted_tools, reports_nothing, tokens_of
from tailrace_emitter.fields import nest_call


def units(counts):
    return {entry["unit"]: entry["quantity"] for entry in counts.get("units", ())}


@pytest.mark.parametrize(
    ("usage", "tokens", "billed"),
    [
        (  # OpenAI, image generation
            {
                "input_tokens": 50,
                "output_tokens": 6208,
                "input_tokens_details": {"text_tokens": 40, "image_tokens": 10},
            },
            {"input": 50, "output": 6208},
            {"input_image_tokens": 10, "output_image_tokens": 6208},
        ),
        (  # OpenAI, transcription by tokens, and by duration
            {"input_tokens": 790, "output_tokens": 28, "input_token_details": {"text_tokens": 0, "audio_tokens": 790}},
            {"input": 790, "output": 28, "audio_in": 790},
            {},
        ),
        ({"type": "duration", "seconds": 61.5}, {}, {"input_audio_seconds": 61.5}),
        (  # OpenAI, realtime
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "input_token_details": {
                    "text_tokens": 40,
                    "audio_tokens": 60,
                    "cached_tokens": 30,
                    "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 20},
                },
                "output_token_details": {"text_tokens": 5, "audio_tokens": 15},
            },
            {"input": 100, "output": 20, "cache_read": 30, "audio_in": 60, "audio_out": 15},
            {"cache_audio_read_tokens": 20},
        ),
        (  # Anthropic
            {
                "input_tokens": 9,
                "output_tokens": 3,
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
            },
            {"input": 9, "output": 3},
            {"web_searches": 2},
        ),
        (  # Anthropic: neither a compaction nor an advisor is in the totals
            {
                "input_tokens": 23000,
                "output_tokens": 1000,
                "cache_read_input_tokens": 10,
                "cache_creation_input_tokens": 0,
                "iterations": [
                    {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500, "cache_read_input_tokens": 5},
                    {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
                    {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 2518, "output_tokens": 22},
                ],
            },
            {"input": 23010, "output": 1000, "cache_read": 10, "cache_write": 0},
            {
                "compaction_input_tokens": 180005,
                "compaction_output_tokens": 3500,
                "advisor_input_tokens": 2518,
                "advisor_output_tokens": 22,
            },
        ),
        (  # Gemini
            {
                "promptTokenCount": 100,
                "candidatesTokenCount": 1300,
                "totalTokenCount": 1400,
                "promptTokensDetails": [
                    {"modality": "IMAGE", "tokenCount": 60},
                    {"modality": "VIDEO", "tokenCount": 7},
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
            },
            {"input": 100, "output": 1300},
            {"input_image_tokens": 60, "input_video_tokens": 7, "output_image_tokens": 1290},
        ),
        (  # Perplexity
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "citation_tokens": 40,
                "reasoning_tokens": 7,
                "num_search_queries": 3,
            },
            {"input": 10, "output": 52, "reasoning": 7},
            {"output_citation_tokens": 40, "web_searches": 3},
        ),
        ({"billed_units": {"search_units": 2}}, {}, {"rerank_searches": 2}),
        ({"pages_processed": 12, "doc_size_bytes": 1}, {}, {"input_document_pages": 12}),
        (  # LiteLLM, an image that is billed by the piece
            {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "output_image_count": 1},
            {},
            {"images": 1},
        ),
        (  # xAI
            {"prompt_tokens": 4, "completion_tokens": 1, "server_side_tool_usage_details": {"x_search_calls": 2}},
            {"input": 4, "output": 1},
            {"social_searches": 2},
        ),
    ],
)
def test_what_a_usage_object_bills(usage, tokens, billed):
    counts = tokens_of(usage)
    assert {name: n for name, n in counts.items() if name != "units"} == tokens
    assert units(counts) == billed


def test_bedrock_splits_cache_writes_by_their_time_to_live():
    details = [{"ttl": "5m", "inputTokens": 5}, {"ttl": "1h", "inputTokens": 15}]
    counts = tokens_of({"inputTokens": 1, "outputTokens": 1, "cacheWriteInputTokens": 20, "cacheDetails": details})
    assert (counts["cache_write"], counts["cache_write_1h"]) == (20, 15)


def test_what_is_of_the_call_moves_to_the_call_and_joins_what_the_adapter_gives():
    usage = {
        "input_tokens": 9,
        "output_tokens": 3,
        "service_tier": "batch",
        "server_tool_use": {"web_search_requests": 2},
    }
    nested = nest_call({"model": "m", "tokens": tokens_of(usage), "units": [{"unit": "images", "quantity": 1}]})
    assert nested["tokens"] == {"input": 9, "output": 3}
    assert nested["units"] == [{"unit": "images", "quantity": 1}, {"unit": "web_searches", "quantity": 2}]
    assert nested["service_tier"] == "batch"
    assert nest_call({"usage": usage, "service_tier": "standard"})["service_tier"] == "standard"


def test_units_alone_are_usage():
    assert not reports_nothing(from_openai({"type": "duration", "seconds": 3}))


def test_hosted_tools_are_counted_as_openai_bills_them():
    output = [
        {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
        {"type": "web_search_call", "status": "completed", "action": {"type": "open_page"}},
        {"type": "web_search_call", "status": "failed", "action": {"type": "search"}},
        {"type": "file_search_call", "status": "completed"},
        {"type": "code_interpreter_call", "container_id": "c1"},
        {"type": "code_interpreter_call", "container_id": "c1"},
        {"type": "message"},
    ]
    assert units({"units": hosted_tools(output)}) == {"web_searches": 1, "storage_searches": 1, "code_containers": 1}
    assert hosted_tools(None) == []


@pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-pro", 1), ("models/gemini-3-pro-preview", 3)])
def test_google_bills_a_grounded_prompt_or_each_query(model, searches):
    candidates = [{"groundingMetadata": {"webSearchQueries": ["a", "b", "c"]}}]
    assert units({"units": grounding(candidates, model)}) == {"web_searches": searches}
    assert grounding([{}], model) == []


def test_google_does_not_bill_an_empty_query_nor_the_same_one_again():
    candidates = [{"groundingMetadata": {"webSearchQueries": ["", "a", "b", "a"]}}]
    assert units({"units": grounding(candidates, "gemini-3-flash-preview")}) == {"web_searches": 2}
