"""A batch of records in, Arrow tables out: the two forms that land and meter call. Pure; good rows and dead ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.decode.check import admit
from pipelines.decode.columns import parse, parse_metered
from pipelines.decode.dead import dead_tables
from pipelines.decode.duplicate_window import DuplicateWindow
from pipelines.decode.reasons import (
    CLAMPED,
    CLOCK_SKEW,
    CREATE_TIME,
    PSEUDONYMISED,
    REDACTED,
    TOKEN_MISMATCH,
    UNKNOWN_FIELD,
    Reject,
)
from pipelines.decode.redact import Redaction, pseudonymise, redact
from pipelines.decode.rules import add, encode
from pipelines.pricing.book import DAY_US, PriceBooks, is_plausible
from pipelines.pricing.flags import COST_DIFFERS, USAGE_MISSING
from pipelines.pricing.price import comparable, differing, mismatched, nanousd, price, put, usage_missing
from pipelines.pricing.unit_costs import with_unit_columns
from schemas.arrow import CALLS, EVALS, FEEDBACK, MONEY, TIME
from schemas.records import Records, marked
from schemas.rollups import DIMENSIONS
from schemas.topics import HISTORY_HEADER
from tailrace_emitter.event import Call, Eval, Event, Feedback

_SCHEMAS: dict[type[Event], pa.Schema] = {Call: CALLS, Feedback: FEEDBACK, Eval: EVALS}
_TAGS = pa.list_(pa.string())
_TEXT_COLUMNS = ("input_text", "output_text", "retrieval_query")
_TEXTS = pa.schema(
    [
        ("row", pa.int64()),
        *((name, pa.string()) for name in _TEXT_COLUMNS),
        ("documents", pa.list_(pa.string())),
    ]
)

METERED = pa.schema(
    [
        ("id", pa.string()),
        ("ts", TIME),
        ("app", pa.string()),
        *[(name, pa.string()) for name in DIMENSIONS],
        *[(f"{n}_tokens", pa.int64()) for n in ("input", "output", "cache_read", "cache_write", "reasoning")],
        ("cost_usd", MONEY),
        ("cost_nanousd", pa.int64()),
        ("cache_saved_nanousd", pa.int64()),
        *[(name, pa.string()) for name in ("cost_status", "price_version", "status", "error_type")],
        ("cost_compared", pa.bool_()),
        ("cost_differs", pa.bool_()),
        ("refused", pa.bool_()),
        *[(name, pa.string()) for name in ("finish_reason", "fallback_from", "answer_cache")],
        ("attempt", pa.int16()),
        ("usage_reported", pa.bool_()),
        ("retrieval", pa.bool_()),
        ("retrieval_docs_count", pa.int32()),
        ("guardrails", pa.list_(pa.struct([("name", pa.string()), ("action", pa.string())]))),
        ("latency_ms", pa.float64()),
        ("ttft_ms", pa.float64()),
        *[(name, pa.string()) for name in ("fingerprint", "tools_hash", "config_version")],
        ("_epoch", pa.int32()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_kafka_time", TIME),
        ("skewed", pa.bool_()),
    ]
)
"""What meter gets of each call that is neither dead nor a duplicate.

