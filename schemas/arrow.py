"""Arrow and lake columns of the events, derived from the structs in ``tailrace_emitter.event``."""

from __future__ import annotations

import types
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa

from tailrace_emitter.event import Call, Eval, Event, Feedback

MONEY = pa.decimal128(18, 9)
TIME = pa.timestamp("us", tz="UTC")
RATE = pa.decimal128(38, 18)
JSON = "JSON"


@dataclass(frozen=True)
class Column:
    """One column of the lake. ``path`` is its path in the event, empty where land adds it.

    ``default`` is what its absence on the wire means: the public views show it, the raw tables keep NULL. Where it is
    empty, absence means "not reported".
    """

    name: str
    arrow: pa.DataType
    duckdb: str
    doc: str
    path: tuple[str, ...] = ()
    unit: str = ""
    default: str = ""


_SCALARS: dict[Any, tuple[pa.DataType, str]] = {
    str: (pa.string(), "VARCHAR"),
    int: (pa.int64(), "BIGINT"),
    float: (pa.float64(), "DOUBLE"),
    bool: (pa.bool_(), "BOOLEAN"),
    uuid.UUID: (pa.string(), "UUID"),
    datetime: (TIME, "TIMESTAMP WITH TIME ZONE"),
    dict: (pa.string(), JSON),
}
_NAMED: dict[str, tuple[pa.DataType, str]] = {
    "int16": (pa.int16(), "SMALLINT"),
    "int32": (pa.int32(), "INTEGER"),
    "decimal": (MONEY, "DECIMAL(18,9)"),
    "dict": (pa.string(), "VARCHAR"),
}


