"""The tables of the lake: names, columns, partitioning. The views over them live in ``warehouse/views``."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas import topics
from schemas.arrow import DEAD_BYTES_COLUMNS, DEAD_COLUMNS, MONEY, POSITION, TIME, Column, lake_columns
from schemas.rollups import EMBEDDING, ROLLUP
from tailrace_emitter.event import Call, Eval, Feedback


@dataclass(frozen=True)
class Table:
    """A table of the lake. Event tables are append-only with inlining off (docs/engine-notes.md)."""

    name: str
    columns: tuple[Column, ...]
    doc: str
    partition_by: str = ""
    sorted_by: tuple[str, ...] = ()
    inlined: bool = False
    """True only for small tables whose rows are replaced."""

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of a batch to append."""
        return pa.schema([pa.field(c.name, c.arrow) for c in self.columns])


_DUCKDB: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    TIME: "TIMESTAMP WITH TIME ZONE",
    MONEY: "DECIMAL(18,9)",
}


def duckdb_type(kind: pa.DataType) -> str:
    """Return DuckDB's name of an Arrow type."""
    if pa.types.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        fields = (kind.field(i) for i in range(kind.num_fields))
        return "STRUCT(" + ", ".join(f'"{f.name}" {duckdb_type(f.type)}' for f in fields) + ")"
    return _DUCKDB[kind]


def _columns(schema: pa.Schema) -> tuple[Column, ...]:
    return tuple(Column(f.name, f.type, duckdb_type(f.type), "") for f in schema)


def _plain(**kinds: pa.DataType) -> tuple[Column, ...]:
    return tuple(Column(name, kind, duckdb_type(kind), "") for name, kind in kinds.items())


_LANDED = (
    Column("_landed_at", TIME, duckdb_type(TIME), "when land wrote the row"),
    Column("day", pa.date32(), "DATE", "day of the record; the partition key"),
)
S, I64, I32, F64, B = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_()
_SOURCE = _plain(source_epoch=I32, source_partition=I32, source_from=I64, source_to=I64, part=S, price_version=S, key=S)

