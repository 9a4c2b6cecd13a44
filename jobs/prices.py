"""Keeps the price book up to date, and corrects the cost of landed calls to current prices.

No landed row is changed: ``cost_adjustments`` gets a row with the difference, and the view ``calls`` adds it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from pipelines.kafka import KafkaConfig
from pipelines.pricing import PriceBook, PriceBookError, PriceBooks, default_book
from pipelines.pricing.book import Key
from pipelines.pricing.price import UNPRICED
from pipelines.pricing.published import announce, published
from pipelines.pricing.reprice import READ, Group, PriceGroups, adjustments, wanted
from warehouse import adjust
from warehouse.adjust import Choice
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

log = structlog.get_logger(__name__)
DAYS = 35
"""The job looks back so far: a month's bill, and late labels."""
_ROWS = 50_000
"""Calls in memory, and adjustments of one transaction, at most."""
_START = date(1970, 1, 1)
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class RepriceReport:
    """What re-pricing did, or would do."""

    done: bool
    """False where it was stopped half way; the next run continues."""
    took_s: float
    looked_at: int
    """Calls that were priced again."""
    priced: int
    """That had no cost before."""
    corrected: int
    """Whose cost was another one."""
    delta_usd: Decimal
    """Sum of all adjustments."""


@dataclass(frozen=True)
class PricesReport:
    """What one run of the job did."""

    ok: bool
    book: str
    """Version by which calls were priced again."""
    announced: bool
    """Whether that book is new on llm.prices."""
    repriced: RepriceReport

    def to_json(self) -> str:
        """Encode for ``tailrace job run prices --json``; money as text."""
        return msgspec.json.encode(asdict(self)).decode()


def prices(
    config: LakeConfig,
    kafka: KafkaConfig,
    overrides: Sequence[Mapping[str, object]],
    *,
    now: Callable[[], int],
    stop: Callable[[], bool] = lambda: False,
    days: int = DAYS,
) -> PricesReport:
    """Announce the book that is installed, where it is another one, and re-price the calls of the last ``days``.

    Raises:
        LakeMissingError: no lake there.
        RetryableError: the brokers or the catalog do not answer, or another one re-prices; run it again.
    """
    new = announce(kafka, default_book(overrides), now=now())
    book = published(kafka)[-1]
    today = _day(now())
    choice = Choice(today - timedelta(days=days), today + timedelta(days=1))
    repriced = reprice(config, book, choice, now=now, stop=stop)
    return PricesReport(ok=True, book=book.version, announced=new is not None, repriced=repriced)


def reprice(
    config: LakeConfig,
    book: PriceBook,
    choice: Choice,
    *,
    now: Callable[[], int],
    undated: bool = False,
    dry_run: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[date, int], None] = lambda day, calls: None,
    memory_limit: str = "1GiB",
) -> RepriceReport:
    """Correct the cost of the chosen calls to the prices of ``book``; ``pipelines.pricing.reprice`` has the rules.

    Args:
        config: where the lake is.
        book: the current prices.
        choice: which calls.
        now: wall clock, µs UTC.
        undated: also correct calls by prices without a date, where a person has checked their date.
        dry_run: only report what would be done.
        stop: called between slices.
        progress: called now and then with the day and the number of calls checked.
        memory_limit: of DuckDB.

    Raises:
        LakeMissingError: no lake there.
        RetryableError: the catalog does not answer, or another one re-prices; run it again.
    """
    began, done, totals = time.monotonic(), True, _Totals()
    limited = replace(config, memory_limit=memory_limit, threads=1)
    with (
        Lake.open(limited, now=now, lander=False, create=False) as lake,
        # claimed before anything is read, so that all rows that others wrote are read
        nullcontext() if dry_run else adjust.writing(lake, now=now) as adjuster,
    ):
        days = adjust.days(lake, choice)
        chosen = _wanted(lake, book, choice, days, undated, adjuster)
        for day, calls in _calls(lake, choice, days, chosen, adjuster):
            if stop():
                done = False
                break
            rows = adjustments(calls, book, undated=undated)
            if adjuster and rows.num_rows:
                adjuster.write(rows)
            totals.add(calls, rows)
            progress(day, totals.looked_at)
    took = round(time.monotonic() - began, 3)
    counts = {"looked_at": totals.looked_at, "priced": totals.priced, "corrected": totals.corrected}
    log.info("calls_repriced", book=book.version, took_s=took, **counts)
    return RepriceReport(done, took, **counts, delta_usd=totals.delta_usd)


