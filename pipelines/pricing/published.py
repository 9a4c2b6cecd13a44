"""Price books on llm.prices: announced ahead, read by land and meter from the same feed, so that they price alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import structlog

from pipelines.kafka import KafkaConfig, Producer, Source, TopicMissingError, read_all
from pipelines.pricing import PriceBook, PriceBookError, PriceBooks, default_book
from schemas.errors import FatalError, KafkaUnavailableError
from schemas.records import Record
from schemas.topics import PRICES

log = structlog.get_logger()


LEAD_S = 120
"""A book is announced this time before it takes effect: every stage has read it by then."""
AHEAD_S = 3600
"""A book announced farther ahead than this (by a wrong clock) is ignored: it would block all later ones."""
_ASK_S = 20.0
_SURE_S = 60.0
"""How old the knowledge may be that no book is left unread: half of LEAD_S, so that none takes effect unseen."""
_CATCH_UP_S = 5.0
_SLACK_S = 10


class ClockAheadError(FatalError):
    """A book would hold only when the brokers' clock is there."""

    def __init__(self, ahead_s: int) -> None:
        super().__init__(
            f"cannot announce a price book: by the brokers' clock it would hold in {ahead_s} s, and nothing farther "
            f"ahead than {AHEAD_S} s is taken; set this machine's clock, or wait where books were announced in a row"
        )


def published(config: KafkaConfig) -> list[PriceBook]:
    """Return every book that was announced, the one that takes effect last at the end; what no stage takes is left out.

    Raises:
        TopicMissingError: there is no such topic.
        KafkaUnavailableError: the brokers do not answer.
    """
    return sorted(_readable(read_all(config, PRICES)), key=lambda book: book.effective_from)


def announce(config: KafkaConfig, book: PriceBook, *, now: int) -> PriceBook | None:
    """Publish ``book`` where the last that was announced is another; return it with the time from which it holds.

    Before the first one every stage's own settings hold; ``now`` is the wall clock, µs UTC.

    Raises:
        ClockAheadError: by the brokers' clock it would hold so late that no stage takes it.
        TopicMissingError: there is no such topic.
        KafkaUnavailableError: the brokers do not answer.
    """
    known = published(config)
    if known and known[-1].version == book.version:
        return None
    last = known[-1].effective_from if known else 0
    # a few seconds more, or it would be put off by what the announcement takes
    new = book.with_effective_from(max(now, last) + (LEAD_S + _SLACK_S) * 1_000_000)
    if new.effective_from > now + AHEAD_S * 1_000_000:  # where this clock is right it will be refused; else see below
        raise ClockAheadError((new.effective_from - now) // 1_000_000)
    times: list[int] = []
    producer = Producer(config)
    try:
        # the time belongs to the key: a book that comes back into force must not take the place of its first time
        key = f"{new.version}@{new.effective_from}".encode()
        producer.send(PRICES, new.to_json(), key, on_delivery=lambda _, kept: times.append(kept.timestamp()[1] * 1000))
        producer.flush()
    finally:
        producer.close(0.0)
    if not times:
        raise KafkaUnavailableError(config.bootstrap_servers, f"send to {PRICES}", "no acknowledgement")
    if new.effective_from > times[0] + AHEAD_S * 1_000_000:
        raise ClockAheadError((new.effective_from - times[0]) // 1_000_000)
    log.info("price_book_announced", version=new.version, effective_from=new.effective_from)
    return new


class PriceFeed:
    """Books of llm.prices to its end at the start, and what is added since at every `books`.

    Which book prices a record is a function of the log alone: of the record's LogAppendTime, and of when the books were
    announced by the same clock. So two stages price it alike, if both have read the announcement: who is not sure of
    that gives no answer. The compiled default holds before the first book.
    """

    def __init__(
        self, config: KafkaConfig, *, overrides: Sequence[Mapping[str, object]] = (), prefer: str = "computed"
    ) -> None:
        """Read the topic to its end.

        Raises:
            KafkaUnavailableError: the brokers do not answer.
        """
        self._config, self._prefer = config, prefer
        self._books: dict[tuple[str, int], PriceBook] = {}
        self._default = default_book(overrides)
        self._source: Source | None = None
        self._asked = self._sure = _awake()
        self._current = self._combined()
        self._open()

    def books(self) -> PriceBooks:
        """All books known now; costs next to nothing where none was added.

        Raises:
            KafkaUnavailableError: the brokers did not answer for a while whether there is another one.
        """
        if self._source is not None:
            for batch in self._source.poll(0):
                self._learn(list(batch.rows()))
        if _awake() - self._asked >= _ASK_S:
            self._ask()
        return self._current

    def close(self) -> None:
        """Leave the topic."""
        if self._source is not None:
            self._source.close()

    def _ask(self) -> None:
        """Make sure that no book is left unread."""
        self._asked = asked = _awake()
        try:
            if self._source is None:
                self._open()
            elif self._read_to(self._source.partitions(PRICES)):
                self._sure = asked
        except KafkaUnavailableError as error:
            log.warning("price_books_unknown", cause=str(error))
        if asked - self._sure > _SURE_S:
            self._asked = 0.0
            where = self._config.bootstrap_servers
            raise KafkaUnavailableError(where, f"read {PRICES}", "whether there is another price book is not known")

    def _read_to(self, marks: Mapping[int, tuple[int, int]]) -> bool:
        assert self._source is not None
        until = _awake() + _CATCH_UP_S
        while any(self._source.positions().get((PRICES, p), 0) < high for p, (_, high) in marks.items()):
            if _awake() > until:
                return False
            for batch in self._source.poll(0.1):
                self._learn(list(batch.rows()))
        return True

    def _open(self) -> None:
        at = _awake()
        try:
            records = read_all(self._config, PRICES)
        except TopicMissingError:
            log.warning("price_topic_missing", topic=PRICES)
        else:
            self._source = Source(self._config, [PRICES])
            ends: dict[tuple[str, int], int | None] = {(PRICES, p): None for p in self._source.partitions(PRICES)}
            ends |= {(PRICES, r.partition): r.offset + 1 for r in records}
            self._source.assign(ends)
            self._learn(records)
        self._sure = at

    def _learn(self, records: Sequence[Record]) -> None:
        for book in _readable(records):
            self._books[book.version, book.effective_from] = book
            log.info("price_book_learnt", version=book.version, effective_from=book.effective_from)
        self._current = self._combined()

    def _combined(self) -> PriceBooks:
        return PriceBooks([self._default, *self._books.values()], prefer=self._prefer)


def _readable(records: Sequence[Record]) -> Iterator[PriceBook]:
    """Yield the books that hold, from when on they do: not before every stage can have read them."""
    for record in records:
        try:
            book = PriceBook.from_json(record.value or b"")
        except PriceBookError as error:
            log.error("price_book_refused", offset=record.offset, partition=record.partition, cause=str(error))
            continue
        if book.effective_from > record.kafka_time + AHEAD_S * 1_000_000:
            cause = f"announced to hold from {book.effective_from} on, more than an hour ahead: is that clock right?"
            log.error("price_book_refused", offset=record.offset, partition=record.partition, cause=cause)
            continue
        yield book.with_effective_from(max(book.effective_from, record.kafka_time + LEAD_S * 1_000_000))


def _awake() -> float:
    """Return seconds of a clock that also runs while the machine is suspended.

    A book may be announced during that time.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
