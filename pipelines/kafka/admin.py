"""Topics: made, listed, grown, identified; and a compacted topic read to its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from pipelines.kafka.config import TIMEOUT_S, KafkaConfig
from pipelines.kafka.errors import TopicMissingError, unified
from schemas.topics import Topic


class Admin:
    """Asks and changes the cluster. Every name is without the prefix."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self._client = AdminClient(config.settings({}, {}))

    def create_topics(self, topics: Iterable[Topic], *, partitions: int, replication: int = 1) -> list[str]:
        """Make what is missing; return its names. A topic's own partition count wins over ``partitions``."""
        wanted = [
            NewTopic(
                self.config.on_wire(t.name),
                num_partitions=t.partitions or partitions,
                replication_factor=replication,
                config=dict(t.config),
            )
            for t in topics
        ]
        made = []
        for name, future in self._client.create_topics(wanted, operation_timeout=TIMEOUT_S).items():
            try:
                future.result(TIMEOUT_S)
                made.append(self.config.plain(name))
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise unified(error, self.config.bootstrap_servers, f"create topic {name}") from error
            except TimeoutError as error:
                raise self._silent(f"create topic {name}") from error
        self._await_leaders([self.config.on_wire(name) for name in made])
        return made

    def topics(self) -> set[str]:
        """Names of the topics under the prefix."""
        try:
            found = self._client.list_topics(timeout=TIMEOUT_S).topics
        except KafkaException as error:
            raise unified(error, self.config.bootstrap_servers, "list topics") from error
        return {self.config.plain(name) for name in found if name.startswith(self.config.prefix)}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Ids of those of ``topics`` that exist: a topic made again has another one."""
        names = [self.config.on_wire(t) for t in topics]
        futures = self._client.describe_topics(TopicCollection(names), request_timeout=TIMEOUT_S)
        ids = {}
        for name, future in futures.items():
            try:
                ids[self.config.plain(name)] = str(future.result(TIMEOUT_S).topic_id)
            except KafkaException as error:
                ours = unified(error, self.config.bootstrap_servers, f"describe {name}")
                if not isinstance(ours, TopicMissingError):
                    raise ours from error
            except TimeoutError as error:
                raise self._silent(f"describe {name}") from error
        return ids

    def partitions(self, topic: str) -> int:
        """How many partitions ``topic`` has now.

        Raises:
            TopicMissingError: it does not exist.
        """
        name = self.config.on_wire(topic)
        try:
            found = self._client.list_topics(name, timeout=TIMEOUT_S).topics[name]
            if found.error is not None:
                raise KafkaException(found.error)
            if not found.partitions:  # a restarted broker has the topic before its partitions
                raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        except KafkaException as error:
            raise unified(error, self.config.bootstrap_servers, f"list {name}") from error
        return len(found.partitions)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return partition -> offset of the next record of ``topic``.

        Raises:
            TopicMissingError: it does not exist.
        """
        name = self.config.on_wire(topic)
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(name, p): latest for p in range(self.partitions(topic))}
        futures = {f"{name}[{at.partition}]": future for at, future in self._client.list_offsets(asked).items()}
        return dict(enumerate(found.offset for found in self._each(futures, "list the end of")))

    def settings(self, topic: str) -> dict[str, str]:
        """Every setting of ``topic`` in force, the brokers' defaults among them.

        Raises:
            TopicMissingError: it does not exist.
            KafkaRefusedError: not allowed: the right is DescribeConfigs.
        """
        resource = ConfigResource(ResourceType.TOPIC, self.config.on_wire(topic))
        (found,) = self._each(self._client.describe_configs([resource], request_timeout=TIMEOUT_S), "describe")
        return {name: entry.value for name, entry in found.items() if entry.value is not None}

    def alter_settings(self, topic: str, changes: Mapping[str, str]) -> None:
        """Change these settings of ``topic``, all or none; the others stay.

        Raises:
            KafkaRefusedError: not allowed (the right is AlterConfigs), or a policy of the brokers is against it.
        """
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in changes.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, self.config.on_wire(topic), incremental_configs=entries)
        self._each(self._client.incremental_alter_configs([resource], request_timeout=TIMEOUT_S), "alter settings of")
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:  # the controller has it; the brokers follow
            found = self.settings(topic)
            if all(found.get(name) == value for name, value in changes.items()):
                return
            time.sleep(0.05)

    def add_partitions(self, topic: str, total: int) -> None:
        """Grow ``topic`` to ``total`` partitions."""
        self._each(self._client.create_partitions([NewPartitions(self.config.on_wire(topic), total)]), "grow")
        self._await_leaders([self.config.on_wire(topic)], total)

    def delete_topics(self, topics: Sequence[str]) -> None:
        """Delete ``topics`` and all they hold."""
        self._each(self._client.delete_topics([self.config.on_wire(t) for t in topics]), "delete")

    def delete_records(self, before: Mapping[tuple[str, int], int]) -> None:
        """Drop all records below the offsets of ``before`` ((topic, partition) -> first offset kept)."""
        asked = [TopicPartition(self.config.on_wire(t), p, offset) for (t, p), offset in before.items()]
        self._each(self._client.delete_records(asked), "delete records of")

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Committed offsets of ``group`` on ``topic``: for monitors."""
        asked = [ConsumerGroupTopicPartitions(group)]
        try:
            found = self._client.list_consumer_group_offsets(asked)[group].result(TIMEOUT_S)
        except KafkaException as error:
            raise unified(error, self.config.bootstrap_servers, f"list offsets of {group}") from error
        name = self.config.on_wire(topic)
        return {tp.partition: tp.offset for tp in found.topic_partitions if tp.topic == name and tp.offset >= 0}

    def _each(self, futures: Mapping[Any, Future[Any]], verb: str) -> list[Any]:
        results = []
        for key, future in futures.items():
            name = key.name if isinstance(key, ConfigResource) else key
            try:
                results.append(future.result(TIMEOUT_S))
            except KafkaException as error:
                raise unified(error, self.config.bootstrap_servers, f"{verb} {name}") from error
            except TimeoutError as error:
                raise self._silent(f"{verb} {name}") from error
        return results

    def _await_leaders(self, names: Sequence[str], partitions: int = 1) -> None:
        """A topic is made before every partition of it answers."""
        deadline = time.monotonic() + TIMEOUT_S
        missing = set(names)
        while missing and time.monotonic() < deadline:
            try:
                found = self._client.list_topics(timeout=TIMEOUT_S).topics
            except KafkaException as error:  # deleted between the two requests
                raise unified(error, self.config.bootstrap_servers, "list topics") from error
            missing = {n for n in names if n not in found or not _led(found[n], partitions)}
            if missing:
                time.sleep(0.05)

    def _silent(self, action: str) -> Exception:
        return unified(KafkaError(KafkaError._TIMED_OUT), self.config.bootstrap_servers, action)


def _led(topic: Any, partitions: int) -> bool:
    return (
        topic.error is None
        and len(topic.partitions) >= partitions
        and all(p.leader >= 0 for p in topic.partitions.values())
    )
