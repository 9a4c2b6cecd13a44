"""Re-pricing as rows of a ledger: which calls there are to price again, and their adjustments, written once.

An adjustment is a difference, so two writers that find the same one must not both write it. One writes at a time, by a
row of ``job_claims`` that every write changes: a process that lost the row is refused by the lake itself, and the
outcome of a COMMIT without an answer is read from that row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa

from schemas import faults
from schemas.errors import RetryableError
from schemas.tables import COST_ADJUSTMENTS
from warehouse import claims
from warehouse.claims import Claim
from warehouse.lake import Lake

NAME = "reprice"
"""Name of the row; no job has this name."""
_LEASE_US = 300_000_000
"""Much longer than a slice: a process that did not renew its lease for this time has ended."""
_LAST = "SELECT epoch_us(max(adjusted_at)) AS last FROM cost_adjustments"
_DELTAS = """
SELECT _epoch, _partition, _offset, sum(delta_usd)::DECIMAL(18,9) AS delta_usd,
    arg_max(price_version, adjusted_at) AS version, arg_max(cost_status, adjusted_at) AS status
FROM cost_adjustments WHERE day = $1 GROUP BY ALL
"""
_KNOWN = """
CASE
    WHEN a.delta_usd IS NOT NULL THEN (coalesce(c.cost_usd, 0) + a.delta_usd)::DECIMAL(18,9)
    WHEN c.cost_status = 'reported' AND c.cost_usd = 0 THEN NULL
    ELSE c.cost_usd
END
"""
_PARTLY = "(coalesce(a.status, c.cost_status) = 'partly_priced')"
_UNPRICED = f"({_KNOWN} IS NULL OR {_PARTLY})"
_VERSION = "coalesce(a.version, c.price_version)"
_CHOSEN = """
($2::VARCHAR IS NULL OR c.app = $2)
    AND ($3::VARCHAR IS NULL OR coalesce(c.response_model, c.model) ILIKE $3::VARCHAR ESCAPE '\\')
"""
_FROM = f"""
FROM raw_calls AS c LEFT JOIN ({_DELTAS}) AS a USING (_epoch, _partition, _offset)
WHERE c.day = $1 AND {_CHOSEN} AND NOT coalesce(c._dup, false)
    AND NOT EXISTS (
        FROM late_duplicates AS d
        WHERE d._epoch = c._epoch AND d._partition = c._partition AND d._offset = c._offset
    )
"""
_DAYS = f"SELECT DISTINCT c.day FROM raw_calls AS c WHERE c.day >= $1 AND c.day <= $4 AND {_CHOSEN} ORDER BY 1"
_GROUPS = f"""
SELECT c.provider, c.model, c.response_model, c.service_tier, {_VERSION} AS price_version,
    count(*) FILTER ({_UNPRICED}) AS unpriced, count(*) FILTER (NOT {_UNPRICED}) AS priced {_FROM}
GROUP BY ALL ORDER BY ALL
"""
_MATCH = " AND ".join(
    f"{mine} IS NOT DISTINCT FROM w.{theirs}"
    for mine, theirs in (
        *((f"c.{name}", name) for name in ("provider", "model", "response_model", "service_tier")),
        (_VERSION, "price_version"),
    )
)


class RepricingRunsError(RetryableError):
    """Raised when another re-pricing run holds the lease of this lake."""

    def __init__(self, catalog: str, owner: str) -> None:
        self.owner = owner
        super().__init__(f"{owner} re-prices lake {catalog} already; wait until it is done, or five minutes if it died")


class RepricingLostError(RetryableError):
    """Another process took the lease over, because this one did not renew it in time."""

    def __init__(self, catalog: str) -> None:
        super().__init__(f"another process re-prices lake {catalog} by now; run it again to see what is left")


class Choice:
    """Which calls: whole days, and perhaps one app or model."""

    def __init__(self, since: date, until: date, *, app: str | None = None, model: str | None = None) -> None:
        """Take days (UTC, both included), an app, and a model's name in which * matches any text."""
        self.since, self.until = since, until
        self._rest = [app, None if model is None else _like(model)]

    def on(self, day: date) -> list[object]:
        """Return the parameters of a question about one day."""
        return [day, *self._rest]


def days(lake: Lake, choice: Choice) -> list[date]:
    """Return the days on which there are calls."""
    with lake.reading() as reader:
        found = reader.execute(_DAYS, [*choice.on(choice.since), choice.until]).fetchall()
    return [day for (day,) in found]


