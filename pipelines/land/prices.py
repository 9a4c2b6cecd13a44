"""Price books as land uses them; each is written to the lake once, when it becomes known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from pipelines.kafka import KafkaConfig
from pipelines.pricing import PriceBooks
from pipelines.pricing.published import PriceFeed
from schemas.tables import PRICES
from warehouse.lake import Lake

_START = datetime(1970, 1, 1, tzinfo=UTC)


class LandedPrices:
    """The feed that meter reads too, and the table ``prices``."""

    def __init__(
        self,
        kafka: KafkaConfig,
        overrides: Sequence[Mapping[str, object]],
        lake: Lake,
        now: Callable[[], int],
        *,
        prefer: str = "computed",
    ) -> None:
        self._feed = PriceFeed(kafka, overrides=overrides, prefer=prefer)
        self._lake = lake
        self._now = now
        rows = lake.query("SELECT version, effective_from FROM prices").to_pylist()
        self._written = {(row["version"], row["effective_from"]) for row in rows}

    def books(self) -> PriceBooks:
        """Return the books known now."""
        books = self._feed.books()
        new = [
            {"version": b.version, "effective_from": at, "book": b.to_json().decode(), "_landed_at": _time(self._now())}
            for b in books.books
            if (b.version, at := _time(b.effective_from)) not in self._written
        ]
        if new:
            self._lake.insert({"prices": pa.Table.from_pylist(new, schema=PRICES.schema)})
            self._written |= {(row["version"], row["effective_from"]) for row in new}
        return books

    def close(self) -> None:
        """Leave the topic."""
        self._feed.close()


def _time(microseconds: int) -> datetime:
    return _START + timedelta(microseconds=microseconds)
