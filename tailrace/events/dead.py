"""Dead letters: read the originals, and send again those that are valid now.

For operators: a reader never sees the bytes. Read-only connections to the lake hide ``dead_bytes``; this goes through
``Lake``, which is trusted code. What is shown to a person is redacted first, by the rules that apply at ingest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.decode import Accepted, Redaction, verdict
from pipelines.decode.rules import clean_text
from pipelines.kafka import KafkaConfig
from schemas.errors import FatalError
from schemas.topics import EVENTS
from tailrace.events.publish import publish
from tailrace.events.replay import key_of_line
from tailrace.records import audit
from warehouse.lake import Lake
from warehouse.storage.dead_bytes import unpad

PAGE = 200
"""Originals held at a time: up to 2 MiB each."""
MOST_IDS_IN_AUDIT = 1000
_POSITION = re.compile(r"(?:([A-Za-z0-9._-]+)\[)?(\d{1,9})\]?[@:](\d{1,18})")
_LANDED = """
SELECT CAST(id AS VARCHAR) AS id FROM raw_calls WHERE id IN (SELECT unnest($1::UUID[]))
UNION SELECT CAST(id AS VARCHAR) FROM raw_feedback WHERE id IN (SELECT unnest($1::UUID[]))
UNION SELECT CAST(id AS VARCHAR) FROM raw_evals WHERE id IN (SELECT unnest($1::UUID[]))
"""
_WANTED = """
SELECT topic, _epoch AS epoch, _partition AS "partition", _offset AS "offset", reason, detail, app, size, _kafka_time
FROM dead
WHERE ($1::VARCHAR IS NULL OR topic = $1) AND ($2::INTEGER IS NULL OR _partition = $2)
  AND ($3::BIGINT IS NULL OR _offset = $3) AND ($4::VARCHAR IS NULL OR reason = $4 OR starts_with(reason, $4 || ':'))
  AND ($5::VARCHAR IS NULL OR app = $5) AND ($6::BIGINT IS NULL OR _kafka_time >= make_timestamptz($6::BIGINT))
ORDER BY _kafka_time DESC, topic, _epoch DESC, _partition, _offset DESC LIMIT $7
"""
_ORIGINALS = """
SELECT topic, _epoch AS epoch, _partition AS "partition", _offset AS "offset", bytes, key FROM dead_bytes
WHERE (topic, _epoch, _partition, _offset) IN (
    SELECT (unnest($1::VARCHAR[]), unnest($2::INTEGER[]), unnest($3::INTEGER[]), unnest($4::BIGINT[])))
"""


class NotAPositionError(FatalError):
    """A word that should name a record does not."""

    def __init__(self, text: str) -> None:
        super().__init__(f"cannot read {text[:80]!r}: expected a position such as llm.events[3]@1807 or 3@1807")


@dataclass(frozen=True)
class Choice:
    """Which dead records are meant; None = any. ``since`` is µs UTC of the broker's time."""

    topic: str | None = EVENTS
    partition: int | None = None
    offset: int | None = None
    reason: str | None = None
    app: str | None = None
    since: int | None = None
    limit: int = 100_000


@dataclass(frozen=True)
class DeadLetter:
    """One dead record. ``value`` None: the record had none, or its bytes were deleted after their seven days."""

    topic: str
    epoch: int
    partition: int
    offset: int
    reason: str
    detail: str | None
    app: str | None
    size: int
    value: bytes | None = field(repr=False)
    key: bytes | None = field(repr=False)
    kept: bool = True
    """Whether the original is still there."""

    @property
    def position(self) -> str:
        """Such as ``llm.events[3]@1807``."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True)
class Candidate:
    """Bytes to publish on llm.events again."""

    name: str
    value: bytes | None = field(repr=False)
    key: bytes | None = field(repr=False)


@dataclass
class Replayed:
    """What a replay did, or would do."""

    ids: list[str] = field(default_factory=list)
    """Sent, acknowledged."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(name, why)."""

    @property
    def reasons(self) -> dict[str, int]:
        """How many were skipped for which reason."""
        return dict(Counter(why.partition(":")[0] for _, why in self.skipped))


def position(text: str) -> Choice:
    """Read ``llm.events[3]@1807``, or ``3@1807`` for llm.events.

    Raises:
        NotAPositionError: it is neither.
    """
    match = _POSITION.fullmatch(text.strip())
    if not match:
        raise NotAPositionError(text)
    topic, partition, offset = match.groups()
    return Choice(topic=topic or EVENTS, partition=int(partition), offset=int(offset))


