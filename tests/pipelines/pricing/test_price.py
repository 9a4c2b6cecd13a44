"""Money to the last digit: an independent computation, the third-party oracle, books in time."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest

from pipelines.decode import DuplicateWindow, decode, decode_metered
from pipelines.pricing import PriceBook, PriceBookError, PriceBooks, default_book, price
from pipelines.pricing.book import COMPONENTS, UNITS
from schemas.arrow import MONEY, TIME
from schemas.errors import SettingsError

NANO = Decimal("0.000000001")
AUGUST = 1_787_184_000_000_000  # 2026-08-20
TOKENS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "audio_in", "audio_out")


def table(rows: list[dict[str, Any]], time: int = AUGUST) -> pa.Table:
    def column(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([row.get(name) for row in rows], kind)

    text = ("provider", "model", "response_model", "service_tier", "answer_cache", "status")
    return pa.table(
        {name: column(name, pa.string()) for name in text}
        | {f"{name}_tokens": column(name, pa.int64()) for name in TOKENS}
        | {"cost_reported_usd": column("cost_reported", MONEY)}
        | {
            name: pa.array([row.get(name, time) for row in rows], pa.int64()).cast(TIME)
            for name in ("ts", "_kafka_time")
        }
    )


def cost(row: dict[str, Any], books: PriceBooks, time: int = AUGUST) -> dict[str, Any]:
    return price(table([row], time), books).to_pylist()[0]


def half_even(value: Fraction) -> Decimal:
    return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(NANO, ROUND_HALF_EVEN)


def test_every_price_of_the_packaged_data_is_exact_in_whole_units(books):
    seen = 0
    for provider in books.books[0].content["providers"]:
        for model in provider["models"]:
            for priced in (*model["prices"], *model["variants"]):
                for name, rate in priced["rates"].items():
                    for usd in [rate] if isinstance(rate, str) else [rate["base"], *(p for _, p in rate["tiers"])]:
                        per = 1000 if name == "request" else 1_000_000
                        assert (Fraction(usd) * UNITS / per).denominator == 1
                        seen += 1
    assert seen > 5000


def test_costs_equal_an_independent_computation_to_the_last_digit(books):
    draw = random.Random(7)
    models = [
        ("openai", "gpt-4o"),
        (None, "claude-sonnet-4-5"),
        ("google", "gemini-2.5-pro"),
        ("anthropic", "claude-opus-4-1"),
    ]
    rows = []
    for _ in range(2000):
        provider, model = draw.choice(models)
        tokens = {
            "input": draw.choice([0, 3, 1000, 199_999, 200_001, 10**7]) + draw.randrange(50),
            "output": draw.randrange(9000),
        }
        tokens["cache_read"] = draw.randrange(tokens["input"] // 2 + 1)
        tokens["cache_write"] = draw.randrange(tokens["input"] // 2 + 1)
        rows.append({"provider": provider, "model": model} | tokens)
    got = price(table(rows), books).to_pylist()
    book = books.books[0]
    for row, priced in zip(rows, got, strict=True):
        rates = book.rates((row["provider"], row["model"], None, None), *book.moment(AUGUST))
        assert rates is not None
        rate = dict(zip(COMPONENTS, rates.bands[sum(row["input"] > s for s in rates.starts)], strict=True))
        fresh = row["input"] - row["cache_read"] - row["cache_write"]
        parts = [
            half_even(Fraction(n * rate[name], UNITS))
            for name, n in (
                ("input", fresh),
                ("output", row["output"]),
                ("cache_read", row["cache_read"]),
                ("cache_write", row["cache_write"]),
            )
        ]
        names = ("input_cost_usd", "output_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd")
        assert [priced[n] for n in names] == parts
        assert priced["cost_usd"] == sum(parts)


def test_a_half_is_rounded_to_the_even_neighbour():
    rules = [{"model": "half", "input_usd_per_mtok": "0.0005", "output_usd_per_mtok": 0}]
    books = PriceBooks([default_book(rules)])
    costs = [cost({"model": "half", "input": n, "output": 0}, books)["cost_usd"] for n in (1, 2, 3, 5)]
    assert costs == [Decimal(x) for x in ("0E-9", "1E-9", "2E-9", "2E-9")]


def test_a_price_finer_than_the_fast_way_and_a_count_too_big_for_it_stay_exact():
    rules = [
        {"model": "fine", "input_usd_per_mtok": "0.123456789012345678"},
        {"model": "big", "input_usd_per_mtok": "77.7"},
        {"model": "plain", "input_usd_per_mtok": "2"},
    ]
    books = PriceBooks([default_book(rules)])
    rows = [
        {"model": "fine", "input": 10**12},
        {"model": "big", "input": 12_345_678_901},
        {"model": "plain", "input": 7},
    ]
    got = [row["cost_usd"] for row in price(table(rows), books).to_pylist()]
    assert got == [Decimal("123456.789012346"), Decimal("959259.250607700"), Decimal("0.000014000")]


def test_a_tier_starts_above_its_threshold_and_holds_for_all_tokens(books):
    at, above = (
        cost({"provider": "google", "model": "gemini-2.5-pro", "input": n, "output": 0}, books)["cost_usd"]
        for n in (200_000, 200_001)
    )
    assert (at, above) == (Decimal("0.25"), Decimal("0.5000025"))


def test_the_model_that_answered_is_the_first_key(books):
    row = {
        "provider": "openai",
        "model": "gpt-4o",
        "response_model": "gpt-4o-mini-2024-07-18",
        "input": 10**6,
        "output": 0,
    }
    assert cost(row, books)["cost_usd"] == Decimal("0.15")
    unknown = row | {"response_model": "house-brand"}
    assert cost(unknown, books)["cost_usd"] == Decimal("2.5")


@pytest.mark.parametrize(
    ("provider", "model", "usd"),
    [
        ("azure.ai.openai", "gpt-4o", "2.5"),
        ("OpenAI", "GPT-4o", "2.5"),
        (None, "openai/gpt-4o", "2.5"),
        ("litellm_proxy", "gpt-4o", "2.5"),
        ("my-gateway", "llama-in-house", None),
        (None, "nothing-like-it", None),
        (None, "", None),
        ("", "gpt-4o", "2.5"),
        (None, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3"),
        (None, "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3"),
        ("litellm", "anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3"),
        (None, "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3"),
        (None, "gateway/anthropic/claude-sonnet-4-5", "6"),
        ("gcp.gemini", "models/gemini-2.5-flash", "0.3"),
        ("gcp.vertex_ai", "google/gemini-2.5-flash", "0.3"),
        ("openrouter", "anthropic/claude-sonnet-4.5:nitro", "6"),
        ("openai", "ft:gpt-4.1-mini-2025-04-14:acme::AbC123", "0.8"),
        ("openai", "ft:gpt-4o-2024-08-06:acme::AbC123", "3.75"),
    ],
)
def test_providers_are_found_as_people_write_them(books, provider, model, usd):
    got = cost({"provider": provider, "model": model, "input": 10**6, "output": 0}, books)
    assert got["cost_usd"] == (None if usd is None else Decimal(usd))
    assert got["cost_status"] == ("unpriced" if usd is None else "computed")


def test_fine_tuned_models_have_their_cached_rate(books):
    row = {"provider": "openai", "model": "ft:gpt-4o-mini-2024-07-18:acme:bot:AbC123"}
    got = cost(row | {"input": 1000, "output": 500, "cache_read": 1000}, books)
    assert got["cost_usd"] == Decimal("0.00075")


@pytest.mark.parametrize(
    ("provider", "model"),
    [("gcp.vertex_ai", "claude-sonnet-4@20250514"), ("openrouter", "anthropic/claude-sonnet-4.5")],
)
def test_an_hour_of_cache_costs_twice_the_input_where_the_data_lack_its_rate(books, provider, model):
    row = {"provider": provider, "model": model, "input": 1000, "output": 0}
    assert cost(row | {"cache_write": 1000, "cache_write_1h": 1000}, books)["cost_usd"] == Decimal("0.006")


def test_a_reported_cost_of_zero_is_no_cost(books):
    row = {"provider": "openai", "model": "acme-large-2027", "input": 120_000, "output": 4_000, "cost_reported": 0}
    assert (cost(row, books)["cost_usd"], cost(row, books)["cost_status"]) == (None, "unpriced")
    assert cost(row | {"cost_reported": Decimal("0.5")}, books)["cost_status"] == "reported"
    assert cost(row | {"answer_cache": "exact"}, books)["cost_status"] == "free"


def test_usage_of_nothing_beside_an_answer_is_no_usage_for_land_and_meter_alike(books, batch, call):
    zero = {"input": 0, "output": 0}
    messages = [
        call(model="gpt-4o", tokens=zero, content={"output": "Hello."}),
        call(model="gpt-4o", tokens=zero, content={"output": "Hello."}, cache={"kind": "exact"}),
        call(model="gpt-4o", tokens=zero, status="error"),
        call(model="gpt-4o", tokens={"input": 8, "output": 0}, content={"output": "Hello."}),
    ]
    rows = decode(batch(messages), books, DuplicateWindow(), epoch=0, landed_at=0).calls.to_pylist()
    assert [row["cost_status"] for row in rows] == ["unpriced", "free", "computed", "computed"]
    assert [row["_flags"] for row in rows] == [["usage_missing"], None, None, None]
    metered = decode_metered(batch(messages), books, DuplicateWindow(), epoch=0).table["cost_nanousd"].to_pylist()
    assert [value is None for value in metered] == [True, False, False, False]


def test_explain_names_the_list_the_entry_and_the_spelling(books):
    book = books.books[0]
    found = book.explain(None, "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert found is not None
    assert (found.provider, found.name) == ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert book.explain("my-gateway", "llama-in-house") is None


@pytest.mark.row(40)
def test_null_cost_and_unpriced_are_one_thing(books, corpus, batch):
    rows = decode(batch([c.value for c in corpus]), books, DuplicateWindow(), epoch=0, landed_at=0).calls.to_pylist()
    assert {row["cost_status"] for row in rows} == {"computed", "reported", "unpriced", "free"}
    for row in rows:
        assert (row["cost_usd"] is None) == (row["cost_status"] == "unpriced")
        if row["cost_status"] in ("computed", "free"):
            names = ("input_cost_usd", "output_cost_usd", "cache_read_cost_usd", "cache_write_cost_usd")
            assert row["cost_usd"] == sum(row[n] for n in names)


@pytest.mark.row(41)
def test_a_price_changed_in_mid_day_holds_from_its_moment_and_both_stages_agree(batch, call):
    start = 1_795_244_400_000_000
    old, new = (
        default_book([{"model": "gpt-4o", "input_usd_per_mtok": p, "output_usd_per_mtok": 0}]) for p in ("1", "3")
    )
    books = PriceBooks([new.with_effective_from(start), old])
    values = [call(ts=1_795_244_399_000, tokens={"input": 10**6, "output": 5}) for _ in range(2)]
    for kafka_time, usd, book in ((start - 1, "1", old), (start, "3", new)):
        records = batch(values[:1], kafka_time=kafka_time)
        landed = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0).calls.to_pylist()[0]
        metered = decode_metered(records, books, DuplicateWindow(), epoch=0).table.to_pylist()[0]
        assert (landed["cost_usd"], landed["price_version"]) == (Decimal(usd), book.version)
        assert (metered["cost_usd"], metered["price_version"]) == (Decimal(usd), book.version)
        assert metered["cost_nanousd"] == int(usd) * 10**9


def test_a_price_by_date_follows_event_time_and_a_clock_gone_wrong_does_not_choose_it():
    rules = [
        {"model": "m", "input_usd_per_mtok": "9", "from": "2026-08-20"},
        {"model": "m", "input_usd_per_mtok": "1"},
    ]
    books = PriceBooks([default_book(rules)])
    day = 86_400_000_000
    usd = [
        cost({"model": "m", "input": 10**6, "ts": ts, "_kafka_time": AUGUST + 1}, books)["cost_usd"]
        for ts in (AUGUST - 1, AUGUST, 0, AUGUST + 2 * day)
    ]
    assert usd == [1, 9, 9, 9]
    for days, expected in ((6, 1), (8, 9)):  # a call a few days late is paid as on its own day
        late = {"model": "m", "input": 10**6, "ts": AUGUST - 1, "_kafka_time": AUGUST + days * day}
        assert cost(late, books)["cost_usd"] == expected


def test_off_peak_hours_follow_the_time_of_day(books):
    content = {
        "format": 1, "aliases": {}, "overrides": [],
        "providers": [{
            "id": "p", "match": None, "model_match": {"starts_with": "m"}, "fallback": [],
            "models": [{
                "id": "m", "match": {"equals": "m"}, "variants": [],
                "prices": [
                    {"when": None, "rates": {"input": "2"}},
                    {"when": {"daily": ["16:30:00.0", "00:30:00.0"]}, "rates": {"input": "1"}},
                ],
            }],
        }],
    }  # fmt: skip
    book = PriceBooks([PriceBook.build(content)])
    hour = 3_600_000_000
    rows = [
        {"model": "m", "input": 10**6, "ts": AUGUST + int(h * hour), "_kafka_time": AUGUST + int(h * hour)}
        for h in (0, 0.5, 16, 16.5, 23.9)
    ]
    assert [r["cost_usd"] for r in price(table(rows), book).to_pylist()] == [1, 2, 2, 1, 1]


def test_a_service_tier_changes_the_price(books):
    later = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1e6)
    row = {"provider": "openai", "model": "gpt-5", "input": 10**6, "output": 0}
    plain, flex, other = (cost(row | {"service_tier": t}, books, later)["cost_usd"] for t in (None, "flex", "whatever"))
    assert flex == plain / 2
    assert other == plain


def test_a_book_survives_the_wire_and_refuses_to_be_another(books):
    book = books.books[0].with_effective_from(123)
    again = PriceBook.from_json(book.to_json())
    assert (again.version, again.effective_from) == (book.version, 123)
    assert again.version == books.books[0].version
    assert len(book.to_json()) < 1_500_000
    with pytest.raises(PriceBookError, match="hashes to"):
        PriceBook.from_json(book.to_json().replace(b'"2.5"', b'"2.6"', 1))
    for junk in (b"", b"[]", b"{}", b'{"book":{},"effective_from":0}', b'{"book":[],"effective_from":"x"}'):
        with pytest.raises(PriceBookError):
            PriceBook.from_json(junk)
    with pytest.raises(PriceBookError, match="no price book"):
        PriceBooks([])


def test_overrides_win_change_the_version_and_say_what_is_wrong_with_them(books):
    rules = [{"provider": "openai", "model": "gpt-4o*", "input_usd_per_mtok": 1, "output_usd_per_mtok": 0}]
    mine = default_book(rules)
    assert mine.version != books.books[0].version
    assert mine.version == default_book(rules).version
    assert cost({"provider": "openai", "model": "gpt-4o-mini", "input": 10**6}, PriceBooks([mine]))["cost_usd"] == 1
    wrong = [{"model": "m"}, {"input_usd_per_mtok": 1}, {"model": "m", "cost": 1}]
    wrong += [{"model": "m", "input_usd_per_mtok": price} for price in ("x", "nan", -1)]
    for rule in wrong:
        with pytest.raises(SettingsError, match=r"prices\.overrides\[0\]"):
            default_book([rule])


def test_an_empty_table_is_priced(books):
    assert price(table([]), books).num_rows == 0


def test_real_usages_cost_what_a_third_party_library_computes(books, test_data):
    """The misses are named: prices that changed since, image tokens and searches, which the wire does not carry."""
    rows, wanted = [], []
    for line in gzip.decompress((test_data / "payloads" / "usage_price_oracle.jsonl.gz").read_bytes()).splitlines():
        case = json.loads(line)
        for extracted in case["extracted"]:
            usage = extracted["usage"]
            for one in extracted["extractors"]:
                if case.get("model") and "input_price" in one and usage:
                    tokens = {k.removesuffix("_tokens"): int(v) for k, v in usage.items()}
                    tokens["audio_in"] = tokens.pop("input_audio", None)
                    tokens["reasoning"] = tokens.pop("output_reasoning", None)
                    rows.append({"provider": one["provider_id"], "model": case["model"]} | tokens)
                    wanted.append(Decimal(one["input_price"]) + Decimal(one["output_price"]))
    got = price(table(rows), books)["cost_usd"].to_pylist()
    agree = sum(g is not None and abs(g - w) <= 2 * NANO for g, w in zip(got, wanted, strict=True))
    assert len(rows) > 3400
    assert agree / len(rows) >= 0.975
