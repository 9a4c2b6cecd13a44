"""``alerts ack``, ``silence``, ``unsilence``, ``silences``, ``verdict``: what people decide about alerts."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any

import msgspec
import typer

from pipelines.clock import now_us
from schemas.alerts import ACK, SILENCE, UNSILENCE, VERDICT, Silence, Verdict
from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.ids import alert_id, silence_id
from tailrace.cli.lake import open_lake
from tailrace.cli.render.page import Page
from tailrace.cli.render.printable import printable
from tailrace.records import audit
from tailrace.records.decide import canonical, landed, matchers, until
from warehouse.query.readonly import ReadOnlyLake

Why = Annotated[str, typer.Option(help="Why, in words; it is recorded and shown.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides it; without it the user of this machine.")]
_IN_FORCE = "SELECT count(*) AS n FROM silences WHERE epoch_us(starts_at) <= $1 AND epoch_us(ends_at) > $1"
_SILENCES = """
SELECT s.silence_id, s.matchers, s.starts_at, s.ends_at, s.actor, s.why, s.lifted_by,
    epoch_us(s.ends_at) > $1 AS in_force,
    (SELECT count(DISTINCT (d.alert_id, d.seq)) FROM deliveries AS d
     WHERE d.state = 'silenced' AND starts_with(d.detail, 'silence ' || s.silence_id[:8])) AS kept_back
FROM silences AS s WHERE $2 OR epoch_us(s.ends_at) > $1 ORDER BY s.logged_at DESC
"""
_HAS_VERDICT = "SELECT 1 FROM alert_verdicts WHERE alert_id = $1 AND epoch_us(given_at) >= $2"
_IS_OVER = "SELECT arg_max(state, seq) = 'resolved' AS over FROM alerts WHERE id = $1"


def add_decisions(group: typer.Typer) -> None:
    """Add the commands of this file to the group ``alerts``."""
    group.command("ack")(_ack)
    group.command("silence")(_silence)
    group.command("unsilence")(_unsilence)
    group.command("silences")(_silences)
    group.command("verdict")(_verdict)


def in_force(lake: ReadOnlyLake, now: int) -> int:
    """Return how many silences hold at ``now`` (µs UTC)."""
    return int(lake.query(_IN_FORCE, [now]).to_pylist()[0]["n"])


def _ack(
    context: typer.Context,
    alert: Annotated[str, typer.Argument(help="Id of the alert, or a beginning that only one has.")],
    why: Why = "",
    by: By = None,
) -> None:
    """Acknowledge an alert: no channel gets an update of it any more, only its end."""
    here = get(context)
    with open_lake(here) as lake:
        found = alert_id(lake, alert)
        over = lake.query(_IS_OVER, [found]).to_pylist()[0]["over"]
    actor = _record(here, ACK, found, by, now_us(), why=why)
    there = landed(lambda: _holds(here, "SELECT 1 FROM acknowledgements WHERE alert_id = $1", found))
    what = "it is over; no update is sent if it comes back" if over else "no more updates, only its end"
    typer.echo(f"acknowledged {found} as {actor}: {what}{_note(there)}")


def _silence(
    context: typer.Context,
    what: Annotated[
        list[str],
        typer.Argument(help="NAME=VALUE ..., all of which must hold: app=shop rule=spike_cost; or the id of an alert."),
    ],
    length: Annotated[str | None, typer.Option("--for", help="For how long: 30m, 2h, 7d. Default: 1h.")] = None,
    end: Annotated[str | None, typer.Option("--until", help="Until when: 2026-11-30T07:00:00Z.")] = None,
    why: Why = "",
    by: By = None,
) -> None:
    """Send no alert that matches, for a while; they land and are listed all the same."""
    here, now = get(context), now_us()
    pairs = _like(here, what[0]) if len(what) == 1 and "=" not in what[0] else matchers(what)
    made = Silence(
        id=str(uuid.uuid4()),
        matchers=pairs,
        start=now,
        end=until(length, end, now),
        by=by or audit.actor(),
        why=why,
    )
    _record(here, SILENCE, made.id, by, now, silence=msgspec.to_builtins(made))
    there = landed(lambda: _holds(here, "SELECT 1 FROM silences WHERE silence_id = $1", made.id))
    page = Page()
    page.line(f"silence {made.id}{_note(there)}")
    page.fields(
        (
            ("matches", printable(canonical(pairs))),
            ("until", _time(made.end)),
            ("by", printable(made.by)),
            ("why", printable(why)),
        )
    )
    page.field("lift it", f"tailrace alerts unsilence {made.id[:8]}")


def _unsilence(
    context: typer.Context,
    silence: Annotated[str, typer.Argument(help="Id of the silence, or a beginning that only one has.")],
    by: By = None,
) -> None:
    """End a silence now."""
    here = get(context)
    with open_lake(here) as lake:
        found = silence_id(lake, silence)
    actor = _record(here, UNSILENCE, found, by, now_us())
    there = landed(
        lambda: _holds(here, "SELECT 1 FROM silences WHERE silence_id = $1 AND lifted_by IS NOT NULL", found)
    )
    typer.echo(f"lifted silence {found} as {actor}{_note(there)}")


def _silences(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List silences: what they match, until when, who made them and why, how many states they kept back."""
    with open_lake(get(context)) as lake:
        rows = lake.query(_SILENCES, [now_us(), every]).to_pylist()
    page = Page()
    for row in rows:
        pairs = json.loads(row["matchers"])
        if as_json:
            print_json({**row, "matchers": pairs})
            continue
        page.line(f"{row['silence_id']}  {'in force' if row['in_force'] else 'ended'}")
        page.line(printable(canonical(pairs)), indent=4)
        page.line(printable(_described(row)), indent=4)
    if not rows and not as_json:
        page.line("no silences in force" if not every else "no silences")