def _unwrap(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    """Strip Annotated, Optional and UNSET; return the bare type and every Meta met on the way, outermost first."""
    metas: list[msgspec.Meta] = []
    while True:
        if get_origin(hint) is Annotated:
            hint, *found = get_args(hint)
            metas += [m for m in found if isinstance(m, msgspec.Meta)]
        elif get_origin(hint) in (Union, types.UnionType):
            arms = [a for a in get_args(hint) if a not in (type(None), msgspec.UnsetType)]
            # ts is a datetime or epoch milliseconds: the lake has one time
            hint = arms[0]
        elif get_origin(hint) is Literal:
            return type(get_args(hint)[0]), metas
        else:
            return hint, metas


def _duckdb_struct(fields: list[tuple[str, str]]) -> str:
    return "STRUCT(" + ", ".join(f'"{name}" {kind}' for name, kind in fields) + ")"


def _types(hint: Any, metas: list[msgspec.Meta]) -> tuple[pa.DataType, str]:
    named = next((m.extra["arrow"] for m in metas if m.extra and "arrow" in m.extra), None)
    if named:
        return _NAMED[named]
    origin = get_origin(hint)
    if origin is list:
        bare, inner = _unwrap(get_args(hint)[0])
        arrow, duckdb = _types(bare, inner)
        return pa.list_(arrow), f"{duckdb}[]"
    if origin is dict:
        return _SCALARS[dict]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        leaves = []
        for name, sub in get_type_hints(hint, include_extras=True).items():
            if name.startswith("_"):
                continue
            bare, inner = _unwrap(sub)
            leaves.append((name, *_types(bare, inner)))
        arrow = pa.struct([pa.field(n, a) for n, a, _ in leaves])
        return arrow, _duckdb_struct([(n, d) for n, _, d in leaves])
    return _SCALARS[hint]


def _walk(struct: type[msgspec.Struct], path: tuple[str, ...]) -> list[Column]:
    columns: list[Column] = []
    hints = get_type_hints(struct, include_extras=True)
    names = [f.name for f in msgspec.structs.fields(struct)]
    if not path:  # the envelope first, as people read it
        names.sort(key=lambda n: ("v", "id", "ts").index(n) if n in ("v", "id", "ts") else 3)
    for name in names:
        bare, metas = _unwrap(hints[name])
        here = (*path, name)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            columns += _walk(bare, here)
            continue
        arrow, duckdb = _types(bare, metas)
        described = next((m for m in metas if m.description), None)
        extra = (described.extra if described else None) or {}
        doc = (described.description if described else "") or ""
        lake, unit, default = (extra.get(key, "") for key in ("lake", "unit", "default"))
        columns.append(Column(lake or "_".join(here), arrow, duckdb, doc, here, unit, default))
    return columns


POSITION = (
    Column("_epoch", pa.int32(), "INTEGER", "epoch of the topic: grows when the topic is made again and adopted"),
    Column("_partition", pa.int32(), "INTEGER", "partition of the record"),
    Column("_offset", pa.int64(), "BIGINT", "offset of the record"),
    Column(
        "_kafka_time",
        TIME,
        "TIMESTAMP WITH TIME ZONE",
        "the broker's LogAppendTime; where _flags has create_time, the time that the producer set",
    ),
)
LANDED = (
    Column("_landed_at", TIME, "TIMESTAMP WITH TIME ZONE", "when land wrote the row"),
    Column(
        "_dup",
        pa.bool_(),
        "BOOLEAN",
        "this id stood among the 65,536 positions before: left out of the views",
    ),
    Column(
        "_flags",
        pa.list_(pa.string()),
        "VARCHAR[]",
        "what decoding noticed: clock_skew, token_mismatch, unknown_field:NAME, ...",
    ),
    Column(
        "day",
        pa.date32(),
        "DATE",
        "day of ts; that of _kafka_time where ts is more than 7 days before or 1 day ahead of it (clock_skew) and the "
        "event was not sent as history; the partition key",
    ),
)
_CONTENT_DERIVED = (
    Column("input_text", pa.string(), "VARCHAR", "text of the last user turn"),
    Column(
        "guardrail_triggered",
        pa.bool_(),
        "BOOLEAN",
        "any guardrail did something other than pass; NULL = none ran",
    ),
    Column("blocked_by", pa.string(), "VARCHAR", "first guardrail whose action is block"),
)
_MONEY_DERIVED = (
    *(
        Column(name, MONEY, "DECIMAL(18,9)", doc, (), "USD")
        for name, doc in (
            ("cost_usd", "the sum of the components below and of the costs in units; NULL = unpriced"),
            ("input_cost_usd", "input tokens that were neither read from nor written to the cache, nor are in units"),
            ("output_cost_usd", "output tokens, reasoning included, without those in units"),
            ("cache_read_cost_usd", "cached input, without what is in units"),
            ("cache_write_cost_usd", "input written to the cache, without what is in units"),
        )
    ),
    Column(
        "cost_status",
        pa.string(),
        "VARCHAR",
        "computed; partly_priced: some usage has no price, cost_usd is what the rest costs; reported, unpriced or free",
    ),
    Column("price_version", pa.string(), "VARCHAR", "price book in force at _kafka_time"),
)


BILLED = pa.list_(pa.struct([("unit", pa.string()), ("quantity", pa.float64()), ("rate", RATE), ("cost", MONEY)]))
"""``units`` in the lake: on the wire an entry has unit and quantity only."""
_BILLED = Column(
    "units",
    BILLED,
    'STRUCT("unit" VARCHAR, "quantity" DOUBLE, "rate" DECIMAL(38,18), "cost" DECIMAL(18,9))[]',
    "billed amounts that no token column holds: what the event reported, and a fee a request where the model has one; "
    "rate in USD a unit, cost in USD: what this entry adds to cost_usd, for the part of quantity that no more specific "
    "entry covers; both NULL = no price is known",
    ("units",),
)


@cache
def event_columns(struct: type[Event]) -> tuple[Column, ...]:
    """Lake columns of what the app itself sends, in the order of the declaration."""
    return tuple(c for c in _walk(struct, ()) if c.path != ("type",))


@cache
def lake_columns(struct: type[Event]) -> tuple[Column, ...]:
    """All columns of the raw table of ``struct``: the event's own, what is derived, and the position."""
    derived = (*_CONTENT_DERIVED, *_MONEY_DERIVED) if struct is Call else ()
    sent = tuple(_BILLED if c.path == _BILLED.path else c for c in event_columns(struct))
    return (*sent, *derived, *POSITION, *LANDED)


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Arrow schema of ``columns``."""
    return pa.schema([pa.field(c.name, c.arrow) for c in columns])


CALLS = arrow_schema(lake_columns(Call))
FEEDBACK = arrow_schema(lake_columns(Feedback))
EVALS = arrow_schema(lake_columns(Eval))

DEAD_COLUMNS = (
    Column("topic", pa.string(), "VARCHAR", "topic without its prefix"),
    *POSITION,
    Column("reason", pa.string(), "VARCHAR", "why it was refused: a closed list"),
    Column("detail", pa.string(), "VARCHAR", "what was expected and found; never content"),
    Column("sha256", pa.string(), "VARCHAR", "of the original bytes, hex"),
    Column("size", pa.int64(), "BIGINT", "of the original", (), "bytes"),
    Column("head", pa.string(), "VARCHAR", "first 200 characters, redacted"),
    Column("event_id", pa.string(), "VARCHAR", "the event's id where one could be read"),
    Column("app", pa.string(), "VARCHAR", "the event's app where one could be read"),
    Column("_landed_at", TIME, "TIMESTAMP WITH TIME ZONE", "when land wrote the row"),
    Column("day", pa.date32(), "DATE", "day of _kafka_time"),
)
DEAD_BYTES_COLUMNS = (
    Column("topic", pa.string(), "VARCHAR", "topic without its prefix"),
    *POSITION,
    Column("bytes", pa.binary(), "BLOB", "256 zeros, then the original; NULL = it had none"),
    Column("key", pa.binary(), "BLOB", "256 zeros, then the original key"),
    Column("day", pa.date32(), "DATE", "day of _kafka_time; kept for 7 days"),
)
DEAD = arrow_schema(DEAD_COLUMNS)
DEAD_BYTES = arrow_schema(DEAD_BYTES_COLUMNS)
