"""What every column means: comments in the lake, and the data dictionary for people."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from schemas.tables import TABLES, Table
from warehouse.query.shipped_views import VIEWS, ShippedView

_RAW_OF = {
    "calls": "raw_calls",
    "feedback": "raw_feedback",
    "evals": "raw_evals",
    "calls_as_known_at": "raw_calls",
    "golden": "golden_cases",
}
_LANDED = {
    "_landed_at": "when land wrote the row",
    "day": "day of the record; the partition key",
    "key": "Kafka key of the record: the app, or * for series that span apps",
    "row": "the record as JSON",
    "table": "which small table the record is for",
    "at": "when the record was made",
}
# columns whose declaration carries no text: those of messages between stages, and of our own small tables
_DOCS: Mapping[str, Mapping[str, str]] = {
    "rollups": {
        "dims": "names of the dimensions of the series, joined by a comma; empty = everything",
        "series": "the series as a JSON object, in the order of dims",
        "second": "second of event time since 1970 UTC",
        "calls": "calls that began in this second",
        "errors": "of them, ended in an error",
        "blocked": "blocked by a guardrail",
        "refused": "refused by the model",
        "truncated": "cut at the token limit",
        "fallbacks": "made in place of a model that had failed",
        "retrievals": "with a retrieval",
        "empty_retrievals": "with a retrieval that found nothing",
        "unpriced": "without a known cost, or with that of a part of its usage only",
        "cache_exact": "answered by the app's exact cache",
        "cache_semantic": "answered by the app's semantic cache",
        "usage_missing": "without token counts of the provider",
        "costs_compared": "with a reported cost and a whole computed one",
        "cost_differs": "of these, the reported cost is more than 1 % off the computed one",
        "input_tokens": "input tokens, cached included",
        "output_tokens": "output tokens, reasoning included",
        "cache_read_tokens": "input tokens served from the prompt cache",
        "cache_write_tokens": "input tokens written to the prompt cache",
        "reasoning_tokens": "output tokens spent on reasoning",
        "cost_nanousd": "sum of known costs, nano-USD",
        "shadow_calls": "of calls, those of shadow and canary variants; 0 in series of a variant, NULL = not counted",
        "shadow_errors": "of errors, the same",
        "shadow_blocked": "of blocked, the same",
        "shadow_refused": "of refused, the same",
        "retried_calls": "of calls, another attempt; NULL = not counted by the version that wrote the row",
        "cache_saved_nanousd": "what cache reads saved against the price of input tokens; NULL = not counted",
        "guardrails": "triggers by guardrail and action",
        "error_types": "failures by error type and status",
        "signals": "sampled texts that were scored, and hits of each text signal, by side",
        "latency": "calls per latency bucket: bucket i holds milliseconds in (1.02^(i-1), 1.02^i]",
        "ttft": "calls per bucket of time to first token, as latency",
        "call_tokens": "calls per bucket of their tokens: bucket i holds (1.1^(i-1), 1.1^i]; NULL = not counted",
        "call_cost": "calls per bucket of their cost in nano-USD, as call_tokens; NULL = not counted",
        "exemplars": "calls that stand for a measure: dearest, longest, lowest hash, one per guardrail and error",
        "source_epoch": "epoch of llm.events that was counted",
        "source_partition": "partition of llm.events that was counted",
        "source_from": "first offset counted",
        "source_to": "offset after the last one counted",
        "part": "part i/n of this span's message",
        "price_version": "price book in force",
    },
    "ticks": {
        "wall": "meter's wall time",
        "slot": "which copy of meter speaks",
        "sources": "per source partition: next offset, greatest event time, LogAppendTime, last busy time; µs UTC",
    },
    "embeddings": {
        "call_id": "the sampled call",
        "app": "emitting application",
        "feature": "product feature",
        "model": "model of the call",
        "side": "which text: input, output or query",
        "ts": "event time of the call",
        "source_partition": "partition of the call in llm.events",
        "source_offset": "offset of the call in llm.events",
        "embedding_model": "model that made the vector; style-1: style of an answer",
        "scale": "vector = int8 * scale",
        "vector": "the embedding, or the style of an answer, quantised to int8",
        "chars": "length of the text",
        "words": "words of the text",
        "features": "style features of the text",
        "text": "the text, redacted, cut to 500 characters; empty for answers",
    },
    "alerts": {
        "id": "deterministic id of the alert: of rule, series and start of the window",
        "seq": "0 for the first message, then 1, 2, ...; firing above 0 reopens a resolved alert",
        "fingerprint": "identity of rule and series",
        "detector": "which detector judged",
        "rule": "which rule fired",
        "severity": "info, warning or critical",
        "state": "firing, update or resolved",
        "series": "the series as JSON",
        "window_start": "start of the window, event time",
        "window_end": "end of the window, event time",
        "observed": "what was seen, in unit",
        "expected": "what was expected, in unit",
        "score": "how far out of the ordinary",
        "unit": "unit of observed and expected",
        "title": "one line for people",
        "late": "it was history when it was judged: found in a backlog",
        "detected_at": "wall time of the record that decided",
        "sql": "query that returns observed",
        "call_ids": "calls that show it",
        "alert": "the whole alert as JSON",
    },
    "deliveries": {
        "alert_id": "the alert",
        "seq": "its state change",
        "channel": "name of the channel, never its URL",
        "state": "pending, retry, delivered, failed or silenced",
        "attempts": "tries so far",
        "retry_at": "when it is tried again",
        "detail": "the receiver's answer, or why it was not sent",
        "digest": "id of the digest that names it in its place; empty where it is sent by itself",
    },
    "gaps": {
        "topic": "topic without its prefix",
        "partition": "partition",
        "from_offset": "first position that was lost",
        "to_offset": "position after the last lost one",
        "cause": "what took them",
        "found_at": "when land found out",
    },
    "no_record_ranges": {
        "topic": "topic without its prefix",
        "from_offset": "first position without a record",
        "to_offset": "position after the last one",
        "day": "day on which land passed them",
    },
    "late_duplicates": {
        "id": "id of the event",
        "kept_epoch": "epoch of the event that counts in its place, the first one",
        "kept_partition": "its partition",
        "kept_offset": "its offset",
        "near": "whether land had marked it already: then it is here because it contradicts",
        "conflict": "whether the two say something else",
        "found_at": "when the doubling was found",
    },
    "duplicate_checks": {
        "checked_at": "when the job looked",
        "from_offset": "first position looked at",
        "to_offset": "position after the last one",
    },
    "retired_days": {
        "topic": "topic without its prefix",
        "table": "table that lost the day",
        "positions": "rows that went, each a position",
        "from_offset": "first of their offsets",
        "to_offset": "offset after the last of them",
        "retired_at": "when",
    },
    "ledger": {
        "topic": "topic without its prefix",
        "topic_id": "the broker's id of the topic",
        "epoch": "grows when the topic is made again and adopted; the greatest is the current one",
        "partition": "partition",
        "start_offset": "first position this epoch was landed from",
        "next_offset": "next position to land",
    },
    "job_claims": {
        "job": "name of the job",
        "due_at": "the last due time that was taken; of golden/SET: until when failures were looked for",
        "attempt": "1, then 2, ... where a scheduler was killed in the middle of it; 0: nothing was due yet",
        "owner": "host and home of the scheduler that took it",
        "claimed_at": "when it did; of golden/SET: from when on failures were looked for",
        "lease_until": "until when nobody else may take it",
        "ended_at": "when the run ended; NULL while it goes on, or where it was killed",
    },
    "prices": {
        "version": "content address of the price book",
        "effective_from": "LogAppendTime from which it is in force",
        "book": "the book as JSON",
    },
    "cost_adjustments": {
        "id": "the call",
        "cost_usd": "cost after the adjustment",
        "delta_usd": "difference to what was known before",
        "price_version": "price book that was used",
        "cost_status": "computed, partly_priced or free by that book; NULL = written by version 0.1 or older",
        "reason": "why",
        "adjusted_at": "when",
    },
    "golden_cases": {
        "set_name": "name of the golden set",
        "version": "version of the set; each holds all its cases",
        "case_id": "the case, the same in every version: a hash of set and call",
        "call_id": "the call that failed",
        "call_epoch": "epoch of the call in llm.events",
        "call_partition": "its partition",
        "call_offset": "its offset",
        "ts": "event time of the call",
        "app": "emitting application",
        "feature": "product feature",
        "model": "model asked for",
        "response_model": "model that answered",
        "prompt_name": "name of the prompt template",
        "prompt_version": "version of the prompt template",
        "reasons": "why, the gravest first: thumbs_down, low_rating, edited, guardrail, blocked, error, refused, "
        "truncated, comment, low_score:NAME (of the eval), drift",
        "stratum": "under what it was drawn: app, feature (* = the app's rarer ones), kind of the first reason; a JSON "
        "list",
        "added_in": "version that brought it in",
        "system_text": "system instructions; like all texts of a case redacted again, whatever the app's mode",
        "messages": "the conversation sent",
        "input_text": "text of the last user turn; NULL, like all its texts, once a review has rejected the case",
        "output_text": "the answer that failed",
        "retrieval_docs": "what was retrieved",
        "expected": "what the answer should be; NULL = nobody said",
        "expected_from": "who said so: edit (the user's) or review",
        "variables": "values put into the template, as JSON",
        "rubric": "what a good answer to this case does, in words for a judge; NULL = nobody said",
    },
    "golden_versions": {
        "set_name": "name of the golden set",
        "version": "1, 2, ...",
        "parent": "version it was made from; NULL for the first",
        "content_hash": "SHA-256 over the canonical JSON of its cases as written: equal sets have equal hashes",
        "created_at": "when it was made",
        "window_from": "failures from then on were candidates",
        "window_to": "up to then",
        "cases": "cases in it",
        "added": "of them, new",
        "kept": "of them, in the version before",
        "dropped": "cases of the version before that left: rejected in a review, or for room",
        "candidates": "calls of the window that failed",
        "near_duplicates": "of them, left out because a case says nearly the same",
        "settings": "what it was made with, as JSON",
        "owner": "who made it",
        "blanked": "cases whose texts have gone since; NULL or 0: content_hash is that of what stands here",
    },
    "golden_rejected": {
        "set_name": "name of the golden set",
        "case_id": "the case",
        "sketch": "256 two-bit values (MinHash) of what was asked, hex: they tell what says nearly the same",
        "rejected_at": "when its texts went",
    },
}
_POSITION = {
    "_epoch": "epoch of the topic",
    "_partition": "partition of the record",
    "_offset": "offset of the record",
}

_FIRST_PARAGRAPH = """\
Query the views: `calls`, `feedback`, `evals` and what builds on them hold each id once, at the cost known now.
**Readers of the raw Parquet files get something else**: the files of `raw_calls`, `raw_feedback` and `raw_evals` hold
duplicates (rows with `_dup`, and the positions in `late_duplicates`), no cost corrections (they are rows of
`cost_adjustments`), and NULL in `status` and `op` where an event left them out; and beside them lie files that the
catalog no longer names (merged away, or left by a process that was killed before its commit) until clean-up removes
them. Read the list of live files from the catalog, drop `_dup`, subtract `late_duplicates`, add the adjustments; or let
DuckDB do it: `tailrace sql`, or any DuckDB by the lines of `tailrace attach` (docs/how-to/sql.md).
"""


def column_doc(table: Table, column: str) -> str:
    """Return what ``column`` of ``table`` means, with its unit; empty where it is not declared."""
    declared = next((c for c in table.columns if c.name == column), None)
    doc = (declared.doc if declared else "") or _DOCS.get(table.name, {}).get(column, "")
    doc = doc or _LANDED.get(column, "") or _POSITION.get(column, "")
    return f"{doc} [{declared.unit}]" if doc and declared and declared.unit else doc


def view_doc(question: ShippedView, column: str) -> str:
    """Return what ``column`` of a public view means: as its file has it, else as the tables that it reads."""
    if column in question.columns:
        return question.columns[column]
    raw = _RAW_OF.get(question.name)
    first = [t for t in TABLES if t.name == raw] if raw else []
    found = (column_doc(t, column) for t in (*first, *TABLES) if any(c.name == column for c in t.columns))
    doc = next((doc for doc in found if doc), "")
    default = next((c.default for t in first for c in t.columns if c.name == column), "")
    return f"{doc}, filled in here" if default else doc


def data_dictionary(view_columns: Mapping[str, list[tuple[str, str]]]) -> str:
    """Return docs/reference/data-dictionary.md.

    Args:
        view_columns: public view -> its (column, type) pairs, read from a lake.
    """
    lines = [
        "# Data dictionary",
        "",
        *textwrap.wrap(_FIRST_PARAGRAPH, 118),
        "",
        "Generated from `schemas/tables.py` and `warehouse/views/` by `warehouse.comments.data_dictionary`.",
        "",
        "## Views",
    ]
    for question in VIEWS:
        call = f"{question.name}({', '.join(question.parameters)})" if question.parameters else question.name
        rows = [(name, kind, view_doc(question, name)) for name, kind in view_columns[question.name]]
        lines += _section(call, question.doc, rows)
    lines += ["", "## Tables"]
    for table in TABLES:
        rows = [(c.name, c.duckdb, column_doc(table, c.name)) for c in table.columns]
        lines += _section(table.name, table.doc + ".", rows)
    return "\n".join(lines) + "\n"


def _section(name: str, doc: str, rows: list[tuple[str, str, str]]) -> list[str]:
    body = [
        f"| {column} | {kind.replace('TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ')} | {text} |"
        for column, kind, text in rows
    ]
    return ["", f"### {name}", "", doc, "", "| column | type | meaning |", "|---|---|---|", *body]
