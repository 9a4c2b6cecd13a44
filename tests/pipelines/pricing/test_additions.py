"""Prices that the packaged data lack, and models that are free: the right cost of each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipelines.decode import DuplicateWindow, decode


@pytest.fixture
def land(batch, call, books):
    """Decode one call given as fields; return the row as it lands."""

    def run(**fields: Any) -> dict[str, Any]:
        seen = DuplicateWindow()
        seen.start(0, 0)
        (row,) = decode(batch([call(**fields)]), books, seen, epoch=1, landed_at=0).calls.to_pylist()
        return row

    return run


@pytest.mark.parametrize(
    ("model", "tokens", "cost"),
    [
        pytest.param("gpt-4o-search-preview-2025-03-11", {}, "0.0325", id="0.0075 and a search at 25 per thousand"),
        pytest.param("gpt-4o-mini-search-preview", {}, "0.02545", id="0.00045 and a search at 25 per thousand"),
        pytest.param("gpt-5-search-api", {}, "0.01625", id="0.00625 and a search at 10 per thousand"),
        pytest.param(
            "gpt-4o-audio-preview-2024-12-17",
            {"audio_in": 800, "audio_out": 400},
            "0.0655",
            id="200 x 2.5 + 800 x 40 + 100 x 10 + 400 x 80",
        ),
        pytest.param(
            "gpt-4o-mini-audio-preview",
            {"audio_in": 800, "audio_out": 400},
            "0.01609",
            id="200 x 0.15 + 800 x 10 + 100 x 0.6 + 400 x 20",
        ),
        pytest.param("ft:gpt-4.1-mini-2025-04-14:acme::AbC123", {}, "0.0024", id="a fine-tuned model"),
    ],
)
def test_openais_prices_that_the_data_lack(land, model, tokens, cost):
    row = land(model=model, provider="openai", tokens={"input": 1000, "output": 500, **tokens})
    assert (row["cost_usd"], row["cost_status"]) == (Decimal(cost), "computed")


@pytest.mark.parametrize(
    ("model", "unit", "cost"),
    [
        ("dall-e-3", "image_standard_1024x1024", "0.04"),
        ("dall-e-3", "image_hd_1792x1024", "0.12"),
        ("dall-e-2", "image_standard_512x512", "0.018"),
    ],
)
def test_an_image_of_dall_e_costs_by_its_quality_and_size(land, model, unit, cost):
    row = land(model=model, provider="openai", tokens={}, units=[{"unit": unit, "quantity": 3}])
    assert (row["cost_usd"], row["cost_status"]) == (3 * Decimal(cost), "computed")


def test_an_image_of_a_size_that_has_no_price_is_unpriced(land):
    row = land(model="dall-e-3", provider="openai", tokens={}, units=[{"unit": "image_hd_256x256", "quantity": 1}])
    assert (row["cost_usd"], row["cost_status"]) == (None, "unpriced")


@pytest.mark.parametrize(("model", "cost"), [("deepseek-v3", "0.00135"), ("deepseek-v3p1", "0.0014")])
def test_older_models_of_fireworks(land, model, cost):
    tokens = {"input": 1000, "output": 500}
    row = land(model=f"accounts/fireworks/models/{model}", provider="fireworks_ai", tokens=tokens)
    assert (row["cost_usd"], row["cost_status"]) == (Decimal(cost), "computed")


@pytest.mark.parametrize("model", ["omni-moderation-latest", "text-moderation-latest"])
def test_moderation_is_free_and_reports_no_usage(land, model):
    row = land(model=model, provider="openai", op="moderation", tokens={}, usage_reported=False)
    assert (row["cost_usd"], row["cost_status"]) == (Decimal(0), "free")


@pytest.mark.parametrize(
    ("status", "tokens", "expected"),
    [
        ("cancelled", {"input": 1000}, ("0.003", "partly_priced")),
        ("error", {"input": 1000}, ("0.003", "partly_priced")),
        ("cancelled", {"input": 1000, "output": 500}, ("0.0105", "computed")),
        ("blocked", {"input": 1000}, ("0.003", "computed")),
        ("ok", {"input": 1000}, ("0.003", "computed")),
    ],
)
def test_the_output_of_a_call_that_ended_early_is_not_known_to_be_none(land, status, tokens, expected):
    row = land(model="claude-sonnet-4-5", provider="anthropic", status=status, tokens=tokens)
    assert (row["cost_usd"], row["cost_status"]) == (Decimal(expected[0]), expected[1])


def test_inference_in_one_region_is_partly_priced(land):
    units = [{"unit": "inference_geo_us", "quantity": 1}]
    row = land(model="claude-opus-4-6", provider="anthropic", tokens={"input": 1000, "output": 500}, units=units)
    assert (row["cost_usd"], row["cost_status"]) == (Decimal("0.0175"), "partly_priced")


@pytest.mark.parametrize(
    ("used", "cost", "status"),
    [
        pytest.param({"tokens": {"input": 14, "output": 101}}, "0.0012204", "computed", id="14 x 0.6 + 101 x 12"),
        pytest.param({"tokens": {"input": 14, "output": 101, "audio_out": 101}}, "0.0012204", "computed", id="audio"),
        pytest.param({"units": [{"unit": "input_characters", "quantity": 600}]}, None, "unpriced", id="characters"),
        pytest.param({}, None, "unpriced", id="nothing"),
        pytest.param({"cost_reported": 0}, None, "unpriced", id="a reported 0"),
    ],
)
def test_speech_that_is_billed_by_its_audio_has_no_cost_without_usage(land, used, cost, status):
    given = {"tokens": None, "usage_reported": "tokens" in used, **used}
    row = land(model="gpt-4o-mini-tts", provider="openai", op="speech", **given)
    assert (row["cost_usd"], row["cost_status"]) == (cost and Decimal(cost), status)


def test_what_an_advisor_model_used_is_partly_priced(land):
    """The rates of another model than the one that answered are not known to the call."""
    units = [{"unit": "advisor_input_tokens", "quantity": 2518}, {"unit": "advisor_output_tokens", "quantity": 22}]
    row = land(model="claude-sonnet-4-5", provider="anthropic", tokens={"input": 2390, "output": 121}, units=units)
    assert (row["cost_usd"], row["cost_status"]) == (Decimal("0.008985"), "partly_priced")
