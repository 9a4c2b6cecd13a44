"""What a reader's SQL may contain: one SELECT over the lake's own tables. Checked on the parse tree, before it runs.

DuckDB's own guards (read-only attach, no external access, locked configuration) come after this one. They alone let
``COPY ... TO`` into the data folder and ``sqlite_scan`` of the catalog pass (docs/engine-notes.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from schemas.tables import TABLES
from warehouse.errors import QueryFailedError, QueryRefusedError
from warehouse.query.shipped_views import VIEWS
from warehouse.storage.connect import quoted

_MACROS = frozenset(q.name for q in VIEWS if q.parameters)
_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree", "repeat", *_MACROS})
"""Table functions that read nothing but their arguments, and our own macros."""
_CATALOG = frozenset({"duckdb_columns", "duckdb_tables", "duckdb_views", "duckdb_functions", "duckdb_types"})
_RELATIONS = frozenset({*(t.name for t in TABLES), *(q.name for q in VIEWS), *_CATALOG})
"""Named one by one: what is not ours may be a file (``FROM main.csv``), a setting (``pg_settings``) or a secret."""
_ABOUT = frozenset({"tables", "columns", "schemata", "views"})
"""Of information_schema."""
_SHOWN = frozenset({"", "tables", "schemas", "__show_tables_expanded"})
"""What SHOW lists; nothing where it describes another node."""
_OWN = frozenset({"", "main", "lake"})
_HIDDEN = frozenset({"dead_bytes"})
"""The original bytes of bad records: never redacted, never shown to readers."""
_CTE = re.compile(r"(?!pg_|sqlite_|duckdb_|pragma_)[^/\\.:*?\[\]%]+", re.IGNORECASE)
"""Outside of its WITH a name resolves to DuckDB's own object of that name, so none of DuckDB's names may be used."""
_EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?(?=\S)", re.IGNORECASE)
_SCALARS_REFUSED = frozenset({"getenv", "query", "query_table", "current_setting", "getvariable", "write_log"})
REMEDY = "ask one SELECT over the views: " + ", ".join(q.name for q in VIEWS)


def check(sql: str) -> str:
    """Return the one statement of ``sql`` if a reader may run it.

    Raises:
        QueryRefusedError: it writes, reads files, or is more than one statement.
        QueryFailedError: it does not parse.
    """
    statements = _parsed(sql)
    if len(statements) != 1:
        raise QueryRefusedError(f"{len(statements)} statements (PIVOT without IN counts as two)", REMEDY)
    statement = statements[0]
    text = statement.query.strip().rstrip(";")
    inner = text
    if statement.type == duckdb.StatementType.EXPLAIN:
        found = _EXPLAIN.match(text)  # at the start alone: a comment before it may hold the word, too
        if found is None:
            raise QueryRefusedError("a comment stands before EXPLAIN", "put it behind")
        inner = text[found.end() :]
    elif statement.type != duckdb.StatementType.SELECT:
        raise QueryRefusedError(f"{statement.type.name} statements do not only read", REMEDY)
    nodes = list(_nodes(_tree(inner)))
    named = _named_here(nodes)
    for node in nodes:
        _check_node(node, named)
    return text


def split(sql: str) -> list[str]:
    """Return the statements of ``sql`` one by one, unchecked.

    Raises:
        QueryFailedError: it does not parse.
    """
    texts = [statement.query.strip().rstrip(";") for statement in _parsed(sql)]
    return texts if all(texts) else [sql]  # DuckDB makes two of a PIVOT without IN, and gives neither a text


def _parsed(sql: str) -> list[duckdb.Statement]:
    if "\0" in sql or (not sql.isascii() and any("\ud800" <= c <= "\udfff" for c in sql)):
        raise QueryFailedError("it holds a NUL, or bytes that are not UTF-8", "write it as text in UTF-8")
    try:
        return duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryFailedError(str(error).strip(), REMEDY) from error


def _tree(sql: str) -> Any:
    with duckdb.connect(config={"autoload_known_extensions": "false", "enable_external_access": "false"}) as parser:
        # as a literal: DuckDB imports pandas, half a second, to see whether a parameter is one of its values
        row = parser.execute(f"SELECT json_serialize_sql({quoted(sql)})").fetchone()
    try:
        tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    except RecursionError:
        raise QueryRefusedError("it is nested too deeply to be checked", REMEDY) from None
    if tree.get("error") or len(tree.get("statements", ())) != 1:
        raise QueryRefusedError(str(tree.get("error_message", "it cannot be checked")), REMEDY)
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _named_here(nodes: Sequence[dict[str, Any]]) -> frozenset[str]:
    """Return the names that WITH clauses give.

    Raises:
        QueryRefusedError: one of them is a path, or DuckDB's own.
    """
    maps = (node["cte_map"].get("map") or () for node in nodes if isinstance(node.get("cte_map"), dict))
    names = frozenset(str(each.get("key", "")).lower() for entries in maps for each in entries)
    for name in names:
        if not _CTE.fullmatch(name):
            raise QueryRefusedError(f"WITH {name}: DuckDB's own names and paths cannot be given", "take another name")
    return names


def _check_node(node: dict[str, Any], named: frozenset[str]) -> None:
    kind = node.get("type")
    if kind == "TABLE_FUNCTION":
        called = node.get("function") or {}
        name = str(called.get("function_name", "")).lower()
        if name not in _FUNCTIONS:
            raise QueryRefusedError(f"table function {name or '?'} reads outside the lake", REMEDY)
    elif kind == "FUNCTION" and str(node.get("function_name", "")).lower() in _SCALARS_REFUSED:
        raise QueryRefusedError(f"function {node['function_name']} looks outside the lake", REMEDY)
    elif kind in ("BASE_TABLE", "SHOW_REF"):
        _check_name(node, named, _SHOWN if kind == "SHOW_REF" else frozenset())


def _check_name(node: dict[str, Any], named: frozenset[str], shown: frozenset[str]) -> None:
    table = str(node.get("table_name") or "").lower().strip('"')
    places = {str(node.get(key) or "").lower() for key in ("schema_name", "catalog_name")} - {""}
    if table in _HIDDEN:
        raise QueryRefusedError(f"{table} holds unredacted originals", "`tailrace dead` shows reason and redacted head")
    known = _ABOUT if "information_schema" in places else _RELATIONS
    if not places:
        known = known | named | shown
    if table not in known or not places <= _OWN | {"information_schema"}:
        raise QueryRefusedError(f"{'.'.join((*sorted(places), table))} is not a table or view of the lake", REMEDY)
