"""``alerts precision``: how good each rule was by the verdicts of people, and a threshold that would do better."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.clock import now_us
from tailrace.cli.context import get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.render.page import Page
from tailrace.cli.render.printable import printable

if TYPE_CHECKING:
    from jobs.alert_quality import AlertQuality

_COLUMNS = ("useful", "noise", "known", "unjudged", "precision", "interval")
_HEADS = ("useful", "noise", "known", "none", "precision", "95 %")


def precision(
    context: typer.Context,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Judge the last 13 days again for every proposal, however long it takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the precision of every rule by the verdicts of 28 days, and a threshold that would keep noise away.

    Nothing is changed: a proposal is a setting to write into tailrace.toml. Without --backtest the command that
    back-tests it is named, with its cost.
    """
    from tailrace.job_runs.alert_quality import alert_quality  # imports numpy: no other command should pay for it

    here, now = get(context), now_us()
    today = datetime.fromtimestamp(now / 1e6, UTC).date()
    with open_lake(here) as lake:
        found = alert_quality(here, lake, today, now=now, backtest=backtest, most_rows=2**62)
    if as_json:
        print_json(found.data())
    else:
        _print(found)


def _print(found: AlertQuality) -> None:
    page = Page()
    if not found.rules:
        page.line(f"no alerts from {found.since} to {found.until}")
        return
    page.line(f"alerts of {found.since} to {found.until}; none: without a verdict")
    page.line("")
    typer.echo(_row("rule", *_HEADS))
    for row in found.rows():
        typer.echo(printable(_row(row["rule"], *(row[name] for name in _COLUMNS))))
    for tried in found.tried:
        page.line("")
        for line in tried.lines():
            page.line(line)
    for rule in found.undecided:
        page.line("")
        page.line(f"{rule}: no threshold keeps its noise away without a useful alert.")


def _row(rule: str, useful: str, noise: str, known: str, none: str, share: str, interval: str) -> str:
    """One line of at most 80 columns."""
    return f"{rule[:26]:<26}{useful:>7}{noise:>7}{known:>7}{none:>7}{share:>12}{interval:>14}".rstrip()
