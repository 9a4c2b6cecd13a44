"""``demo``: the main job on one machine, nothing to configure."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from schemas.alerts import Alert
from schemas.errors import SettingsError
from tailrace import logs, wiring
from tailrace.cli.context import get, print_json
from tailrace.demo import here as here_demo
from tailrace.demo.run import Outcome, play
from tailrace.settings.model import Settings, load
from tailrace.settings.toml_file import FILE_NAME
from warehouse.query.readonly import ReadOnlyLake
from warehouse.verify.verify import verify

_COST = (
    "SELECT app, model, sum(calls) AS calls, sum(cost_usd) AS cost_usd FROM cost_daily "
    "GROUP BY ALL ORDER BY cost_usd DESC LIMIT 6"
)
_EVIDENCE = "SELECT id, sql FROM alerts WHERE state = 'firing'"
_SHOWN_SQL = 1500
_TRY = (
    "SELECT app, model, sum(calls) AS calls, sum(cost_usd) AS cost FROM cost_daily GROUP BY ALL ORDER BY cost DESC",
    "SELECT user_id, count(*) AS calls, sum(cost_usd) AS cost FROM calls GROUP BY 1 ORDER BY 3 DESC LIMIT 5",
    "SELECT app, name, action, count(*) FROM guardrail_triggers GROUP BY ALL ORDER BY 4 DESC LIMIT 5",
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(_demo)


def _demo(
    context: typer.Context,
    seed: Annotated[int, typer.Option(help="Draws traffic, moments, sizes and users.")] = 1,
    calm: Annotated[bool, typer.Option(help="Plant nothing: then any alert fails the demo.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for everything, new or empty; else a temporary one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Only one JSON object, at the end.")] = False,
    leave: Annotated[bool, typer.Option("--exit", help="Delete the temporary folder at the end.")] = False,
    here: Annotated[
        bool,
        typer.Option(
            "--here", help="Send the traffic to the Kafka of the settings, whose stages run; its invented calls stay."
        ),
    ] = False,
    _no_web: Annotated[bool, typer.Option("--no-web", hidden=True, help="For scripts; nothing is served.")] = False,
) -> None:
    """Broker, stages, traffic with three incidents, alerts on the screen, a summary; fails if any other alert comes."""
    if here:
        _demo_here(context, seed, as_json=as_json)
        return
    began = time.monotonic()
    settings = _alone(keep)
    home, kept = settings.home, keep is not None or not leave
    logs.configure(stage="demo", level="ERROR" if not as_json else "CRITICAL")
    screen = Console(stderr=as_json, highlight=False)

    def echo(text: str) -> None:
        screen.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {escape(text)}")

    try:
        echo(f"starting Kafka and the stages in {home}")
        outcome = play(settings, seed=seed, echo=echo, on_alert=lambda a: screen.print(_panel(a)), no_incidents=calm)
        report = _report(settings, outcome)
        report["seconds"] = round(time.monotonic() - began, 1)
        if as_json:
            print_json(report)
        else:
            _summary(screen, report, home, kept=kept)
    finally:
        if not kept:
            shutil.rmtree(home, ignore_errors=True)
    if report["problems"] or not report["verified"]:
        sys.exit(1)


def _demo_here(context: typer.Context, seed: int, *, as_json: bool) -> None:
    """Show the alerts that running stages raise on the demo's traffic; exit code 1 where an incident has none."""
    running = get(context)
    screen = Console(stderr=as_json, highlight=False)
    outcome = here_demo.play(
        wiring.kafka(running.settings, running.bootstrap_servers),
        seed=seed,
        echo=lambda text: screen.print(escape(text)),
        on_alert=lambda alert: screen.print(_panel(alert)),
    )
    for line in here_demo.judged(outcome):
        screen.print(escape(line))
    if as_json:
        found = [{"state": a.state, "detector": a.detector, "series": a.series, "id": a.id} for a in outcome.alerts]
        print_json({"sent": outcome.sent, "alerts": found, "missing": [i.kind for i in outcome.missing]})
    if outcome.missing:
        sys.exit(1)


def _alone(keep: Path | None) -> Settings:
    """Return settings that know of nothing but a fresh home: no invented call may reach a real topic or lake.

    Raises:
        SettingsError: ``keep`` has something in it.
    """
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise SettingsError("--keep", f"{keep} is not empty", "name a new folder")
    for name in [name for name in os.environ if name.startswith("TAILRACE_")]:
        del os.environ[name]  # the stages read it as well
    home = keep or Path(tempfile.mkdtemp(prefix="tailrace-demo-"))
    home.mkdir(parents=True, exist_ok=True)
    (home / FILE_NAME).write_text("# the demo's own: one in the working directory is not read\n")
    return load(home)


