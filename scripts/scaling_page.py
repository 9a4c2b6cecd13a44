"""Write docs/operate/scaling.md from the unit costs that ``make bench-scale_sim`` measured; ``make docs`` runs it.

The numbers are computed by bench/_scale_model.py from bench/scale_costs.json. Prices and sizes are options: with any of
them the page is printed, not written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operate" / "scaling.md"
MEASURED = ROOT / "bench" / "scale_costs.json"
sys.path.insert(0, str(ROOT / "bench"))

from _scale_model import Costs, Load, Plan, Prices, Sizing, plan, walls  # noqa: E402

RATES = (10_000, 100_000, 1_000_000)
APPS = (1, 100, 10_000)
AIM = 0.2
PRICES_OF = "2026-11-30"
LONG_WAIT = {"meter_wait_s": 5.0, "meter_rows": 30_000}
NUMBERS = ("cores", "memory_gb", "kafka_gb", "lake_gb", "usd_month")

UNITS = (
    ("land: poll and decode an event", "land_prepare_s", 1e6, "µs of a core", "measured"),
    ("land: write it, inside the transaction", "land_commit_s", 1e6, "µs of a core", "measured"),
    ("the same in wall time: the ledger is held", "land_commit_wall_s", 1e6, "µs", "measured"),
    ("land: a transaction with 200 events", "commit_wall_s", 1e3, "ms", "measured"),
    ("land: a rollup message", "land_message_s", 1e6, "µs of a core", "measured"),
    ("land: a row of it", "land_row_s", 1e6, "µs of a core", "measured"),
    ("the same, the part inside the transaction, wall time", "land_row_wall_s", 1e6, "µs", "measured"),
    ("meter: an event", "meter_event_s", 1e6, "µs of a core", "measured"),
    ("meter: a row of a rollup", "meter_row_s", 1e6, "µs of a core", "measured"),
    ("detect: a rollup message", "detect_message_s", 1e6, "µs of a core", "measured"),
    ("detect: a row of it", "detect_row_s", 1e6, "µs of a core", "measured"),
    ("detect: ten seconds of an app", "detect_bucket_s", 1e6, "µs of a core", "`bench-live_ticks`"),
    ("broker: take an event in, hand it out twice", "broker_event_s", 1e6, "µs of a core", "measured, one replica"),
    ("an event as JSON", "event_bytes", 1, "bytes", "measured"),
    ("on a broker's disk (lz4)", "kafka_bytes", 1, "bytes", "measured"),
    ("in the lake (Parquet)", "lake_bytes", 1, "bytes", "measured"),
    ("a rollup row in the lake", "row_bytes", 1, "bytes", "measured"),
    ("memory of a copy of land", "land_mb", 1, "MiB", "measured"),
    ("memory of a copy of meter", "meter_mb", 1, "MiB", "`bench-throughput`"),
    ("memory of a copy of detect, without apps", "detect_mb", 1, "MiB", "guess"),
    ("memory of detect for an app", "detect_app_mb", 1, "MiB", "measured after minutes; a week of history not"),
)

GROWS = (
    ("land", "decoding and writing, linear", "a message an app, partition and batch of meter, and its rows",
     "embeddings of the texts that are sampled", "no, where maintain keeps up (`bench-commits`)"),
    ("meter", "linear", "rows; users beyond 2,000 of a partition share one series", "20 texts/s in all", "no"),
    ("detect", "no", "messages, rows, ten-second buckets of every app", "no", "no: a ring of fixed length an app"),
    ("drift", "no", "points of every app", "20 texts/s in all (`meter.samples_per_s`)", "windows of fixed length"),
    ("Kafka", "bytes, 7 days", "rollups, 3 days", "texts, 1 day", "up to the retention"),
    ("lake", "bytes", "rows of rollups, 90 days", "embeddings, 30 days", "bytes; files are merged to one a day"),
    ("catalog", "no: a commit a second and copy of land", "no", "no", "files; snapshots of half an hour"),
)  # fmt: skip
TEXT = """# Scaling

Made by `make docs` from unit costs that `make bench-scale_sim` measured ({date}; {machine}).
Costs, plans and limits are computed by `bench/_scale_model.py` from `bench/scale_costs.json`. Nothing larger than this
machine was run: plans are arithmetic, to two digits. Each table says what is measured, calculated or a guess.

## What grows with what

{grows}

Ticks grow with copies times partitions: every copy of meter sends two a second to every partition of `llm.rollups`.

## Unit costs

An event is a call of {event_bytes:,.0f} bytes of JSON with its texts redacted in the app. With 4 KB, land takes 2.9
times as much and meter 1.7 times (`bench-throughput`: 33,600 and 11,700 a core; 37,400 and 21,500).

{units}

## 1, 2 and 4 copies on this machine

