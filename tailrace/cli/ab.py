"""``ab``: two variants or prompt versions over their landed production calls; ``--watch`` is the canary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from jobs.gate.canary import SHARES, Canary, Decision, parse_shares
from jobs.gate.sequential import Comparison
from jobs.gate.variants import comparisons, counts, facts, line
from jobs.gate.verdict import overall
from pipelines.clock import now_us
from pipelines.notify.channels import Report
from pipelines.notify.reports import Delivered
from schemas.errors import FatalError, SettingsError
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.gate import EXITS, GateGroup
from tailrace.cli.lake import open_lake
from tailrace.cli.render.printable import json_line, printable
from tailrace.job_runs.canary import Outside, Pace, watch
from tailrace.job_runs.report_channels import to_channels
from tailrace.supervisor.signals import on_stop_signals
from tailrace.times import moment, span

ACTION_EXITS = {"advance": 0, "rollback": 1, "hold": 2}
_CHOSEN = """
WITH chosen AS (
    SELECT id, CASE WHEN coalesce(variant, prompt_version) = $2 THEN 'b' ELSE 'a' END AS side,
        coalesce(user_id, session_id, trace_id, id::VARCHAR) AS unit, status, cost_usd, latency_ms
    FROM calls
    WHERE coalesce(variant, prompt_version) IN ($1, $2) AND ($3 IS NULL OR app = $3) AND epoch_us(ts) >= $4
        AND day >= $5::DATE
)
"""
_CALLS = (
    _CHOSEN
    + """
SELECT side, unit, count(*) AS calls, avg(CASE WHEN status = 'ok' THEN 1.0 ELSE 0.0 END) AS replied,
    avg(cost_usd)::DOUBLE AS cost_usd, avg(latency_ms) AS latency_ms
FROM chosen GROUP BY side, unit ORDER BY side, unit
"""
)
_QUALITY = (
    _CHOSEN
    + """