@dataclass
class _Totals:
    """Sums over the calls that were looked at so far; fields as in the report."""

    looked_at: int = 0
    priced: int = 0
    corrected: int = 0
    delta_usd: Decimal = Decimal(0)

    def add(self, calls: pa.Table, rows: pa.Table) -> None:
        """Count ``calls`` and their adjustments ``rows``."""
        unpriced = pc.sum(pc.equal(rows["reason"], UNPRICED)).as_py() or 0
        self.looked_at += len(calls)
        self.priced += unpriced
        self.corrected += len(rows) - unpriced
        self.delta_usd += pc.sum(rows["delta_usd"]).as_py() or 0


def _calls(
    lake: Lake, choice: Choice, days: Sequence[date], chosen: Sequence[PriceGroups], adjuster: adjust.Adjuster | None
) -> Iterator[tuple[date, pa.Table]]:
    """Yield (day, calls to look at), and renew the claim of ``adjuster`` between two of them."""
    for day in days if chosen else ():
        for calls in adjust.calls(lake, choice, day, groups=_table(chosen), columns=READ, rows=_ROWS):
            yield day, calls
            if adjuster:
                adjuster.renew()
        if adjuster:
            adjuster.renew()


def _wanted(
    lake: Lake,
    book: PriceBook,
    choice: Choice,
    days: Sequence[date],
    undated: bool,
    adjuster: adjust.Adjuster | None,
) -> list[PriceGroups]:
    """Return which calls to check one by one; days are read one after the other, so that each fits into memory."""
    counts: Counter[tuple[Key, str, bool]] = Counter()
    for day in days:
        for row in adjust.groups(lake, choice, day):
            key, version = _key(row), str(row["price_version"])
            counts[key, version, True] += int(str(row["priced"]))
            counts[key, version, False] += int(str(row["unpriced"]))
        if adjuster:
            adjuster.renew()
    versions = sorted({version for _, version, _ in counts})
    rows = lake.query("SELECT version, book FROM prices WHERE version = ANY($1)", [versions]).to_pylist()
    old = PriceBooks([book, *_books(row["book"] for row in rows)])
    names = dict.fromkeys((key, version) for key, version, _ in counts)
    groups = [Group(key, v, unpriced=counts[key, v, False], priced=counts[key, v, True]) for key, v in names]
    since, until = _micros(choice.since), _micros(choice.until + timedelta(days=1)) - 1
    return wanted(groups, old, book, since=since, until=until, undated=undated)


def _key(row: Mapping[str, object]) -> Key:
    provider, model, response_model, tier = (
        None if (value := row[name]) is None else str(value)
        for name in ("provider", "model", "response_model", "service_tier")
    )
    return provider, model, response_model, tier


def _books(texts: Iterable[str]) -> Iterable[PriceBook]:
    for text in texts:
        try:
            yield PriceBook.from_json(text.encode())
        except PriceBookError as error:  # its calls are looked at one by one
            log.warning("landed_price_book_refused", cause=str(error))


def _table(chosen: Sequence[PriceGroups]) -> pa.Table:
    names = ("provider", "model", "response_model", "service_tier")
    columns = {name: pa.array([w.key[i] for w in chosen], pa.string()) for i, name in enumerate(names)}
    columns["price_version"] = pa.array([w.version for w in chosen], pa.string())
    columns["also_priced"] = pa.array([w.also_priced for w in chosen], pa.bool_())
    return pa.table(columns)


def _day(at: int) -> date:
    return _START + timedelta(days=at // _DAY_US)


def _micros(day: date) -> int:
    return (day - _START).days * _DAY_US
