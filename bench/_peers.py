"""The two prototypes that land is measured against: Kafka -> DuckLake, prices joined.

``bare``: read_json of joined lines inside the INSERT; nothing is checked. ``strict``: msgspec checks every line first,
then json_transform_strict in the INSERT. Offsets move in the same transaction. Neither keeps positions, dead letters,
duplicates or exact rounding: they say what the libraries allow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import confluent_kafka as ck
import duckdb
import msgspec
import pyarrow as pa

from tailrace_emitter.event import AnyEvent
from warehouse.storage.connect import LakeConfig, connect

BATCH = 50_000
BATCH_BYTES = 64 << 20
COLUMNS = {
    "v": "INTEGER",
    "type": "VARCHAR",
    "id": "UUID",
    "ts": "TIMESTAMPTZ",
    "app": "VARCHAR",
    "model": "VARCHAR",
    "feature": "VARCHAR",
    "team": "VARCHAR",
    "tenant": "VARCHAR",
    "user": "VARCHAR",
    "status": "VARCHAR",
    "finish_reason": "VARCHAR",
    "release": "VARCHAR",
    "latency": "STRUCT(total_ms DOUBLE, ttft_ms DOUBLE)",
    "tokens": 'STRUCT("input" BIGINT, "output" BIGINT, cache_read BIGINT)',
    "prompt": 'STRUCT("name" VARCHAR, "version" VARCHAR)',
    "content": 'STRUCT("mode" VARCHAR, "input" STRUCT("role" VARCHAR, "text" VARCHAR)[], "output" VARCHAR)',
    "guardrails": 'STRUCT("name" VARCHAR, stage VARCHAR, "action" VARCHAR)[]',
}
_SELECT = """
SELECT e.id, e.ts, e.app, e.model, e.feature, e.team, e.tenant, e."user", e.status, e.finish_reason, e.release,
  e.latency.total_ms, e.latency.ttft_ms, e.tokens."input", e.tokens."output", e.tokens.cache_read,
  e.prompt."name", e.prompt."version", e.content."mode", e.content."input", e.content."output", e.guardrails,
  ((e.tokens."input" - e.tokens.cache_read) * p.asked + e.tokens.cache_read * p.cached
    + e.tokens."output" * p.said)::DECIMAL(18, 9)
"""
_TABLE = """
CREATE TABLE calls (id UUID, ts TIMESTAMPTZ, app VARCHAR, model VARCHAR, feature VARCHAR, team VARCHAR, tenant VARCHAR,
  "user" VARCHAR, status VARCHAR, finish_reason VARCHAR, release VARCHAR, latency_ms DOUBLE, ttft_ms DOUBLE,
  input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT, prompt_name VARCHAR, prompt_version VARCHAR,
  content_mode VARCHAR, messages STRUCT("role" VARCHAR, "text" VARCHAR)[], output_text VARCHAR,
  guardrails STRUCT("name" VARCHAR, stage VARCHAR, "action" VARCHAR)[], cost_usd DECIMAL(18, 9))
