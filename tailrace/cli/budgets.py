"""``budgets``: what every budget has spent in its period, and where it will end."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.budgets import Position
from jobs.budgets.alerts import NO_FORECAST, low_cache, money, outlook
from tailrace.cli.context import get, print_json
from tailrace.cli.render.page import Page

_BAR = 20


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("budgets")(_budgets)


def _budgets(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a budget, one a line.")] = False,
) -> None:
    """Show what every budget of the settings has spent in its period, and the forecast of the period's end."""
    from tailrace.job_runs.budgets import current

    found = current(get(context))
    if as_json:
        for position in found:
            print_json(position.row())
        return
    page = Page()
    if not found:
        page.line(
            "no budget is set: add [[budgets]] with usd, period and a scope to tailrace.toml (docs/how-to/budgets.md)"
        )
    for number, position in enumerate(found):
        if number:
            page.line("")
        _show(page, position)


def _show(page: Page, position: Position) -> None:
    budget, spent, share, period = position.budget, position.spent, position.share, position.period
    filled = min(_BAR, int(share * _BAR))
    unpriced = f", {spent.unpriced_calls:,} without a price" if spent.unpriced_calls else ""
    page.title(budget.name)
    page.fields(
        [
            ("scope", budget.where),
            ("period", f"{budget.kind}, {period.start:%Y-%m-%d} until before {period.end:%Y-%m-%d} UTC"),
            ("spent", f"{'█' * filled}{'░' * (_BAR - filled)} {share:.0%}: {money(spent.usd)} of {money(budget.usd)}"),
            ("calls", f"{spent.calls:,}{unpriced}"),
            ("forecast", _forecast(position)),
        ]
    )


def _forecast(position: Position) -> list[str]:
    if position.forecast is None:
        return [NO_FORECAST]
    cache = low_cache(position.forecast)
    return [outlook(position.forecast), *([cache] if cache else [])]