def _panel(alert: Alert) -> Panel:
    colour = (
        "green" if alert.state == "resolved" else {"critical": "red", "warning": "yellow"}.get(alert.severity, "cyan")
    )
    lines = [escape(alert.title)]
    lines.append(escape(f"observed {alert.observed:.6g} {alert.unit}, expected {alert.expected:.6g}"))
    lines += [escape(f"cause: {cause.text}") for cause in alert.cause[:3]]
    if alert.evidence.call_ids and alert.state == "firing":
        lines.append(escape(f"calls: {', '.join(alert.evidence.call_ids[:3])}"))
    title = f"{alert.state.upper()}  {alert.detector}  " + ", ".join(f"{k}={v}" for k, v in alert.series.items())
    return Panel("\n".join(lines), title=escape(title), title_align="left", border_style=colour)


def _report(settings: Settings, outcome: Outcome) -> dict[str, Any]:
    checked = verify(wiring.lake(settings))
    lake = ReadOnlyLake.open(wiring.lake(settings))
    try:
        cost = lake.query(_COST).to_pylist()
        total = lake.query("SELECT count(*) AS calls, sum(cost_usd) AS cost_usd FROM calls").to_pylist()[0]
        landed = {row["id"]: row["sql"] for row in lake.query(_EVIDENCE).to_pylist()}
        evidence = [
            # from the lake: SQL with a vector reaches no channel
            {"id": a.id, "state": a.state, "sql": landed.get(a.id) or a.evidence.sql, "observed": a.observed}
            for a in outcome.alerts
            if a.state == "firing"
        ]
    finally:
        lake.close()
    return {
        "incidents": [{"kind": i.kind, "app": i.app, "value": i.value} for i in outcome.incidents],
        "alerts": [
            {"state": a.state, "detector": a.detector, "rule": a.rule, "series": a.series, "title": a.title, "id": a.id}
            for a in outcome.alerts
        ],
        "problems": outcome.problems,
        "calls": total["calls"],
        "cost_usd": str(total["cost_usd"]),
        "cost_by_model": [{k: str(v) for k, v in row.items()} for row in cost],
        "evidence": evidence,
        "quality_report": str(outcome.weekly.report or ""),
        "golden_cases": outcome.weekly.cases,
        "golden_case": {k: outcome.weekly.case.get(k) for k in ("app", "feature", "reasons", "call_id", "input_text")},
        "gate": outcome.weekly.verdicts,
        "verified": checked.ok,
    }


def _summary(screen: Console, report: dict[str, Any], home: Path, *, kept: bool) -> None:
    screen.rule("summary")
    screen.print(
        f"{report['calls']:,} calls landed exactly once, {report['cost_usd']} USD; verify: {report['verified']}"
    )
    for row in report["cost_by_model"]:
        screen.print(escape(f"  {row['app']:12} {row['model']:20} {row['calls']:>7} calls  {row['cost_usd']:>14} USD"))
    for incident in report["incidents"]:
        screen.print(escape(f"planted: {incident['kind']} on {incident['app']} ({incident['value']})"))
    for problem in report["problems"]:
        screen.print(f"[red]PROBLEM[/red] {escape(problem)}")
    if not report["problems"]:
        screen.print("[green]exactly the planted incidents alerted[/green]")
    screen.print("where the alerts came from:")
    for alert in report["evidence"]:
        # the one of drift carries vectors: pages of numbers
        shown = alert["sql"] if len(alert["sql"]) <= _SHOWN_SQL else f"see `tailrace alerts show {alert['id']}`"
        screen.print(escape(f"  observed {alert['observed']:.6g}: {shown}"), soft_wrap=True)
    _weekly(screen, report, kept=kept)
    where = home if kept else "DIR"
    screen.print("look further:" if kept else "look further: `tailrace demo --keep DIR`, then")
    for query in _TRY:
        screen.print(escape(f'  tailrace --home {where} sql "{query}"'), soft_wrap=True)
    if kept:
        screen.print(escape(f"  tailrace --home {home} alerts list; everything is in {home}"), soft_wrap=True)


def _weekly(screen: Console, report: dict[str, Any], *, kept: bool) -> None:
    screen.print("the weekly loop, over this hour:")
    if kept:
        screen.print(escape(f"  quality report: {report['quality_report']}"), soft_wrap=True)
    case = report["golden_case"]
    if case.get("app"):
        text = " ".join(str(case["input_text"] or "").split())[:70]
        reasons = ", ".join(map(str, case["reasons"] or ()))
        screen.print(escape(f"  golden set: {report['golden_cases']} cases; one of {case['app']} ({reasons}): {text}"))
    for name, verdict in report["gate"].items():
        colour = {"pass": "green", "regress": "red"}.get(verdict, "yellow")
        screen.print(f"  gate: candidate {escape(name)}: [{colour}]{escape(verdict)}[/{colour}]")
