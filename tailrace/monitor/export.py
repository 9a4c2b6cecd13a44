"""Metrics that are sent: OTLP over HTTP with the names of OpenTelemetry's conventions, and DogStatsD.

Both send the numbers that Prometheus scrapes, from the same collector. A setting opens either of them, and only then is
its library imported. What cannot be sent is logged once and is in the next sending: the numbers are totals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from pipelines.land.observed import HISTOGRAMS
from tailrace.home.layout import Home, reported
from tailrace.settings.model import MonitoringSettings

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = structlog.get_logger()
TIMEOUT_S = 5.0
_STARTED = "metrics_since"
_GEN_AI = {
    "duration": ("gen_ai.client.operation.duration", "s", {}),
    "first_chunk": ("gen_ai.client.operation.time_to_first_chunk", "s", {}),
    "input_tokens": ("gen_ai.client.token.usage", "{token}", {"gen_ai.token.type": "input"}),
    "output_tokens": ("gen_ai.client.token.usage", "{token}", {"gen_ai.token.type": "output"}),
}
"""Histogram of land -> name, unit and attributes.
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/"""
_ATTRIBUTES = ("service.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.operation.name")
"""Of the labels app, provider, model and op."""
Usage = Callable[[], Mapping[str, Any]]


class Sender(Protocol):
    """Sends all metrics once."""

    def send(self, metrics: Iterable[Metric], usage: Mapping[str, Any]) -> bool:
        """Return whether they were sent. Does not raise."""
        ...

    def close(self) -> None:
        """Release its resources."""
        ...


class Exporter:
    """Sends to everything that the settings open."""

    def __init__(self, settings: MonitoringSettings, home: Home, collect: Callable[[], Iterable[Metric]]) -> None:
        self._home, self._collect = home, collect
        self._senders: dict[str, Sender] = {}
        if settings.otlp_url:
            self._senders["otlp"] = OtlpSender(settings.otlp_url, since_ns=_since(home))
        if settings.statsd_address:
            self._senders["statsd"] = StatsdSender(settings.statsd_address)
        self._failing: set[str] = set()
        self.sent = dict.fromkeys(self._senders, 0)

    @property
    def wanted(self) -> bool:
        """Whether anything is open."""
        return bool(self._senders)

    def close(self) -> None:
        """Close every sender."""
        for sender in self._senders.values():
            sender.close()

    def send(self) -> None:
        """Send once; log a failure when it begins, and when it is over."""
        metrics = list(self._collect())
        usage = reported(self._home.read_run("land")).details.get("usage") or {}
        for name, sender in self._senders.items():
            if sender.send(metrics, usage):
                self.sent[name] += 1
                if name in self._failing:
                    log.info("metrics_sent_again", to=name)
                self._failing.discard(name)
            elif name not in self._failing:
                self._failing.add(name)
                log.warning("metrics_not_sent", to=name)


class OtlpSender:
    """Sends cumulative sums, gauges and histograms; what is missing in one sending is in the next."""

    def __init__(self, url: str, *, since_ns: int) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        self._exporter = OTLPMetricExporter(endpoint=f"{url.rstrip('/')}/v1/metrics", timeout=TIMEOUT_S)
        self._since_ns = since_ns

    def send(self, metrics: Iterable[Metric], usage: Mapping[str, Any]) -> bool:
        """POST everything in one request; it is tried again by the next sending, so a failure costs ``TIMEOUT_S``."""
        from opentelemetry.sdk.metrics.export import MetricExportResult

        data = otlp_data(metrics, usage, since_ns=self._since_ns, now_ns=time.time_ns())
        result = self._exporter.export(data, timeout_millis=TIMEOUT_S * 1000)
        return bool(result is MetricExportResult.SUCCESS)

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown(timeout_millis=1000)


def otlp_data(metrics: Iterable[Metric], usage: Mapping[str, Any], *, since_ns: int, now_ns: int) -> Any:
    """Return OpenTelemetry's ``MetricsData``: histograms under the GenAI names, everything else as ``tailrace.*``.

    Args:
        metrics: as the collector yields them; their histograms are left out.
        usage: the fact ``usage`` of land.
        since_ns: since when the totals count.
        now_ns: ns since 1970.
    """
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    times: dict[str, Any] = {"start_time_unix_nano": since_ns, "time_unix_nano": now_ns}
    found = [*_histograms(usage, times), *_numbers(metrics, times)]
    scope = export.ScopeMetrics(InstrumentationScope("tailrace"), found, "")
    resource = Resource({"service.name": "tailrace"})
    return export.MetricsData([export.ResourceMetrics(resource, [scope], "")])


def _histograms(usage: Mapping[str, Any], times: Mapping[str, Any]) -> Iterator[Any]:
    """Yield a metric under each GenAI name, of the histograms of ``usage``."""
    from opentelemetry.sdk.metrics import export

    points: dict[tuple[str, str], list[Any]] = {}
    for name, (metric, unit, more) in _GEN_AI.items():
        for labels, values in usage.get(name, ()):
            attributes = {key: text for key, text in zip(_ATTRIBUTES, labels, strict=True) if text}
            points.setdefault((metric, unit), []).append(
                export.HistogramDataPoint(
                    attributes={**attributes, **more},
                    count=int(sum(values[:-1])),
                    sum=values[-1],
                    bucket_counts=[int(count) for count in values[:-1]],
                    explicit_bounds=list(HISTOGRAMS[name][2]),
                    min=None,  # type: ignore[arg-type]  # optional on the wire, and not known
                    max=None,  # type: ignore[arg-type]
                    **times,
                )
            )
    for (metric, unit), found in points.items():
        yield export.Metric(metric, "", unit, export.Histogram(found, export.AggregationTemporality.CUMULATIVE))


def _numbers(metrics: Iterable[Metric], times: Mapping[str, Any]) -> Iterator[Any]:
    """Yield counters as sums and everything else but histograms as gauges."""
    from opentelemetry.sdk.metrics import export

    for family in metrics:
        if family.type == "histogram" or not family.samples:
            continue
        points = [export.NumberDataPoint(dict(sample.labels), value=sample.value, **times) for sample in family.samples]
        counts = family.type == "counter"
        cumulative = export.AggregationTemporality.CUMULATIVE
        data = export.Sum(points, cumulative, True) if counts else export.Gauge(points)
        yield export.Metric(family.name.replace("_", ".", 1), family.documentation, "", data)


class StatsdSender:
    """Sends counters as what they grew by since the last sending, everything else as gauges, over UDP.

    Counters begin with the second sending: what was counted before `up` started is not sent again. Of histograms the
    count and the sum are sent.
    """

    def __init__(self, address: str) -> None:
        from datadog.dogstatsd.base import DogStatsd

        host, _, port = address.rpartition(":")
        self._client = DogStatsd(host=host, port=int(port), namespace="tailrace", disable_telemetry=True)
        self._last: dict[tuple[str, tuple[str, ...]], float] | None = None

    def send(self, metrics: Iterable[Metric], usage: Mapping[str, Any]) -> bool:
        """Send one datagram after the other; UDP has no acknowledgement."""
        totals: dict[tuple[str, tuple[str, ...]], float] = {}
        for name, tags, value, counts in _statsd(metrics):
            if not counts:
                self._client.gauge(name, value, tags=list(tags))
                continue
            totals[name, tags] = value
            grown = value - (self._last or {}).get((name, tags), 0.0)
            if self._last is not None and grown > 0:
                self._client.increment(name, grown, tags=list(tags))
        self._client.flush()
        self._last = totals
        return True

    def close(self) -> None:
        """Close the socket."""
        self._client.stop()
        self._client.close_socket()


def _statsd(metrics: Iterable[Metric]) -> Iterator[tuple[str, tuple[str, ...], float, bool]]:
    """Yield name, tags, value, and whether it is a total."""
    for family in metrics:
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                continue
            counts = family.type in ("counter", "histogram")
            name = sample.name.removeprefix("tailrace_").removesuffix("_total")
            yield (
                name,
                tuple(f"{key}:{_tag(text)}" for key, text in sorted(sample.labels.items()) if text),
                sample.value,
                counts,
            )


def _tag(text: str) -> str:
    """Return a value of a tag without what means something in a datagram."""
    return "".join("_" if c in ",|#:\n" or not c.isprintable() else c for c in text)


def _since(home: Home) -> int:
    """Return since when the totals of this home count, ns: the same after a restart, as the totals are."""
    known = home.read_run(_STARTED)
    if known is None:
        known = {"at_ns": time.time_ns()}
        home.write_run(_STARTED, known)
    return int(known["at_ns"])
