"""Go on with topics that were made again: the step a person takes after land refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.kafka import Source
from pipelines.land.config import LandConfig
from warehouse.lake import Lake


def adopt(config: LandConfig, topics: Sequence[str], *, now: Callable[[], int]) -> dict[str, int]:
    """Start a new epoch for each of ``topics`` that is not the one the lake knows; return topic -> its new epoch.

    Raises:
        LakeLockedError: land is running; stop it first.
    """
    source = Source(config.kafka, topics, group=None)
    try:
        with Lake.open(config.lake, now=now) as lake:
            known, adopted = lake.topic_ids(), {}
            for topic in topics:
                found = source.topic_id(topic)
                marks = source.partitions(topic)
                stands = lake.ledger()
                cut = any(stands.get((topic, p), 0) > high for p, (_, high) in marks.items())
                if topic in known and (known[topic] != found or cut):
                    adopted[topic] = lake.adopt(topic, found, {p: low for p, (low, _) in marks.items()})
            return adopted
    finally:
        source.close()
