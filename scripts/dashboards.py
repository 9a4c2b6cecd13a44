"""Writes the Grafana dashboards: deploy/grafana/dashboards/*.json. Run it after a change here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
APP = 'app=~"$app"'


@dataclass(frozen=True)
class Panel:
    """One panel: a graph over time, or one number."""

    title: str
    unit: str
    """Of Grafana: https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts"""
    queries: Sequence[tuple[str, str]]
    """(PromQL, legend)."""
    doc: str
    kind: str = "timeseries"
    width: int = 12


LLM = (
    Panel(
        "Cost an hour",
        "currencyUSD",
        ((f"sum(tailrace:cost_usd_per_hour:rate1h{{{APP}}})", "USD"),),
        "Known cost of the calls that landed, over the last hour.",
        "stat",
        6,
    ),
    Panel(
        "Calls a second",
        "reqps",
        (
            (f"sum(tailrace:calls:rate5m{{{APP}}})", "calls"),
            (f"sum(rate(tailrace_calls_shadow_total{{{APP}}}[5m])) or vector(0)", "of them shadow and canary"),
        ),
        "Calls that landed, without duplicates, over 5 minutes; those of shadow and canary variants by themselves.",
        "stat",
        6,
    ),
    Panel(
        "Calls without a cost",
        "percentunit",
        ((f"max(tailrace:calls_unpriced:ratio1h{{{APP}}})", "share"),),
        "The app with the greatest share, over an hour.",
        "stat",
        6,
    ),
    Panel(
        "Budget spent",
        "percentunit",
        ((f"tailrace:budget_spent:ratio30d{{{APP}}}", "{{app}}"),),
        "Of the budget for 30 days in monitoring.budgets_usd.",
        "stat",
        6,
    ),
    Panel(
        "Cost by app",
        "currencyUSD",
        ((f"tailrace:cost_usd_per_hour:rate1h{{{APP}}}", "{{app}}"),),
        "USD an hour, over the last hour.",
    ),
    Panel(
        "Cost by model",
        "currencyUSD",
        ((f"sum by (model) (rate(tailrace_cost_usd_total{{{APP}}}[5m])) * 3600", "{{model}}"),),
        "USD an hour, over 5 minutes.",
    ),
    Panel(
        "Tokens by direction",
        "short",
        ((f"sum by (direction) (tailrace:tokens:rate5m{{{APP}}})", "{{direction}}"),),
        "Tokens a second. Input includes what the prompt cache served.",
    ),
    Panel(
        "Calls by model",
        "reqps",
        ((f"sum by (model) (rate(tailrace_calls_total{{{APP}}}[5m]))", "{{model}}"),),
        "Calls a second.",
    ),
    Panel(
        "Duration",
        "s",
        (
            (f"tailrace:call_duration_seconds:p50_5m{{{APP}}}", "{{app}} p50"),
            (f"tailrace:call_duration_seconds:p95_5m{{{APP}}}", "{{app}} p95"),
        ),
        "Request to last byte, as the caller saw it; from buckets that double.",
    ),
    Panel(
        "First chunk, p95",
        "s",
        ((f"tailrace:call_first_chunk_seconds:p95_5m{{{APP}}}", "{{app}}"),),
        "Request to first chunk, of calls that report it.",
    ),
    Panel(
        "Calls that fail",
        "percentunit",
        ((f"tailrace:call_failures:ratio5m{{{APP}}}", "{{app}}"),),
        "Share that ended in an error or was cancelled.",
    ),
    Panel(
        "Guardrail triggers",
        "cps",
        ((f"sum by (name, action) (tailrace:guardrail_triggers:rate5m{{{APP}}})", "{{name}} {{action}}"),),
        "Calls on which a guardrail did anything but pass, a second.",
    ),
    Panel(
        "Evidence of drift",
        "short",
        ((f"max by (app, side) (tailrace_drift_evidence_log10{{{APP}}})", "{{app}} {{side}}"),),
        "Power of ten; an alert is raised at 5.",
    ),
    Panel(
        "Alerts by detector",
        "short",
        (("sum by (detector, state) (increase(tailrace_alerts_total[1h]))", "{{detector}} {{state}}"),),
        "State changes that landed in the last hour.",
    ),
)
PIPELINE = (
    Panel(
        "Stages that run",
        "short",
        (("sum(max by (stage) (tailrace_stage_up))", "stages"),),
        "Stages that run and report.",
        "stat",
        6,
    ),
    Panel(
        "Since the last commit",
        "s",
        # a scrape has the time of its beginning, so that a commit during it would be in the future
        (("clamp_min(time() - max(tailrace_lake_last_commit_timestamp_seconds), 0)", "age"),),
        "Ticks of meter land every second, whether there is traffic or not.",
        "stat",
        6,
    ),
    Panel("Kafka answers", "bool_yes_no", (("min(tailrace_kafka_up)", "Kafka"),), "Asked every 5 seconds.", "stat", 6),
    Panel(
        "Jobs that failed",
        "short",
        (("sum(max by (batch_job) (tailrace_job_failed))", "jobs"),),
        "Jobs whose last run failed.",
        "stat",
        6,
    ),
    Panel(
        "Records waiting",
        "short",
        (("max by (stage) (tailrace_stage_lag_records)", "{{stage}}"),),
        "Records of its topics that a stage has not read.",
    ),
    Panel(
        "Behind",
        "s",
        (("max by (stage) (tailrace_stage_behind_seconds)", "{{stage}}"),),
        "How old the oldest record is that a stage has not read.",
    ),
    Panel(
        "Commits",
        "ops",
        (("sum(rate(tailrace_commits_total[5m]))", "commits"), ("sum(rate(tailrace_retries_total[5m]))", "retries")),
        "Landings a second, and transactions that were rolled back and tried again.",
    ),
    Panel(
        "Dead letters",
        "cps",
        (("sum by (topic, reason) (rate(tailrace_dead_letters_total[5m]))", "{{topic}} {{reason}}"),),
        "Records that could not be landed, a second.",
    ),
    Panel("Memory", "bytes", (("sum by (stage) (tailrace_stage_resident_memory_bytes)", "{{stage}}"),), "In RAM."),
    Panel(
        "Processor",
        "percentunit",
        (("sum by (stage) (rate(tailrace_stage_cpu_seconds_total[5m]))", "{{stage}}"),),
        "1 is one core.",
    ),
    Panel(
        "Age of the last end of each job",
        "s",
        (("time() - max by (batch_job) (tailrace_job_last_end_timestamp_seconds)", "{{batch_job}}"),),
        "Since the last run ended; see docs/operate/jobs.md for when each is due.",
    ),
    Panel(
        "Restarts",
        "short",
        (("sum by (stage) (increase(tailrace_stage_restarts_total[1h]))", "{{stage}}"),),
        "Starts after the first, in the last hour.",
    ),
    Panel(
        "Free disk",
        "bytes",
        (("min by (place) (tailrace_disk_free_bytes)", "{{place}}"),),
        "Of the file systems that hold home and lake.",
    ),
)


def dashboard(uid: str, title: str, panels: Sequence[Panel], *, by_app: bool) -> dict[str, Any]:
    """Return a dashboard in Grafana's JSON model, schema 39."""
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > 24:
            x, y = 0, y + height
        height = 4 if panel.kind == "stat" else 8
        placed.append(_panel(number, panel, {"h": height, "w": panel.width, "x": x, "y": y}))
        x += panel.width
    app = {
        "name": "app",
        "label": "App",
        "type": "query",
        "datasource": SOURCE,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
        "query": {"query": "label_values(tailrace_calls_total, app)", "refId": "app"},
    }
    return {
        "uid": uid,
        "title": title,
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "tags": ["tailrace"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "timezone": "utc",
        "panels": placed,
        "templating": {"list": [app] if by_app else []},
        "annotations": {"list": []},
        "links": [],
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + i), "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for i, (query, legend) in enumerate(panel.queries)
    ]
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    if panel.kind == "timeseries":
        options = {
            "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi"},
        }
    return {
        "id": number,
        "title": panel.title,
        "description": panel.doc,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets,
        "options": options,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }


DASHBOARDS = {
    "llm.json": dashboard("tailrace-llm", "LLM cost and quality", LLM, by_app=True),
    "pipeline.json": dashboard("tailrace-pipeline", "Pipeline health", PIPELINE, by_app=False),
}


def main() -> None:
    """Write them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, model in DASHBOARDS.items():
        (FOLDER / name).write_text(json.dumps(model, indent=1) + "\n")
        print(f"wrote deploy/grafana/dashboards/{name}")


if __name__ == "__main__":
    main()
