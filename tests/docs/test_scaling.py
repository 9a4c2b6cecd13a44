"""docs/operate/scaling.md is what its script makes of the measured unit costs."""

from __future__ import annotations

import json

from scripts import scaling_page

MEASURED = json.loads(scaling_page.MEASURED.read_text(encoding="utf-8"))


def test_the_page_is_up_to_date() -> None:
    made = scaling_page.page(MEASURED, scaling_page.Sizing(), scaling_page.Prices())
    assert scaling_page.PAGE.read_text(encoding="utf-8") == made, "run `make docs` and commit docs/operate/scaling.md"


def test_every_unit_cost_is_shown() -> None:
    assert {name for _, name, *_ in scaling_page.UNITS} == set(MEASURED["costs"])


def test_another_price_changes_the_cost_alone() -> None:
    load = scaling_page.Load(10_000, 1)
    costs = scaling_page.Costs(**MEASURED["costs"])
    one, other = (
        scaling_page.plan(load, costs, scaling_page.Sizing(), scaling_page.Prices(core_month=price)) for price in (1, 2)
    )
    assert other.usd_month - one.usd_month == one.cores
    assert (one.cores, one.lake) == (other.cores, other.lake)


def test_the_long_form_was_measured() -> None:
    assert not MEASURED.get("quick")
    assert MEASURED["worst_error"] == max(
        round(abs(found["error"]), 3) for name, found in MEASURED.items() if name.startswith(("land_", "meter_"))
    )
