"""``alerts postmortem``: all that is known of one alert, as a Markdown file to go on from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.clock import now_us
from pipelines.notify import times
from pipelines.notify.content import without_texts, without_vectors
from pipelines.notify.decisions import matches
from schemas.alerts import Alert, Silence
from schemas.rollups import DIMENSIONS, OTHER
from tailrace.cli.context import get
from tailrace.cli.ids import alert_id
from tailrace.cli.lake import open_lake
from tailrace.cli.render.output import check, opened
from tailrace.cli.render.postmortem import Postmortem, Touched, markdown
from tailrace.records.changed import changes_of
from tailrace.records.trace_links import of_calls
from warehouse.errors import QueryFailedError
from warehouse.query.readonly import ReadOnlyLake

_STATES = """
SELECT alert FROM alerts WHERE id = $1 QUALIFY row_number() OVER (PARTITION BY seq ORDER BY _offset) = 1 ORDER BY seq
"""
_DELIVERIES = """
SELECT channel, seq, state, detail, "at" FROM deliveries WHERE alert_id = $1
QUALIFY row_number() OVER (PARTITION BY channel, seq ORDER BY _offset DESC) = 1 ORDER BY "at", channel, seq
"""
_ACKNOWLEDGED = "SELECT actor, acknowledged_at, why FROM acknowledgements WHERE alert_id = $1"
_SILENCES = """
SELECT silence_id, matchers, starts_at, ends_at, actor, why FROM silences
WHERE starts_at < $2 AND ends_at > $1 ORDER BY starts_at, silence_id
"""
_VERDICT = "SELECT verdict, actor, given_at, why FROM alert_verdicts WHERE alert_id = $1"

# the parameters are a dimension each; one that the series does not have is NULL
_TOUCHED = """
WITH of_app AS (
    SELECT *, ($4 IS NULL OR feature = $4) AND ($5 IS NULL OR team = $5) AND ($6 IS NULL OR tenant_id = $6)
        AND ($7 IS NULL OR provider = $7) AND ($8 IS NULL OR model = $8) AND ($9 IS NULL OR response_model = $9)
        AND ($10 IS NULL OR prompt_version = $10) AND ($11 IS NULL OR release = $11)
        AND ($12 IS NULL OR variant = $12) AND ($13 IS NULL OR user_id = $13) AS mine
    FROM calls WHERE app = $1 AND ts >= $2 AND ts < $3 AND day >= $14 AND day <= $15
)
SELECT count(*) FILTER (mine) AS calls, count(DISTINCT user_id) FILTER (mine) AS users,
    count(DISTINCT session_id) FILTER (mine) AS sessions, count(*) FILTER (mine AND status = 'error') AS errors,
    sum(cost_usd) FILTER (mine) AS cost_usd, count(*) FILTER (mine AND cost_usd IS NULL) AS unpriced,
    count(*) AS app_calls, sum(cost_usd) AS app_cost_usd
FROM of_app
"""


def postmortem(
    context: typer.Context,
    alert: Annotated[str, typer.Argument(help="Id of the alert, or a beginning that only one has.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write this file; without it to standard output.", readable=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")] = False,
) -> None:
    """Write what is known of an alert as Markdown: time line, impact, cause, what changed, decisions, runbook.

    Excerpts of prompts and answers are in it only where the setting alert_texts allows them to leave.
    """
    here = get(context)
    check(out, force=force)
    with open_lake(here) as lake:
        found = _gathered(
            lake, alert_id(lake, alert), texts=here.settings.alert_texts, templates=here.settings.trace_links
        )
    with opened(out, force=force) as write:
        write(markdown(found).encode("utf-8", "replace"))
    if out is not None:
        typer.echo(f"written: {out}", err=True)


def _gathered(lake: ReadOnlyLake, found: str, *, texts: bool, templates: Mapping[str, str]) -> Postmortem:
    landed = [Alert.from_json(row["alert"].encode()) for row in lake.query(_STATES, [found]).to_pylist()]
    first, newest = landed[0], landed[-1]
    span = _span(landed)
    return Postmortem(
        states=[_shown(each, texts=texts) for each in landed],
        touched=_touched(lake, newest, span) if span else None,
        changes=[*(c for c in newest.changes if not c.at), *changes_of(lake, first)],
        evidence=_evidence(lake, landed),
        deliveries=lake.query(_DELIVERIES, [found]).to_pylist(),
        acknowledged=lake.query(_ACKNOWLEDGED, [found]).to_pylist(),
        silences=_silences(lake, landed),
        verdict=next(iter(lake.query(_VERDICT, [found]).to_pylist()), None),
        made_at=now_us(),
        traces=of_calls(lake, templates, newest.evidence.call_ids[:10]),
    )


def _shown(alert: Alert, *, texts: bool) -> Alert:
    """Leave out excerpts of texts, where they may not leave; a vector never does."""
    return without_vectors(alert if texts else without_texts(alert))


def _span(states: Sequence[Alert]) -> tuple[datetime, datetime] | None:
    """Return the window from the first start to the end that is known last."""
    starts = [t for a in states if (t := times.parsed(a.window.start))]
    ends = [t for a in states if (t := times.parsed(a.window.end))]
    return (min(starts), max(ends)) if starts and ends else None


def _touched(lake: ReadOnlyLake, alert: Alert, span: tuple[datetime, datetime]) -> Touched | None:
    app = alert.series.get("app")
    if app is None or OTHER in alert.series.values():
        return None
    of_series = [alert.series.get(name) for name in DIMENSIONS]
    days = [moment.astimezone(UTC).date() for moment in span]
    (row,) = lake.query(_TOUCHED, [app, *span, *of_series, *days]).to_pylist()
    return Touched(**row)


def _silences(lake: ReadOnlyLake, states: Sequence[Alert]) -> list[dict[str, Any]]:
    """Return the silences that matched the alert between its first and its last state."""
    at = [t for a in states if (t := times.parsed(a.detected_at))]
    if not at:
        return []
    found = []
    for row in lake.query(_SILENCES, [min(at), max(at)]).to_pylist():
        row = {**row, "matchers": json.loads(row["matchers"])}
        silence = Silence(id=row["silence_id"], matchers=row["matchers"], start=0, end=0, by=row["actor"])
        if any(matches(silence, each) for each in states):
            found.append(row)
    return found


def _evidence(lake: ReadOnlyLake, states: Sequence[Alert]) -> str:
    alert = next((a for a in reversed(states) if a.evidence.sql), None)
    if alert is None:
        return ""
    try:
        rows = lake.query(alert.evidence.sql).to_pylist()
    except QueryFailedError:
        return "It cannot be run now."
    values = [next(iter(row.values()), None) for row in rows[:1]]
    number = values[0] if values else None
    return f"It returns {number:g} now." if isinstance(number, int | float) else "It returns no number now."
