"""What one recorded call costs the app's thread, next to an OpenTelemetry span with the same attributes.

Paced at 1,000 calls a second, rounds interleaved. The emitter's broker is a closed port: its background thread
encodes and produces all the same. The span goes to a BatchSpanProcessor whose exporter writes JSON and drops it.
Run: ``make bench-emitter``; ``QUICK=1`` for the short form. The last line is one JSON object.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

RATE = 1_000
ROUNDS = 3 if os.environ.get("QUICK") else 7
CALLS = 3_000 if os.environ.get("QUICK") else 10_000
INPUT = "How do I change the address of my subscription? I moved to another town last week. " * 4
OUTPUT = "Open the settings, choose Billing, then Address, and save. It holds from the next invoice on. " * 6


def machine() -> str:
    names = ("tailrace-emitter", "confluent-kafka", "msgspec", "opentelemetry-sdk")
    versions = " ".join(f"{n} {importlib.metadata.version(n)}" for n in names)
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d} {platform.machine()} {os.cpu_count()} cpus, load {load:.1f}, "
        f"Python {platform.python_version()}, {versions}"
    )


def record_call(emitter: Any) -> None:
    emitter.call(
        "gpt-4o",
        provider="openai",
        response_model="gpt-4o-2024-08-06",
        feature="support",
        tenant="t-17",
        session_id="c-4711",
        input_tokens=420,
        output_tokens=97,
        cache_read_tokens=128,
        latency_ms=812.4,
        ttft_ms=210.0,
        temperature=0.2,
        finish_reason="stop",
        input=INPUT,
        output=OUTPUT,
    )


def record_span(tracer: Any) -> None:
    span = tracer.start_span("chat gpt-4o")
    span.set_attributes(
        {
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.provider.name": "openai",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "feature": "support",
            "tenant": "t-17",
            "gen_ai.conversation.id": "c-4711",
            "gen_ai.usage.input_tokens": 420,
            "gen_ai.usage.output_tokens": 97,
            "gen_ai.usage.cache_read.input_tokens": 128,
            "latency_ms": 812.4,
            "gen_ai.response.time_to_first_chunk": 0.21,
            "gen_ai.request.temperature": 0.2,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.input.messages": INPUT,
            "gen_ai.output.messages": OUTPUT,
        }
    )
    span.end()


def tracer_of() -> tuple[Any, Any]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class ToJson(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            for span in spans:
                span.to_json()
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ToJson()))
    return provider, provider.get_tracer("bench")


def paced(record: Any, subject: Any) -> list[float]:
    """Microseconds of each call; each waits for its own moment, so a slow one does not excuse the next."""
    took: list[float] = []
    begun = time.perf_counter()
    for i in range(CALLS):
        wait = begun + i / RATE - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        at = time.perf_counter_ns()
        record(subject)
        took.append((time.perf_counter_ns() - at) / 1000)
    return took


def import_ms() -> float:
    code = "import time; t = time.perf_counter(); import tailrace_emitter; print((time.perf_counter() - t) * 1e3)"
    runs = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(5)]
    return statistics.median(runs)


def quantiles(took: list[float]) -> tuple[float, float]:
    ordered = sorted(took)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def main() -> None:
    from tailrace_emitter import Emitter

    print(machine())
    # a queue that never fills: a full one drops before encoding, and would spare us the very work to be measured
    emitter = Emitter("bench", bootstrap_servers="127.0.0.1:9", queue_max=1_000_000, sigterm=False)
    provider, tracer = tracer_of()
    for _ in range(200):
        record_call(emitter)
        record_span(tracer)
    time.sleep(1)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        pairs = [(ours, record_call, emitter), (theirs, record_span, tracer)]
        for found, record, subject in pairs if number % 2 == 0 else reversed(pairs):
            found.append(quantiles(paced(record, subject)))
            time.sleep(0.3)
        print(f"round {number}: emitter p50 {ours[-1][0]:.1f} p99 {ours[-1][1]:.1f} us, "
              f"span p50 {theirs[-1][0]:.1f} p99 {theirs[-1][1]:.1f} us")  # fmt: skip
    stats = emitter.stats()
    median = statistics.median
    p50, otel = median([q[0] for q in ours]), median([q[0] for q in theirs])
    result = {
        "p50_us": round(p50, 2),
        "p99_us": round(median([q[1] for q in ours]), 2),
        "otel_p50_us": round(otel, 2),
        "otel_p99_us": round(median([q[1] for q in theirs]), 2),
        "vs_otel": round(p50 / otel, 3),
        "import_ms": round(import_ms(), 1),
        # at the door, because the thread did not keep up; what the dead broker refuses later is not the app's
        "dropped": stats["dropped"].get("queue_full", 0),
        "spread": [round(f([q[0] for q in ours]), 2) for f in (min, median, max)],
    }
    emitter.close(0)
    provider.shutdown()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
