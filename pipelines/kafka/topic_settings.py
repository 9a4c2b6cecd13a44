"""Topic settings that promises rest on, compared with those that the brokers have.

Where brokers create topics by themselves, an app that writes before `tailrace up` makes llm.events with the brokers'
defaults. Kafka 4 then lets producers set the time of records, and has one partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from pipelines.kafka.admin import Admin
from pipelines.kafka.errors import TopicMissingError, TopicSettingsError
from schemas.errors import KafkaRefusedError
from schemas.topics import EVENTS, Topic

log = structlog.get_logger(__name__)
PARTITIONS = "partitions"
"""Compared like a setting."""
_AT_LEAST = frozenset({"retention.ms", "retention.bytes", "max.message.bytes", PARTITIONS})
"""A greater value keeps the promise too; -1 is without a limit."""
_LIST = "cleanup.policy"
UNKNOWN = "unknown"
"""Found where the settings may not be read."""
_GRANT = "grant DescribeConfigs on the topic"


class Action(StrEnum):
    """What is done about a setting that deviates."""

    REPAIR = "repair"
    REPORT = "report"
    REFUSE = "refuse"
    """The stages that read or write the topic wait until a person has changed it."""


@dataclass(frozen=True)
class Finding:
    """One setting of one topic that is not what is promised."""

    topic: str
    """Without the prefix."""
    setting: str
    found: str
    wanted: str
    action: Action
    remedy: str = ""
    """The command that changes it."""
    cause: str = ""
    """Why it could not be repaired."""

    def __str__(self) -> str:
        """One line: the found value, the required value, the value now."""
        if self.action is Action.REPAIR:
            return f"{self.topic}: {self.setting} was {self.found}, now {self.wanted}"
        why = f" (not changed: {self.cause})" if self.cause else ""
        return f"{self.topic}: {self.setting} is {self.found}, wanted {self.wanted}{why}; {self.remedy}"


def deviations(topic: Topic, found: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the settings of ``topic`` that do not keep what is promised; pure.

    Args:
        topic: as promised.
        found: as it is, ``partitions`` among them; what is missing is not compared.
    """
    wanted = dict(topic.config)
    if topic.partitions:
        wanted[PARTITIONS] = str(topic.partitions)
    if "delete" in wanted.get(_LIST, ""):
        wanted.setdefault("retention.bytes", "-1")
    for setting, value in wanted.items():
        if setting in found and not _keeps(setting, found[setting], value):
            yield Finding(topic.name, setting, found[setting], value, _action(topic.name, setting))


def _keeps(setting: str, found: str, wanted: str) -> bool:
    if setting == _LIST:
        return set(found.split(",")) == set(wanted.split(","))
    if setting in _AT_LEAST:
        return found == "-1" or (wanted != "-1" and int(found) >= int(wanted))
    return found == wanted


def _action(topic: str, setting: str) -> Action:
    if setting in (PARTITIONS, "retention.bytes"):  # keys would move to other partitions; a disk has its limit
        return Action.REPORT
    if topic == EVENTS and setting == "retention.ms":  # the operator's choice: it bounds how long an outage may be
        return Action.REPORT
    if topic == EVENTS and setting == _LIST:  # events of one key replace each other: which ones is not known
        return Action.REFUSE
    return Action.REPAIR


