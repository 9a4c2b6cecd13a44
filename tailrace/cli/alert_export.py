"""``alerts export``: one alert as a file that gives the same alert on another machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from schemas.alerts import Alert
from tailrace import wiring
from tailrace.cli.context import get
from tailrace.cli.ids import alert_id
from tailrace.cli.lake import open_lake
from tailrace.cli.render.output import check, opened
from tailrace.files import refused
from tailrace.times import span

_STATES = """
SELECT alert FROM alerts WHERE id = $1 QUALIFY row_number() OVER (PARTITION BY seq ORDER BY _offset) = 1 ORDER BY seq
"""


def export(
    context: typer.Context,
    alert: Annotated[str, typer.Argument(help="Id of the alert, or a beginning that only one has.")],
    out: Annotated[
        Path, typer.Option("--out", help="Write this file, or ID.capsule into this folder.", readable=False)
    ],
    warm_up: Annotated[str, typer.Option(help="Judged before it, to learn what is usual.")] = "1d",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")] = False,
) -> None:
    """Write an alert as a capsule: the detectors' state before it and the rollups of its window, without texts.

    `tailrace backtest --events FILE` gives the same alert from it, on any machine. The capsule is judged before it is
    written; what cannot be made to give the same alert, or takes more than 20 MB, is refused.
    """
    from tailrace.events import capsule  # imports numpy: no other command of the group should pay for it

    here = get(context)
    with refused("write", out):
        folder = out.is_dir()
    check(out / "x.capsule" if folder else out, force=force or folder)
    with open_lake(here) as lake:
        found = alert_id(lake, alert)
        file = out / f"{found[:8]}.capsule" if folder else out
        states = [Alert.from_json(row["alert"].encode()) for row in lake.query(_STATES, [found]).to_pylist()]
        with (
            opened(file, force=force) as write,
            Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar,
        ):
            task = bar.add_task("judging", total=None)
            made, data = capsule.export(
                lake,
                states,
                wiring.detect_rules(here.settings),
                warm_up=span(warm_up),
                progress=lambda positions: bar.advance(task, positions),
            )
            write(data)
    facts = made.manifest
    states_of = (
        f"{facts.states} of {facts.landed_states} states" if facts.states < facts.landed_states else "all states"
    )
    typer.echo(
        f"written: {file}, {len(data):,} bytes: {states_of} of alert {found}, {made.rollups.num_rows:,} rows of "
        f"rollups, {facts.calls:,} of {facts.calls_of:,} calls without texts; judged again it gives the same alert",
        err=True,
    )
