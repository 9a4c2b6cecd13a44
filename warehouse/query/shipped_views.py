"""The shipped questions: one .sql file each, named after its answer.

A file is a SELECT under a head of comments: first what it answers, then ``column: meaning`` lines, and
``macro: name, ...`` where the answer depends on parameters. Views build on views: those in ``_FIRST`` come first.

``/* defaults of TABLE */`` in a REPLACE list becomes ``coalesce(column, default)`` for every column whose declaration
names a default: what the wire leaves out is shown as what its absence means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from schemas.tables import TABLES

_COLUMN = re.compile(r"([a-z_][a-z0-9_]*): (.+)")
_DEFAULTS = re.compile(r"/\* defaults of ([a-z_]+) AS ([a-z]) \*/")
_TABLES = {table.name: table for table in TABLES}
# views that others read come first
_FIRST = ("calls", "feedback", "evals", "calls_as_known_at")


@dataclass(frozen=True)
class ShippedView:
    """One public view, or table macro where it has parameters."""

    name: str
    doc: str
    columns: dict[str, str]
    """Meaning of the columns that are not the raw table's own."""
    parameters: tuple[str, ...]
    sql: str

    @property
    def statement(self) -> str:
        """The statement that (re)creates it."""
        if self.parameters:
            return f"CREATE OR REPLACE MACRO {self.name}({', '.join(self.parameters)}) AS TABLE {self.sql}"
        return f"CREATE OR REPLACE VIEW {self.name} AS {self.sql}"


def _filled(match: re.Match[str]) -> str:
    table, alias = _TABLES[match[1]], match[2]
    return "".join(f"coalesce({alias}.{c.name}, '{c.default}') AS {c.name}, " for c in table.columns if c.default)


def _read(name: str, text: str) -> ShippedView:
    head = [line[2:].strip() for line in text.splitlines() if line.startswith("--")]
    sql = "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip().rstrip(";")
    sql = _DEFAULTS.sub(_filled, sql)
    doc: list[str] = []
    columns: dict[str, str] = {}
    parameters: tuple[str, ...] = ()
    for line in head:
        match = _COLUMN.fullmatch(line)
        if match and match[1] == "macro":
            parameters = tuple(part.strip() for part in match[2].split(","))
        elif match:
            columns[match[1]] = match[2]
        else:
            doc.append(line)
    return ShippedView(name, " ".join(doc), columns, parameters, sql)


def _load() -> tuple[ShippedView, ...]:
    found = {
        entry.name.removesuffix(".sql"): entry.read_text("utf-8")
        for entry in (files("warehouse") / "views").iterdir()
        if entry.name.endswith(".sql")
    }
    order = [*_FIRST, *sorted(set(found) - set(_FIRST))]
    return tuple(_read(name, found[name]) for name in order)


VIEWS = _load()
