"""What Prometheus reads: the numbers of the supervisor, the stages, the kernel, and of the calls that landed.

Built for every scrape from the run files of the home, so nothing is counted twice and no stage serves anything. Texts
(errors, addresses) stay out: labels are names from our own code, partition numbers, and apps and models, whose number
is bounded (`pipelines.land.usage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipelines.clock import now_us
from schemas.stage_facts import StageFacts, StageState
from tailrace.home.layout import Home, reported
from tailrace.monitor import call_metrics
from tailrace.monitor.status import status
from tailrace.settings.model import Settings
from tailrace.supervisor.stages import STAGES, Stage

Facts = Callable[[], dict[str, Any]]
SUPERVISOR = {
    "kafka_up": "1 where the brokers answer",
    "deadman_called": "calls to `deadman_url`; only with that setting",
    "deadman_withheld": "calls that were not made because a stage was not well; only with `deadman_url`",
    "deadman_failed": "calls to `deadman_url` that had no good answer; only with that setting",
}
"""Numbers that the supervisor adds -> their meaning."""
_COUNTED = {"commits": "landing commits since the stage began", "retries": "transactions rolled back and tried again"}
_OF_CALLS = {
    "calls": "calls landed, without duplicates",
    "calls_unpriced": "landed without a known cost",
    "calls_partly_priced": "landed with the cost of a part of the usage",
    "calls_cost_differs": "reported cost is more than 1 % off the computed one; the view cost_checks has the share",
    "calls_cost_reported": "landed with a reported cost above 0",
    "calls_cost_compared": "landed with a reported cost and a whole computed one; surge_cost_differs alerts on the "
    "share that differs",
    "calls_shadow": "of tailrace_calls, those of shadow and canary variants",
    "cost_usd": "cost at landing, USD",
}
"""Totals by app and model -> their meaning."""
_MARKS = ("calls_partly_priced", "calls_cost_differs", "calls_cost_reported", "calls_cost_compared", "calls_shadow")
"""Totals at the end of a row of the fact ``usage``, in its order; an older row has fewer."""


class StageCollector:
    """A Prometheus collector over the run files of one home."""

    def __init__(self, settings: Settings, *, stages: Sequence[Stage] = STAGES, more: Facts = dict) -> None:
        self._settings = settings
        self._stages = stages
        self._more = more
        """Further numbers, name -> value: of the supervisor's own probes."""

    def collect(self) -> Iterator[Metric]:
        """Yield every family once."""
        home = Home(self._settings.home)
        known = status(self._settings, stages=self._stages)
        supervised = (home.read_run("up") or {}).get("stages", {})
        yield _plain("tailrace_healthy", "1 where every stage runs and nothing is held", float(known["healthy"]))
        for name, value in sorted(self._more().items()):
            yield _plain(f"tailrace_{name}", SUPERVISOR.get(name, name.replace("_", " ")), float(value))
        reports = {stage.name: home.read_run(stage.name) or {} for stage in self._stages}
        yield from _states(known["stages"], supervised)
        facts = {name: reported(report) for name, report in reports.items()}
        yield from _heartbeats(reports, facts)
        yield from _facts(facts)
        land, schedule, drift = (facts.get(name, StageFacts()) for name in ("land", "schedule", "drift"))
        usage = land.details.get("usage") or {}
        yield from _usage(usage)
        yield from call_metrics.observed(usage)
        yield from call_metrics.lake(land.committed_at)
        yield from call_metrics.jobs(schedule.details.get("jobs") or ())
        yield from call_metrics.drift(drift.details.get("evidence") or ())
        yield from call_metrics.disks(known["disk"])
        yield from call_metrics.budgets(self._settings.monitoring.budgets_usd)
        yield from _processes({name: s["pid"] for name, s in known["stages"].items() if s["pid"]})


