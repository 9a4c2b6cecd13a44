"""Billed units: every amount counted once, the sum exact to the last digit, what has no price is said."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, data, types
from genai_prices.data_units import unit_data

from pipelines.decode import DuplicateWindow, decode, decode_metered
from pipelines.pricing import PriceBooks, default_book
from pipelines.pricing.vocabulary import COMPONENT, VOCABULARY
from schemas.errors import SettingsError

PARTS = ("input_cost_usd", "output_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd")
AT = datetime(2026, 11, 21, 7, tzinfo=UTC)


@pytest.fixture
def land(batch, call, books):
    """Decode calls given as fields; return the rows as they land."""

    def run(*calls: dict[str, Any], by: PriceBooks = books) -> list[dict[str, Any]]:
        seen = DuplicateWindow()
        seen.start(0, 0)
        records = batch([call(**fields) for fields in calls])
        decoded = decode(records, by, seen, epoch=1, landed_at=0)
        assert decoded.dead.num_rows == 0
        return decoded.calls.to_pylist()

    return run


def total(row: dict[str, Any]) -> Decimal:
    """The parts of a row's cost, added up."""
    return sum((row[name] for name in PARTS), Decimal(0)) + sum(
        (entry["cost"] for entry in row["units"] or () if entry["cost"] is not None), Decimal(0)
    )


def used(**quantities: float) -> list[dict[str, Any]]:
    return [{"unit": name, "quantity": quantity} for name, quantity in quantities.items()]


def test_the_vocabulary_is_that_of_the_installed_genai_prices():
    ours = {u.name: (u.per, u.price_key, dict(u.dimensions)) for u in VOCABULARY.values()}
    assert ours == {name: (u["per"], u["price_key"], u["dimensions"]) for name, u in unit_data.items()}


@pytest.mark.parametrize(
    ("model", "tokens", "units", "cost", "rates"),
    [
        ("gpt-5", {"input": 1000, "output": 200}, used(web_searches=3), "0.033250000", ["0.01"]),
        ("gpt-5", {"input": 1000, "output": 200}, used(storage_searches=2), "0.008250000", ["0.0025"]),
        ("gpt-image-1.5", {"input": 50, "output": 6208}, used(output_image_tokens=6208), "0.198906000", ["0.000032"]),
        ("whisper-1", {}, used(input_audio_seconds=90), "0.009000000", ["0.0001"]),
        ("tts-1", {}, used(input_characters=1000), "0.015000000", ["0.000015"]),
        ("mistral-ocr-2505", {}, used(input_document_pages=10), "0.010000000", ["0.001"]),
        (
            "mistral-ocr-2505",
            {},
            used(input_document_pages=10, input_annotated_document_pages=4),
            "0.018000000",
            ["0.001", "0.003"],
        ),
        ("sonar", {"input": 1000, "output": 100}, [], "0.006100000", ["0.005"]),
        (
            "sonar",
            {"input": 1000, "output": 100},
            used(search_context_high=1),
            "0.013100000",
            ["0.007", "0.005"],
        ),
    ],
)
def test_a_unit_costs_its_own_rate(land, model, tokens, units, cost, rates):
    (row,) = land({"model": model, "tokens": tokens, "units": units})
    assert (row["cost_usd"], row["cost_status"]) == (Decimal(cost), "computed")
    assert [entry["rate"] for entry in row["units"]] == [Decimal(rate) for rate in rates]
    assert total(row) == row["cost_usd"]


def test_a_unit_without_a_rate_of_its_own_is_paid_as_what_it_is_a_part_of(land):
    units = used(input_image_tokens=400, output_video_tokens=20)
    (row,) = land({"model": "gpt-4o", "tokens": {"input": 1000, "output": 100}, "units": units})
    assert row["cost_usd"] == Decimal("0.0035")
    assert [(e["rate"], e["cost"]) for e in row["units"]] == [
        (Decimal("0.0000025"), Decimal("0.001")),
        (Decimal("0.00001"), Decimal("0.0002")),
    ]
    assert (row["input_cost_usd"], row["output_cost_usd"]) == (Decimal("0.0015"), Decimal("0.0008"))