, said AS (
    SELECT call_id, name, score FROM evals WHERE score BETWEEN 0 AND 1
    UNION ALL
    SELECT call_id, 'thumbs', (score + 1) / 2 FROM feedback WHERE kind = 'thumbs' AND score BETWEEN -1 AND 1
)
SELECT c.side, s.name, c.unit, avg(s.score) AS score
FROM chosen AS c JOIN said AS s ON s.call_id = c.id GROUP BY c.side, s.name, c.unit ORDER BY s.name, c.side, c.unit
"""
)


class NoVariantError(FatalError):
    """A variant has no call."""

    def __init__(self, variant: str) -> None:
        super().__init__(
            f'no landed call has the variant or prompt version {variant[:80]!r} in that time: `tailrace sql "SELECT '
            'DISTINCT variant, prompt_version FROM calls"` lists what there is'
        )


ab = typer.Typer(
    cls=GateGroup,
    invoke_without_command=True,
    help="Compare two variants or prompt versions over landed calls, with intervals that hold at every look.",
)


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.add_typer(ab, name="ab")


@ab.callback()
def _ab(
    context: typer.Context,
    a: Annotated[str, typer.Option("--a", help="Variant or prompt version that runs today.")],
    b: Annotated[str, typer.Option("--b", help="The new one.")],
    app: Annotated[str | None, typer.Option("--app", help="Only calls of this app.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Calls since then: 2h, 7d ago, or a time; without it 7d, with --watch from now on."),
    ] = None,
    watching: Annotated[
        bool, typer.Option("--watch", help="Canary: look again and again, send advance, rollback or hold.")
    ] = False,
    shares: Annotated[
        str, typer.Option(help="With --watch: percents of the traffic that B gets, stage by stage.")
    ] = ",".join(map(str, SHARES)),
    share: Annotated[
        int | None, typer.Option(help="With --watch: the stage to begin with; without it the first.")
    ] = None,
    every: Annotated[str, typer.Option(help="With --watch: how often to look.")] = "5m",
    stage: Annotated[str, typer.Option(help="With --watch: how long a stage may take; then hold.")] = "2d",
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document; with --watch one a look.")] = False,
) -> None:
    """Compare B with A: answers, scores of evals, thumbs, cost and latency, a value a user.

    The intervals are valid at every look, so the command may be run every hour. Exit codes: 0 pass, 1 regress, 2
    undecided, 3 nothing was compared. With --watch: 0 B may have all traffic, 1 rollback, 2 hold.
    """
    here = get(context)
    as_json = as_json or here.as_json
    if watching:
        _watch(here, Canary(a, b, app, parse_shares(shares)), (share, since, every, stage), as_json=as_json)
    begin = moment(since or "7d", now_us())
    calls, quality = _read(here, a, b, app, begin)
    for side, name in (("a", a), ("b", b)):
        if not any(row["side"] == side for row in calls):
            raise NoVariantError(name)
    found = comparisons(calls, quality)
    verdict = overall([each.verdict for each in found if counts(each)])
    if as_json:
        print_json({"a": a, "b": b, "verdict": verdict.value, "measures": [facts(each) for each in found]})
    else:
        typer.echo(printable(f"{verdict.value}: {b} against {a}"))
        for each in found:
            typer.echo(printable(line(each)))
    sys.exit(EXITS[verdict.value])


def _read(here: Context, a: str, b: str, app: str | None, begin: int) -> tuple[list[Any], list[Any]]:
    asked = [a, b, app, begin, datetime.fromtimestamp(begin / 1e6, UTC).date()]
    with open_lake(here) as lake:
        calls, quality = (lake.query(sql, asked).to_pylist() for sql in (_CALLS, _QUALITY))
    return calls, quality


def _watch(here: Context, canary: Canary, asked: tuple[int | None, str | None, str, str], *, as_json: bool) -> None:
    """Watch to the end, and exit by the last decision."""
    share, since, every, stage = asked
    stages = canary.shares[:-1]
    if share is not None and share not in stages:
        given = ", ".join(map(str, stages))
        raise SettingsError("--share", f"{share} is no stage that is judged", f"give one of {given}")
    began = moment(since, now_us()) if since else now_us()
    pace = Pace(span(every) / 1e6, span(stage) / 1e6)
    config = wiring.notify(here.settings)  # a channel that cannot be is refused before the first look
    stop = on_stop_signals()

    def look(begin: int) -> list[Comparison]:
        calls, quality = _read(here, canary.a, canary.b, canary.app, begin)
        return comparisons(calls, quality, stages=len(stages))

    def show(decision: Decision, found: Sequence[Comparison]) -> None:
        _show(decision, found, as_json=as_json)

    def send(report: Report) -> Sequence[Delivered]:
        return _sent(report, config)

    if not config.channels:
        typer.echo("note: no channel is set (alert_channels): only the exit code says what is decided", err=True)
    done = watch(canary, share or stages[0], began, Outside(look, send, now_us, stop.wait, show), pace)
    sys.exit(ACTION_EXITS[done.action])


def _sent(report: Report, config: Any) -> Sequence[Delivered]:
    results = to_channels(report, config)
    for each in results:
        if not each.ok:
            typer.echo(printable(f"channel {each.channel} did not get the decision: {each.detail}"), err=True)
    return results


def _show(decision: Decision, found: Sequence[Comparison], *, as_json: bool) -> None:
    if as_json:
        measures = [facts(each) for each in found]
        decided = {"action": decision.action, "share": decision.share, "next_share": decision.next_share}
        typer.echo(json_line({**decided, "measures": measures}))
        return
    to = f", next {decision.next_share} %" if decision.action == "advance" else ""
    typer.echo(printable(f"{decision.action} at {decision.share} %{to}"))
    for each in found:
        typer.echo(printable(f"  {line(each)}"))