"""
_PRICES = [
    ("gpt-4o", 2.5e-6, 1.25e-6, 1e-5),
    ("claude-sonnet-4-5", 3e-6, 3e-7, 1.5e-5),
    ("gemini-2.5-pro", 1.25e-6, 1.25e-7, 1e-5),
]
Insert = Callable[[duckdb.DuckDBPyConnection, Sequence[bytes], int], None]


def run(insert: Insert, bootstrap: str, topic: str, folder: Path) -> tuple[int, float, float]:
    """Move ``topic`` into a new lake; return (events, seconds, CPU seconds), set-up left out."""
    folder.mkdir(exist_ok=True)
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    connection = connect(config, create=True)
    connection.execute("CALL lake.set_option('parquet_compression', 'zstd')")
    connection.execute("CALL lake.set_option('parquet_compression_level', '1')")
    connection.execute(_TABLE)
    connection.execute("CREATE TABLE offsets (part INTEGER, upto BIGINT)")
    connection.execute("CALL lake.set_option('data_inlining_row_limit', 1000, table_name => 'offsets')")
    connection.execute("CREATE TABLE memory.main.prices (model VARCHAR, asked DOUBLE, cached DOUBLE, said DOUBLE)")
    connection.executemany("INSERT INTO memory.main.prices VALUES (?, ?, ?, ?)", _PRICES)
    consumer = ck.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "peer",
            "enable.auto.commit": False,
            "fetch.min.bytes": 1,
            "queued.max.messages.kbytes": 131_072,
            "log_level": 0,
        }
    )
    partitions = consumer.list_topics(topic, 20).topics[topic].partitions
    ends = {p: consumer.get_watermark_offsets(ck.TopicPartition(topic, p), 20)[1] for p in partitions}
    connection.executemany("INSERT INTO offsets VALUES (?, 0)", [(p,) for p in partitions])
    consumer.assign([ck.TopicPartition(topic, p, 0) for p in partitions])
    total, stands, number = sum(ends.values()), dict.fromkeys(partitions, 0), 0
    began, cpu = time.perf_counter(), time.process_time()
    while sum(stands.values()) < total:
        values = _batch(consumer, stands, total)
        connection.execute("BEGIN")
        insert(connection, values, number)
        moved = ", ".join(f"({p}, {upto})" for p, upto in stands.items())
        connection.execute(
            f"UPDATE offsets SET upto = m.upto FROM (VALUES {moved}) m(part, upto) WHERE offsets.part = m.part"
        )
        connection.execute("COMMIT")
        number += 1
    took = time.perf_counter() - began, time.process_time() - cpu
    (rows,) = connection.execute("SELECT count(*) FROM calls").fetchone() or (0,)
    assert rows == total, f"{rows} rows of {total} events"
    consumer.close()
    return total, *took


def _batch(consumer: ck.Consumer, stands: dict[int, int], total: int) -> list[bytes]:
    values: list[bytes] = []
    size = 0
    while len(values) < BATCH and size < BATCH_BYTES and sum(stands.values()) < total:
        for message in consumer.consume(min(20_000, BATCH - len(values)), 0.2):
            if message.error():
                raise ck.KafkaException(message.error())
            value, partition, offset = message.value(), message.partition(), message.offset()
            assert value is not None
            assert partition is not None
            assert offset is not None
            values.append(value)
            size += len(value)
            stands[partition] = offset + 1
    return values


def bare(connection: duckdb.DuckDBPyConnection, values: Sequence[bytes], number: int) -> None:
    """Join the lines into a file in memory and let the INSERT read it. File names rotate: DuckDB may still read one."""
    path = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp") / f"tailrace-bench-{os.getpid()}-{number % 3}.json"
    path.write_bytes(b"\n".join(values))
    kinds = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    try:
        connection.execute(
            f"INSERT INTO calls {_SELECT} FROM read_json('{path}', format = 'newline_delimited', "
            f"columns = {{{kinds}}}) e LEFT JOIN memory.main.prices p ON p.model = e.model"
        )
    finally:
        path.unlink()


_check = msgspec.json.Decoder(AnyEvent).decode
_KINDS = {
    "STRUCT(total_ms DOUBLE, ttft_ms DOUBLE)": {"total_ms": "DOUBLE", "ttft_ms": "DOUBLE"},
    'STRUCT("input" BIGINT, "output" BIGINT, cache_read BIGINT)': dict.fromkeys(
        ("input", "output", "cache_read"), "BIGINT"
    ),
    'STRUCT("name" VARCHAR, "version" VARCHAR)': dict.fromkeys(("name", "version"), "VARCHAR"),
    'STRUCT("mode" VARCHAR, "input" STRUCT("role" VARCHAR, "text" VARCHAR)[], "output" VARCHAR)': {
        "mode": "VARCHAR",
        "input": [dict.fromkeys(("role", "text"), "VARCHAR")],
        "output": "VARCHAR",
    },
    'STRUCT("name" VARCHAR, stage VARCHAR, "action" VARCHAR)[]': [
        dict.fromkeys(("name", "stage", "action"), "VARCHAR")
    ],
}
_SHAPE = msgspec.json.encode({name: _KINDS.get(kind, kind) for name, kind in COLUMNS.items()}).decode()


def strict(connection: duckdb.DuckDBPyConnection, values: Sequence[bytes], _number: int) -> None:
    """Check every line against the struct, then let the INSERT parse again, strictly."""
    for value in values:
        _check(value)
    batch = pa.table({"value": pa.array(values, pa.binary()).cast(pa.string())})
    connection.register("batch", batch)
    connection.execute(
        f"INSERT INTO calls {_SELECT} FROM (SELECT json_transform_strict(value, '{_SHAPE}') AS e FROM batch) "
        "LEFT JOIN memory.main.prices p ON p.model = e.model"
    )
    connection.unregister("batch")