def test_cached_images_are_no_other_images_and_no_other_cached_tokens(land):
    tokens = {"input": 1000, "output": 10, "cache_read": 300}
    units = used(input_image_tokens=500, cache_image_read_tokens=200)
    (row,) = land({"model": "gpt-realtime", "tokens": tokens, "units": units})
    images, cached = row["units"]
    assert (images["cost"], cached["cost"]) == (Decimal("0.0015"), Decimal("0.0001"))  # 300 at 5, 200 at 0.5
    assert row["cache_read_cost_usd"] == Decimal("0.00004")  # 100 at 0.4
    assert row["input_cost_usd"] == Decimal("0.0016")  # 400 at 4
    assert total(row) == row["cost_usd"]


def test_what_a_column_holds_counts_there_and_an_empty_column_takes_the_unit(land):
    twice = {"model": "gpt-4o", "tokens": {"input": 1000, "output": 100}, "units": used(input_tokens=1000)}
    differing = twice | {"units": used(input_tokens=7)}
    alone = {"model": "gpt-4o", "tokens": {}, "units": used(input_tokens=1000, output_tokens=100)}
    rows = land(twice, differing, alone)
    assert [row["cost_usd"] for row in rows] == [Decimal("0.0035")] * 3
    assert [row["units"] for row in rows] == [None] * 3
    assert [row["_flags"] for row in rows] == [None, ["token_mismatch"], None]
    assert (rows[2]["input_tokens"], rows[2]["output_tokens"]) == (1000, 100)


@pytest.mark.parametrize(
    ("fields", "status", "cost"),
    [
        ({"units": used(invented=3)}, "partly_priced", "0.00202"),
        ({"units": used(social_searches=3)}, "partly_priced", "0.00202"),
        ({"units": [{"unit": "web_searches"}]}, "partly_priced", "0.00202"),
        ({"units": [{"quantity": 2}]}, "partly_priced", "0.00202"),
        ({"units": used(social_searches=0)}, "computed", "0.00202"),
        ({"units": used(invented=3), "cost_reported": 0.5}, "reported", "0.5"),
        ({"units": used(invented=3), "tokens": {}}, "unpriced", None),
        ({"units": used(invented=3), "model": "house"}, "unpriced", None),
        ({"units": used(web_searches=1), "tokens": {}, "model": "gpt-5"}, "partly_priced", "0.01"),
        ({"units": used(invented=3), "cache": {"kind": "exact"}}, "free", "0"),
        ({"service_tier": "batch", "model": "gpt-5-image"}, "partly_priced", None),
        ({"service_tier": "default"}, "computed", "0.00202"),
    ],
)
def test_usage_without_a_price_is_never_computed(land, fields, status, cost):
    (row,) = land({"tokens": {"input": 420, "output": 97}} | fields)
    assert row["cost_status"] == status
    if cost is not None or status == "unpriced":
        assert row["cost_usd"] == (None if cost is None else Decimal(cost))


def test_a_setting_prices_a_unit_that_the_data_do_not_have(land):
    books = PriceBooks([default_book([{"model": "dall-e-*", "units": {"images": "0.04", "web_searches": 0.01}}])])
    (row,) = land({"model": "dall-e-3", "tokens": {}, "units": used(images=2, web_searches=1)}, by=books)
    assert (row["cost_usd"], row["cost_status"]) == (Decimal("0.09"), "computed")
    with pytest.raises(SettingsError, match="input_tokens"):
        default_book([{"model": "x", "units": {"input_tokens": 1}}])