A backlog of {backlog:,} events on {partitions} partitions, broker and PostgreSQL on the same two cores. Predicted by
`bench/_scale_drain.py` from the unit costs of as many processes as there are copies, which measure at the same time,
each with a topic and a lake: processes that share cores and caches need more processor time for the same work. The
greatest error is {worst_error:.0%}, {verdict} (the fastest of {rounds}; load of the machine at the start: {load}).

{copies}

Copies of meter share nothing but the cores. Copies of land share the decoding. Their transactions exclude each other:
DuckLake refuses one that moved the ledger while another that did so committed, and its files are written again. Beyond
as many copies as cores, both stages gain nothing, and land pays for repeated writes. A negative error is a prediction
that was too good; where land has one, plans with several copies of land on a lake are too good as well.

## Plans

Apps are equally busy. An app has {values} values of: itself, feature, team, tenant, model, prompt version, release,
user, feature with model. A copy, and the ledger, is used to {utilisation:.0%}. Where the ledger of one lake would be
held for longer, apps are split among several lakes: topics (`TAILRACE_KAFKA__PREFIX`), PostgreSQL and stages apart.
Partitions and copies are those of one lake; cores, memory, commits, rows, bytes and money are of all. All of it is
calculated, with {replication} replicas in Kafka.

{plans}

\\* One app in several lakes: each judges a part of its traffic, so its alerts are not those of the app. Read it as "not
supported at this rate".

### The first wall of one lake

The rate at which the first limit of one lake with that many apps is reached, at full use. Calculated from measured unit
costs; none was driven to its wall on this machine, which has two cores.

{walls}

All limits of one lake, events/s:

{all_walls}

### What moves it

Cores of the plan, and lakes, as it is and with a change. `meter.batch_wait_s` = 5 with `meter.batch_rows` = 30,000
makes fewer, larger messages, and delays alerts by up to five seconds. Events keyed by the app are all in one partition,
so that a batch holds few apps: producers of your own can do so; the emitter keys by `trace_id`. A hot app is then a hot
partition.

{moved}

Not built: writing the Parquet files before the transaction begins, so that the ledger is held for the
{commit_ms:.0f} ms of a small commit only; fewer families of series than `pipelines/meter/plan.py` has.

## Assumptions

| | | |
|---|---|---|
{assumptions}

`python scripts/scaling_page.py --core-month 20 --lake-days 90` prints the page with others.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def short(value: float) -> str:
    """Return two significant digits, with thousands separated; the plan is no more exact than that."""
    if value <= 0:
        return "0"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def _plan_row(found: Plan) -> list[object]:
    one = found.lake
    several = f"{found.lakes:,}" + ("\\*" if found.lakes > found.load.apps else "")
    return [
        f"{found.load.events_per_s:,.0f}",
        f"{found.load.apps:,}",
        several,
        one.partitions,
        f"{one.land_copies} / {one.meter_copies} / {one.detect_copies}",
        *(short(getattr(found, name)) for name in NUMBERS[:2]),
        short(found.lakes * one.commits_per_s),
        short(found.lakes * one.rollups.rows),
        *(short(getattr(found, name) / 1000) for name in NUMBERS[2:4]),
        short(found.usd_month),
    ]


def page(measured: dict[str, Any], sizing: Sizing, prices: Prices) -> str:
    """Return the page for what `scale_sim` measured."""
    costs = Costs(**measured["costs"])
    loads = [Load(rate, apps) for rate in RATES for apps in APPS]
    plans = [plan(load, costs, sizing, prices) for load in loads]
    head = ("events/s", "apps", "lakes", "partitions", "copies of land / meter / detect", "cores", "memory, GiB",
            "commits/s", "rollup rows/s", "Kafka, TB", "lake, TB", "USD a month")  # fmt: skip
    limits = {apps: walls(apps, costs, sizing) for apps in APPS}
    kept = [
        *((_option(f.name), getattr(sizing, f.name), _why(f.name)) for f in fields(sizing)),
        *((_option(f.name), getattr(prices, f.name), f"USD, {PRICES_OF}: {_why(f.name)}") for f in fields(prices)),
        ("other cores of a lake", 4, "guess: PostgreSQL 2, drift 1, notify and schedule 1"),
        ("files that maintain merges", "34/s", "measured elsewhere (`bench-merge`)"),
    ]  # fmt: skip
    return TEXT.format(
        date=measured["machine"].split(",")[0],
        machine=measured["machine"].split(", ", 1)[1].split(", load")[0],
        grows=table(("", "with events", "with series and apps", "with samples", "with days"), GROWS),
        event_bytes=costs.event_bytes,
        units=table(
            ("what", "costs", "unit", "how known"),
            ((text, short(getattr(costs, name) * factor), unit, how) for text, name, factor, unit, how in UNITS),
        ),
        backlog=measured["events"],
        partitions=measured["partitions"],
        worst_error=measured["worst_error"],
        verdict=f"{'within' if measured['worst_error'] <= AIM else 'above'} the aim of {AIM:.0%}",
        rounds=f"{measured['rounds']} round" + "s" * (measured["rounds"] > 1),
        load=measured["machine"].split("load ")[1].split(",")[0],
        copies=table(
            ("stage", "copies", "predicted, events/s", "measured", "error", "repeated commits, predicted / measured"),
            _copies(measured),
        ),
        values=", ".join(f"{n:,}" for n in loads[0].values),
        utilisation=sizing.utilisation,
        replication=sizing.replication,
        plans=table(head, map(_plan_row, plans)),
        walls=_walls_table(plans),
        all_walls=table(
            ("limit", *(f"{apps:,} app{'s' if apps > 1 else ''}" for apps in APPS), "how known", "moved by"),
            _all_walls(limits),
        ),
        moved=_moved(loads, costs, sizing, prices),
        commit_ms=costs.commit_wall_s * 1e3,
        assumptions="\n".join(f"| {a} | {b} | {c} |" for a, b, c in kept),
    )


