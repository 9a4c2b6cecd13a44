"""What meter writes and detect reads: rollups, one row per series and second, and ticks, the only clock downstream.

Integers only (money in nano-USD), so merging is commutative and exact and batch boundaries change nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

ROLLUP_VERSION = 1
SPAN_KEY = "*"
"""Message key of the series that span apps."""
BUCKET_GAMMA = 1.02
"""Growth of the latency buckets: bucket i holds milliseconds in (gamma^(i-1), gamma^i]; bucket 0 is <= 1 ms.
Relative error of a quantile is under (gamma - 1) / (gamma + 1), 1 %. Source: DDSketch, arXiv 1908.10693."""

# headers of a rollups message; identity = (source partition, from, to, part, parts)
H_KIND = "kind"  # b"rollup" or b"tick"
H_PARTITION = "partition"  # source partition of llm.events, decimal text
H_FROM = "from"  # first source offset covered
H_TO = "to"  # next source offset
H_PART = "part"  # "i/n"
H_PRICE_VERSION = "price_version"
H_EPOCH = "epoch"  # of llm.events

DIMENSIONS = (
    "feature",
    "team",
    "tenant",
    "provider",
    "model",
    "response_model",
    "prompt_version",
    "release",
    "variant",
    "user",
)
"""Below ``app``. ``user`` (and any wide one) is bounded by heavy hitters; the rest share OTHER."""
OTHER = "other"
DERIVED = ("input_size",)
"""Dimensions that are no field of the event: the class of the input tokens of a call, of INPUT_SIZES."""
INPUT_SIZES = ((1_000, "to 1k"), (8_000, "1k-8k"), (32_000, "8k-32k"), (128_000, "32k-128k"), (200_000, "128k-200k"))
"""Most input tokens -> class. Above 200,000 providers have other prices and limits, and calls are slower."""
INPUT_LARGEST = "over 200k"
SIGNAL = "signal:"
"""Prefix of exemplar measures, and of what detect counts, followed by side and name: ``signal:output:refusal``."""
SCORED = "scored"
"""In ``signals``: the calls that have a text on this side and were looked at, of which the hits are a share."""

COUNTS = (
    "calls",
    "errors",
    "blocked",
    "refused",
    "truncated",
    "fallbacks",
    "retrievals",
    "empty_retrievals",
    "unpriced",
    "cache_exact",
    "cache_semantic",
    "usage_missing",
    "costs_compared",
    "cost_differs",
)
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
NOT_USER_FACING = ("shadow_calls", "shadow_errors", "shadow_blocked", "shadow_refused")
"""The part of ``calls``, ``errors``, ``blocked`` and ``refused`` that is of shadow and canary variants
(``schemas.variants``); 0 in series of a variant, which count their own calls. Detectors do not read them."""
MAYBE_SUMS = ("retried_calls", "cache_saved_nanousd")
"""Sums that earlier versions did not count: NULL = not known. Calls that are another attempt (``attempt`` above 1), and
what cache reads saved against the price of input tokens; a call without a price saved nothing that is known."""
SUMS = (*COUNTS, *TOKENS, "cost_nanousd", *NOT_USER_FACING, *MAYBE_SUMS)
CALL_GAMMA = 1.1
"""Growth of the buckets of MAYBE_BUCKETS: bucket i holds values in (gamma^(i-1), gamma^i]; bucket 0 is 1."""
MAYBE_BUCKETS = ("call_tokens", "call_cost")
"""Calls by their tokens (input and output) and by their cost (nano-USD), both only above 0. Earlier versions did not
count them: NULL = not known."""

_COUNTED = pa.list_(pa.struct([("name", pa.string()), ("action", pa.string()), ("calls", pa.int64())]))
_BUCKETS = pa.list_(pa.struct([("bucket", pa.int16()), ("calls", pa.int32())]))
_EXEMPLARS = pa.list_(
    pa.struct(
        [
            (
                "measure",
                pa.string(),
            ),  # cost | tokens | hash | latency | cost_differs | guardrail:<name>:<action> | error:<type>
            ("value", pa.int64()),  # nano-USD, tokens, microseconds; 0 where the measure has none
            ("partition", pa.int32()),
            ("offset", pa.int64()),
            ("call_id", pa.string()),
        ]
    )
)

ROLLUP = pa.schema(
    [
        pa.field(
            "dims", pa.string()
        ),  # "", "app", "app,user", "tenant" ...: names joined by a comma, in the fixed order
        pa.field("series", pa.string()),  # compact JSON object in the order of dims: {"app":"bot","user":"u1"}
        pa.field("second", pa.int64()),  # event time, whole seconds since 1970 UTC
        *[pa.field(name, pa.int64()) for name in SUMS],
        pa.field("guardrails", _COUNTED),  # triggers: every action but pass
        pa.field("error_types", _COUNTED),  # name = error type, action = status
        pa.field(
            "signals", _COUNTED
        ),  # name = text signal or SCORED, action = side; calls that are hits, or were scored
        pa.field("latency", _BUCKETS),
        pa.field("ttft", _BUCKETS),
        *[pa.field(name, _BUCKETS) for name in MAYBE_BUCKETS],
        pa.field("exemplars", _EXEMPLARS),
    ]
)


def completed(table: pa.Table) -> pa.Table:
    """Return a rollup in the columns of ROLLUP: what an earlier version did not count is 0, NULL, or an empty list.

    Raises:
        KeyError: another column is missing.
        pa.ArrowException: a column has another type.
    """
    if table.schema.equals(ROLLUP):  # as meter writes it today: casting costs more than all other reading
        return table
    for name in SUMS:
        if name not in table.column_names:
            missing = pa.scalar(None if name in MAYBE_SUMS else 0, pa.int64())
            table = table.append_column(name, pa.repeat(missing, table.num_rows))
    if "signals" not in table.column_names:
        none = pa.array([[]] * table.num_rows, ROLLUP.field("signals").type)
        table = table.append_column("signals", none)
    for name in MAYBE_BUCKETS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, _BUCKETS))
    return table.select(ROLLUP.names).cast(ROLLUP)


class SourceTick(msgspec.Struct, frozen=True):
    """How far meter has read one partition of llm.events."""

    next_offset: int
    max_ts: int
    """Greatest event time seen, µs UTC, each at most the time its record was appended; 0 = none yet."""
    kafka_time: int
    """When the last record was appended, µs UTC; 0 = none yet. Where the broker does not set the time of records
    (``message.timestamp.type=CreateTime``): the greatest time of a record so far, at most meter's wall time."""
    busy_wall: int
    """Wall time when a record was last read, µs UTC: idle for 10 s leaves the watermark."""


