"""The person whose rows are deleted, and how the queries of this package find these rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

import duckdb
import pyarrow as pa

CALLS = pa.schema([("id", pa.string()), ("_epoch", pa.int32()), ("_partition", pa.int32()), ("_offset", pa.int64())])
"""Calls that go, as the questions join them under the name ``gone_calls``."""
_TOKEN = pa.schema([("kind", pa.string()), ("text", pa.string()), ("hex", pa.string())])
_ID = pa.schema([("id", pa.string())])


class Chosen(Protocol):
    """Calls that go, as the queries of this package find them: those of a person, or old ones of an app."""

    @property
    def calls(self) -> str:
        """SQL for whether a row of raw_calls is one of them."""

    def bind(self, connection: duckdb.DuckDBPyConnection, calls: pa.Table | None = None) -> None:
        """Give ``connection`` what that SQL names, and ``calls`` of schema CALLS as ``gone_calls``."""


@dataclass(frozen=True)
class Who:
    """A user, a tenant, or that user of that tenant, each in every form in which the lake may hold the id."""

    tenants: tuple[str, ...] = ()
    """Empty: of any tenant."""
    users: tuple[str, ...] = ()
    """Empty: every user."""

    def __post_init__(self) -> None:
        """Refuse a question that would match everything.

        Raises:
            ValueError: no id is given, or one is not UTF-8.
        """
        "".join((*self.tenants, *self.users)).encode()
        if not all((*self.tenants, *self.users)) or not (self.tenants or self.users):
            raise ValueError("forget: nobody is named")

    @property
    def calls(self) -> str:
        """SQL for whether a row of raw_calls is theirs."""
        return self._both("tenant_id IN (FROM who_tenants)", "user_id IN (FROM who_users)")

    @property
    def series(self) -> str:
        """SQL for whether a series, a JSON object of dimensions, is theirs."""
        return self._both(
            "(series::JSON->>'tenant') IN (FROM who_tenants)", "(series::JSON->>'user') IN (FROM who_users)"
        )

    def named(self, text: str) -> str:
        """Return SQL for whether ``text``, SQL for a VARCHAR, has the id as a whole JSON string."""
        return self._tokens(f"contains({text}, w.text)")

    def named_in_bytes(self, data: str) -> str:
        """Return SQL for the same of ``data``, SQL for a BLOB."""
        return self._tokens(f"contains(hex({data}), w.hex)")

    def _tokens(self, found: str) -> str:
        parts = (f"EXISTS (FROM who_tokens AS w WHERE w.kind = '{kind}' AND {found})" for kind in ("tenant", "user"))
        return self._both(*parts)

    def _both(self, tenant: str, user: str) -> str:
        parts = ([tenant] if self.tenants else []) + ([user] if self.users else [])
        return f"({' AND '.join(parts)})"

    def bind(self, connection: duckdb.DuckDBPyConnection, calls: pa.Table | None = None) -> None:
        """Give ``connection`` the tables that the questions name: the ids, and ``calls`` of schema CALLS."""
        connection.register("who_tenants", _ids(self.tenants))
        connection.register("who_users", _ids(self.users))
        connection.register("who_tokens", pa.Table.from_pylist(self._token_rows(), schema=_TOKEN))
        connection.register("gone_calls", CALLS.empty_table() if calls is None else calls)

    def _token_rows(self) -> list[dict[str, str]]:
        rows = []
        for kind, ids in (("tenant", self.tenants), ("user", self.users)):
            for text in {json.dumps(each, ensure_ascii=plain) for each in ids for plain in (True, False)}:
                rows.append({"kind": kind, "text": text, "hex": text.encode().hex().upper()})
        return rows


def _ids(ids: tuple[str, ...]) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.string())}, schema=_ID)
