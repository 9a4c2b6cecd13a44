"""``alerts``: list and show landed alerts, acknowledge and judge them, and silence notifications."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Any, Literal

import msgspec
import typer
from msgspec.structs import replace

from pipelines.clock import now_us
from pipelines.notify import format as words
from pipelines.notify import times
from schemas.alerts import Alert, Change, Window, fingerprint
from schemas.alerts import alert_id as alert_identity
from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli import decisions
from tailrace.cli.alert_export import export
from tailrace.cli.alert_postmortem import postmortem
from tailrace.cli.alert_precision import precision
from tailrace.cli.alerts_why import why
from tailrace.cli.backtest import backtest
from tailrace.cli.context import get, print_json
from tailrace.cli.ids import NotLandedError, alert_id, digest_ids
from tailrace.cli.lake import open_lake
from tailrace.cli.render.page import Page
from tailrace.cli.render.printable import printable, printable_lines
from tailrace.records.changed import changes_of
from tailrace.records.trace_links import of_calls
from tailrace.times import moment
from warehouse.errors import QueryFailedError
from warehouse.golden.incident_cases import incident_cases
from warehouse.query.readonly import ReadOnlyLake

alerts = typer.Typer(no_args_is_help=True, help="Alerts as landed; acknowledge and silence them.")
decisions.add_decisions(alerts)
alerts.command("why")(why)
alerts.command("precision")(precision)
alerts.command("postmortem")(postmortem)
alerts.command("export")(export)
alerts.command("test")(backtest)

_GOLDEN_CASES = 8
"""Ids that are printed of each golden set."""
_VECTOR_CHARS = 1500
"""SQL above this length holds a vector; it is printed only where it is asked for."""
_WHERE = """
($1 IS NULL OR json_extract_string(a.series, '$.app') = $1)
AND ($2 IS NULL OR epoch_us(a.detected_at) >= $2)
AND (NOT $3 OR a.late)
AND ($4 IS NULL OR a.id IN (SELECT alert_id FROM deliveries WHERE digest <> '' AND starts_with(digest, $4)))
"""
_STATES = f"""
SELECT a.alert FROM alerts AS a WHERE {_WHERE}
ORDER BY a.detected_at DESC, a.seq DESC LIMIT $5
"""
_INCIDENTS = f"""
WITH newest AS (
    FROM alerts AS a WHERE {_WHERE} QUALIFY row_number() OVER (PARTITION BY a.id ORDER BY a.seq DESC) = 1
),
kept_back AS (SELECT DISTINCT alert_id FROM deliveries WHERE state = 'silenced' AND starts_with(detail, 'silence '))
SELECT n.alert, k.actor AS acknowledged_by, v.verdict, n.id IN (FROM kept_back) AS silenced
FROM newest AS n LEFT JOIN acknowledgements AS k ON k.alert_id = n.id LEFT JOIN alert_verdicts AS v ON v.alert_id = n.id
WHERE (NOT $5 OR n.state <> 'resolved') AND ($7 IS NULL OR coalesce(v.verdict, 'none') = $7)
ORDER BY n.detected_at DESC LIMIT $6
"""
_ALERT = """
SELECT alert FROM alerts WHERE id = $1 QUALIFY row_number() OVER (PARTITION BY seq ORDER BY _offset) = 1 ORDER BY seq
"""
_DELIVERIES = """
SELECT channel, seq, state, detail, "at" FROM deliveries WHERE alert_id = $1
QUALIFY row_number() OVER (PARTITION BY channel, seq ORDER BY _offset DESC) = 1 ORDER BY channel, seq
"""
_ACKNOWLEDGED = "SELECT actor, acknowledged_at, why FROM acknowledgements WHERE alert_id = $1"
_VERDICT = "SELECT verdict, actor, given_at, why FROM alert_verdicts WHERE alert_id = $1"

Id = Annotated[str, typer.Argument(help="Id of the alert, or a beginning that only one has.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(alerts, name="alerts")


@alerts.command("list")
def _list(
    context: typer.Context,
    app: Annotated[str | None, typer.Option("--app", help="Only this app.")] = None,
    since: Annotated[str | None, typer.Option(help="Only detected since then: 90m, 2h, 7d ago, or a time.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only incidents that are not over.")] = False,
    late: Annotated[bool, typer.Option("--late", help="Only those that were found in a backlog.")] = False,
    digest: Annotated[
        str | None, typer.Option(help="Only those that this digest names: its id, or a beginning.")
    ] = None,
    verdict: Annotated[
        Literal["useful", "noise", "known", "none"] | None,
        typer.Option(help="Only those with this verdict; none: without one."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Every state change as it landed, one JSON object a line.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
) -> None:
    """List incidents, the newest first: id, state, what, since when; with --json every state change."""
    now = now_us()
    asked = [app, moment(since, now) if since else None, late, digest.strip().lower() if digest else None]
    with open_lake(get(context)) as lake:
        # JSON has one object a state: what is open or judged is an incident, so it is chosen from those
        if as_json and not (open_only or verdict):
            rows = lake.query(_STATES, [*asked, limit]).to_pylist()
        else:
            rows = lake.query(_INCIDENTS, [*asked, open_only, limit, verdict]).to_pylist()
        in_force = decisions.in_force(lake, now)
    if as_json:
        # they hold strangers' texts as UTF-8: encoded again, in ASCII, none of it can be a control
        for row in rows:
            print_json(json.loads(row["alert"]))
        return
    page = Page()
    for row in rows:
        _incident(page, row, now)
    if not rows:
        page.line("no alerts")
    if in_force:
        page.line(f"{in_force} silence{'s' if in_force > 1 else ''} in force: see `tailrace alerts silences`")


def _incident(page: Page, row: dict[str, Any], now: int) -> None:
    alert = Alert.from_json(row["alert"].encode())
    marks = [alert.state.upper(), alert.severity]
    marks += [f"acknowledged by {row['acknowledged_by']}"] if row["acknowledged_by"] else []
    marks += ["silenced"] if row["silenced"] else []
    marks += [f"verdict {row['verdict']}"] if row["verdict"] else []
    page.line(printable(f"{alert.id}  {' '.join(marks)}"))
    page.line(words.clean(alert.title) or f"{words.clean(alert.rule)} on {words.series(alert)}", indent=4)
    page.line(words.when(alert, now), indent=4)


@alerts.command("show")
def _show(
    context: typer.Context,
    alert: Id,
    as_json: Annotated[bool, typer.Option("--json", help="Every state, one JSON object a line.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Only the SQL of the newest state that has some.")] = False,
) -> None:
    """Show one alert: what, since when, why, what its evidence returns now, what to do, where it was sent."""
    with open_lake(get(context)) as lake:
        try:
            found = alert_id(lake, alert)
        except NotLandedError:
            if not (digests := digest_ids(lake, alert)):
                raise
            typer.echo(f"{digests[0]} is a digest: `tailrace alerts list --digest {digests[0][:8]}` lists its alerts")
            return
        states = [row["alert"] for row in lake.query(_ALERT, [found]).to_pylist()]
        read = [Alert.from_json(state.encode()) for state in states]
        if as_json:
            cases = [asdict(case) for case in incident_cases(lake, read)]
            around = msgspec.to_builtins(changes_of(lake, read[0]))
            verdict = next(iter(lake.query(_VERDICT, [found]).to_pylist()), None)
            for state in map(json.loads, states):
                now = {"evidence_now": _now(lake, state["evidence"]["sql"]), "golden_cases": cases}
                print_json({**state, **now, "changed_before": around, "verdict": verdict})
            return
        if sql:
            text = next((a.evidence.sql for a in reversed(read) if a.evidence.sql), "")
            typer.echo(printable_lines(text))
            sys.exit(0 if text else 1)
        _print(lake, read, get(context).settings.trace_links)


@alerts.command("ping")
def _ping(
    context: typer.Context,
    channels: Annotated[list[str] | None, typer.Argument(help="Names of channels; without any: all of them.")] = None,
) -> None:
    """Send one test alert to every channel, or to those that are named, once, and print what each answered."""
    from pipelines.notify.stage import send_once

    config = wiring.notify(get(context).settings)
    if not config.channels:
        raise SettingsError("alert_channels", "none is set", "name one, see docs/reference/alert-channels.md")
    known = [spec.name for spec in config.channels]
    if unknown := [name for name in channels or () if name not in known]:
        raise SettingsError(
            "alert_channels", f"none is called {printable(unknown[0][:60])}", f"known are {', '.join(known)}"
        )
    asked = tuple(spec for spec in config.channels if not channels or spec.name in channels)
    failed = False
    for name, outcome in send_once(dataclasses.replace(config, channels=asked), _test_alert(now_us())).items():
        typer.echo(printable(f"{name}: {outcome.kind} {outcome.detail}".rstrip()))
        failed = failed or outcome.kind != "delivered"
    sys.exit(int(failed))


def _test_alert(now: int) -> Alert:
    at, series = f"{times.from_micros(now):%Y-%m-%dT%H:%M:%SZ}", {"app": "tailrace"}
    return Alert(
        id=alert_identity("test", series, now),
        seq=0,
        fingerprint=fingerprint("test", series),
        detector="test",
        rule="test",
        severity="info",
        state="firing",
        series=series,
        window=Window(at, at),
        observed=1.0,
        expected=0.0,
        score=0.0,
        unit="test alerts",
        detected_at=at,
        title="a test of this channel: nothing is wrong",
    )


def _now(lake: ReadOnlyLake, sql: str) -> list[dict[str, Any]]:
    return lake.query(sql).to_pylist() if sql else []


def _print(lake: ReadOnlyLake, states: list[Alert], templates: Mapping[str, str]) -> None:
    alert, page, now = states[-1], Page(), now_us()
    page.title(words.headline(alert, now))
    page.fields(
        (
            ("alert", words.clean(f"{alert.id}  ({alert.detector}, rule {alert.rule})")),
            ("series", words.series(alert)),
            ("when", words.when(alert, now)),
            ("measure", words.comparison(alert)),
            ("impact", words.impact(alert)),
            ("cause", words.causes(alert)),
            ("parts", words.parts(alert)),
            ("changes", words.changes(replace(alert, changes=(*_own(alert), *changes_of(lake, alert))))),
            ("part of it", [words.clean(" ".join(f"{k}={v}" for k, v in c.items())) for c in alert.children]),
            ("what to do", [f"{n}. {step}" for n, step in enumerate(words.steps(alert), 1)]),
            ("calls", [words.clean(f"tailrace call {call}") for call in alert.evidence.call_ids[:10]]),
            ("traces", [words.clean(each, 400) for each in of_calls(lake, templates, alert.evidence.call_ids[:10])]),
            ("golden", _golden(lake, states)),
            ("evidence", _evidence(lake, states)),
            ("states", [_state(each) for each in states]),
            ("sent", [_delivery(row) for row in lake.query(_DELIVERIES, [alert.id]).to_pylist()]),
            ("decided", [_acknowledged(row) for row in lake.query(_ACKNOWLEDGED, [alert.id]).to_pylist()]),
            ("verdict", [_verdict(row) for row in lake.query(_VERDICT, [alert.id]).to_pylist()]),
        )
    )


def _own(alert: Alert) -> list[Change]:
    """What the alert itself compares; what changed around it is asked of the lake."""
    return [change for change in alert.changes if not change.at]


def _evidence(lake: ReadOnlyLake, states: list[Alert]) -> list[str]:
    alert = next((a for a in reversed(states) if a.evidence.sql), None)
    if alert is None:
        return []
    try:
        rows = lake.query(alert.evidence.sql).to_pylist()
        found = "; ".join(str(next(iter(row.values()), None)) for row in rows[:3])
        returned = f"returns {found} now; observed was {alert.observed:g}"
    except QueryFailedError as error:
        returned = f"cannot be run now: {error}"
    text = alert.evidence.sql
    if len(text) > _VECTOR_CHARS:
        text = f"its SQL holds a vector: `tailrace alerts show {alert.id[:8]} --sql` prints it"
    return [returned, text]


def _golden(lake: ReadOnlyLake, states: list[Alert]) -> list[str]:
    """Return the golden cases that were made from the calls of the incident, a line a set, and what to do with them."""
    lines = []
    for (name, version), group in groupby(incident_cases(lake, states), key=lambda case: (case.set_name, case.version)):
        cases = list(group)
        open_ = sum(case.review == "not reviewed" for case in cases)
        ids = ", ".join(case.case_id for case in cases[:_GOLDEN_CASES])
        more = f" and {len(cases) - _GOLDEN_CASES} more" if len(cases) > _GOLDEN_CASES else ""
        lines.append(f"{name}@{version}: {len(cases)} cases from its calls, {open_} not reviewed: {ids}{more}")
        lines.append(f"check a fix: tailrace gate --golden {name}@{version} --candidate FILE --baseline FILE")
    return lines


def _state(alert: Alert) -> str:
    observed = words.amount(alert.observed, alert.unit)
    return f"{alert.seq} {alert.state} at {alert.detected_at[:19].replace('T', ' ')} UTC, {observed}"


def _delivery(row: dict[str, Any]) -> str:
    detail = f": {row['detail']}" if row["detail"] else ""
    return f"{row['seq']} {row['state']} to {row['channel']} at {row['at']:%Y-%m-%d %H:%M:%S} UTC{detail}"


def _acknowledged(row: dict[str, Any]) -> str:
    why = f": {row['why']}" if row["why"] else ""
    return f"acknowledged by {row['actor']} at {row['acknowledged_at']:%Y-%m-%d %H:%M:%S} UTC{why}"


def _verdict(row: dict[str, Any]) -> str:
    why = f": {row['why']}" if row["why"] else ""
    return f"{row['verdict']}, by {row['actor']} at {row['given_at']:%Y-%m-%d %H:%M:%S} UTC{why}"
