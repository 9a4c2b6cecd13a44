"""Messages between stages as rows of the lake: rollups, ticks, embeddings, alerts, deliveries, log. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa

from schemas import tables as lake
from schemas.alerts import Alert, Delivery, LogRecord
from schemas.errors import UNREADABLE, PoisonError
from schemas.records import Record, Records
from schemas.rollups import (
    EMBEDDING,
    H_EPOCH,
    H_FROM,
    H_KIND,
    H_PART,
    H_PARTITION,
    H_PRICE_VERSION,
    H_TO,
    ROLLUP,
    Tick,
    completed,
)
from schemas.topics import ALERTS, DELIVERIES, EMBEDDINGS, LOG, ROLLUPS

Row = dict[str, Any]
_START = datetime(1970, 1, 1, tzinfo=UTC)


class BadMessageError(PoisonError):
    """A stage of ours wrote what land does not understand."""

    def __init__(self, record: Record, reason: str, detail: str) -> None:
        self.record = record
        self.reason = reason
        self.detail = detail
        super().__init__(f"cannot land {record.topic}[{record.partition}]@{record.offset}: {reason}: {detail}")


def land_rows(records: Records, *, epoch: int, landed_at: int) -> dict[str, pa.Table]:
    """Return table name -> rows of a batch of any topic but llm.events; what cannot be read goes to ``dead``."""
    read = _READERS[records.topic]
    parts: dict[str, list[pa.Table]] = {}
    dead: list[BadMessageError] = []
    for record in records.rows():
        try:
            table, rows = read(record)
        except BadMessageError as error:
            dead.append(error)
            continue
        # for example a number in a header that its column cannot hold
        except (pa.ArrowException, *UNREADABLE) as error:
            reason = "range:time" if isinstance(error, OverflowError) else "range"  # a time beyond the year 9999
            dead.append(BadMessageError(record, reason, str(error)[:200]))
            continue
        if rows is not None:
            parts.setdefault(table.name, []).append(_with_position(rows, table, record, epoch, landed_at))
    landed = {name: pa.concat_tables(rows) for name, rows in parts.items()}
    return {**landed, **dead_rows(dead, epoch=epoch, landed_at=landed_at)}


def dead_rows(errors: Sequence[BadMessageError], *, epoch: int, landed_at: int) -> dict[str, pa.Table]:
    """Return the rows of ``dead`` and ``dead_bytes`` for records that cannot be landed."""
    if not errors:
        return {}
    dead, original = [], []
    for error in errors:
        record = error.record
        value = record.value or b""
        position = {
            "topic": record.topic,
            "_epoch": epoch,
            "_partition": record.partition,
            "_offset": record.offset,
            "_kafka_time": _time(record.kafka_time),
            "day": _day(record.kafka_time),
        }
        facts = {"reason": error.reason, "detail": error.detail, "size": len(value), "_landed_at": _time(landed_at)}
        dead.append({**position, **facts, "sha256": hashlib.sha256(value).hexdigest()})
        original.append({**position, "bytes": record.value, "key": record.key})
    return {
        "dead": pa.Table.from_pylist(dead, schema=lake.DEAD.schema),
        "dead_bytes": pa.Table.from_pylist(original, schema=lake.DEAD_BYTES.schema),
    }


def _rollup(record: Record) -> tuple[lake.Table, pa.Table]:
    headers = dict(record.headers)
    kind = headers.get(H_KIND, b"")
    if kind == b"tick":
        return lake.TICKS, _row(record, lake.TICKS, _tick(record))
    if kind != b"rollup":
        raise BadMessageError(record, "unknown_type", f"header {H_KIND} is {kind[:20]!r}")
    rows = _ipc(record, ROLLUP, completed)
    try:
        source: Row = {
            "source_epoch": int(headers.get(H_EPOCH, b"0")),
            "source_partition": int(headers[H_PARTITION]),
            "source_from": int(headers[H_FROM]),
            "source_to": int(headers[H_TO]),
            "part": headers[H_PART].decode(),
            "price_version": headers.get(H_PRICE_VERSION, b"").decode(),
            "key": (record.key or b"").decode(),
        }
    except (KeyError, ValueError) as error:
        raise BadMessageError(record, "type:headers", str(error)) from error
    return lake.ROLLUPS, _constant(rows, lake.ROLLUPS, source)


def _tick(record: Record) -> Row:
    tick = _json(record, Tick)
    sources = [{"partition": p, **msgspec.structs.asdict(s)} for p, s in sorted(tick.sources.items())]
    return {"wall": _time(tick.wall), "slot": tick.slot, "sources": sources}


def _embedding(record: Record) -> tuple[lake.Table, pa.Table]:
    return lake.EMBEDDINGS, _ipc(record, EMBEDDING)


def _alert(record: Record) -> tuple[lake.Table, pa.Table]:
    alert = _json(record, Alert)
    try:
        times = {
            "window_start": datetime.fromisoformat(alert.window.start),
            "window_end": datetime.fromisoformat(alert.window.end),
            "detected_at": datetime.fromisoformat(alert.detected_at),
        }
    except ValueError as error:
        raise BadMessageError(record, "type:time", str(error)) from error
    plain = {name: getattr(alert, name) for name in _ALERT_PLAIN}
    series = msgspec.json.encode(alert.series).decode()
    evidence = {"sql": alert.evidence.sql, "call_ids": list(alert.evidence.call_ids)}
    whole = (record.value or b"").decode()
    return lake.ALERTS, _row(record, lake.ALERTS, {**plain, **times, **evidence, "series": series, "alert": whole})


_ALERT_PLAIN = (
    *("id", "seq", "fingerprint", "detector", "rule", "severity", "state"),
    *("observed", "expected", "score", "unit", "title", "late"),
)


def _delivery(record: Record) -> tuple[lake.Table, pa.Table | None]:
    if record.value is None:  # a tombstone of the compacted topic has no content
        return lake.DELIVERIES, None
    row = msgspec.structs.asdict(_json(record, Delivery))
    row["at"] = _time(row["at"])
    row["retry_at"] = None if row["retry_at"] is None else _time(row["retry_at"])
    return lake.DELIVERIES, _row(record, lake.DELIVERIES, row)


def _log(record: Record) -> tuple[lake.Table, pa.Table]:
    entry = _json(record, LogRecord)
    row = {"table": entry.table, "at": _time(entry.at), "row": msgspec.json.encode(entry.row).decode()}
    return lake.LOG_RECORDS, _row(record, lake.LOG_RECORDS, row)


_READERS: Mapping[str, Callable[[Record], tuple[lake.Table, pa.Table | None]]] = {
    ROLLUPS: _rollup,
    EMBEDDINGS: _embedding,
    ALERTS: _alert,
    DELIVERIES: _delivery,
    LOG: _log,
}


def _json(record: Record, kind: Any) -> Any:
    try:
        return msgspec.json.decode(record.value or b"", type=kind)
    except UNREADABLE as error:
        raise BadMessageError(record, "not_json", str(error)[:200]) from error


def _ipc(record: Record, schema: pa.Schema, shaped: Callable[[pa.Table], pa.Table] | None = None) -> pa.Table:
    try:
        with pa.ipc.open_stream(record.value or b"") as reader:
            table = reader.read_all()
        table.validate(full=True)
        return shaped(table) if shaped else table.select(schema.names).cast(schema)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise BadMessageError(record, "type:arrow", str(error).splitlines()[0][:200]) from error


def _row(record: Record, table: lake.Table, row: Row) -> pa.Table:
    try:
        return pa.Table.from_pylist([row], schema=pa.schema([f for f in table.schema if f.name in row]))
    except (pa.ArrowException, OverflowError) as error:
        raise BadMessageError(record, "range", str(error)[:200]) from error


def _constant(rows: pa.Table, table: lake.Table, values: Row) -> pa.Table:
    for name, value in values.items():
        field = table.schema.field(name)
        rows = rows.append_column(field, pa.repeat(pa.scalar(value, field.type), rows.num_rows))
    return rows


def _with_position(rows: pa.Table, table: lake.Table, record: Record, epoch: int, landed_at: int) -> pa.Table:
    position: Row = {
        "_epoch": epoch,
        "_partition": record.partition,
        "_offset": record.offset,
        "_kafka_time": _time(record.kafka_time),
        "_landed_at": _time(landed_at),
        "day": _day(record.kafka_time),
    }
    return _constant(rows, table, position)


def _time(microseconds: int) -> datetime:
    return _START + timedelta(microseconds=microseconds)


def _day(microseconds: int) -> date:
    return _time(microseconds).date()