def _copies(measured: dict[str, Any]) -> Iterable[list[object]]:
    for stage in ("land", "meter"):
        for copies in (1, 2, 4):
            found = measured[f"{stage}_{copies}"]
            retries = f"{found['predicted_retries']} / {found['retries']:.0f}" if stage == "land" else "none"
            yield [stage, copies, f"{found['predicted_per_s']:,}", f"{found['measured_per_s']:,}",
                   f"{found['error']:+.0%}", retries]  # fmt: skip


def _walls_table(plans: Sequence[Plan]) -> str:
    def row(found: Plan) -> list[object]:
        rate = found.load.events_per_s
        where = "not reached" if found.wall.events_per_s > rate else "reached"
        return [
            f"{rate:,.0f}",
            f"{found.load.apps:,}",
            found.wall.name,
            short(found.wall.events_per_s),
            found.wall.known,
            where,
        ]

    return table(
        ("events/s", "apps", "first wall of one lake", "at events/s", "how known", "at this rate"), map(row, plans)
    )


def _all_walls(limits: dict[int, Any]) -> Iterable[list[object]]:
    for wall in limits[APPS[0]]:
        same = [next(w for w in limits[apps] if w.name == wall.name) for apps in APPS]
        yield [
            wall.name,
            *(short(w.events_per_s) if w.events_per_s < 1e8 else "none" for w in same),
            wall.known,
            wall.moved_by,
        ]


def _moved(loads: Sequence[Load], costs: Costs, sizing: Sizing, prices: Prices) -> str:
    ways = (sizing, replace(sizing, **LONG_WAIT), replace(sizing, by_app=True),
            replace(sizing, by_app=True, **LONG_WAIT))  # fmt: skip
    rows = []
    for load in loads:
        found = [plan(load, costs, way, prices) for way in ways]
        rows.append([f"{load.events_per_s:,.0f}", f"{load.apps:,}",
                     *(f"{short(p.cores)} ({p.lakes:,})" for p in found)])  # fmt: skip
    head = ("events/s", "apps", "cores (lakes)", "wait of 5 s", "keyed by app", "both")
    return table(head, rows)


def _option(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


def _why(name: str) -> str:
    return {
        "utilisation": "how full a copy or the ledger may be: guess",
        "replication": "replicas of every topic",
        "kafka_days": "retention of `llm.events`; the other topics are small beside it",
        "lake_days": "days of calls and rollups in the lake (the default keeps calls for ever)",
        "old_file_days": "merged files stay beside the new ones",
        "meter_wait_s": "default of `meter.batch_wait_s`",
        "meter_rows": "default of `meter.batch_rows`",
        "by_app": "whether producers key events by the app",
        "core_month": "a core with 4 GiB, on demand; about what a general cloud machine costs",
        "object_gb_month": "S3 standard's first 50 TB",
        "disk_gb_month": "general SSD volume",
        "object_write_million": "PUT requests; reads, transfer and backups are left out",
    }[name]


def _options(parser: argparse.ArgumentParser) -> None:
    for kind in (Sizing, Prices):
        for field in fields(kind):
            name, default = f"--{field.name.replace('_', '-')}", field.default
            if isinstance(default, bool):
                parser.add_argument(name, action="store_true", help=_why(field.name))
            else:
                parser.add_argument(name, type=type(default), default=default, help=_why(field.name))


def main() -> None:
    """Write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    _options(parser)
    chosen = vars(parser.parse_args())
    sizing, prices = (kind(**{f.name: chosen[f.name] for f in fields(kind)}) for kind in (Sizing, Prices))
    text = page(json.loads(MEASURED.read_text(encoding="utf-8")), sizing, prices)
    if (sizing, prices) == (Sizing(), Prices()):
        PAGE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
