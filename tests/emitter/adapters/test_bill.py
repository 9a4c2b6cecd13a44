"""What is billed beside plain tokens, and counts that could be read in two ways, as usage objects have them."""

from typing import Any

import pytest

from tailrace_emitter.adapters.litellm_fields import fields_of
from tailrace_emitter.adapters.openai_fields import answer_fields
from tailrace_emitter.adapters.usage import from_anthropic, from_openai, grounding, hosted_tools, tokens_of


def chat(usage: dict[str, Any]) -> dict[str, Any]:
    """An answer of chat completions."""
    message = {"role": "assistant", "content": "Hello."}
    return {"object": "chat.completion", "model": "m", "choices": [{"message": message}], "usage": usage}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 10150,
                "prompt_tokens_details": {"cached_tokens": 10000},
            },
            {"input": 10100, "output": 50, "cache_read": 10000},
            id="cached tokens beside the prompt are input and never output",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 12150,
                "cache_read_input_tokens": 10000,
                "cache_creation_input_tokens": 2000,
            },
            {"input": 12100, "output": 50, "cache_read": 10000, "cache_write": 2000},
            id="cache reads and writes beside the prompt",
        ),
        pytest.param(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 50,
                "total_tokens": 1450,
                "prompt_tokens_details": {"cached_tokens": 400},
                "completion_tokens_details": {"reasoning_tokens": 400},
            },
            {"input": 1000, "output": 450, "cache_read": 400, "reasoning": 400},
            id="reasoning beside the completion, as many tokens as the cached part of the prompt",
        ),
    ],
)
def test_the_total_decides_what_is_counted_beside_what(usage: dict[str, Any], tokens: dict[str, int]) -> None:
    assert from_openai(usage) == tokens


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.0075, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}, 0.0075),
        ({"cost": 0.25, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}, 0.75),
        ({"cost": 0.25, "is_byok": True}, None),
    ],
)
def test_with_the_callers_own_key_openrouters_cost_is_a_fee_on_top(usage: dict[str, Any], cost: Any) -> None:
    counts = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    assert answer_fields("chat", chat({**counts, **usage})).get("cost_reported") == cost


def test_a_reported_cost_survives_usage_of_nothing() -> None:
    fields = answer_fields("chat", chat({"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.5}))
    assert (fields["usage_reported"], fields.get("tokens"), fields["cost_reported"]) == (False, None, 0.5)


def test_the_output_of_an_image_model_is_an_image_unless_its_details_split_it() -> None:
    asked = {"text_tokens": 50, "image_tokens": 100, "cached_tokens": 0}
    usage = {"input_tokens": 150, "output_tokens": 4160, "total_tokens": 4310, "input_tokens_details": asked}
    fields = answer_fields("image_generation", {"data": [{"b64_json": "AA"}], "usage": usage})
    units = {entry["unit"]: entry["quantity"] for entry in fields["tokens"]["units"]}
    assert units == {"input_image_tokens": 100, "output_image_tokens": 4160}
    split = {**usage, "output_tokens_details": {"text_tokens": 160, "image_tokens": 4000}}
    fields = answer_fields("image_generation", {"data": [{"b64_json": "AA"}], "usage": split})
    units = {entry["unit"]: entry["quantity"] for entry in fields["tokens"]["units"]}
    assert units == {"input_image_tokens": 100, "output_image_tokens": 4000}


def test_an_image_that_a_response_makes_is_a_unit() -> None:
    made = {"type": "image_generation_call", "status": "completed", "result": "AA"}
    assert hosted_tools([made, {**made, "status": "failed"}, made]) == [{"unit": "image_generations", "quantity": 2}]


def test_units_of_a_vendor_are_added_to_those_that_its_tokens_have() -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "prompt_tokens_details": {"image_tokens": 600},
        "num_sources_used": 4,
    }
    units = {entry["unit"]: entry["quantity"] for entry in tokens_of(usage)["units"]}
    assert units == {"input_image_tokens": 600, "search_sources": 4}


def through_litellm(model: str, usage: Any, response: dict[str, Any]) -> dict[str, Any]:
    """The fields of a call that LiteLLM reports."""
    payload = {"model": model, "status": "success", "response": response, "metadata": {"usage_object": usage}}
    return fields_of(payload)


@pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3-flash-preview", 2)])
def test_grounding_through_litellm_is_billed_as_google_bills_it(model: str, searches: int) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "prompt_tokens_details": {"web_search_requests": 2}}
    fields = through_litellm(model, usage, {"choices": [{"message": {"content": "Hi"}}]})
    assert fields["tokens"]["units"] == [{"unit": "web_searches", "quantity": searches}]


def test_the_pages_of_ocr_through_litellm_are_units() -> None:
    answer = {"object": "ocr", "pages": [], "usage_info": {"pages_processed": 10, "doc_size_bytes": 100}}
    fields = through_litellm("mistral-ocr-2505", None, answer)
    assert fields["tokens"] == {"units": [{"unit": "input_document_pages", "quantity": 10}]}
    assert fields["usage_reported"] is True


@pytest.mark.parametrize(
    ("asked", "unit"),
    [
        ({"model": "dall-e-3"}, "image_standard_1024x1024"),
        ({"model": "dall-e-3", "quality": "hd", "size": "1792x1024"}, "image_hd_1792x1024"),
        ({"model": "dall-e-2", "quality": "hd", "size": "512x512"}, "image_standard_512x512"),
        ({"model": "dall-e-3", "size": "auto"}, "image_standard_1024x1024"),
        ({}, "image_standard_1024x1024"),
    ],
)
def test_images_of_dall_e_are_units_by_quality_and_size(asked: dict[str, Any], unit: str) -> None:
    fields = answer_fields("image_generation", {"data": [{"url": "u"}, {"url": "v"}]}, asked)
    assert fields["units"] == [{"unit": unit, "quantity": 2}]
    assert fields["tokens"] == {"images": 2}


def test_images_of_dall_e_through_litellm_are_counted_once() -> None:
    payload = {
        "model": "dall-e-3",
        "status": "success",
        "call_type": "image_generation",
        "model_parameters": {"size": "1792x1024", "quality": "hd"},
        "response": {"data": [{"url": "u"}]},
        "metadata": {"usage_object": {"prompt_tokens": 0, "completion_tokens": 0, "output_image_count": 1}},
    }
    fields = fields_of(payload)
    assert fields["units"] == [{"unit": "image_hd_1792x1024", "quantity": 1}]
    assert not fields.get("tokens", {}).get("units")


def test_other_image_models_without_usage_have_no_such_unit() -> None:
    fields = answer_fields("image_generation", {"data": [{"url": "u"}]}, {"model": "acme-image"})
    assert "units" not in fields


@pytest.mark.parametrize(("region", "units"), [("us", 1), ("global", 0), ("not_available", 0), (None, 0), ("U S", 0)])
def test_inference_in_one_region_costs_more_than_the_list_says(region: Any, units: int) -> None:
    found = from_anthropic({"input_tokens": 1000, "output_tokens": 500, "inference_geo": region})
    assert found.get("units", []) == [{"unit": "inference_geo_us", "quantity": 1}] * units


def test_grounding_with_maps_is_a_unit_of_the_prompt() -> None:
    chunks = [{"maps": {"uri": "u"}}, {"maps": {"uri": "v"}}]
    assert grounding([{"groundingMetadata": {"groundingChunks": chunks}}], "gemini-2.5-flash") == [
        {"unit": "maps_groundings", "quantity": 1}
    ]
    assert grounding([{"groundingMetadata": {"groundingChunks": [{"web": {}}]}}], "gemini-2.5-flash") == []
