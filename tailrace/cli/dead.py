"""``dead``: list, explain, repair and replay what did not fit."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.clock import now_us
from pipelines.decode import Accepted, verdict
from pipelines.decode.locate import locate
from pipelines.decode.reasons import MAX_BYTES, MAX_DEPTH, Reject
from pipelines.decode.repair import Edit, repair
from schemas.errors import SettingsError
from schemas.topics import EVENTS
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.render.rows import json_lines, printable, table
from tailrace.events import dead as letters
from tailrace.events.replay import read_json_lines
from tailrace.files import check_new_file, new_file
from tailrace.records import audit
from tailrace.times import moment
from warehouse.lake import Lake
from warehouse.storage.connect import connect

dead = typer.Typer(no_args_is_help=True, help="Records that did not fit.")

_ADVICE = {
    "not_json": "no event can be read from it: mend the producer; tailrace emitters never send such bytes",
    "not_object": "send one JSON object a message; an array of events has to be split",
    "too_large": f"keep an event under {MAX_BYTES} bytes: let the emitter truncate content, or `--drop content`",
    "too_deep": f"flatten it to at most {MAX_DEPTH} levels, or `dead repair --drop` the deep part",
    "duplicate_key": "write each key once; equal values are merged by `dead repair`",
    "bad_utf8": "encode as UTF-8; `dead repair` puts U+FFFD in place of the bytes that are not",
    "unknown_type": 'set "type" to call, feedback or eval',
    "unsupported_version": 'this Tailrace reads "v": 1; upgrade Tailrace, then `dead replay`',
    "reserved_key": "keys that begin with _ are the server's; `dead repair` renames them to x_...",
    "missing": "the field is required: `dead repair --set FIELD=VALUE` where you know it for all of them",
    "type": "the field has another type; `dead repair` converts where nothing is lost, else --set or --drop it",
    "range": "the value is out of its bounds or its list (schemas/*.schema.json): --set or --drop it",
    "not_finite": "NaN and infinities cannot be stored: `dead repair` leaves the field out",
}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(dead, name="dead")


Reason = Annotated[str | None, typer.Option(help="Only this reason, such as type or type:tokens.input.")]
App = Annotated[str | None, typer.Option("--app", help="Only this app.")]
Since = Annotated[str | None, typer.Option(help="Only since then: 90m, 2h, 7d ago, or a time.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@dead.command("list")
def _list(
    context: typer.Context,
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what did not fit: reason, detail, position, the redacted head."""
    query = (
        'SELECT reason, detail, app, topic, _partition AS "partition", _offset AS "offset", size, head, '
        "_kafka_time AS kafka_time "
        "FROM dead WHERE ($1 IS NULL OR reason = $1) ORDER BY _kafka_time DESC, _partition, _offset LIMIT $2"
    )
    with open_lake(get(context)) as lake:
        rows = lake.query(query, [reason, limit])
    if as_json:
        typer.echo(json_lines(rows), nl=False)
    else:
        table(rows)


@dead.command("explain")
def _explain(
    context: typer.Context,
    position: Annotated[str, typer.Argument(help="Such as llm.events[3]@1807, or 3@1807.")],
    as_json: AsJson = False,
) -> None:
    """Show why a record is dead, where in it the reason is, and what can be done."""
    choice = letters.position(position)
    with _lake(get(context)) as lake:
        found = next(letters.letters(lake, choice), None)
    if found is None:
        typer.echo(f"no dead record at {printable(position)}: see `tailrace dead list`", err=True)
        sys.exit(1)
    facts = _described(found)
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name:9} {printable(value)}")


def _described(record: letters.DeadLetter) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "position": record.position,
        "reason": record.reason,
        "detail": record.detail,
        "app": record.app,
        "size": record.size,
        "now": None,
        "place": None,
        "found": None,
        "remedy": _ADVICE.get(record.reason.partition(":")[0], "written by a stage of ours: report it with this page"),
        "repair": None,
    }
    if record.topic != EVENTS:
        return facts
    if not record.kept:
        return facts | {"now": "unknown: the original bytes were kept for 7 days and are gone", "remedy": None}
    now = verdict(record.value)
    if isinstance(now, Accepted):
        return facts | {
            "now": "accepted by this version",
            "remedy": f"`tailrace dead replay` sends it again ({EVENTS})",
        }
    facts |= {"now": f"{now.reason}: {now.detail}", "remedy": _ADVICE[now.reason.partition(":")[0]]}
    if place := locate(record.value, now):
        facts["place"] = f"{letters.redacted(place.path) or 'the text'}, line {place.line}, column {place.column}"
        facts["found"] = letters.redacted(place.found, 80)
    repaired = repair(record.value)
    if isinstance(repaired.verdict, Accepted):
        facts["repair"] = f"`tailrace dead repair` repairs it: {'; '.join(map(letters.redacted, repaired.steps))}"
    return facts