``status`` is never NULL, ``retrieval`` means that one was done, ``retrieval_docs_count`` 0 that it returned nothing,
``skewed`` that ts is too far from _kafka_time,
``cost_compared`` that there is a reported cost and a computed one, ``cost_differs`` that they differ."""


@dataclass(frozen=True)
class Decoded:
    """One batch as it lands: schemas CALLS, FEEDBACK, EVALS, DEAD and DEAD_BYTES of ``schemas.arrow``."""

    calls: pa.Table
    feedback: pa.Table
    evals: pa.Table
    dead: pa.Table
    dead_bytes: pa.Table
    dups: int = 0
    unknown_fields: int = 0
    """Rows with a flag ``unknown_field:...``."""

    @property
    def accepted(self) -> int:
        """Rows that landed and are not dead, duplicates included."""
        return int(self.calls.num_rows + self.feedback.num_rows + self.evals.num_rows)

    def tables(self) -> dict[str, pa.Table]:
        """Return lake table name -> rows; empty ones are left out."""
        named = {
            "raw_calls": self.calls,
            "raw_feedback": self.feedback,
            "raw_evals": self.evals,
            "dead": self.dead,
            "dead_bytes": self.dead_bytes,
        }
        return {name: table for name, table in named.items() if table.num_rows}


@dataclass(frozen=True)
class Metered:
    """One batch as it is counted: schema METERED, and the texts of chosen rows on request."""

    table: pa.Table
    dead: int = 0
    dups: int = 0
    feedback: int = 0
    evals: int = 0
    history: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(n,) rows of ``table`` that were sent as history."""
    _values: list[bytes | None] = field(default_factory=list, repr=False)
    _rules: Redaction = field(default_factory=Redaction, repr=False)

    def texts(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> pa.Table:
        """Return (row, input_text, output_text, retrieval_query, documents) of some rows of ``table``, redacted.

        Only these rows are decoded again, so rows that are not sampled cost nothing.
        """
        picked = [int(row) for row in rows]
        lines, documents = list[bytes](), list[list[str]]()
        for row in picked:
            found = admit(self._values[row])
            assert not isinstance(found, Reject)  # admitted once, admitted always
            event, line, _ = found
            lines.append(line if redact(event, self._rules) is None else encode(event))
            retrieval = event.retrieval if type(event) is Call else None
            documents.append([doc.text for doc in (retrieval and retrieval.docs) or () if doc.text])
        if not lines:
            return _TEXTS.empty_table()
        texts = parse(lines, Call).select(list(_TEXT_COLUMNS)).add_column(0, "row", pa.array(picked, pa.int64()))
        return texts.append_column("documents", pa.array(documents, _TEXTS.field("documents").type)).cast(_TEXTS)


@dataclass(slots=True)
class _Rows:
    """Rows of one event type on their way: row i of every list is one event."""

    lines: list[bytes] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    """Index into the batch."""
    dup: list[bool] = field(default_factory=list)
    flags: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Row -> flags, only where there are some."""


def decode(
    records: Records,
    prices: PriceBooks,
    seen: DuplicateWindow,
    *,
    epoch: int,
    landed_at: int,
    rules: Redaction | None = None,
) -> Decoded:
    """Turn one batch of llm.events into what lands; an invalid event becomes one row of ``dead``; the others land.

    Args:
        records: the batch; offsets ascend within a partition.
        prices: books by LogAppendTime.
        seen: duplicates; moves with the batch. Decoding the same batch again gives the same tables.
        epoch: of the topic.
        landed_at: µs UTC, passed in by the stage.
        rules: redaction at ingest; the default redacts what no emitter marked.

    Raises:
        DuplicateWindowLostError: the batch begins before the window of ``seen``; start and feed it again.
    """
    rules = rules or Redaction()
    kinds: dict[type[Event], _Rows] = {Call: _Rows(), Feedback: _Rows(), Eval: _Rows()}
    dead: list[tuple[int, Reject]] = []
    mark = seen.mark
    for i, value in enumerate(records.values):
        found = admit(value)
        if isinstance(found, Reject):
            dead.append((i, found))
            continue
        event, line, flags = found
        rows = kinds[type(event)]
        if rules.people and pseudonymise(event, rules.people):
            line = encode(event)
            flags = add(flags, PSEUDONYMISED)
        if (personal := redact(event, rules)) is not None:
            line = encode(event)
            if personal:
                flags = add(flags, REDACTED)
        if flags:
            rows.flags[len(rows.at)] = flags
        rows.lines.append(line)
        rows.at.append(i)
        rows.dup.append(mark(records.partitions[i], records.offsets[i], event.id.int))
    calls, feedback, evals = (
        _land(kind, rows, records, prices, epoch=epoch, landed_at=landed_at) for kind, rows in kinds.items()
    )
    dead_rows = dead_tables(records, dead, epoch=epoch, landed_at=landed_at, rules=rules)
    dups = sum(sum(rows.dup) for rows in kinds.values())
    return Decoded(calls, feedback, evals, *dead_rows, dups=dups, unknown_fields=sum(map(_unknown, kinds.values())))


def decode_metered(
    records: Records, prices: PriceBooks, seen: DuplicateWindow, *, epoch: int, rules: Redaction | None = None
) -> Metered:
    """Turn one batch of llm.events into what is counted: the verdict, prices and duplicates of ``decode``.

    Args and Raises as ``decode``. Texts are neither parsed nor redacted unless ``Metered.texts`` is called.
    """
    rows = _Rows()
    people = rules.people if rules else None
    dead = dups = feedback = evals = 0
    mark = seen.mark
    for i, value in enumerate(records.values):
        found = admit(value)
        if isinstance(found, Reject):
            dead += 1
            continue
        event = found[0]
        if mark(records.partitions[i], records.offsets[i], event.id.int):
            dups += 1
        elif type(event) is Call:
            changed = people is not None and pseudonymise(event, people)
            rows.lines.append(encode(event) if changed else found[1])
            rows.at.append(i)
        elif type(event) is Feedback:
            feedback += 1
        else:
            evals += 1
    table = _count(rows, records, prices, epoch)
    values = [records.values[i] for i in rows.at]
    return Metered(table, dead, dups, feedback, evals, _history(rows, records), values, rules or Redaction())


def _land(
    kind: type[Event], rows: _Rows, records: Records, prices: PriceBooks, *, epoch: int, landed_at: int
) -> pa.Table:
    schema = _SCHEMAS[kind]
    if not rows.lines:
        return schema.empty_table()
    table, skewed = _dated(_positioned(parse(rows.lines, kind), rows, records, epoch), rows, records)
    if kind is Call:
        table, differs = with_unit_columns(table)
        table = price(table, prices)
        for row in np.flatnonzero(mismatched(table) | differs).tolist():
            rows.flags[row] = add(rows.flags.get(row, ()), TOKEN_MISMATCH)
        for row in np.flatnonzero(usage_missing(table)).tolist():
            rows.flags[row] = add(rows.flags.get(row, ()), USAGE_MISSING)
        for row in np.flatnonzero(differing(table)).tolist():
            rows.flags[row] = add(rows.flags.get(row, ()), COST_DIFFERS)
    for row in np.flatnonzero(skewed).tolist():
        rows.flags[row] = (*rows.flags.get(row, ()), CLOCK_SKEW, CLAMPED)
    if records.created:
        for row, i in enumerate(rows.at):
            if records.created[i]:
                rows.flags[row] = (*rows.flags.get(row, ()), CREATE_TIME)
    columns = {
        "_landed_at": pa.scalar(landed_at, TIME),
        "_dup": pa.array(rows.dup, pa.bool_()),
        "_flags": _flags(rows),
    }
    count = table.num_rows
    return _shaped(
        put(table, {n: pa.repeat(c, count) if isinstance(c, pa.Scalar) else c for n, c in columns.items()}), schema
    )


def _count(rows: _Rows, records: Records, prices: PriceBooks, epoch: int) -> pa.Table:
    if not rows.lines:
        return METERED.empty_table()
    table, skewed = _dated(_positioned(parse_metered(rows.lines), rows, records, epoch), rows, records)
    table = price(with_unit_columns(table)[0], prices)
    compared = comparable(table)
    columns = {
        "cost_nanousd": nanousd(table.column("cost_usd")),
        "cost_compared": pa.array(compared),
        "cost_differs": pa.array(differing(table, compared)),
        "skewed": pa.array(skewed),
        "tenant": table.column("tenant_id"),
        "user": table.column("user_id"),
    }
    return _shaped(put(table, columns), METERED)


def _positioned(table: pa.Table, rows: _Rows, records: Records, epoch: int) -> pa.Table:
    at = np.asarray(rows.at, np.int64)

    def picked(values: list[int], kind: pa.DataType) -> pa.Array:
        return pa.array(np.asarray(values, np.int64)[at]).cast(kind)

    assert table.num_rows == len(at)  # a row that shifted against its offset would be the worst of all errors
    return put(
        table,
        {
            "ts": table.column("ts").cast(TIME),
            "_epoch": pa.repeat(pa.scalar(epoch, pa.int32()), len(at)),
            "_partition": picked(records.partitions, pa.int32()),
            "_offset": picked(records.offsets, pa.int64()),
            "_kafka_time": picked(records.kafka_times, TIME),
        },
    )


def _dated(table: pa.Table, rows: _Rows, records: Records) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """Add ``day``: that of ts, or of _kafka_time where ts is implausible; and return the rows where that is so."""
    ts, kafka_time = (
        table.column(name).combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
        for name in ("ts", "_kafka_time")
    )
    near = is_plausible(ts, kafka_time, _history(rows, records))
    days = pa.array((near // DAY_US).astype(np.int32)).cast(pa.date32())
    return put(table, {"day": days}), near != ts


def _history(rows: _Rows, records: Records) -> npt.NDArray[np.bool_]:
    return np.asarray(marked(records.headers, HISTORY_HEADER), np.bool_)[np.asarray(rows.at, np.int64)]


def _flags(rows: _Rows) -> pa.Array:
    if not rows.flags:
        return pa.nulls(len(rows.at), _TAGS)
    return pa.array([rows.flags.get(row) for row in range(len(rows.at))], _TAGS)


def _unknown(rows: _Rows) -> int:
    return sum(any(flag.startswith(UNKNOWN_FIELD) for flag in flags) for flags in rows.flags.values())


def _shaped(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return exactly ``schema``: order, and Arrow's name for list children instead of DuckDB's."""
    return table.select(schema.names).cast(schema)
