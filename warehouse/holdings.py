"""What the lake holds of a tenant or a user: rows by table. Read-only; nothing of the texts is shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from warehouse.readonly import ReadOnlyLake

_WHOSE = "($1::VARCHAR IS NULL OR tenant_id = $1) AND ($2::VARCHAR IS NULL OR user_id = $2)"
_CALLS = f"SELECT id::VARCHAR FROM raw_calls WHERE {_WHOSE}"
_OF = (
    "($1::VARCHAR IS NULL OR (series::JSON->>'tenant') = $1) AND ($2::VARCHAR IS NULL OR (series::JSON->>'user') = $2)"
)
_SQL = {
    "raw_calls": f"SELECT count(*), min(day), max(day) FROM raw_calls WHERE {_WHOSE}",
    "raw_feedback": "SELECT count(*), min(day), max(day) FROM raw_feedback "
    f"WHERE call_id::VARCHAR IN ({_CALLS}) OR ($1::VARCHAR IS NULL AND user_id = $2)",
    "raw_evals": f"SELECT count(*), min(day), max(day) FROM raw_evals WHERE call_id::VARCHAR IN ({_CALLS})",
    "embeddings": f"SELECT count(*), min(day), max(day) FROM embeddings WHERE call_id IN ({_CALLS})",
    "golden_cases": f"SELECT count(*), min(ts)::DATE, max(ts)::DATE FROM golden_cases WHERE call_id IN ({_CALLS})",
    "rollups": f"SELECT count(*), min(day), max(day) FROM rollups WHERE {_OF}",
    "alerts": "SELECT count(*), min(detected_at)::DATE, max(detected_at)::DATE FROM alerts "
    f"WHERE ({_OF}) OR list_has_any("
    f"call_ids, (SELECT coalesce(list(id), []) FROM ({_CALLS}) AS c(id)))",
}
NOT_SEEN = (
    "Kafka, until the retention of its topics",
    "messages that channels have delivered, such as Slack's",
    "files that people exported, and backups",
    "dead letters: of a record that cannot be read, no tenant and no user is known",
)
"""Where rows of a tenant may be besides; nothing here looks there."""


@dataclass(frozen=True)
class Held:
    """Rows of one table."""

    table: str
    rows: int
    first: date | None
    last: date | None


def holdings(lake: ReadOnlyLake, *, tenant: str | None, user: str | None) -> list[Held]:
    """Return the rows of ``tenant``, of ``user``, or of that user of that tenant, table by table.

    Args:
        lake: opened read-only.
        tenant: as ``tenant_id`` has it.
        user: as ``user_id`` has it: a pseudonym where users are made one (`tailrace user id`).
    """
    found = []
    for table, sql in _SQL.items():
        rows, first, last = (column[0].as_py() for column in lake.query(sql, [tenant, user]).columns)
        found.append(Held(table, rows, first, last))
    return found