def groups(lake: Lake, choice: Choice, day: date) -> list[dict[str, object]]:
    """Return provider, model, response_model, service_tier and price_version (of the book by which a cost is known now)
    of the calls of one day, and how many of them have a cost (``priced``) and have none, or that of a
    part only (``unpriced``).
    """
    with lake.reading() as reader:
        return list(reader.execute(_GROUPS, choice.on(day)).to_arrow_table().to_pylist())


def calls(
    lake: Lake, choice: Choice, day: date, *, groups: pa.Table, columns: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    """Yield the calls of one day that are in ``groups``, at most ``rows`` at a time.

    Each has ``columns`` of raw_calls, ``cost_status`` as landed, ``known_usd``: the cost as now known, and ``partly``:
    it is that of a part of the usage.

    Args:
        lake: opened with ``lander=False``.
        choice: which calls.
        day: of them.
        groups: provider, model, response_model, service_tier, price_version, also_priced: the calls to read; those
            that have a cost already only where ``also_priced``.
        columns: names from our code, never from an event.
        rows: of one table.
    """
    chosen = ", ".join("c.id::VARCHAR AS id" if name == "id" else f'c."{name}"' for name in columns)
    sql = (
        f"SELECT {chosen}, c.cost_status, {_KNOWN} AS known_usd, {_PARTLY} AS partly {_FROM} "
        f"AND EXISTS (FROM wanted AS w WHERE {_MATCH} AND (w.also_priced OR {_UNPRICED}))"
    )
    with lake.reading() as reader:
        reader.register("wanted", groups)
        for batch in reader.execute(sql, choice.on(day)).to_arrow_reader(rows):
            if batch.num_rows:
                yield pa.Table.from_batches([batch])


class Adjuster:
    """Appends to ``cost_adjustments`` while it holds the lease; created by ``writing``."""

    def __init__(self, lake: Lake, claim: Claim, *, now: Callable[[], int]) -> None:
        self.claim = claim
        self._lake, self._now, self._renewed = lake, now, now()
        self._last = lake.query(_LAST).to_pylist()[0]["last"] or 0

    def write(self, rows: pa.Table) -> None:
        """Append ``rows``, columns of ``cost_adjustments`` but ``adjusted_at``, in one transaction.

        Raises:
            RepricingLostError: another process took the lease.
        """
        # the newest adjustment is found by this time, so it never decreases, also where a clock is set back
        self._last = max(self._now(), self._last + 1)
        field = COST_ADJUSTMENTS.schema.field("adjusted_at")
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._last)
        self._move(rows.append_column(field, pa.array([at] * rows.num_rows, field.type)))
        faults.point("reprice.after_commit")

    def renew(self) -> None:
        """Renew the lease, where it was not renewed for a while.

        Raises:
            RepricingLostError: another process took the lease.
        """
        if self._now() - self._renewed > _LEASE_US // 3:
            self._move(None)

    def _move(self, rows: pa.Table | None) -> None:
        lake, mine = self._lake, self.claim
        following = replace(mine, attempt=mine.attempt + 1, lease_until=self._now() + _LEASE_US)
        found: Claim | None = None

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            nonlocal found
            found = claims.read_by(connection, NAME)
            if found == mine and claims.put(connection, mine, following) and rows is not None:
                lake.put(connection, {COST_ADJUSTMENTS.name: rows})
            faults.point("reprice.before_commit")

        lake.transact(body, was_committed=lambda: claims.read_by(lake.connection, NAME) == following)
        if found not in (mine, following):
            raise RepricingLostError(lake.config.name)
        self.claim, self._renewed = following, self._now()


@contextmanager
def writing(lake: Lake, *, now: Callable[[], int], owner: str = "") -> Iterator[Adjuster]:
    """Yield the only process that may append to ``cost_adjustments``.

    Raises:
        RepricingRunsError: another re-pricing run holds the lease of this lake.
        LakeBusyError: others held the catalog for too long.
    """
    was, at = claims.ensure(lake, NAME), now()
    if was.ended_at is None and was.lease_until > at and not claims.owner_has_ended(was.owner):
        raise RepricingRunsError(lake.config.name, was.owner)
    mine = Claim(NAME, at, was.attempt + 1, owner or claims.new_owner(), at, at + _LEASE_US, None)
    if not claims.move(lake, was, mine):
        raise RepricingRunsError(lake.config.name, "somebody else")
    adjuster = Adjuster(lake, mine, now=now)
    try:
        yield adjuster
    finally:
        last = adjuster.claim
        claims.move(lake, last, replace(last, ended_at=max(now(), last.claimed_at)))


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
