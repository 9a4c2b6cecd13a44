"""Continue with topics that were created again: the step a person takes after land refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import duckdb

from pipelines.kafka import Source
from pipelines.kafka.identity import find_truncations, is_same_topic
from pipelines.land.config import LandConfig
from warehouse import ledger
from warehouse.lake import Lake
from warehouse.storage.connect import connect
from warehouse.storage.landed_positions import landed_times


@dataclass(frozen=True)
class Adopted:
    """A topic under its new epoch."""

    was: str
    """Id under which it was landed."""
    now: str
    """Id it has now: the same one where its log was cut."""
    epoch: int


@dataclass(frozen=True)
class ReplacedTopic:
    """A topic that is not the one that was landed."""

    was: str
    topic_id: str
    starts: dict[int, int]
    """Partition -> where to land from."""
    cause: str


def adopt(
    config: LandConfig, topics: Sequence[str], *, now: Callable[[], int], force: bool = False
) -> dict[str, Adopted]:
    """Start a new epoch for each of ``topics`` that is not the one that was landed; return those.

    One that was made again is landed from its start, one whose log was cut from where it was cut. With ``force`` all of
    them get an epoch; an unchanged one continues at its position.

    Raises:
        LakeMissingError: there is no lake; none is made.
        LakeLockedError: land is running; stop it first.
        TopicMissingError: one of them does not exist.
    """
    with closing(Source(config.kafka, topics, group=None)) as source:
        # checked before the lock is taken: without a topic to adopt land need not be stopped
        with closing(connect(config.lake, read_only=True)) as reader:
            if not _replaced_topics(source, topics, reader, force=force):
                return {}
        adopted = {}
        with Lake.open(config.lake, now=now) as lake:
            made_again = _replaced_topics(source, topics, lake.connection, force=force)
            for topic, replaced in made_again.items():
                epoch = lake.adopt(topic, replaced.topic_id, replaced.starts, cause=replaced.cause)
                adopted[topic] = Adopted(replaced.was, replaced.topic_id, epoch)
        return adopted


def _replaced_topics(
    source: Source, topics: Sequence[str], lake: duckdb.DuckDBPyConnection, *, force: bool
) -> dict[str, ReplacedTopic]:
    """Return those of ``topics`` that are not the landed ones."""
    found: dict[str, ReplacedTopic] = {}
    rows = ledger.read(lake)
    for topic in topics:
        positions = {p: upto for name, _, _, p, upto in rows if name == topic}
        if not positions:
            continue
        was, epoch = next((topic_id, epoch) for name, topic_id, epoch, *_ in rows if name == topic)
        topic_id = source.topic_id(topic)
        marks = {(topic, p): mark for p, mark in source.partitions(topic).items()}
        starts = {p: low for (_, p), (low, _) in marks.items()}
        if not is_same_topic(was, topic_id):
            found[topic] = ReplacedTopic(was, topic_id, starts, "topic replaced: the rest is unknown")
            continue
        landed = landed_times(lake, {topic: epoch})
        cut = find_truncations(source, landed, {(topic, p): upto for p, upto in positions.items()}, marks)
        if cut or force:
            starts = {p: cut.get((topic, p), positions.get(p, low)) for p, low in starts.items()}
            found[topic] = ReplacedTopic(was, topic_id, starts, "the log was cut" if cut else "adopted by force")
    return found