def test_land_and_meter_cost_the_same_and_the_parts_add_up(batch, call, books):
    draw = random.Random(14)
    models = ("gpt-5", "gpt-realtime", "gemini-2.5-flash", "gemini-2.5-flash-image", "sonar", "sonar-deep-research")
    names = [name for name in VOCABULARY if name not in COMPONENT]
    values = []
    for _ in range(600):
        tokens = {"input": draw.randrange(300_000), "output": draw.randrange(9000)}
        tokens["cache_read"] = draw.randrange(tokens["input"] + 1)
        units = [{"unit": draw.choice(names), "quantity": draw.choice([0, 1, 7, 0.3, 4096])} for _ in range(4)]
        values.append(call(model=draw.choice(models), tokens=tokens, units=units))
    seen, again = DuplicateWindow(), DuplicateWindow()
    seen.start(0, 0)
    again.start(0, 0)
    landed = decode(batch(values), books, seen, epoch=1, landed_at=0).calls
    metered = decode_metered(batch(values), books, again, epoch=1).table
    assert landed.column("cost_usd").to_pylist() == metered.column("cost_usd").to_pylist()
    assert landed.column("cost_status").to_pylist() == metered.column("cost_status").to_pylist()
    for row in landed.to_pylist():
        assert total(row) == row["cost_usd"]
        assert all((e["cost"] is None) == (e["rate"] is None) for e in row["units"])
        if row["cost_status"] == "computed":
            assert all(e["cost"] is not None for e in row["units"] if e["quantity"])


def test_every_model_of_the_data_costs_what_genai_prices_computes(land, books):
    """All priced units of every model at once: the decomposition is the library's, to within the rounding of parts."""
    calls, expected = [], []
    for provider in data.providers:
        for model in provider.models:
            if isinstance(model.prices, list):
                continue
            usage = _usage_of(model.prices)
            columns = {COMPONENT[name]: count for name, count in usage.items() if name in COMPONENT}
            rest = {name: count for name, count in usage.items() if name not in COMPONENT and name != "requests"}
            rules = {"model": model.id, "provider": provider.id, "tokens": columns, "units": used(**rest)}
            found = books.books[0].explain(provider.id, model.id)
            if not rest or found is None or (found.provider, found.entry["id"]) != (provider.id, model.id):
                continue
            calls.append(rules)
            expected.append(model.prices.calc_price(Usage(**usage))["total_price"])
    rows = land(*calls)
    assert len(rows) > 60
    for row, price in zip(rows, expected, strict=True):
        assert row["cost_status"] == "computed", row["model"]
        assert abs(row["cost_usd"] - price) <= Decimal("1e-8"), (row["model"], row["units"])


def _usage_of(prices: types.ModelPrice) -> dict[str, int]:
    """A consistent usage: 1,000 of every priced leaf, sums above."""
    priced = [unit for unit in VOCABULARY.values() if getattr(prices, unit.price_key) is not None]
    usage = {}
    for unit in priced:
        if unit.name != "requests":
            usage[unit.name] = 1000 * sum(other is unit or other.is_part_of(unit) for other in priced)
    return usage


@pytest.mark.parametrize(
    ("fields", "flagged"),
    [
        ({"cost_reported": 0.00202}, False),
        ({"cost_reported": 0.00204}, False),
        ({"cost_reported": 0.002041}, True),
        ({"cost_reported": 0.0015}, True),
        ({"cost_reported": 0}, False),
        ({"cost_reported": 5, "model": "house"}, False),
        ({"cost_reported": 5, "cache": {"kind": "exact"}}, False),
        ({"cost_reported": 5, "units": used(invented=1)}, False),
        ({"cost_reported": 0.00202, "model": "gpt-5", "units": used(web_searches=1)}, True),
    ],
)
def test_a_reported_cost_more_than_a_hundredth_off_is_flagged_whichever_counts(land, books, fields, flagged):
    event = {"tokens": {"input": 420, "output": 97}} | fields
    preferring = PriceBooks(books.books, prefer="reported")
    (row,), (other,) = land(event), land(event, by=preferring)
    assert ("cost_differs" in (row["_flags"] or ())) is flagged
    assert ("cost_differs" in (other["_flags"] or ())) is flagged


def test_the_preference_decides_which_cost_counts_and_both_stay(land, books):
    event = {"tokens": {"input": 420, "output": 97}, "cost_reported": 0.5}
    (computed,), (reported,) = land(event), land(event, by=PriceBooks(books.books, prefer="reported"))
    assert (computed["cost_usd"], computed["cost_status"]) == (Decimal("0.00202"), "computed")
    assert (reported["cost_usd"], reported["cost_status"]) == (Decimal("0.5"), "reported")
    assert total(reported) == total(computed) == Decimal("0.00202")
    assert computed["cost_reported_usd"] == reported["cost_reported_usd"] == Decimal("0.5")
