"""Exports of a golden set: which cases are in a file, and in whose form."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.golden import openai, promptfoo, tools
from jobs.golden.splits import held_out, split
from tailrace.cli.render.printable import json_line


class Target(StrEnum):
    """Who reads an export."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    PROMPTFOO = "promptfoo"
    OPENAI = "openai"
    DEEPEVAL = "deepeval"
    RAGAS = "ragas"
    LANGFUSE = "langfuse"
    LANGSMITH = "langsmith"
    BRAINTRUST = "braintrust"
    CHAT = "chat"
    PREFERENCES = "preferences"


_LEARNED = frozenset({Target.CHAT, Target.PREFERENCES})
"""Forms that a model learns from."""


class Part(StrEnum):
    """Which cases."""

    ALL = "all"
    DEV = "dev"
    HELDOUT = "heldout"
    SHADOW = "shadow"


def _plain(case: Mapping[str, Any]) -> dict[str, Any]:
    return dict(case)


_SHAPES: Mapping[Target, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
    Target.JSONL: _plain,
    Target.PROMPTFOO: promptfoo,
    Target.OPENAI: openai,
    Target.DEEPEVAL: tools.deepeval,
    Target.RAGAS: tools.ragas,
    Target.LANGFUSE: tools.langfuse,
    Target.LANGSMITH: tools.langsmith,
    Target.BRAINTRUST: tools.braintrust,
    Target.CHAT: tools.chat,
    Target.PREFERENCES: tools.preference,
}


def exported(target: Target, part: Part, rows: pa.Table) -> tuple[int, bytes]:
    """Return how many cases there are, and the content of the file."""
    cases = [{**case, "split": split(case)} for case in rows.to_pylist()]
    cases = [c for c in cases if part in (Part.ALL, c["split"])]
    if target in _LEARNED:
        cases = [c for c in cases if not held_out(c["case_id"])]
    if target is Target.PARQUET:
        buffer = io.BytesIO()
        names = [name for name in rows.column_names if name not in ("review", "reviewed_by")]
        pq.write_table(pa.Table.from_pylist(cases, rows.select(names).schema), buffer, compression="zstd")
        return len(cases), buffer.getvalue()
    shaped = [row for case in cases if (row := _SHAPES[target](case)) is not None]
    if target is Target.DEEPEVAL:
        return len(shaped), (json_line(shaped) + "\n").encode()
    return len(shaped), "".join(json_line(row) + "\n" for row in shaped).encode()