def _verdict(
    context: typer.Context,
    alert: Annotated[str, typer.Argument(help="Id of the alert, or a beginning that only one has.")],
    verdict: Annotated[
        Verdict,
        typer.Argument(
            help="useful: it was right to send it; noise: nobody needed it; known: right, but known before."
        ),
    ],
    why: Why = "",
    by: By = None,
) -> None:
    """Record whether an alert was useful, noise, or known before it came; the newest verdict on an alert counts."""
    here, now = get(context), now_us()
    with open_lake(here) as lake:
        found = alert_id(lake, alert)
    actor = _record(here, VERDICT, found, by, now, verdict=verdict, why=why)
    there = landed(lambda: _holds(here, _HAS_VERDICT, found, now))
    typer.echo(f"verdict on {found} by {actor}: {verdict}{_note(there)}")


def _described(row: dict[str, Any]) -> str:
    ended = f", lifted by {row['lifted_by']}" if row["lifted_by"] else ""
    why = f": {row['why']}" if row["why"] else ""
    kept = f"{row['kept_back']} state{'' if row['kept_back'] == 1 else 's'} kept back"
    return f"until {row['ends_at']:%Y-%m-%d %H:%M:%S} UTC{ended}, by {row['actor']}{why}; {kept}"


def _like(here: Context, prefix: str) -> dict[str, str]:
    """Return what matches alerts of the same rule and series as the one that ``prefix`` names."""
    with open_lake(here) as lake:
        found = alert_id(lake, prefix)
        row = lake.query("SELECT rule, series FROM alerts WHERE id = $1 LIMIT 1", [found]).to_pylist()[0]
    return {"rule": str(row["rule"]), **json.loads(row["series"])}


def _record(here: Context, action: str, target: str, by: str | None, now: int, **facts: Any) -> str:
    """Write the decision, which is its own audit record; return who made it."""
    actor = by or audit.actor()
    if not actor.strip():
        raise SettingsError("--by", "it is empty", "name the person who decides it")
    audit.record(wiring.kafka(here.settings, here.bootstrap_servers), action, target, actor=actor, now=now, **facts)
    return actor


def _holds(here: Context, sql: str, *values: str | int) -> bool:
    with open_lake(here) as lake:
        return bool(lake.query(sql, list(values)).num_rows)


def _note(there: bool) -> str:
    return "" if there else " (it holds; the lake does not show it yet)"


def _time(at: int) -> str:
    from pipelines.notify.times import clock, from_micros

    moment = from_micros(at)
    return "" if moment is None else clock(moment, None)
