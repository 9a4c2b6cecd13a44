"""Go on with topics that were made again: the step a person takes after land refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from pipelines.kafka import Source
from pipelines.land.config import LandConfig
from warehouse import ledger
from warehouse.connect import connect
from warehouse.lake import Lake


@dataclass(frozen=True)
class Adopted:
    """A topic as the lake goes on with it."""

    was: str
    """Id under which it was landed."""
    now: str
    """Id it has now: the same one where its log was cut."""
    epoch: int


def adopt(config: LandConfig, topics: Sequence[str], *, now: Callable[[], int]) -> dict[str, Adopted]:
    """Start a new epoch for each of ``topics`` that is not the one the lake knows; return those.

    Raises:
        LakeMissingError: there is no lake; none is made.
        LakeLockedError: land is running; stop it first.
        TopicMissingError: one of them does not exist.
    """
    with closing(Source(config.kafka, topics, group=None)) as source:
        # looked at before the lock is asked for: whoever has nothing to adopt is not told to stop land
        with closing(connect(config.lake, read_only=True)) as reader:
            if not _made_again(source, topics, ledger.read(reader)):
                return {}
        adopted = {}
        with Lake.open(config.lake, now=now) as lake:
            for topic, (was, found) in _made_again(source, topics, ledger.read(lake.connection)).items():
                starts = {p: low for p, (low, _) in source.partitions(topic).items()}
                adopted[topic] = Adopted(was, found, lake.adopt(topic, found, starts))
        return adopted


def _made_again(
    source: Source, topics: Sequence[str], rows: Sequence[tuple[str, str, int, int, int]]
) -> dict[str, tuple[str, str]]:
    """Topic -> (id the ledger has, id it has now), of those with another id or a log that ends below the ledger."""
    found = {}
    for topic in topics:
        known = {topic_id for name, topic_id, *_ in rows if name == topic}
        if not known:
            continue
        topic_id, marks = source.topic_id(topic), source.partitions(topic)
        cut = any(name == topic and p in marks and upto > marks[p][1] for name, _, _, p, upto in rows)
        if cut or topic_id not in known:
            found[topic] = (known.pop(), topic_id)
    return found
