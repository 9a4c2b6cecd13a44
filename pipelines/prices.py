"""Price books on llm.prices: announced ahead, read by land and meter from the same feed, so that they price alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import structlog

from pipelines.decode import PriceBook, PriceBookError, PriceBooks, default_book
from pipelines.kafka import KafkaConfig, Producer, Source, TopicMissingError, read_all
from schemas.records import Record
from schemas.topics import PRICES

log = structlog.get_logger()


LEAD_S = 120
"""A book is announced so long before it takes effect: every stage has read it by then."""


def published(config: KafkaConfig) -> list[PriceBook]:
    """Return every book that was announced, the one that takes effect last at the end; unreadable ones are left out.

    Raises:
        TopicMissingError: there is no such topic.
        KafkaUnavailableError: the brokers do not answer.
    """
    return sorted(_readable(read_all(config, PRICES)), key=lambda book: book.effective_from)


def announce(config: KafkaConfig, book: PriceBook, *, now: int) -> PriceBook | None:
    """Publish ``book`` where the last that was announced is another; return it with the time from which it holds.

    Before the first one every stage's own settings hold; ``now`` is the wall clock, µs UTC.

    Raises:
        TopicMissingError: there is no such topic.
        KafkaUnavailableError: the brokers do not answer.
    """
    known = published(config)
    if known and known[-1].version == book.version:
        return None
    last = known[-1].effective_from if known else 0
    new = book.with_effective_from(max(now, last) + LEAD_S * 1_000_000)
    producer = Producer(config)
    try:
        # the time belongs to the key: a book that comes back into force must not take the place of its first time
        producer.send(PRICES, new.to_json(), f"{new.version}@{new.effective_from}".encode())
        producer.flush()
    finally:
        producer.close(0.0)
    log.info("price_book_announced", version=new.version, effective_from=new.effective_from)
    return new


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
        self._books: dict[tuple[str, int], PriceBook] = {}
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
        for book in _readable(records):
            self._books[book.version, book.effective_from] = book
            log.info("price_book_learnt", version=book.version, effective_from=book.effective_from)
        self._current = self._combined()

    def _combined(self) -> PriceBooks:
        return PriceBooks([self._default, *self._books.values()])


def _readable(records: Sequence[Record]) -> Iterator[PriceBook]:
    for record in records:
        try:
            yield PriceBook.from_json(record.value or b"")
        except PriceBookError as error:
            log.error("price_book_refused", offset=record.offset, partition=record.partition, cause=str(error))
