"""Translates KafkaError to our errors: who can repair it decides which of the three roots it derives from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException

from schemas.errors import FatalError, KafkaRefusedError, KafkaUnavailableError, RetryableError, TailraceError

OFFSET_LOST = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION})
LEADERLESS = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError._INVALID_ARG,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_CONFIG,
        KafkaError.POLICY_VIOLATION,
        # brokers of other makers: what they do not have does not come by waiting
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.INVALID_REQUEST,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)
_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})


class OffsetLostError(RetryableError):
    """The next position is not in the log: retention took it, or the topic is another one.

    Recovered by the stage: it compares with the watermarks, records the gap, and continues at the low one.
    """

    def __init__(self, topic: str, partition: int, offset: int, cause: str) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        super().__init__(f"cannot read {topic}[{partition}]@{offset}: {cause}; retention took it, or the log was cut")


class TopicMissingError(RetryableError):
    """A topic does not exist (yet): `tailrace topics create` makes it."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.topic = topic
        super().__init__(f"no topic {topic} on kafka {bootstrap_servers}; make it with `tailrace topics create`")


class TopicSettingsError(RetryableError):
    """A topic loses records under its settings. The stage waits until a person has changed them."""

    def __init__(self, refused: Sequence[str]) -> None:
        """``refused``: one line for each setting, with its remedy."""
        super().__init__(f"cannot go on with these topic settings: {'; '.join(refused)}")


class PartitionStalledError(RetryableError):
    """A partition is not read any more, although there is something to read: start over."""

    def __init__(self, topic: str, partition: int, offset: int, end: int, for_s: float) -> None:
        self.topic = topic
        self.partition = partition
        super().__init__(
            f"{topic}[{partition}] has stood at {offset} for {for_s:.0f} s with records up to {end}; starting over"
        )


class TopicReplacedError(FatalError):
    """A topic was deleted and created again, or the cluster was: recorded offsets belong to another topic."""

    def __init__(self, topic: str, recorded: str, current: str) -> None:
        """``recorded``: the id that the offsets belong to; ``current``: the id that the broker reports now."""
        self.topic = topic
        self.recorded = recorded
        self.current = current
        super().__init__(
            f"cannot go on with {topic}: its id was {recorded}, now it is {current} (deleted and created again?); "
            f"`tailrace topics adopt {topic}` goes on under a new epoch"
        )


class LogTruncatedError(FatalError):
    """Logs do not have all the records that were read from them: their ends are lost, or other records are there."""

    def __init__(self, truncated: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """Name every log.

        Args:
            truncated: (topic, partition) -> (next offset, first offset that is lost or has another record).
        """
        self.topics = tuple(sorted({topic for topic, _ in truncated}))
        places = "; ".join(
            f"{topic}[{partition}]: it was read up to offset {upto}, but that log ends at {end}"
            for (topic, partition), (upto, end) in sorted(truncated.items())
        )
        super().__init__(
            f"cannot go on with {places}. Was the cluster created again, or did a broker lose the end of its log? "
            f"`tailrace topics adopt {' '.join(self.topics)}` goes on from there under a new epoch"
        )


class FencedError(FatalError):
    """A newer process has taken this slot over: this one must end."""

    def __init__(self, transactional_id: str, cause: str) -> None:
        self.transactional_id = transactional_id
        super().__init__(f"another process holds transactional id {transactional_id}: {cause}; this one ends")


class TransactionAbortedError(RetryableError):
    """The transaction is undone, nothing of it will be seen: go back to the committed offsets."""

    def __init__(self, transactional_id: str, cause: str) -> None:
        self.transactional_id = transactional_id
        super().__init__(f"transaction of {transactional_id} aborted: {cause}; resuming from the committed offsets")


def unified(raised: KafkaError | KafkaException, bootstrap_servers: str, action: str) -> TailraceError:
    """Return ours for ``raised``; ``action`` is a verb phrase such as "list llm.events"."""
    error: KafkaError = raised.args[0] if isinstance(raised, KafkaException) else raised
    code, text = error.code(), error.str()
    if code in _FENCED:
        return FencedError(action, text)
    if code == KafkaError.INVALID_REPLICATION_FACTOR and "fenced" in text:
        # brokers that were frozen or starved and have not registered with the controller again
        return KafkaUnavailableError(bootstrap_servers, action, text)
    if code in _REFUSED or error.fatal():
        return KafkaRefusedError(bootstrap_servers, action, text)
    if code in _MISSING:
        return TopicMissingError(bootstrap_servers, action.rsplit(" ", 1)[-1])
    return KafkaUnavailableError(bootstrap_servers, action, text)
