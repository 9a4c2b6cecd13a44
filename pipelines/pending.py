"""What an upgrade would change in Kafka: topics, their settings, the states of detect and drift. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipelines.detect import checkpoint, snapshot
from pipelines.drift.partition import CHANGELOG as DRIFT_CHANGELOG
from pipelines.drift.partition import Partition
from pipelines.drift.watch import WatchConfig
from pipelines.kafka import Admin, KafkaConfig, TopicMissingError, read_each
from pipelines.kafka.topic_settings import Action, SettingsCheck
from schemas.topics import ROLLUPS, SAMPLES, Topic


@dataclass(frozen=True)
class Pending:
    """How a Kafka differs from what this Tailrace declares."""

    topics: tuple[str, ...]
    """Topics to be made."""
    repairs: tuple[str, ...]
    """``topic: setting FOUND to WANTED``, changed by the next start."""
    deviations: tuple[str, ...]
    """Settings that stay as they are, each with its remedy."""
    refusals: tuple[str, ...]
    """What keeps a stage from starting, each with its remedy."""
    states: tuple[str, ...]
    """The effect on states of detect and drift that are of another version."""

    @property
    def current(self) -> bool:
        """Whether nothing would change."""
        return not (self.topics or self.repairs or self.refusals or self.states)


def pending(config: KafkaConfig, topics: Iterable[Topic]) -> Pending:
    """Compare ``topics`` and the states of detect and drift with what this version declares, makes and reads.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    wanted, admin = tuple(topics), Admin(config)
    there = admin.topics()
    findings = [each for found in SettingsCheck(admin, wanted).compare().values() for each in found]
    states = (*_detect(config, there), *_drift(config, there))
    return Pending(
        topics=tuple(topic.name for topic in wanted if topic.name not in there),
        repairs=tuple(f"{f.topic}: {f.setting} {f.found} to {f.wanted}" for f in findings if f.action is Action.REPAIR),
        deviations=tuple(str(f) for f in findings if f.action is Action.REPORT),
        refusals=(*(str(f) for f in findings if f.action is Action.REFUSE), *_grown(admin, there)),
        states=states,
    )


def _grown(admin: Admin, there: set[str]) -> Iterator[str]:
    """Changelogs with another number of partitions than their source: the stage refuses to start."""
    for stage, source, changelog in (("detect", ROLLUPS, checkpoint.CHANGELOG), ("drift", SAMPLES, DRIFT_CHANGELOG)):
        if {source, changelog} <= there:
            wanted, found = admin.partitions(source), admin.partitions(changelog)
            if wanted != found:
                yield (
                    f"{changelog} has {found} partitions, {source} has {wanted}: stop {stage}, delete it; "
                    f"{stage} builds its state again from what is kept"
                )


def _detect(config: KafkaConfig, there: set[str]) -> Iterator[str]:
    table = _table(config, checkpoint.CHANGELOG, there)
    for partition in _partitions(table, b"/head"):
        data = checkpoint.read(table, partition)
        if data is None:
            yield _rebuilt("detect", partition, "no whole checkpoint", ROLLUPS)
            continue
        try:
            version = snapshot.version(data)
            snapshot.load(data)
        except ValueError as error:
            yield _rebuilt("detect", partition, str(error), ROLLUPS)
        else:
            if version != snapshot.VERSION:
                yield (
                    f"detect, partition {partition}: state of version {version} is read, and written as version "
                    f"{snapshot.VERSION}; an older Tailrace does not read it any more"
                )


def _drift(config: KafkaConfig, there: set[str]) -> Iterator[str]:
    table = _table(config, DRIFT_CHANGELOG, there)
    for partition in _partitions(table, b""):
        try:
            Partition.load(partition, table, WatchConfig())
        except ValueError as error:
            yield _rebuilt("drift", partition, str(error), "llm.embeddings")


def _rebuilt(stage: str, partition: int, cause: str, source: str) -> str:
    return (
        f"{stage}, partition {partition}: {cause}; the state is built again from what {source} keeps, and open alerts "
        "come again under their ids"
    )


def _table(config: KafkaConfig, changelog: str, there: set[str]) -> dict[bytes, bytes]:
    """Return what a changelog holds: the last value of every key."""
    table: dict[bytes, bytes] = {}
    if changelog not in there:
        return table
    try:
        for record in read_each(config, changelog):
            if record.key is not None and record.value is not None:
                table[record.key] = record.value
            elif record.key is not None:
                table.pop(record.key, None)
    except TopicMissingError:  # deleted since
        return {}
    return table


def _partitions(table: Mapping[bytes, bytes], suffix: bytes) -> list[int]:
    """Return the partitions that have a checkpoint: a key that is their number and ``suffix``."""
    numbers = (key.removesuffix(suffix) for key in table if key.endswith(suffix))
    return sorted(int(number) for number in numbers if number.isdigit())