def exposition(collector: StageCollector) -> bytes:
    """Return the page in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)


def _plain(name: str, doc: str, value: float) -> Metric:
    return GaugeMetricFamily(name, doc, value=value)


def _gauge(name: str, doc: str, rows: Iterable[tuple[Sequence[str], float]], labels: Sequence[str]) -> Metric:
    family = GaugeMetricFamily(name, doc, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _counter(name: str, doc: str, rows: Iterable[tuple[str, float]]) -> Metric:
    family = CounterMetricFamily(name, doc, labels=["stage"])
    for stage, number in rows:
        family.add_metric([stage], number)
    return family


def _states(stages: dict[str, Any], supervised: dict[str, Any]) -> Iterator[Metric]:
    up = [([name], float(s["state"] == StageState.RUNNING)) for name, s in stages.items()]
    yield _gauge("tailrace_stage_up", "1 where the stage runs and reports", up, ["stage"])
    now = [([name, s["state"]], 1.0) for name, s in stages.items()]
    yield _gauge("tailrace_stage_state", "what the stage is doing", now, ["stage", "state"])
    lags = [([name], float(s["lag"])) for name, s in stages.items() if s["lag"] is not None]
    yield _gauge("tailrace_stage_lag_records", "records not read yet", lags, ["stage"])
    behind = [([name], s["behind_s"]) for name, s in stages.items() if s["behind_s"] is not None]
    yield _gauge("tailrace_stage_behind_seconds", "how far it is behind in event time", behind, ["stage"])
    for key, doc in (("restarts", "starts after the first"), ("stalls", "kills because it made no progress")):
        rows = [(name, float(supervised.get(name, {}).get(key, 0))) for name in stages]
        yield _counter(f"tailrace_stage_{key}", doc, rows)


def _heartbeats(reports: dict[str, dict[str, Any]], facts: dict[str, StageFacts]) -> Iterator[Metric]:
    ages = [([name], max(0.0, (now_us() - s["at"]) / 1e6)) for name, s in reports.items() if s]
    yield _gauge("tailrace_stage_heartbeat_age_seconds", "since the last report of the stage", ages, ["stage"])
    places = [([name, at], float(offset)) for name, f in facts.items() for at, offset in f.position.items()]
    yield _gauge("tailrace_stage_position", "next offset of what the stage reads", places, ["stage", "partition"])


def _facts(facts: dict[str, StageFacts]) -> Iterator[Metric]:
    for key, doc in _COUNTED.items():
        rows = [(stage, float(f.numbers[key])) for stage, f in facts.items() if key in f.numbers]
        yield _counter(f"tailrace_{key}", doc, rows)
    others = [
        ([stage, name], float(value))
        for stage, f in facts.items()
        for name, value in {**f.numbers, **({} if f.progress is None else {"progress": f.progress})}.items()
        if name not in _COUNTED
    ]
    yield _gauge("tailrace_stage_fact", "other numbers of a stage", others, ["stage", "fact"])


def _usage(usage: dict[str, Any]) -> Iterator[Metric]:
    """Calls, cost, tokens and alerts as landed; a value that was never reported has no sample."""
    families = {
        name: CounterMetricFamily(f"tailrace_{name}", doc, labels=["app", "model"]) for name, doc in _OF_CALLS.items()
    }
    tokens = CounterMetricFamily(
        "tailrace_tokens", "tokens as reported; direction is input or output", labels=["app", "model", "direction"]
    )
    for app, model, count, unpriced, usd, read, written, *marks in usage.get("calls", ()):
        numbers = {"calls": count, "calls_unpriced": unpriced, "cost_usd": usd}
        for name, value in {**numbers, **dict(zip(_MARKS, marks, strict=False))}.items():
            _add(families[name], [app, model], value)
        _add(tokens, [app, model, "input"], read)
        _add(tokens, [app, model, "output"], written)
    alerts = CounterMetricFamily(
        "tailrace_alerts",
        "state changes of alerts landed: firing, update, resolved",
        labels=["detector", "severity", "state"],
    )
    for *labels, count in usage.get("alerts", ()):
        alerts.add_metric(labels, float(count))
    yield from (*families.values(), tokens, alerts)


def _add(family: CounterMetricFamily, labels: Sequence[str], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, float(value))


def _processes(pids: dict[str, int]) -> Iterator[Metric]:
    """Memory, processor time and open files of each stage, as the kernel has them; none of one that has just ended."""
    memory, files, cpu = [], [], []
    for name, pid in pids.items():
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                resident, times, opened = process.memory_info().rss, process.cpu_times(), process.num_fds()
        except psutil.Error:
            continue
        memory.append(([name], float(resident)))
        files.append(([name], float(opened)))
        cpu.append((name, times.user + times.system))
    yield _gauge("tailrace_stage_resident_memory_bytes", "memory in RAM", memory, ["stage"])
    yield _gauge("tailrace_stage_open_files", "open file descriptors", files, ["stage"])
    yield _counter("tailrace_stage_cpu_seconds", "processor time", cpu)
