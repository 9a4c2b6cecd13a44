"""``call``: one call whole, as it landed: texts, tools, retrieval, checks, and what it cost by which price."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import typer

from tailrace.cli.context import get, print_json
from tailrace.cli.ids import call_id
from tailrace.cli.lake import open_lake
from tailrace.cli.render.page import Page
from tailrace.cli.render.printable import printable
from tailrace.records.trace_links import links
from warehouse.query.readonly import ReadOnlyLake

_CALL = "SELECT * FROM calls WHERE id = $1::UUID LIMIT 1"
_BOOK = "SELECT book FROM prices WHERE version = $1 LIMIT 1"
_FEEDBACK = "SELECT kind, score, label, comment, edited, ts FROM feedback WHERE call_id = $1::UUID ORDER BY ts"
_EVALS = "SELECT name, score, label, explanation, ts FROM evals WHERE call_id = $1::UUID ORDER BY ts"
_SHOWN = (
    *("id", "ts", "day", "app", "feature", "team", "tenant_id", "user_id", "env", "release", "session_id", "trace_id"),
    *("model", "response_model", "provider", "op", "finish_reason", "prompt_name", "prompt_version", "status"),
    *("latency_ms", "ttft_ms", "input_tokens", "output_tokens", "cost_usd", "cost_status", "cost_landed_usd"),
    *("price_version", "error_type", "error_code", "error_message", "guardrails", "tools"),
    *("system_text", "messages", "input_text", "output_text", "retrieval_query", "retrieval_docs"),
)
"""Columns that have a place of their own on the page; what else is set is listed under ``further``."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("call")(_call)


def _call(
    context: typer.Context,
    call: Annotated[str, typer.Argument(help="Id of the call, or a beginning that only one has.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show one call whole: prompt, answer, tools, retrieval, checks, and its cost with the price.

    The texts are those that landed: as the app redacted them, or redacted at ingest.
    """
    with open_lake(get(context)) as lake:
        found = call_id(lake, call)
        table = lake.query(_CALL, [found])
        row = table.to_pylist()[0]
        price = _price(lake, table, row)
        attached = {
            "feedback": lake.query(_FEEDBACK, [found]).to_pylist(),
            "evals": lake.query(_EVALS, [found]).to_pylist(),
        }
    if as_json:
        print_json({**row, "price": price, **attached})
    else:
        traces = [row["trace_id"]] if row["trace_id"] else []
        _print(row, price, attached, links(get(context).settings.trace_links, traces))


def _price(lake: ReadOnlyLake, table: pa.Table, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each component costs by the book of the call; [] where no book set the cost."""
    from pipelines.pricing import PriceBook
    from pipelines.pricing.price import shares

    if row["cost_status"] not in ("computed", "partly_priced", "repriced", "free") or row["price_version"] is None:
        return []
    books = lake.query(_BOOK, [row["price_version"]]).to_pylist()
    if not books:
        return []
    return [
        {
            "component": s.component,
            "count": s.count,
            "usd_per_million": s.rate_usd * 1_000_000,
            "usd": s.rate_usd * int(s.count) if s.unit_usd is None else s.unit_usd,
            "unit": s.unit_usd is not None,
        }
        for s in shares(table, PriceBook.from_json(books[0]["book"].encode()))
    ]


def _print(
    row: Mapping[str, Any],
    price: list[dict[str, Any]],
    attached: Mapping[str, list[dict[str, Any]]],
    traces: Sequence[str],
) -> None:
    page = Page()
    model = row["model"] + (f" (answered by {row['response_model']})" if row["response_model"] else "")
    page.title(printable(f"{row['app']} · {model} · {row['status']}"))
    page.fields(
        (
            ("call", row["id"]),
            ("at", f"{row['ts']:%Y-%m-%d %H:%M:%S} UTC"),
            (
                "who",
                _pairs(row, ("feature", "team", "tenant_id", "user_id", "env", "release", "session_id", "trace_id")),
            ),
            ("trace", traces),
            ("model", _pairs(row, ("provider", "op", "finish_reason", "prompt_name", "prompt_version"))),
            ("took", _pairs(row, ("latency_ms", "ttft_ms"))),
            ("tokens", _pairs(row, ("input_tokens", "output_tokens"))),
            ("cost", _cost(row)),
            ("price", [_share(part) for part in price]),
            ("error", _pairs(row, ("error_type", "error_code", "error_message"))),
            ("checks", [_guardrail(each) for each in row["guardrails"] or []]),
        )
    )
    if row["system_text"] is not None:
        page.field("system", row["system_text"])
    messages = row["messages"] or ([{"role": "user", "text": row["input_text"]}] if row["input_text"] else [])
    for message in messages:
        page.field(str(message.get("role") or "input")[:10], message.get("text"))
    page.field("query", row["retrieval_query"])
    page.field("retrieved", [_document(each) for each in row["retrieval_docs"] or []])
    page.field("tools", [_tool(each) for each in row["tools"] or []])
    page.field("answer", "(none landed)" if row["output_text"] is None else row["output_text"])
    for name in ("feedback", "evals"):
        page.field(name, [_pairs(each, each) for each in attached[name]])
    page.field("further", _pairs(row, sorted(k for k in row if k not in _SHOWN and not k.startswith("_"))))


def _pairs(row: Mapping[str, Any], names: Iterable[str]) -> str:
    """``feature=chat  user_id=u-1``: what is not NULL."""
    found = [(name, row.get(name)) for name in names]
    return printable("  ".join(f"{name}={_text(value)}" for name, value in found if value is not None and value != []))


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return _usd(value)
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _cost(row: Mapping[str, Any]) -> str:
    if row["cost_usd"] is None:
        return f"not known ({row['cost_status']})"
    book = f", price book {row['price_version']}" if row["price_version"] else ""
    landed = row["cost_landed_usd"]
    before = f"; landed as ${_usd(landed)}" if landed is not None and landed != row["cost_usd"] else ""
    least = "at least " if row["cost_status"] == "partly_priced" else ""
    return f"{least}${_usd(row['cost_usd'])} ({row['cost_status']}{book}){before}"


def _share(part: Mapping[str, Any]) -> str:
    if part["component"] == "request":
        return f"{part['count']} request at ${_usd(part['usd'])} = ${_usd(part['usd'])}"
    if part["unit"]:
        each = _usd(part["usd_per_million"] / 1_000_000)
        return printable(f"{part['count']:g} {part['component']} at ${each} = ${_usd(part['usd'])}")
    rate = f"${_usd(part['usd_per_million'])} a million"
    return f"{part['count']:,} {part['component']} tokens at {rate} = ${_usd(part['usd'])}"


def _usd(value: Decimal) -> str:
    plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") or "0" if "." in plain else plain


def _guardrail(each: Mapping[str, Any]) -> str:
    return f"{each.get('name')}: {each.get('action')}  {_pairs(each, ('stage', 'category', 'score', 'ms'))}".rstrip()


def _document(each: Mapping[str, Any]) -> str:
    facts = _pairs(each, ("rank", "score", "chunk", "cited", "relevant"))
    return f"{each.get('id')}  {facts}\n{each.get('text') or ''}".rstrip()


def _tool(each: Mapping[str, Any]) -> str:
    return f"{each.get('name')}  {_pairs(each, ('id', 'ok', 'ms'))}\n{each.get('args') or ''}".rstrip()
