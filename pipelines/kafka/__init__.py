"""Kafka as the stages see it: a source, a producer, transactions, topics. Nothing else imports ``confluent_kafka``."""

from pipelines.kafka.admin import Admin
from pipelines.kafka.compacted import read_all, read_each
from pipelines.kafka.config import KafkaConfig
from pipelines.kafka.errors import (
    FencedError,
    LogTruncatedError,
    OffsetLostError,
    PartitionStalledError,
    TopicMissingError,
    TopicReplacedError,
    TopicSettingsError,
    TransactionAbortedError,
)
from pipelines.kafka.membership import Membership, Share, ShareMovedError
from pipelines.kafka.producer import Producer, TransactionalProducer
from pipelines.kafka.source import Source
from pipelines.kafka.stall_detector import StallDetector
from pipelines.kafka.times import read_records, read_times
from pipelines.kafka.topic_settings import Action, Finding, SettingsCheck, ensure_topics

__all__ = [
    "Action",
    "Admin",
    "FencedError",
    "Finding",
    "KafkaConfig",
    "LogTruncatedError",
    "Membership",
    "OffsetLostError",
    "PartitionStalledError",
    "Producer",
    "SettingsCheck",
    "Share",
    "ShareMovedError",
    "Source",
    "StallDetector",
    "TopicMissingError",
    "TopicReplacedError",
    "TopicSettingsError",
    "TransactionAbortedError",
    "TransactionalProducer",
    "ensure_topics",
    "read_all",
    "read_each",
    "read_records",
    "read_times",
]
