"""``alerts why``: what a series was judged by at one moment, and why it did or did not alert."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from pipelines.clock import now_us
from pipelines.notify import format as words
from schemas.errors import SettingsError
from schemas.rollups import DERIVED, DIMENSIONS
from tailrace import wiring
from tailrace.cli.context import get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.render.page import Page
from tailrace.cli.render.printable import printable
from tailrace.job_runs.run_detectors_again import beginning
from tailrace.times import moment, span

if TYPE_CHECKING:
    from pipelines.detect.detectors.bands import Band
    from pipelines.detect.why import Why

_NAMES = ("app", *DIMENSIONS, *DERIVED)
_PARTS = re.compile(rf",(?=(?:{'|'.join(_NAMES)})=)")
_SLACK_US = 60_000_000
_SILENCES = """
SELECT silence_id, matchers, epoch_us(ends_at) AS ends_at, actor FROM silences
WHERE epoch_us(starts_at) <= $1 AND epoch_us(ends_at) > $1 ORDER BY starts_at, silence_id
"""
_FIELDS = ("rule", "detector", "severity")
_COLUMNS = ("window", "observed", "expected", "reported from", "calls")


def why(
    context: typer.Context,
    series: Annotated[
        list[str],
        typer.Option("--series", help="NAME=VALUE, with app first: app=shop,feature=chat. A rollup's JSON works too."),
    ],
    at: Annotated[str, typer.Option("--at", help="When: 2h ago, 90m, or a time such as 2026-11-21T07:00:00Z.")] = "0s",
    warm_up: Annotated[str, typer.Option(help="Judged before it, to learn what is usual.")] = "1d",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a series was judged by at a moment: observed, expected, the least that is reported, and its state.

    The landed rollups go through the functions of the live stage, up to the bucket of ten seconds that ends then.
    """
    from pipelines.detect import backtest  # imports numpy: no other command should pay for it
    from pipelines.detect import why as judged
    from pipelines.detect.detectors import configure
    from pipelines.detect.judge import Judge

    here, now, pairs = get(context), now_us(), _pairs(series)
    last = moment(at, now)
    judge = Judge(configure(wiring.detect_rules(here.settings)))
    with open_lake(here) as lake:
        begin = beginning(lake, last, last - span(warm_up), "--at")
        found = backtest.ranges(lake.query, since=begin, until=now + _SLACK_US)
        state = judged.replay(lake.query, found, judge, pairs["app"], last)
        if state is None:
            raise SettingsError(
                "--series", f"no rollup of app {printable(pairs['app'])} landed before {at}", "see `tailrace sql`"
            )
        silences = lake.query(_SILENCES, [last]).to_pylist()
    answer = judged.explain(judge, state, pairs, last)
    silenced = _silenced(silences, pairs)
    if as_json:
        bands = [{**msgspec.to_builtins(band), "breaches": band.breaches} for band in answer.bands]
        print_json({**msgspec.to_builtins(answer), "bands": bands, "silenced": silenced})
    else:
        _print(answer, silenced)


def _pairs(series: Sequence[str]) -> dict[str, str]:
    """Read ``app=shop,feature=chat``, in the order of the dimensions.

    Raises:
        SettingsError: it is no series.
    """
    if len(series) == 1 and series[0].lstrip().startswith("{"):
        return _ordered(_decoded(series[0]))
    found: dict[str, str] = {}
    for part in (each for text in series for each in _PARTS.split(text)):
        name, equals, value = part.partition("=")
        if not equals or not value or name.strip() in found:
            raise SettingsError("--series", f"cannot read {printable(part[:60])!r}", "write app=shop,feature=chat")
        found[name.strip()] = value
    return _ordered(found)


def _decoded(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise SettingsError("--series", f"is no JSON object of texts: {error}", "write app=shop,feature=chat") from None


def _ordered(pairs: dict[str, str]) -> dict[str, str]:
    if unknown := [name for name in pairs if name not in _NAMES]:
        raise SettingsError(
            "--series", f"no dimension {printable(unknown[0][:60])!r}", f"use some of {', '.join(_NAMES)}"
        )
    if "app" not in pairs:
        raise SettingsError("--series", "names no app", "begin with app=NAME: a series belongs to an app")
    return {name: pairs[name] for name in _NAMES if name in pairs}


def _silenced(silences: Sequence[dict[str, Any]], pairs: dict[str, str]) -> list[dict[str, Any]]:
    """Silences that hold back alerts of this series; those that name a rule hold back only that rule."""
    found = []
    for row in silences:
        matchers = json.loads(row["matchers"])
        if all(pairs.get(name) == value for name, value in matchers.items() if name not in _FIELDS):
            until = f"{datetime.fromtimestamp(row['ends_at'] / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"
            found.append({"id": row["silence_id"], "matchers": matchers, "until": until, "by": row["actor"]})
    return found


def _print(answer: Why, silenced: Sequence[dict[str, Any]]) -> None:
    page = Page()
    page.title(" · ".join(f"{words.clean(k)}={words.clean(v)}" for k, v in answer.series.items()))
    silences = [
        printable(f"silenced until {s['until']} by {s['by']}: {' '.join(f'{k}={v}' for k, v in s['matchers'].items())}")
        for s in silenced
    ]
    states = [*(words.clean(state) for state in answer.states), *silences]
    page.fields((("at", answer.at), ("judged", f"up to {answer.judged_until}"), ("state", states or ["watched"])))
    if answer.worth_usd is not None and answer.monthly_usd is not None:
        worth, month = (words.amount(each, "USD") for each in (answer.worth_usd, answer.monthly_usd))
        page.field("worth", f"a rise of cost is reported from {worth} on; the app spends {month} in 30 days")
    for each in answer.closed:
        series = " ".join(f"{k}={v}" for k, v in each.series.items())
        ended = f"{each.rule} of {series} ended {each.until}; a breach until {each.reopens_until} reopens {each.id}"
        page.field("cooldown", words.clean(ended))
    if not answer.known:
        page.line("no call of this series in what was judged")
        return
    for detector, bands in groupby(answer.bands, key=lambda band: band.detector):
        page.line("")
        typer.echo(_row(detector, *_COLUMNS))
        for band in bands:
            typer.echo(_row(*_cells(band)))
            if band.note:
                page.line(words.clean(band.note), indent=4)
    page.line("")
    page.line("! = beyond what is reported. A share of calls is judged by all calls since it rose.")


def _row(measure: str, window: str, observed: str, expected: str, limit: str, calls: str) -> str:
    """One line of at most 80 columns."""
    return f"{measure:<22}{window:>6}{observed:>11}{expected:>11}{limit:>14}{calls:>14}".rstrip()


def _cells(band: Band) -> tuple[str, str, str, str, str, str]:
    mark = "!" if band.breaches else " "
    name = words.clean(band.measure, 20)
    numbers = (_number(each, band.unit) for each in (band.observed, band.expected, band.limit))
    observed, expected, limit = numbers
    calls = f"{band.calls:,} of {band.min_calls:,}"
    return f"{mark} {name}", f"{band.window_s // 60} min", observed, expected, limit, calls


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return words.amount(value, unit).removesuffix(f" {unit}")
