"""Whether costs are right, and how quickly what has landed is priced again.

oracle: usages that a third-party library priced (shared/data), and the share of them that our book prices alike, to two
nano-USD; left out, and said, where the data is absent. reprice: calls without a price stand in a lake as land writes
them; a book with their price comes; they are re-priced once (all of them), and once more (none). The bill is compared
with a sum of our own, to the last digit. The last line is {"oracle", "agree", "reprice_calls", "reprice_seconds", ...}.
QUICK=1: 100,000 calls.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import tempfile
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from _report import QUICK, REPO, machine, report

from jobs.prices import reprice
from pipelines.pricing import PriceBook, PriceBooks, default_book, price
from schemas.arrow import MONEY, TIME
from schemas.records import Move
from schemas.tables import PRICES, RAW_CALLS
from warehouse.adjust import Choice
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

CALLS = 100_000 if QUICK else 2_000_000
BATCH = 50_000
EVENTS = "llm.events"
RULE = {"model": "inhouse-7b", "input_usd_per_mtok": "1.37", "output_usd_per_mtok": "5.11"}
AUGUST = 1_787_184_000_000_000
"""When the oracle's prices held, µs UTC."""
DAY = date(2026, 11, 18)


def now() -> int:
    return time.time_ns() // 1000


def oracle() -> dict[str, Any]:
    """Return how many usages there are, and the share that cost what the library says."""
    folder = Path(os.environ.get("TAILRACE_TEST_DATA") or REPO.parent / "shared" / "data")
    file = folder / "payloads" / "usage_price_oracle.jsonl.gz"
    if not file.is_file():
        print(f"oracle left out: no {file.name} (set TAILRACE_TEST_DATA)", flush=True)
        return {"oracle": None, "agree": None}
    rows, wanted = [], []
    for line in gzip.decompress(file.read_bytes()).splitlines():
        case = json.loads(line)
        for extracted in case["extracted"]:
            for one in extracted["extractors"]:
                if case.get("model") and "input_price" in one and extracted["usage"]:
                    tokens: dict[str, int | None] = {
                        f"{k.removesuffix('_tokens')}_tokens": int(v) for k, v in extracted["usage"].items()
                    }
                    tokens["audio_in_tokens"] = tokens.pop("input_audio_tokens", None)
                    tokens["reasoning_tokens"] = tokens.pop("output_reasoning_tokens", None)
                    rows.append({"provider": one["provider_id"], "model": case["model"], **tokens})
                    wanted.append(Decimal(one["input_price"]) + Decimal(one["output_price"]))
    names = ("provider", "model", "response_model", "service_tier", "answer_cache", "status")
    parts = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "audio_in", "audio_out")
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
    columns |= {f"{p}_tokens": pa.array([row.get(f"{p}_tokens") for row in rows], pa.int64()) for p in parts}
    columns["cost_reported_usd"] = pa.nulls(len(rows), MONEY)
    columns |= {name: pa.array([AUGUST] * len(rows), pa.int64()).cast(TIME) for name in ("ts", "_kafka_time")}
    found = price(pa.table(columns), PriceBooks([default_book()]))["cost_usd"].to_pylist()
    near = Decimal("0.000000002")
    agree = sum(g is not None and abs(g - w) <= near for g, w in zip(found, wanted, strict=True))
    return {"oracle": len(rows), "agree": round(agree / len(rows), 4)}


def land(config: LakeConfig, book: PriceBook) -> Decimal:
    """Land the calls unpriced; return what they cost by RULE."""
    draw = random.Random(7)
    at = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    usd = Decimal(0)
    with Lake.open(config, now=now) as lake:
        lake.ensure_partitions(EVENTS, "bench", {0: 0})
        for start in range(0, CALLS, BATCH):
            rows = []
            for offset in range(start, min(start + BATCH, CALLS)):
                tokens = {"input_tokens": draw.randrange(1, 9000), "output_tokens": draw.randrange(1, 900)}
                usd += (tokens["input_tokens"] * 137 + tokens["output_tokens"] * 511) / Decimal(100_000_000)
                ts = at + timedelta(milliseconds=offset * 40)
                place = {"_epoch": 0, "_partition": 0, "_offset": offset, "_kafka_time": ts, "day": ts.date()}
                row = {"id": str(uuid.UUID(int=offset)), "ts": ts, "app": "bot", "model": "inhouse-7b", "_dup": False}
                rows.append({**row, **tokens, **place})
            table = price(pa.Table.from_pylist(rows, schema=RAW_CALLS.schema), PriceBooks([book]))
            lake.append(
                {"raw_calls": table.select(RAW_CALLS.schema.names)}, [Move(EVENTS, 0, start, start + len(rows))]
            )
        said = {"version": book.version, "effective_from": at, "book": book.to_json().decode(), "_landed_at": at}
        lake.insert({"prices": pa.Table.from_pylist([said], schema=PRICES.schema)})
    return usd


def main() -> None:
    print(machine("genai-prices", "duckdb", "pyarrow"), flush=True)
    figures = oracle()
    with tempfile.TemporaryDirectory(prefix="tailrace-prices-") as folder:
        config = LakeConfig(f"{folder}/catalog.sqlite", f"{folder}/data")
        usd = land(config, default_book())
        everything = Choice(DAY, DAY + timedelta(days=2))
        new = default_book([RULE])
        first = reprice(config, new, everything, now=now)
        again = reprice(config, new, everything, now=now)
        with ReadOnlyLake.open(config) as lake:
            (bill,) = lake.query("SELECT sum(cost_usd) AS usd, count(cost_usd) AS n FROM calls").to_pylist()
    assert (bill["usd"], bill["n"], first.priced) == (usd, CALLS, CALLS), (bill, usd, first)
    assert again.looked_at == 0, again
    figures |= {
        "reprice_calls": first.priced,
        "reprice_seconds": first.took_s,
        "reprice_per_s": round(first.priced / first.took_s),
        "nothing_left_seconds": again.took_s,
        "bill_exact": True,
    }
    report(figures, "genai-prices", "duckdb", "pyarrow")


if __name__ == "__main__":
    main()
