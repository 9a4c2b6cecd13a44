"""Families of metrics about calls, guardrails, dead letters, jobs, drift and budgets, from the run files of stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pipelines.land.observed import COUNTERS, HISTOGRAMS, LABELS

_HISTOGRAMS = {
    "duration": ("tailrace_call_duration_seconds", "request to last byte, as the caller saw it, of user-facing calls"),
    "first_chunk": ("tailrace_call_first_chunk_seconds", "request to first chunk, of user-facing calls"),
    "input_tokens": ("tailrace_call_input_tokens", "input tokens of a call, cached included"),
    "output_tokens": ("tailrace_call_output_tokens", "output tokens of a call, reasoning included"),
}
_COUNTERS = {
    "ends": ("tailrace_call_ends", "user-facing calls landed, by how they ended: ok, error, blocked, cancelled"),
    "guardrails": ("tailrace_guardrail_triggers", "user-facing calls on which a guardrail did anything but pass"),
    "dead": ("tailrace_dead_letters", "records that could not be landed"),
}


def observed(usage: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield histograms and counters of what land has landed; a value that was never reported has no sample."""
    for name, (metric, doc) in _HISTOGRAMS.items():
        bounds = HISTOGRAMS[name][2]
        histogram = HistogramMetricFamily(metric, doc, labels=LABELS)
        for labels, values in usage.get(name, ()):
            if len(labels) == len(LABELS) and len(values) == len(bounds) + 2:
                histogram.add_metric(labels, _cumulative(bounds, values), values[-1])
        yield histogram
    for name, (metric, doc) in _COUNTERS.items():
        counter = CounterMetricFamily(metric, doc, labels=COUNTERS[name])
        for labels, value in usage.get(name, ()):
            if len(labels) == len(COUNTERS[name]):
                counter.add_metric(labels, float(value))
        yield counter


def lake(committed_at: int | None) -> Iterator[Metric]:
    """Yield when land last committed; ticks of meter land every second, whether there is traffic or not."""
    gauge = GaugeMetricFamily(
        "tailrace_lake_last_commit_timestamp_seconds",
        "when land last committed; ticks land every second, also without traffic",
    )
    if committed_at is not None:
        gauge.add_metric([], committed_at / 1e6)
    yield gauge


def jobs(found: Iterable[Sequence[Any]]) -> Iterator[Metric]:
    """Yield when each job was last due, and when its last run ended; a run under way has no end."""
    ended = GaugeMetricFamily(
        "tailrace_job_last_end_timestamp_seconds", "when the last run ended", labels=["batch_job"]
    )
    due = GaugeMetricFamily(
        "tailrace_job_last_due_timestamp_seconds", "last due time that was taken", labels=["batch_job"]
    )
    failed = GaugeMetricFamily(
        "tailrace_job_failed", "1 where the last run that ended here failed", labels=["batch_job"]
    )
    for name, due_at, ended_at, state in found:
        due.add_metric([name], due_at / 1e6)
        if ended_at is not None:
            ended.add_metric([name], ended_at / 1e6)
        if state is not None:
            failed.add_metric([name], float(state == "failed"))
    yield from (ended, due, failed)


def drift(evidence: Iterable[Sequence[Any]]) -> Iterator[Metric]:
    """Yield how sure drift is that the texts of an app have moved."""
    gauge = GaugeMetricFamily(
        "tailrace_drift_evidence_log10",
        "evidence that the texts have moved, power of ten; an alert is raised at 5",
        labels=["app", "side"],
    )
    for app, side, value in evidence:
        gauge.add_metric([app, side], float(value))
    yield gauge


def disks(found: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    """Yield the free and the total space of the disks that hold home and lake."""
    free = GaugeMetricFamily("tailrace_disk_free_bytes", "free space", labels=["place"])
    total = GaugeMetricFamily("tailrace_disk_total_bytes", "size of the file system", labels=["place"])
    for each in found:
        free.add_metric([each["place"]], float(each["free_bytes"]))
        total.add_metric([each["place"]], float(each["total_bytes"]))
    yield from (free, total)


def budgets(limits: Mapping[str, float]) -> Iterator[Metric]:
    """Yield the budgets of the settings; the share that is spent is a recording rule."""
    gauge = GaugeMetricFamily(
        "tailrace_budget_usd",
        "budget of an app for 30 days, USD; the rule tailrace:budget_spent:ratio30d has the share that is spent",
        labels=["app"],
    )
    for app, limit in sorted(limits.items()):
        gauge.add_metric([app], limit)
    yield gauge


def _cumulative(bounds: tuple[float, ...], values: list[float]) -> list[tuple[str, float]]:
    """Return (upper bound, calls up to it) of counts per bucket followed by their sum."""
    total, found = 0.0, []
    for bound, count in zip((*(str(bound) for bound in bounds), "+Inf"), values, strict=False):
        total += count
        found.append((bound, total))
    return found