class Tick(msgspec.Struct, frozen=True):
    """Written to every partition of llm.rollups at least once a second, in meter's transactions."""

    wall: int
    """meter's wall time, µs UTC."""
    sources: dict[int, SourceTick]
    slot: str = "0"
    """The copy of meter that wrote the tick; ``sources`` are its own partitions only."""
    epoch: int = 0
    """Of llm.events, as the lake's ledger has it."""
    topic_id: str = ""
    """Kafka's id of llm.events; empty in ticks of meters before 0.2."""

    def to_json(self) -> bytes:
        """Encode for the wire."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> Tick:
        """Decode; raises msgspec.ValidationError on anything else."""
        return msgspec.json.decode(data, type=Tick)


def series_key(pairs: dict[str, str]) -> tuple[str, str]:
    """Return (dims, series) of ``pairs``, whose order is app first, then DIMENSIONS."""
    return ",".join(pairs), msgspec.json.encode(pairs).decode()


def series_pairs(series: str) -> dict[str, str]:
    """Inverse of ``series_key``'s second part."""
    pairs: dict[str, Any] = msgspec.json.decode(series)
    return {k: str(v) for k, v in pairs.items()}


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One text on llm.samples, chosen by a hash of the call id; redacted."""

    call_id: str
    app: str
    side: str
    """input, output or query."""
    text: str
    ts: int
    """Event time, µs UTC."""
    partition: int
    """Source position in llm.events."""
    offset: int
    epoch: int = 0
    rate: float = 1.0
    """Share of calls sampled in this block."""
    feature: str | None = None
    model: str | None = None
    tenant: str | None = None
    user: str | None = None
    prompt_version: str | None = None


EMBEDDING = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("app", pa.string()),
        pa.field("feature", pa.string()),
        pa.field("model", pa.string()),  # of the call
        pa.field("side", pa.string()),
        pa.field("ts", pa.timestamp("us", tz="UTC")),
        pa.field("source_partition", pa.int32()),
        pa.field("source_offset", pa.int64()),
        pa.field("embedding_model", pa.string()),
        pa.field("scale", pa.float32()),  # vector = int8 * scale
        pa.field("vector", pa.list_(pa.int8())),
        pa.field("chars", pa.int32()),
        pa.field("words", pa.int32()),
        pa.field("features", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float32())]))),
        pa.field("text", pa.string()),  # redacted, cut to 500 characters: the exemplars of drift
    ]
)