RAW_CALLS = Table("raw_calls", lake_columns(Call), "LLM calls as landed", "day", ("app", "ts"))
RAW_FEEDBACK = Table("raw_feedback", lake_columns(Feedback), "feedback as landed", "day", ("app", "ts"))
RAW_EVALS = Table("raw_evals", lake_columns(Eval), "evaluation results as landed", "day", ("app", "ts"))
DEAD = Table("dead", DEAD_COLUMNS, "records that did not fit, with the reason", "day")
DEAD_BYTES = Table("dead_bytes", DEAD_BYTES_COLUMNS, "their original bytes, kept 7 days, never shown to viewers", "day")
ROLLUPS = Table(
    "rollups",
    (*_columns(ROLLUP), *_SOURCE, *POSITION, *_LANDED),
    "what meter counted, a row a series and second",
    "day",
)
TICKS = Table(
    "ticks",
    (
        *_plain(
            wall=TIME,
            slot=S,
            sources=pa.list_(
                pa.struct(
                    [
                        ("partition", I32),
                        ("next_offset", I64),
                        ("max_ts", I64),
                        ("kafka_time", I64),
                        ("busy_wall", I64),
                    ]
                )
            ),
        ),
        *POSITION,
        *_LANDED,
    ),
    "meter's clock: how far each source partition was read",
    "day",
)
EMBEDDINGS = Table(
    "embeddings", (*_columns(EMBEDDING), *POSITION, *_LANDED), "sampled texts as vectors, 30 days", "day"
)
ALERTS = Table(
    "alerts",
    (
        *_plain(
            id=S,
            seq=I32,
            fingerprint=S,
            detector=S,
            rule=S,
            severity=S,
            state=S,
            series=S,
            window_start=TIME,
            window_end=TIME,
            observed=F64,
            expected=F64,
            score=F64,
            unit=S,
            title=S,
            late=B,
            detected_at=TIME,
            sql=S,
            call_ids=pa.list_(S),
            alert=S,
        ),
        *POSITION,
        *_LANDED,
    ),
    "alerts, a row a state change; `alert` is the whole as JSON",
)
DELIVERIES = Table(
    "deliveries",
    (
        *_plain(alert_id=S, seq=I32, channel=S, state=S, attempts=I32, retry_at=TIME, detail=S, at=TIME, digest=S),
        *POSITION,
        *_LANDED,
    ),
    "what notify did with each alert and channel",
)
LOG_RECORDS = Table(
    "log_records",
    (*_plain(table=S, at=TIME, row=S), *POSITION, *_LANDED),
    "llm.log as landed: job runs, audit, releases, reviews; job_runs, audit, releases, golden_reviews read it",
)
GAPS = Table(
    "gaps",
    _plain(topic=S, _epoch=I32, partition=I32, from_offset=I64, to_offset=I64, cause=S, found_at=TIME),
    "positions that retention took before land read them",
)
NO_RECORD_RANGES = Table(
    "no_record_ranges",
    _plain(topic=S, _epoch=I32, _partition=I32, from_offset=I64, to_offset=I64, day=pa.date32(), _landed_at=TIME),
    "positions of llm.events that the log has no record for: transaction markers, aborted or compacted records",
    "day",
)
_OF_EVENT = _plain(id=S, day=pa.date32(), _epoch=I32, _partition=I32, _offset=I64)
LATE_DUPLICATES = Table(
    "late_duplicates",
    (
        *_OF_EVENT,
        *_plain(kept_epoch=I32, kept_partition=I32, kept_offset=I64, near=B, conflict=B, found_at=TIME),
    ),
    "duplicates farther apart than 65,536 positions or in another partition, and nearer ones whose content differs",
)
DUPLICATE_CHECKS = Table(
    "duplicate_checks",
    _plain(checked_at=TIME, _epoch=I32, _partition=I32, from_offset=I64, to_offset=I64),
    "positions of llm.events whose ids were compared with all others",
)
RETIRED_DAYS = Table(
    "retired_days",
    _plain(
        topic=S,
        table=S,
        day=pa.date32(),
        _epoch=I32,
        _partition=I32,
        positions=I64,
        from_offset=I64,
        to_offset=I64,
        retired_at=TIME,
    ),
    "days that retention dropped from calls, feedback, evals and dead: what verify counts in their place",
)
LEDGER = Table(
    "ledger",
    _plain(topic=S, topic_id=S, epoch=I32, partition=I32, start_offset=I64, next_offset=I64),
    "where land stands; moved by compare-and-set in the transaction that lands the rows",
    inlined=True,
)
JOB_CLAIMS = Table(
    "job_claims",
    _plain(job=S, due_at=TIME, attempt=I32, owner=S, claimed_at=TIME, lease_until=TIME, ended_at=TIME),
    "who took which due time of a job; moved by compare-and-set, so that no due time is begun twice",
    inlined=True,
)
PRICES = Table(
    "prices",
    _plain(version=S, effective_from=TIME, book=S, _landed_at=TIME),
    "price books in force, as JSON",
)
COST_ADJUSTMENTS = Table(
    "cost_adjustments",
    (*_OF_EVENT, *_plain(cost_usd=MONEY, delta_usd=MONEY, price_version=S, reason=S, adjusted_at=TIME, cost_status=S)),
    "re-pricing as rows of a ledger: delta to what was landed",
)
_OF_CALL = {c.name: c.arrow for c in RAW_CALLS.columns}
GOLDEN_CASES = Table(
    "golden_cases",
    _plain(
        set_name=S,
        version=I32,
        case_id=S,
        call_id=S,
        call_epoch=I32,
        call_partition=I32,
        call_offset=I64,
        ts=TIME,
        app=S,
        feature=S,
        model=S,
        response_model=S,
        prompt_name=S,
        prompt_version=S,
        reasons=pa.list_(S),
        stratum=S,
        added_in=I32,
        system_text=S,
        messages=_OF_CALL["messages"],
        input_text=S,
        output_text=S,
        retrieval_docs=_OF_CALL["retrieval_docs"],
        expected=S,
        expected_from=S,
        variables=S,
        rubric=S,
    ),
    "test cases out of production failures; each version of a set holds all its cases, and none is changed but for the "
    "texts of rejected ones, which go",
    "set_name, version",
)
GOLDEN_VERSIONS = Table(
    "golden_versions",
    _plain(
        set_name=S,
        version=I32,
        parent=I32,
        content_hash=S,
        created_at=TIME,
        window_from=TIME,
        window_to=TIME,
        cases=I32,
        added=I32,
        kept=I32,
        dropped=I32,
        candidates=I64,
        near_duplicates=I64,
        settings=S,
        owner=S,
        blanked=I32,
    ),
    "versions of the golden sets; a row and its cases are written in one transaction",
)
GOLDEN_REJECTED = Table(
    "golden_rejected",
    _plain(set_name=S, case_id=S, sketch=S, rejected_at=TIME),
    "golden cases that a review rejected: their texts are gone, a sketch keeps out what says nearly the same",
)

EVENT_TABLES = (RAW_CALLS, RAW_FEEDBACK, RAW_EVALS)
TABLES = (
    *EVENT_TABLES,
    DEAD,
    DEAD_BYTES,
    ROLLUPS,
    TICKS,
    EMBEDDINGS,
    ALERTS,
    DELIVERIES,
    LOG_RECORDS,
    GAPS,
    NO_RECORD_RANGES,
    LATE_DUPLICATES,
    DUPLICATE_CHECKS,
    RETIRED_DAYS,
    LEDGER,
    JOB_CLAIMS,
    PRICES,
    COST_ADJUSTMENTS,
    GOLDEN_CASES,
    GOLDEN_VERSIONS,
    GOLDEN_REJECTED,
)
TABLES_OF = {
    topics.EVENTS: tuple(table.name for table in EVENT_TABLES),
    topics.ROLLUPS: (ROLLUPS.name, TICKS.name),
    topics.EMBEDDINGS: (EMBEDDINGS.name,),
    topics.ALERTS: (ALERTS.name,),
    topics.DELIVERIES: (DELIVERIES.name,),
    topics.LOG: (LOG_RECORDS.name,),
}
"""Topic -> where its good records land; bad ones of every topic are in ``dead``."""
