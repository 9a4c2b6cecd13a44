"""Kafka as the stages see it: a source, a producer, transactions, topics. Nothing else imports ``confluent_kafka``."""

from pipelines.kafka.admin import Admin
from pipelines.kafka.compacted import read_all
from pipelines.kafka.config import KafkaConfig
from pipelines.kafka.errors import (
    FencedError,
    OffsetLostError,
    PartitionStalledError,
    TopicMissingError,
    TopicReplacedError,
    TransactionAbortedError,
)
from pipelines.kafka.producer import Producer, TransactionalProducer
from pipelines.kafka.source import Source
from pipelines.kafka.standstill import Standstill
from pipelines.kafka.times import read_times

__all__ = [
    "Admin",
    "FencedError",
    "KafkaConfig",
    "OffsetLostError",
    "PartitionStalledError",
    "Producer",
    "Source",
    "Standstill",
    "TopicMissingError",
    "TopicReplacedError",
    "TransactionAbortedError",
    "TransactionalProducer",
    "read_all",
    "read_times",
]
