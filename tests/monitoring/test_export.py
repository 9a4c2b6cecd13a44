"""OTLP and DogStatsD carry the numbers of the page: a real receiver of each protocol reads them."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from decimal import Decimal

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tailrace.home.layout import Home
from tailrace.monitor.export import Exporter
from tailrace.settings.model import MonitoringSettings
from tests.monitoring.home import Living
from tests.monitoring.prometheus import page


@pytest.fixture
def living(tmp_path):
    living = Living(tmp_path)
    living.page()
    return living


def exporter(living, **settings):
    return closing(Exporter(MonitoringSettings(**settings), Home(living.settings.home), living.collector.collect))


def otlp(living, times=1):
    """What ``times`` exporters of one home send, one after the other, as the last request has it."""
    got = []
    with page(lambda: b"", got.append) as port:
        for _ in range(times):
            with exporter(living, otlp_url=f"http://127.0.0.1:{port}/") as sender:
                sender.send()
                assert sender.sent == {"otlp": 1}
    requests = [ExportMetricsServiceRequest.FromString(body) for body in got]
    return [{m.name: m for m in r.resource_metrics[0].scope_metrics[0].metrics} for r in requests]


def attributes(point):
    return {each.key: each.value.string_value for each in point.attributes}


def test_otlp_has_the_genai_names_units_bounds_and_counts(living):
    (metrics,) = otlp(living)
    usage = living.usage.facts()
    duration = metrics["gen_ai.client.operation.duration"]
    assert duration.unit == "s"
    assert sum(p.count for p in duration.histogram.data_points) == sum(int(row[2]) for row in usage["calls"])
    for point in duration.histogram.data_points:
        assert list(point.explicit_bounds)[:3] == [0.01, 0.02, 0.04]
        assert point.count == sum(point.bucket_counts)
        assert not point.HasField("min")
        assert attributes(point)["gen_ai.provider.name"] == "openai"
        assert attributes(point)["gen_ai.operation.name"] == "chat"
        assert attributes(point)["service.name"] in ("support", "search")
    tokens = metrics["gen_ai.client.token.usage"]
    assert tokens.unit == "{token}"
    totals = {"input": 0.0, "output": 0.0}
    for point in tokens.histogram.data_points:
        totals[attributes(point)["gen_ai.token.type"]] += point.sum
    assert totals == {"input": sum(int(r[5]) for r in usage["calls"]), "output": sum(int(r[6]) for r in usage["calls"])}


def test_otlp_has_every_other_family_as_a_sum_or_a_gauge(living):
    (metrics,) = otlp(living)
    cost = metrics["tailrace.cost_usd"].sum
    assert cost.is_monotonic
    assert sum(p.as_double for p in cost.data_points) == pytest.approx(
        float(sum(Decimal(row[4]) for row in living.usage.facts()["calls"] if row[4]))
    )
    assert metrics["tailrace.stage_lag_records"].gauge.data_points


def test_totals_count_since_the_same_moment_after_a_restart(living):
    first, second = otlp(living, times=2)
    starts = {m["tailrace.calls"].sum.data_points[0].start_time_unix_nano for m in (first, second)}
    assert len(starts) == 1


def test_a_receiver_that_is_away_is_no_end(living, monkeypatch):
    monkeypatch.setattr("tailrace.monitor.export.TIMEOUT_S", 0.3)
    with exporter(living, otlp_url="http://127.0.0.1:9") as sender:
        sender.send()
        assert sender.sent == {"otlp": 0}


def test_dogstatsd_sends_what_counters_grew_by_and_gauges(living):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        with exporter(living, statsd_address=f"127.0.0.1:{server.getsockname()[1]}") as sender:
            sender.send()
            first = lines(server)
            living.page()
            sender.send()
            second = lines(server)
    assert "tailrace.stage_lag_records:3|g|#stage:land" in {line.replace(".0|", "|") for line in first}
    assert not [line for line in first if "|c" in line]
    grown = sum(float(line.split(":")[1].split("|")[0]) for line in second if line.startswith("tailrace.calls:"))
    assert grown == 45  # of 50 records five are no JSON
    assert any(line.startswith("tailrace.call_duration_seconds_count:") for line in second)


def lines(server):
    """All that has arrived: on loopback a datagram is there when it is sent."""
    found = []
    while True:
        found += server.recv(65_536).decode().splitlines()
        server.setblocking(False)
        try:
            server.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return found
        finally:
            server.settimeout(5)


def test_nothing_is_imported_where_nothing_is_open(tmp_path):
    program = (
        "import sys; from pathlib import Path; from tailrace.monitor.export import Exporter; "
        "from tailrace.home.layout import Home; "
        "from tailrace.settings.model import MonitoringSettings; "
        f"assert not Exporter(MonitoringSettings(), Home(Path({str(tmp_path)!r})), list).wanted; "
        "print([n for n in ('opentelemetry', 'datadog', 'great_expectations') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