class SettingsCheck:
    """Compares the settings of topics again and again, repairs what it may, and logs each other finding once."""

    def __init__(self, admin: Admin, topics: Iterable[Topic]) -> None:
        self._admin = admin
        self._topics = {topic.name: topic for topic in topics}
        self._logged: set[Finding] = set()
        self.repaired: dict[tuple[str, str], Finding] = {}
        """(topic, setting) -> the last repair by this object."""

    def require(self) -> list[Finding]:
        """Do `run`.

        Raises:
            TopicSettingsError: a topic loses records under its settings; a person has to change them.
            KafkaUnavailableError: the brokers do not answer.
        """
        findings = self.run()
        if refused := [str(f) for f in findings if f.action is Action.REFUSE]:
            raise TopicSettingsError(refused)
        return findings

    def run(self) -> list[Finding]:
        """Compare, repair, log; return what deviated. Topics that do not exist are left out.

        Raises:
            KafkaUnavailableError: the brokers do not answer.
        """
        findings = []
        for topic, found in self.compare().items():
            findings += self._repair(topic, found)
        for finding in findings:
            if finding.action is Action.REPAIR:
                log.warning("topic_setting_repaired", **_facts(finding))
                self.repaired[finding.topic, finding.setting] = finding
            elif finding not in self._logged:
                event = "topic_settings_unknown" if finding.found == UNKNOWN else "topic_setting_deviates"
                log.warning(event, remedy=finding.remedy, cause=finding.cause, **_facts(finding))
                self._logged.add(finding)
        return findings

    def compare(self) -> dict[str, list[Finding]]:
        """Topic -> what deviates; nothing is changed.

        Raises:
            KafkaUnavailableError: the brokers do not answer.
        """
        return {topic.name: self._deviations(topic) for topic in self._topics.values()}

    def _deviations(self, topic: Topic) -> list[Finding]:
        name = topic.name
        try:
            found = self._admin.settings(name)
            if topic.partitions > 1:
                found[PARTITIONS] = str(self._admin.partitions(name))
        except TopicMissingError:
            return []
        except KafkaRefusedError as error:  # not fatal: each record has the type of its timestamp
            return [Finding(name, "every setting", UNKNOWN, "as promised", Action.REPORT, _GRANT, str(error))]
        return [self._with_remedy(finding) for finding in deviations(topic, found)]

    def _repair(self, name: str, found: Sequence[Finding]) -> list[Finding]:
        changes = {f.setting: f.wanted for f in found if f.action is Action.REPAIR}
        if not changes:
            return list(found)
        try:
            self._admin.alter_settings(name, changes)
        except KafkaRefusedError as error:
            return [_unrepaired(f, str(error)) if f.action is Action.REPAIR else f for f in found]
        return list(found)

    def _with_remedy(self, finding: Finding) -> Finding:
        servers, name = self._admin.config.bootstrap_servers, self._admin.config.on_wire(finding.topic)
        if finding.setting == PARTITIONS:
            command = f"kafka-topics.sh --bootstrap-server {servers} --alter --topic {name} --partitions"
            return replace(finding, remedy=f"change it with `{command} {finding.wanted}`")
        value = f"[{finding.wanted}]" if "," in finding.wanted else finding.wanted
        command = f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {name}"
        return replace(finding, remedy=f"change it with `{command} --add-config {finding.setting}={value}`")


def _unrepaired(finding: Finding, cause: str) -> Finding:
    """Go on where records carry what is needed, or the loss is reported; else refuse."""
    loses = finding.setting == _LIST
    return replace(finding, action=Action.REFUSE if loses else Action.REPORT, cause=cause)


def _facts(finding: Finding) -> dict[str, str]:
    return {"topic": finding.topic, "setting": finding.setting, "found": finding.found, "wanted": finding.wanted}


def ensure_topics(
    admin: Admin, topics: Sequence[Topic], *, partitions: int, replication: int = 1
) -> tuple[list[str], list[Finding]]:
    """Create the topics that are missing, and bring the settings of the others to what is promised.

    Returns:
        names of the created ones, and what deviated.

    Raises:
        KafkaUnavailableError: the brokers do not answer.
    """
    created = admin.create_topics(topics, partitions=partitions, replication=replication)
    return created, SettingsCheck(admin, sized(topics, partitions)).run()


def sized(topics: Iterable[Topic], partitions: int) -> list[Topic]:
    """Return ``topics`` with ``partitions`` where they leave it to the setting."""
    return [replace(topic, partitions=topic.partitions or partitions) for topic in topics]
