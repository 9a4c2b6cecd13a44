"""What landed, by the prices that are known later: added up exactly, never taken back, found once."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.pricing import PriceBook, PriceBooks, default_book, price
from pipelines.pricing.reprice import READ, Group, PriceGroups, adjustments, wanted
from schemas.arrow import MONEY
from schemas.tables import RAW_CALLS

DAY = datetime(2026, 10, 5, tzinfo=UTC)
KEY = (None, "inhouse-7b", None, None)
CHEAP = {"model": "inhouse-7b", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
DEAR = {"model": "inhouse-7b", "input_usd_per_mtok": "3", "output_usd_per_mtok": "6"}


def book(*rules: Mapping[str, object]) -> PriceBook:
    return default_book(rules)


def calls(rows: list[dict[str, Any]], landed_by: PriceBook) -> pa.Table:
    """Calls as they stand in the lake: priced by ``landed_by``, nothing adjusted yet."""
    fields = [RAW_CALLS.schema.field(name) for name in READ]
    whole = [
        {
            "id": f"00000000-0000-4000-8000-{i:012d}",
            "ts": DAY,
            "_kafka_time": row.get("ts", DAY),
            "day": DAY.date(),
            "_epoch": 0,
            "_partition": 0,
            "_offset": i,
            "model": "inhouse-7b",
            "input_tokens": 1000,
            "output_tokens": 10,
            **row,
        }
        for i, row in enumerate(rows)
    ]
    priced = price(pa.Table.from_pylist(whole, schema=pa.schema(fields)), PriceBooks([landed_by]))
    known = priced.column("cost_usd")
    partly = pc.equal(priced.column("cost_status"), "partly_priced")
    return priced.select([*READ, "cost_status"]).append_column("known_usd", known).append_column("partly", partly)


def with_known(table: pa.Table, known: list[Decimal | None]) -> pa.Table:
    return table.set_column(table.schema.get_field_index("known_usd"), "known_usd", pa.array(known, MONEY))


def test_a_reported_zero_gets_its_price_once_there_is_one() -> None:
    landed = calls([{"cost_reported_usd": Decimal(0)}], book())
    as_older_versions_landed_it = landed.set_column(
        landed.schema.get_field_index("cost_status"), "cost_status", pa.array(["reported"], pa.string())
    )
    rows = adjustments(as_older_versions_landed_it, book(CHEAP)).to_pylist()
    assert [(row["reason"], row["cost_usd"]) for row in rows] == [("unpriced", Decimal("0.00102"))]


def micros(at: datetime) -> int:
    return int(at.timestamp() * 1e6)


def chosen(groups: list[Group], old: PriceBook, new: PriceBook, **how: Any) -> list[PriceGroups]:
    since, until = micros(DAY), micros(DAY + timedelta(days=30))
    return wanted(groups, PriceBooks([old]), new, **{"since": since, "until": until, **how})


@pytest.mark.row(40)
def test_a_model_that_had_no_price_gets_its_cost_once() -> None:
    old, new = book(), book(CHEAP)
    table = calls([{}, {"model": "gpt-4o"}, {"output_tokens": None, "input_tokens": None}], old)
    assert table["cost_status"].to_pylist() == ["unpriced", "computed", "unpriced"]
    (row,) = adjustments(table, new).to_pylist()
    assert row == {
        "id": "00000000-0000-4000-8000-000000000000",
        "day": date(2026, 10, 5),
        "_epoch": 0,
        "_partition": 0,
        "_offset": 0,
        "cost_usd": Decimal("0.001020000"),
        "delta_usd": Decimal("0.001020000"),
        "price_version": new.version,
        "reason": "unpriced",
        "cost_status": "computed",
    }
    again = with_known(table, [row["cost_usd"], *table["known_usd"].to_pylist()[1:]])
    assert adjustments(again, new).num_rows == 0


def test_a_correction_is_the_difference_to_what_is_known_by_now() -> None:
    table = with_known(calls([{}, {}, {}], book(CHEAP)), [Decimal("0.00102"), Decimal("0.00306"), Decimal("5")])
    assert adjustments(table, book(DEAR)).num_rows == 0  # it says what a call costs now, not what it cost then
    rows = adjustments(table, book(DEAR), undated=True).to_pylist()
    assert [(r["_offset"], r["delta_usd"], r["reason"]) for r in rows] == [
        (0, Decimal("0.002040000"), "corrected"),
        (2, Decimal("-4.996940000"), "corrected"),
    ]


def test_a_cost_never_gets_lost_and_what_a_gateway_said_stays() -> None:
    table = calls([{}, {"cost_reported_usd": Decimal("0.5"), "model": "nobody-knows-it"}], book(CHEAP))
    assert table["cost_status"].to_pylist() == ["computed", "reported"]
    assert adjustments(table, book()).num_rows == 0
    assert adjustments(table, book({**CHEAP, "model": "nobody-knows-it"})).num_rows == 0
    # unknown when it landed, and only reported by a later book: no price of ours
    silent = calls([{"model": "nobody-knows-it"}], book())
    said = silent.set_column(
        silent.schema.get_field_index("cost_reported_usd"), "cost_reported_usd", pa.array([Decimal("0.5")], MONEY)
    )
    assert adjustments(said, book()).num_rows == 0


def test_an_answer_out_of_the_apps_own_cache_stays_free() -> None:
    table = calls([{"answer_cache": "exact"}, {"status": "error", "input_tokens": None, "output_tokens": None}], book())
    assert table["cost_status"].to_pylist() == ["free", "free"]
    assert adjustments(table, book(CHEAP)).num_rows == 0


def test_a_price_of_zero_is_a_cost_that_is_known() -> None:
    table = calls([{}], book())
    rows = adjustments(table, book({"model": "inhouse-7b", "input_usd_per_mtok": 0, "output_usd_per_mtok": 0}))
    assert [(r["cost_usd"], r["delta_usd"], r["reason"]) for r in rows.to_pylist()] == [
        (Decimal("0E-9"), Decimal("0E-9"), "unpriced")
    ]
    assert adjustments(with_known(table, [Decimal(0)]), book(CHEAP), undated=True).num_rows == 1


def test_whoever_lands_them_and_however_often_they_are_priced_again_the_last_book_holds() -> None:
    draw = random.Random(20261127)
    books = [book(), book(CHEAP), book(DEAR), book({**DEAR, "from": "2026-10-05"}, CHEAP)]
    rows = [
        {
            "model": draw.choice(["inhouse-7b", "gpt-4o", "nobody-knows-it"]),
            "input_tokens": draw.randrange(10**6),
            "output_tokens": draw.randrange(10**5),
            "ts": DAY + timedelta(hours=draw.randrange(-48, 48)),
            "cost_reported_usd": draw.choice([None, None, Decimal("0.25")]),
            "answer_cache": draw.choice([None, None, "exact"]),
        }
        for _ in range(400)
    ]
    table = calls(rows, books[0])
    landed = table["known_usd"].to_pylist()
    known = list(landed)
    for _ in range(6):
        last = draw.choice(books)
        found = adjustments(with_known(table, known), last, undated=True).to_pylist()
        for row in found:
            i = row["_offset"]
            known[i] = (known[i] or Decimal(0)) + row["delta_usd"]
            assert known[i] == row["cost_usd"]
    fresh = price(table.select(READ), PriceBooks([last]))
    for status, now_status, before, now, fresh_cost in zip(
        *(column.to_pylist() for column in (table["cost_status"], fresh["cost_status"])),
        landed,
        known,
        fresh["cost_usd"].to_pylist(),
        strict=True,
    ):
        if status == "reported":
            assert now == before
        elif now_status == "computed":
            assert now == fresh_cost


def test_only_groups_whose_price_differs_are_looked_at() -> None:
    groups = [Group(KEY, book().version, unpriced=3, priced=0), Group((None, "gpt-4o", None, None), "?", 0, 5)]
    assert chosen(groups[:1], book(), book()) == []
    assert chosen(groups[:1], book(), book(CHEAP)) == [PriceGroups(KEY, book().version, False)]
    # landed by a book that nobody has any more
    assert [w.key[1] for w in chosen(groups, book(), book(CHEAP), undated=True)] == ["inhouse-7b", "gpt-4o"]


def test_what_has_a_cost_is_corrected_only_by_a_price_that_says_since_when_it_holds() -> None:
    landed = [Group(KEY, book(CHEAP).version, unpriced=0, priced=9)]
    since = {**DEAR, "from": "2026-10-20"}
    assert chosen(landed, book(CHEAP), book(DEAR)) == []
    assert chosen(landed, book(CHEAP), book(DEAR), undated=True) == [PriceGroups(KEY, book(CHEAP).version, True)]
    assert chosen(landed, book(CHEAP), book(since, CHEAP)) == [PriceGroups(KEY, book(CHEAP).version, True)]
    # the change comes after the days that are asked for
    early = {"until": micros(datetime(2026, 10, 19, 23, tzinfo=UTC))}
    assert chosen(landed, book(CHEAP), book(since, CHEAP), **early) == []


def test_each_call_is_corrected_only_by_a_price_that_is_dated_at_its_own_moment() -> None:
    """As genai-prices has it: a price, a date from which another holds, and hours without one that came later."""
    content = dict(book().content)

    def entry(rate: str, when: dict[str, Any] | None) -> dict[str, Any]:
        return {"when": when, "rates": {"input": rate, "output": "0"}}

    daily = {"daily": ["01:00:00.000000", "04:00:00.000000"]}
    prices = [entry("1", None), entry("2", {"from": "2026-10-05"}), entry("9", daily)]
    model = {"id": "inhouse-7b", "match": {"equals": "inhouse-7b"}, "prices": prices, "variants": []}
    provider = {"id": "own", "match": None, "model_match": None, "fallback": [], "models": [model]}
    new = PriceBook.build({**content, "providers": [*content["providers"], provider]})
    before, night, noon = DAY - timedelta(hours=12), DAY + timedelta(hours=2), DAY + timedelta(hours=12)
    rows = [{"provider": "own", "output_tokens": 0, "ts": at} for at in (before, night, noon)]
    table = calls(rows, book({"model": "inhouse-7b", "input_usd_per_mtok": "5"}))
    assert price(table, PriceBooks([new]))["cost_usd"].to_pylist() == [Decimal(n) / 1000 for n in (1, 9, 2)]
    assert adjustments(table, new)["_offset"].to_pylist() == [2]
    assert adjustments(table, new, undated=True)["_offset"].to_pylist() == [0, 1, 2]


def test_a_price_that_changes_by_the_hour_is_compared_at_every_hour() -> None:
    content = dict(book(CHEAP).content)
    night = {"provider": None, "model": "inhouse-7b", "rates": {"input": "0.1", "output": "0.2"}}
    nightly = {**night, "when": {"daily": ["22:00:00.000000", "06:00:00.000000"]}}
    new = PriceBook.build({**content, "overrides": [nightly, *content["overrides"]]})
    groups = [Group(KEY, book(CHEAP).version, unpriced=0, priced=1)]
    assert chosen(groups, book(CHEAP), new, undated=True) == [PriceGroups(KEY, book(CHEAP).version, True)]


def test_a_part_that_had_no_price_is_added_once_a_book_has_it_and_never_again() -> None:
    units = [{"unit": "images", "quantity": 3.0}, {"unit": "seals", "quantity": 1.0}]
    cheap = {key: value for key, value in CHEAP.items() if key != "units"}
    table = calls([{"units": units}], book(cheap))
    assert table["cost_status"].to_pylist() == ["partly_priced"]
    half = book(cheap | {"units": {"images": "0.5"}})
    assert adjustments(table, half).num_rows == 0  # a part is missing still
    (row,) = adjustments(table, book(cheap | {"units": {"images": "0.5", "seals": 2}})).to_pylist()
    assert (row["delta_usd"], row["reason"], row["cost_status"]) == (Decimal("3.5"), "unpriced", "computed")
    after = with_known(table, [row["cost_usd"]])
    after = after.set_column(after.schema.get_field_index("partly"), "partly", pa.array([False]))
    whole = book(cheap | {"units": {"images": "0.5", "seals": 2}})
    assert adjustments(after, whole, undated=True).num_rows == 0
    assert adjustments(after, half, undated=True).num_rows == 0  # half a price replaces no whole one