def letters(lake: Lake, choice: Choice) -> Iterator[DeadLetter]:
    """Yield what was chosen, the newest first, with its original bytes, a page at a time."""
    chosen = [choice.topic, choice.partition, choice.offset, choice.reason, choice.app, choice.since, choice.limit]
    rows = lake.query(_WANTED, chosen).to_pylist()
    for begin in range(0, len(rows), PAGE):
        page = rows[begin : begin + PAGE]
        places = [[row[name] for row in page] for name in ("topic", "epoch", "partition", "offset")]
        found = {_place(row): row for row in lake.query(_ORIGINALS, places).to_pylist()}
        for row in page:
            original = found.get(_place(row))
            yield DeadLetter(
                *_place(row),
                reason=row["reason"],
                detail=row["detail"],
                app=row["app"],
                size=row["size"],
                value=unpad(original["bytes"]) if original else None,
                key=unpad(original["key"]) if original else None,
                kept=original is not None,
            )


def replay(
    lake: Lake,
    kafka: KafkaConfig,
    candidates: Iterable[Candidate],
    *,
    actor: str,
    source: str,
    now: int,
    dry_run: bool = False,
    history: bool = False,
    most: int = 500,
) -> Replayed:
    """Publish again what the verdict accepts now, with unchanged bytes and key; skip the rest with a reason.

    An id that is in the lake is skipped. One that lands in between is harmless: land marks the second of
    an id as a duplicate, and views show one. Before each page is sent, who sends what is recorded on llm.log.
    ``history`` marks them as history, as the importer did when it sent them first.

    Raises:
        KafkaUnavailableError: the brokers did not answer in time; running it again sends what is missing.
    """
    run = _Replay(lake, kafka, actor=actor, source=source, now=now, dry_run=dry_run, history=history)
    known, page = set[str](), list[tuple[str, Candidate]]()
    for candidate in candidates:
        found = verdict(candidate.value)
        if not isinstance(found, Accepted):
            run.done.skipped.append((candidate.name, f"still dead: {found.reason}: {found.detail}"))
            continue
        event_id = str(found.event.id)
        if event_id in known:
            run.done.skipped.append((candidate.name, "same id: sent in this replay already"))
            continue
        known.add(event_id)
        page.append((event_id, candidate))
        if len(page) >= most:
            run.send(page)
            page = []
    run.send(page)
    return run.done


class _Replay:
    """Sends the pages of one replay, and counts what was sent."""

    def __init__(
        self, lake: Lake, kafka: KafkaConfig, *, actor: str, source: str, now: int, dry_run: bool, history: bool
    ) -> None:
        self._lake, self._kafka = lake, kafka
        self._actor, self._source, self._now = actor, source, now
        self._dry_run, self._history = dry_run, history
        self.done = Replayed()

    def send(self, page: Sequence[tuple[str, Candidate]]) -> None:
        """Publish what has not landed of ``page``, pairs of id and event; its ids are recorded in the audit before."""
        landed = _landed(self._lake, [event_id for event_id, _ in page])
        due = [(event_id, c) for event_id, c in page if event_id not in landed]
        self.done.skipped += [(c.name, "landed already: its id stands in the lake") for i, c in page if i in landed]
        if due and not self._dry_run:
            due = self._publish(due)
        self.done.ids += [event_id for event_id, _ in due]

    def _publish(self, due: list[tuple[str, Candidate]]) -> list[tuple[str, Candidate]]:
        """Return those of ``due`` that were acknowledged."""
        ids = [event_id for event_id, _ in due]
        facts = {"source": self._source, "count": len(ids), "ids": ids[:MOST_IDS_IN_AUDIT]}
        audit.record(self._kafka, "dead.replay", EVENTS, actor=self._actor, now=self._now, **facts)
        messages = [(c.key or b"", c.value or b"") for _, c in due]
        refused = publish(self._kafka, messages, history=self._history).errors
        self.done.skipped += [(due[i][1].name, f"not acknowledged: {why}; run it again") for i, why in refused.items()]
        return [one for i, one in enumerate(due) if i not in refused]


def from_letters(found: Iterable[DeadLetter]) -> Iterator[Candidate]:
    """Yield the originals of llm.events that are still there."""
    for record in found:
        if record.topic == EVENTS and record.kept:
            yield Candidate(record.position, record.value, record.key)


def from_lines(lines: Iterable[bytes]) -> Iterator[Candidate]:
    """Yield the events of a file of JSON lines, such as ``dead repair`` writes; their keys are computed again."""
    for number, line in enumerate(lines, start=1):
        yield Candidate(f"line {number}", line, key_of_line(line))


def redacted(text: str, limit: int = 200) -> str:
    """Return a text of an event as a person may see it: redacted, without control characters, cut to ``limit``."""
    return clean_text(Redaction().redactor().text(text))[:limit]


def _place(row: dict[str, Any]) -> tuple[str, int, int, int]:
    return row["topic"], row["epoch"], row["partition"], row["offset"]


def _landed(lake: Lake, ids: Sequence[str]) -> set[str]:
    return set(lake.query(_LANDED, [list(ids)])["id"].to_pylist()) if ids else set()
