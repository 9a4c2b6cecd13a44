"""Situations out of public bug reports of neighbouring tools, with the bill that is right: counts times list prices.

Each line names its report. The usage object is the provider's own; what it is in an event and costs is the product's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from pipelines.decode import DuplicateWindow, decode
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from tailrace_emitter.adapters.usage import grounding, hosted_tools, tokens_of
from tailrace_emitter.fields import nest_call

KAFKA_TIME = 1_795_287_600_000_000
"""2026-11-21T19:00:00Z in µs."""
Json = dict[str, Any]
PARTLY, FREE, UNPRICED = "partly_priced", "free", "unpriced"


class Report(NamedTuple):
    """A situation, and its right bill."""

    source: str
    provider: str | None
    model: str
    usage: Json
    parts: tuple[tuple[float, float], ...] | None
    """(tokens, USD a million) of each part; None: the cost is unknown."""
    fees: float = 0.0
    """USD beside the tokens."""
    more: Mapping[str, Any] = MappingProxyType({})
    """Other fields of the call."""
    status: str = "computed"


def chat(prompt: int, completion: int, cached: int | None = None, **more: Any) -> Json:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {
        **{"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
        **details,
        **more,
    }


def claude(fresh: int, output: int, read: int | None = 0, write: int | None = 0, **more: Any) -> Json:
    cached = {"cache_read_input_tokens": read, "cache_creation_input_tokens": write}
    return {"input_tokens": fresh, "output_tokens": output, **cached, **more}


def converse(fresh: int, output: int, read: int, write: int, total: int) -> Json:
    counts = {"inputTokens": fresh, "outputTokens": output, "totalTokens": total}
    return {**counts, "cacheReadInputTokens": read, "cacheWriteInputTokens": write}


def gemini(prompt: int, output: int, thoughts: int = 0, cached: int = 0, **more: Any) -> Json:
    total = prompt + output + thoughts
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": total}
    return {**counts, "thoughtsTokenCount": thoughts, "cachedContentTokenCount": cached, **more}


SONNET_45 = "claude-sonnet-4-5-20250929"
BEDROCK_45 = f"anthropic.{SONNET_45}-v1:0"
REPORTS = [
    # -- cached tokens are a part of the input, or beside it ------------------------------------------------------
    Report(
        "langfuse#10592", "openrouter", "openai/gpt-4o", chat(17903, 100, 17817), ((86, 2.5), (17817, 1.25), (100, 10))
    ),
    Report("langfuse#5568", "openai", "gpt-4o", chat(1999, 10, 1792), ((207, 2.5), (1792, 1.25), (10, 10))),
    Report("langfuse#4590", "openai", "gpt-4o", chat(62394, 214, 60024), ((2370, 2.5), (60024, 1.25), (214, 10))),
    Report("dust#20989", "anthropic", SONNET_45, claude(2, 50, 9842), ((2, 3), (9842, 0.3), (50, 15))),
    Report(
        "litellm#26919",
        "anthropic",
        SONNET_45,
        claude(100, 50, 10000, 2000),
        ((100, 3), (10000, 0.3), (2000, 3.75), (50, 15)),
    ),
    Report(
        "litellm#9833",
        "anthropic",
        "claude-3-5-haiku-20241022",
        claude(10, 20, 10000),
        ((10, 0.8), (10000, 0.08), (20, 4)),
    ),
    Report(
        "phoenix#10036",
        "aws.bedrock",
        f"us.{BEDROCK_45}",
        converse(3, 12, 13216, 25, 13256),
        ((3, 3.3), (13216, 0.33), (25, 4.125), (12, 16.5)),
    ),
    Report(
        "phoenix#10783",
        "amazon_bedrock",
        f"global.{BEDROCK_45}",
        converse(3, 442, 7917, 350, 8712),
        ((3, 3), (7917, 0.3), (350, 3.75), (442, 15)),
    ),
    Report(
        "any-llm#792, gateway#1210",
        "aws.bedrock",
        f"global.{BEDROCK_45}",
        converse(100, 50, 80, 20, 250),
        ((100, 3), (80, 0.3), (20, 3.75), (50, 15)),
    ),
    Report("phoenix#13379", "openai", "gpt-4o", chat(1000, 50, 800), ((200, 2.5), (800, 1.25), (50, 10))),
    Report(
        "pi#2148",
        "gcp.gemini",
        "gemini-3-flash-preview",
        gemini(20212, 931, 0, 16298),
        ((3914, 0.5), (16298, 0.05), (931, 3)),
    ),
    Report(
        "helicone#5260",
        "gcp.gemini",
        "gemini-3-pro-preview",
        gemini(1000, 100, 0, 500),
        ((500, 2), (500, 0.2), (100, 12)),
    ),
    Report("pipecat#1443", "anthropic", SONNET_45, claude(1000, 50, None, None), ((1000, 3), (50, 15))),
    Report("dev-proxy#1613", "openai", "gpt-4o", chat(100, 10, 100), ((100, 1.25), (10, 10))),
    # -- reasoning is output, and counted once --------------------------------------------------------------------
    Report(
        "litellm#18599",
        "openai",
        "gpt-5-nano",
        chat(17, 482, 0, completion_tokens_details={"reasoning_tokens": 448, "audio_tokens": 0}),
        ((17, 0.05), (482, 0.4)),
    ),
    Report("llm-gemini#75", "gcp.gemini", "gemini-2.5-flash", gemini(8, 1, 98), ((8, 0.3), (99, 2.5))),
    Report("python-genai#1339", "gcp.gemini", "gemini-2.5-pro", gemini(463, 0, 65535), ((463, 1.25), (65535, 10))),
    Report("vercel-ai#6082", "gcp.gemini", "gemini-2.5-pro", gemini(7477, 2060, 1939), ((7477, 1.25), (3999, 10))),
    Report("sub2api#554", "gcp.gemini", "gemini-2.5-pro", gemini(55021, 923, 785), ((55021, 1.25), (1708, 10))),
    Report("deepeval#2943", "gcp.vertex_ai", "gemini-2.5-flash", gemini(100, 20, 30), ((100, 0.3), (50, 2.5))),
    Report("chef#815", "gcp.gemini", "gemini-2.5-pro", gemini(10, 5, 5), ((10, 1.25), (10, 10))),
    Report(
        "logos#892",
        "openai",
        "gpt-5",
        chat(1000, 500, 400, completion_tokens_details={"reasoning_tokens": 300}),
        ((600, 1.25), (400, 0.125), (500, 10)),
    ),
    # -- modalities -----------------------------------------------------------------------------------------------
    Report(
        "langsmith#3194, livekit#2426",
        "gcp.gemini",
        "gemini-2.5-flash",
        gemini(
            1000,
            50,
            promptTokensDetails=[{"modality": "AUDIO", "tokenCount": 900}, {"modality": "TEXT", "tokenCount": 100}],
        ),
        ((100, 0.3), (900, 1), (50, 2.5)),
    ),
    Report(
        "vercel-ai#14016",
        "gcp.gemini",
        "gemini-2.5-flash",
        gemini(
            1000,
            50,
            promptTokensDetails=[{"modality": "IMAGE", "tokenCount": 900}, {"modality": "TEXT", "tokenCount": 100}],
        ),
        ((1000, 0.3), (50, 2.5)),
    ),
    # -- fees -----------------------------------------------------------------------------------------------------
    Report(
        "litellm#10846",
        "anthropic",
        SONNET_45,
        claude(1000, 500, server_tool_use={"web_search_requests": 2}),
        ((1000, 3), (500, 15)),
        0.02,
    ),
    Report(
        "langfuse#15856",
        "anthropic",
        "claude-sonnet-4-6",
        claude(1000, 100, server_tool_use={"web_search_requests": 1}),
        ((1000, 3), (100, 15)),
        0.01,
    ),
    Report(
        "bifrost#7306",
        "anthropic",
        SONNET_45,
        claude(1000, 100, server_tool_use={"web_search_requests": 0, "web_fetch_requests": 3}),
        ((1000, 3), (100, 15)),
    ),
    Report("litellm#10384", "openai", "gpt-4.1", chat(100, 10), ((100, 2), (10, 8)), 0.0, {"units": hosted_tools([])}),
    Report(
        "fastllm#103",
        "openai",
        "gpt-5",
        chat(100, 10),
        ((100, 1.25), (10, 10)),
        0.01,
        {
            "units": hosted_tools(
                [
                    {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
                    {"type": "web_search_call", "status": "completed", "action": {"type": "open_page"}},
                ]
            )
        },
    ),
    # -- tiers ----------------------------------------------------------------------------------------------------
    Report(
        "litellm#13810, portkey#1511",
        "openai",
        "gpt-5-nano",
        chat(1000, 1000),
        ((1000, 0.025), (1000, 0.2)),
        0.0,
        {"service_tier": "flex"},
    ),
    Report(
        "defog#303",
        "openai",
        "gpt-5-mini",
        chat(2000, 500, 1000),
        ((1000, 0.125), (1000, 0.0125), (500, 1)),
        0.0,
        {"service_tier": "flex"},
    ),
    Report(
        "defog#303, default",
        "openai",
        "gpt-5-mini",
        chat(2000, 500, 1000),
        ((1000, 0.25), (1000, 0.025), (500, 2)),
        0.0,
        {"service_tier": "default"},
    ),
    Report(
        "dust#23702",
        "anthropic",
        SONNET_45,
        claude(1000, 500),
        ((1000, 1.5), (500, 7.5)),
        0.0,
        {"service_tier": "batch"},
    ),
    Report("portkey#1511, 429", "openai", "gpt-5-nano", {}, (), 0.0, {"status": "error"}, FREE),
    # -- names ----------------------------------------------------------------------------------------------------
    Report("phoenix#8465", None, "anthropic/claude-sonnet-4-20250514", claude(1000, 100), ((1000, 3), (100, 15))),
    Report(
        "archestra#6912",
        "aws.bedrock",
        "us.anthropic.claude-3-haiku-20240307-v1:0",
        converse(1000, 100, 0, 0, 1100),
        ((1000, 0.25), (100, 1.25)),
    ),
    Report(
        "archestra#6912, llama",
        "aws.bedrock",
        "us.meta.llama3-2-1b-instruct-v1:0",
        converse(1000, 100, 0, 0, 1100),
        ((1000, 0.1), (100, 0.1)),
    ),
    Report(
        "mastra#19360",
        "amazon-bedrock",
        "us.anthropic.claude-sonnet-4-6",
        converse(1000, 100, 0, 0, 1100),
        ((1000, 3.3), (100, 16.5)),
    ),
    Report(
        "promptfoo#6271",
        "aws.bedrock",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456",
        converse(1000, 100, 0, 0, 1100),
        None,
        status=UNPRICED,
    ),
    Report("goose#11430", "ollama", "my-own-model", chat(1000, 100), None, status=UNPRICED),
    Report("litellm#12337", "together_ai", "no-such/model", chat(1000, 100), None, 0.0, {"cost_reported": 0}, UNPRICED),
    Report(
        "litellm#10598", "litellm", "ollama/tinyllama", chat(1000, 100), None, 0.0, {"cost_reported": 0.0}, UNPRICED
    ),
    Report(
        "litellm#37923",
        "gcp.vertex_ai",
        "claude-sonnet-4-6",
        claude(9, 100),
        ((9, 3), (100, 15)),
        0.0,
        {"cost_reported": 0.0},
    ),
    Report("litellm#36943", "openai", "gpt-oss-120b-unknown", chat(107, 20), None, status=UNPRICED),
    # -- answers of a cache, and usage of nothing -----------------------------------------------------------------
    Report("langfuse#2112", "openai", "gpt-4o", chat(1000, 500), (), 0.0, {"cache": {"kind": "exact"}}, FREE),
    Report("litellm#1787", "openai", "gpt-4o", {}, None, 0.0, {"output": "Hi."}, UNPRICED),
    Report(
        "litellm#40100",
        "azure.ai.openai",
        "gpt-4o",
        chat(1000, 500),
        ((1000, 2.5), (500, 10)),
        0.0,
        {"cost_reported": 0.0},
    ),
    # -- caches of other clients ----------------------------------------------------------------------------------
    Report(
        "any-llm#622",
        "anthropic",
        "claude-haiku-4-5",
        claude(10, 20, 5000, 1000),
        ((10, 1), (5000, 0.1), (1000, 1.25), (20, 5)),
    ),
    Report(
        "gomodel#726, alphatrion#281",
        "aws.bedrock",
        f"eu.{BEDROCK_45}",
        claude(100, 50, 1000, 200),
        ((100, 3.3), (1000, 0.33), (200, 4.125), (50, 16.5)),
    ),
    Report("openinference#3487", "anthropic", "claude-sonnet-4-6", claude(5, 5, 100), ((5, 3), (100, 0.3), (5, 15))),
    Report(
        "headroom#1848",
        "litellm",
        f"bedrock/us.{BEDROCK_45}",
        chat(1200, 50, 1000, cache_read_input_tokens=1000, cache_creation_input_tokens=100),
        ((100, 3.3), (1000, 0.33), (100, 4.125), (50, 16.5)),
    ),
    Report(
        "voice-devtools#31",
        "openai",
        "gpt-realtime",
        {
            **{"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
            "input_token_details": {
                **{"text_tokens": 200, "audio_tokens": 800, "cached_tokens": 300},
                "cached_tokens_details": {"text_tokens": 100, "audio_tokens": 200},
            },
            "output_token_details": {"text_tokens": 20, "audio_tokens": 80},
        },
        ((100, 4), (600, 32), (300, 0.4), (20, 16), (80, 64)),
    ),
    # -- Perplexity bills a request by the size of its search -----------------------------------------------------
    *(
        Report(
            f"perplexity, {model}, {size}",
            "perplexity",
            model,
            chat(1000, 100, search_context_size=size) if size else chat(1000, 100),
            ((1000, read), (100, wrote)),
            fee,
        )
        for model, read, wrote, fees in (
            ("sonar", 1, 1, (0.005, 0.005, 0.008, 0.012)),
            ("sonar-pro", 3, 15, (0.006, 0.006, 0.01, 0.014)),
            ("sonar-reasoning-pro", 2, 8, (0.006, 0.006, 0.01, 0.014)),
        )
        for size, fee in zip(("", "low", "medium", "high"), fees, strict=True)
    ),
]


def landed(report: Report) -> Json:
    """The row of the call."""
    fields: Json = {"model": report.model or None, "provider": report.provider}
    if report.usage:
        fields["tokens"] = tokens_of(report.usage)
    event = nest_call({**{name: value for name, value in fields.items() if value is not None}, **report.more})
    event = {"v": 1, "type": "call", "id": "0199f3a4-0000-7000-8000-000000000001", "app": "bot", **event}
    value = json.dumps({**event, "ts": KAFKA_TIME // 1000}).encode()
    records = Records("llm.events", [0], [0], [KAFKA_TIME], [None], [value], [()], {0: (0, 1)})
    seen = DuplicateWindow()
    seen.start(0, 0)
    decoded = decode(records, PriceBooks([default_book()]), seen, epoch=0, landed_at=0)
    assert decoded.dead.num_rows == 0, decoded.dead.to_pylist()
    rows: list[Json] = decoded.calls.to_pylist()
    return rows[0]


@pytest.mark.parametrize("report", REPORTS, ids=lambda r: r.source)
def test_a_reported_situation_has_its_right_bill(report: Report) -> None:
    row = landed(report)
    assert row["cost_status"] == report.status
    if report.parts is None:
        assert row["cost_usd"] is None
        return
    tokens = sum((Decimal(str(n)) * Decimal(str(rate)) for n, rate in report.parts), Decimal(0)) / 1_000_000
    assert row["cost_usd"] == tokens + Decimal(str(report.fees))


def test_more_cached_tokens_than_input_make_no_negative_cost() -> None:
    """LionSR/TeXRA#1924."""
    row = landed(Report("", "openai", "gpt-4o", chat(100, 10, 5000), ()))
    assert row["cost_usd"] > 0
    assert "token_mismatch" in row["_flags"]


@pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3-pro-preview", 3)])
def test_queries_of_a_grounded_answer_are_billed_as_the_model_is(model: str, searches: int) -> None:
    """litellm#16996, langfuse#15856: one grounded prompt, or each query."""
    found = grounding([{"groundingMetadata": {"webSearchQueries": ["a", "b", "c"]}}], model)
    assert [(u["unit"], u["quantity"]) for u in found] == [("web_searches", searches)]
