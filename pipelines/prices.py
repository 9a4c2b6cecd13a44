"""The price books in force, read from llm.prices: land and meter ask the same feed, so they price alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from pipelines.decode import PriceBook, PriceBookError, PriceBooks, default_book
from pipelines.kafka import KafkaConfig, Source, TopicMissingError, read_all
from schemas.records import Record
from schemas.topics import PRICES

log = structlog.get_logger()


class PriceFeed:
    """Books of llm.prices to its end at the start, and what is added since at every `books`.

    A book is announced at least two minutes ahead of ``effective_from``, so a stage that looks every second or so
    changes over at the same record as every other. The compiled default holds before the first book.
    """

    def __init__(self, config: KafkaConfig, *, overrides: Sequence[Mapping[str, object]] = ()) -> None:
        """Read the topic to its end.

        Raises:
            KafkaUnavailableError: the brokers do not answer.
        """
        self._books: dict[str, PriceBook] = {}
        self._default = default_book(overrides)
        self._source: Source | None = None
        try:
            records = read_all(config, PRICES)
        except TopicMissingError:
            log.warning("price_topic_missing", topic=PRICES)
        else:
            self._source = Source(config, [PRICES])
            ends: dict[tuple[str, int], int | None] = {(PRICES, p): None for p in self._source.partitions(PRICES)}
            ends |= {(PRICES, r.partition): r.offset + 1 for r in records}
            self._source.assign(ends)
            self._learn(records)
        self._current = self._combined()

    def books(self) -> PriceBooks:
        """All books known now; costs next to nothing where none was added."""
        if self._source is not None:
            for batch in self._source.poll(0):
                self._learn(list(batch.rows()))
        return self._current

    def close(self) -> None:
        """Leave the topic."""
        if self._source is not None:
            self._source.close()

    def _learn(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                book = PriceBook.from_json(record.value or b"")
            except PriceBookError as error:
                log.error("price_book_refused", offset=record.offset, partition=record.partition, cause=str(error))
                continue
            self._books[book.version] = book
            log.info("price_book_learnt", version=book.version, effective_from=book.effective_from)
        self._current = self._combined()

    def _combined(self) -> PriceBooks:
        return PriceBooks([self._default, *self._books.values()])
