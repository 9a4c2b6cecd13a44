"""``golden labels``: feedback of people on production calls, as data to train a model on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.golden.labels import Form, labels
from jobs.golden.settings import NOT_PRODUCTION
from pipelines.clock import now_us
from tailrace.cli.context import get
from tailrace.cli.lake import open_lake
from tailrace.cli.render.printable import json_line, printable
from tailrace.files import check_new_file, new_file
from tailrace.times import moment
from warehouse.golden.labels import golden_cases, labelled


def write_labels(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="File to write, JSON lines; must not exist.")],
    form: Annotated[Form, typer.Option("--format", help="What a line is.")] = Form.PREFERENCES,
    since: Annotated[str, typer.Option(help="Calls since then: 2h, 30d ago, or a time; whole days, UTC.")] = "30d",
    app: Annotated[str | None, typer.Option("--app", help="Only calls of this app.")] = None,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="The newest labelled calls.")] = 10_000,
) -> None:
    """Write the feedback of users on all production calls, not only golden cases, as data to train a model on.

    preferences: the answer that a user wrote over the one that was given, and of one conversation a liked answer over
    a disliked one. chat: conversations that end with an answer that a user wrote or liked. thumbs: single answers with
    a label. Texts are redacted. What a golden set holds out is left out, and so is what asks nearly the same.
    """
    check_new_file(out)
    now = now_us()
    first, last = (datetime.fromtimestamp(at / 1e6, UTC).date() for at in (moment(since, now), now))
    with open_lake(get(context)) as lake:
        calls = labelled(lake, (first, last), app=app, not_envs=NOT_PRODUCTION, most=most)
        cases = golden_cases(lake)
    found = labels(calls, cases, form)
    with new_file(out) as file:
        file.write("".join(json_line(line) + "\n" for line in found.lines).encode())
    held = f"; {found.held_out} left out as a golden set holds them out" if found.held_out else ""
    typer.echo(printable(f"{len(found.lines)} lines of {found.calls} labelled calls written to {out}{held}"))
