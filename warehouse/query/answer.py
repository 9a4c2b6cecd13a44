"""An answer as text: DuckDB itself turns values into cells and into JSON, a batch at a time, in Arrow.

Values do not become Python objects on the way: decimals stay plain, integers exact, and columns of one name get
distinct names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa

from warehouse.storage.connect import quoted

ROWS = 2_048
"""Of one batch."""
_NESTED = frozenset({"list", "array", "struct", "map", "union"})
_NUMBERS = frozenset(
    {
        *("tinyint", "smallint", "integer", "bigint", "hugeint", "bignum"),
        *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint", "float", "double", "decimal"),
    }
)
_MICROS, _NANOS = "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%n"
_TIMES = {
    "timestamp with time zone": f"{_MICROS}Z",  # of a connection whose time zone is UTC
    "timestamp": _MICROS,
    "timestamp_s": _MICROS,
    "timestamp_ms": _MICROS,
    "timestamp_ns": _NANOS,
}
"""RFC 3339; a time without a zone keeps none."""
_NOT_IN_PARQUET = frozenset({"interval", "time with time zone", "union", "bit"})
Fetch = Callable[[Callable[[], Any]], Any]


def quoted_name(name: str) -> str:
    """Return ``name`` as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class Answer:
    """The columns of one answer, and its rows in the requested form; they can be read once."""

    def __init__(self, relation: duckdb.DuckDBPyRelation, fetch: Fetch = lambda step: step()) -> None:
        """Wrap ``relation``.

        Args:
            relation: bound, not run.
            fetch: runs a step that may take long; where a limit of time and a translation of errors are put.
        """
        self._fetch = fetch
        self._relation = relation
        self.types = relation.types
        self._at = [f"#{number}" for number in range(1, len(self.types) + 1)]
        self.names: list[str] = relation.project(", ".join(self._at)).columns
        """Unique, as DuckDB makes them: ``id``, ``id_1``."""
        self.numeric = [kind.id in _NUMBERS for kind in self.types]
        self.nested = [kind.id in _NESTED for kind in self.types]

    def json(self) -> Iterator[pa.Array]:
        """Yield batches of one JSON object a row. NaN and infinity are still in them, as DuckDB writes them."""
        fields = (
            f"{quoted_name(name)} := {_json(kind, at)}"
            for name, kind, at in zip(self.names, self.types, self._at, strict=True)
        )
        for batch in self._batches([f"to_json(struct_pack({', '.join(fields)}))::VARCHAR"]):
            yield batch.column(0)

    def cells(self, *, rfc3339: bool = False) -> Iterator[pa.RecordBatch]:
        """Yield batches whose columns are all text: numbers plain, nested values as JSON.

        Args:
            rfc3339: write times for programs, and not as DuckDB shows them.
        """
        yield from self._batches(
            [_cell(kind, at, rfc3339=rfc3339) for kind, at in zip(self.types, self._at, strict=True)]
        )

    def arrow(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return schema and batches with the values as they are; as text what Parquet has no type for."""
        picked = (
            _cell(kind, at, rfc3339=True) if kind.id in _NOT_IN_PARQUET or _unnamed(kind) else at
            for kind, at in zip(self.types, self._at, strict=True)
        )
        reader = self._reader(list(picked))
        schema = pa.schema([reader.schema.field(i).with_name(name) for i, name in enumerate(self.names)])
        return schema, (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in self._read(reader))

    def _reader(self, expressions: list[str]) -> pa.RecordBatchReader:
        return self._fetch(lambda: self._relation.project(", ".join(expressions)).to_arrow_reader(ROWS))

    def _batches(self, expressions: list[str]) -> Iterator[pa.RecordBatch]:
        return self._read(self._reader(expressions))

    def _read(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while (batch := self._fetch(lambda: next(reader, None))) is not None:
            if batch.num_rows:
                yield batch


def answer_of(table: pa.Table) -> Answer:
    """Return the answer that ``table`` is."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    places = [f"c{number}" for number in range(table.num_columns)]
    connection.register("answer", table.rename_columns(places))  # two of one name could not be registered
    named = (f"{at} AS {quoted_name(name)}" for at, name in zip(places, table.column_names, strict=True))
    return Answer(connection.sql("FROM answer").project(", ".join(named)))


def _cell(kind: Any, at: str, *, rfc3339: bool) -> str:
    if kind.id in _NESTED:
        return f"to_json({_json(kind, at)})::VARCHAR"
    if rfc3339 and kind.id in _TIMES:
        return f"strftime({at}, '{_TIMES[kind.id]}')"
    return f"{at}::VARCHAR"


def _json(kind: Any, at: str) -> str:
    """Return the expression whose JSON is that of ``at``: what DuckDB would write otherwise is replaced, however deep.

    A FLOAT would get the digits of a DOUBLE (0.1 becomes 0.10000000149011612), a time no ``T`` and no ``Z``.
    """
    if not _differs(kind):
        return at
    if kind.id in _TIMES:
        return f"strftime({at}, '{_TIMES[kind.id]}')"
    if kind.id == "float":
        return f"{at}::VARCHAR::DOUBLE"
    if _unnamed(kind):  # DuckDB would write every key as "", and a reader would keep the last
        items = (_json(of, f"struct_extract({at}, {number})") for number, (_, of) in enumerate(kind.children, 1))
        return f"CASE WHEN {at} IS NOT NULL THEN json_array({', '.join(items)}) END"
    if kind.id == "struct":
        fields = (
            f"{quoted_name(name)} := {_json(of, f'struct_extract({at}, {quoted(name)})')}" for name, of in kind.children
        )
        return f"CASE WHEN {at} IS NOT NULL THEN struct_pack({', '.join(fields)}) END"
    if kind.id == "map":
        values = _each(kind.children[1][1], f"map_values({at})")
        return f"CASE WHEN {at} IS NOT NULL THEN map(map_keys({at}), {values}) END"
    of = kind.children[0][1]
    return _each(of, f"{at}::{of}[]" if kind.id == "array" else at)


def _each(kind: Any, at: str) -> str:
    return f"list_transform({at}, lambda item: {_json(kind, 'item')})"


def _differs(kind: Any) -> bool:
    if kind.id in ("list", "array"):
        return _differs(kind.children[0][1])
    if kind.id == "map":
        return _differs(kind.children[1][1])
    if kind.id == "struct":
        return _unnamed(kind) or any(_differs(of) for _, of in kind.children)
    return kind.id in _TIMES or kind.id == "float"


def _unnamed(kind: Any) -> bool:
    return kind.id == "struct" and not all(name for name, _ in kind.children)