@dead.command("repair")
def _repair(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Where the repaired events go, JSON lines; must not exist. Else: a pipe.")
    ] = None,
    position: Annotated[str | None, typer.Option(help="Only the record at this position.")] = None,
    reason: Reason = None,
    only_app: App = None,
    since: Since = None,
    limit: Limit = 100_000,
    to_set: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE; a path may have dots.")] = None,
    rename: Annotated[list[str] | None, typer.Option(help="OLD=NEW field.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Field to leave out.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Without the differences.")] = False,
) -> None:
    """Repair dead events: --drop, --rename, --set in this order, then safe repairs. Shows the (redacted) difference.

    Nothing is sent: read the file, then `tailrace dead replay FILE`.
    """
    if out is None and sys.stdout.isatty():
        raise SettingsError(
            "--out", "not given: whole events, unredacted, would go to this terminal", "name a file, or pipe stdout on"
        )
    if out is not None:
        check_new_file(out)
    here = get(context)
    edits = [*(Edit("drop", p) for p in drop or []), *_pairs("rename", rename or []), *_pairs("set", to_set or [])]
    choice = _choice(position, reason, only_app, since, limit)
    repaired = left = 0
    with _lake(here) as lake, _writer(out) as write:
        for record in letters.letters(lake, choice):
            if record.topic != EVENTS or not record.kept:
                continue
            result = repair(record.value, edits)
            if isinstance(result.verdict, Accepted):
                repaired += 1
                write(result.value.replace(b"\n", b" ") + b"\n")
            else:
                left += 1
            if not quiet:
                _report(record, result.value, result.steps, result.verdict)
    typer.echo(f"{repaired} repaired, {left} still dead", err=True)
    if repaired and out is not None:
        typer.echo(f"next: tailrace dead replay {out}", err=True)


def _report(record: letters.DeadLetter, value: bytes, steps: tuple[str, ...], now: Accepted | Reject) -> None:
    state = "repaired" if isinstance(now, Accepted) else f"still dead: {now.reason}: {letters.redacted(now.detail)}"
    typer.echo(printable(f"{record.position}  {record.reason}  {state}"), err=True)
    for step in steps:
        typer.echo(f"  {printable(letters.redacted(step))}", err=True)
    if isinstance(now, Accepted):
        for line in difflib.unified_diff(_laid_out(record.value), _laid_out(value), n=0, lineterm=""):
            if not line.startswith(("---", "+++", "@@")):
                typer.echo(f"    {line}", err=True)


def _laid_out(value: bytes | None) -> list[str]:
    text = (value or b"").decode("utf-8", "replace")
    try:
        text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return [printable(letters.redacted(text))]
    return [printable(letters.redacted(line)) for line in text.splitlines()]


@dead.command("replay")
def _replay(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Mended events; without it: the originals in the lake.")] = None,
    reason: Reason = None,
    only_app: App = None,
    since: Since = None,
    limit: Limit = 100_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Their times are true, however old.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send repaired events, or originals that are valid by now, to llm.events again, under their own ids.

    What is still dead is skipped and reported. Doing it twice is harmless: an id that has landed is skipped, and if the
    same id lands twice after all, the second is marked as a duplicate and no view counts it.
    """
    here = get(context)
    choice = _choice(None, reason, only_app, since, limit)
    if file is not None and (reason or only_app or since):
        raise SettingsError("dead replay", "a file and a choice from the lake exclude one another", "give one of them")
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    with _lake(here) as lake:
        found = letters.letters(lake, choice)
        source = letters.from_lines(read_json_lines(file)) if file else letters.from_letters(found)
        facts = f"file {file.name}" if file else f"lake: reason {reason}, app {only_app}, since {since}"
        actor, now = audit.actor(), now_us()
        done = letters.replay(lake, kafka, source, actor=actor, source=facts, now=now, dry_run=dry_run, history=history)
    if as_json:
        print_json({"sent": done.ids, "dry_run": dry_run, "skipped": [list(pair) for pair in done.skipped]})
        return
    for name, why in done.skipped[:50]:
        typer.echo(printable(f"skipped {name}: {letters.redacted(why)}"), err=True)
    if len(done.skipped) > 50:
        typer.echo(f"... and {len(done.skipped) - 50} more", err=True)
    typer.echo(f"{len(done.ids)} {'would be sent' if dry_run else 'sent again'}, {len(done.skipped)} skipped")


def _choice(position: str | None, reason: str | None, app: str | None, since: str | None, limit: int) -> letters.Choice:
    if position is not None:
        return letters.position(position)
    start = moment(since, now_us()) if since else None
    return letters.Choice(reason=reason, app=app, since=start, limit=limit)


def _pairs(kind: str, entries: list[str]) -> Iterator[Edit]:
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise SettingsError(f"--{kind}", f"{entry[:40]!r} has no =", "write FIELD=VALUE")
        yield Edit("rename", name, value) if kind == "rename" else Edit("set", name, _value(value))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@contextmanager
def _lake(here: Context) -> Iterator[Lake]:
    """Open the lake as an operator; one that is not there is not made."""
    config = wiring.lake(here.settings)
    connect(config, read_only=True).close()
    with Lake.open(config, now=now_us, lander=False) as lake:
        yield lake


@contextmanager
def _writer(out: Path | None) -> Iterator[Any]:
    if out is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    with new_file(out) as file:  # it may hold texts of users
        yield file.write
