"""From settings to the plain arguments of each stage; those of the jobs are in ``job_wiring``.

A stage's modules are imported in the function that needs them: the import of Faust takes seconds.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from pipelines.clock import now_us
from schemas.errors import SettingsError
from schemas.topics import TOPICS
from tailrace.home.layout import Home
from tailrace.imports import hide_pandas
from tailrace.settings.model import LakeSettings, Settings
from warehouse.storage.connect import LakeConfig

if TYPE_CHECKING:
    from jobs.job_runner import ScheduleConfig
    from jobs.schedule import Job
    from pipelines.detect.app import DetectConfig
    from pipelines.drift.config import DriftConfig
    from pipelines.drift.embed import EmbedConfig
    from pipelines.kafka import Finding, KafkaConfig
    from pipelines.land import LandConfig
    from pipelines.meter.stage import MeterConfig
    from pipelines.notify.stage import NotifyConfig
    from warehouse.query.readonly import ReadOnlyLake

log = structlog.get_logger(__name__)


def kafka(settings: Settings, bootstrap_servers: str | None = None) -> KafkaConfig:
    """Return how to reach Kafka."""
    from pipelines.kafka import KafkaConfig

    where = bootstrap_servers or settings.kafka.bootstrap_servers or ""
    return KafkaConfig(where, settings.kafka.prefix, dict(settings.kafka.client))


def copy_name(settings: Settings) -> str:
    """Return this copy's name; empty where a stage runs once."""
    return socket.gethostname() if settings.copy_name == "host" else settings.copy_name


def lake(settings: Settings) -> LakeConfig:
    """Return where the lake is."""
    home = Home(settings.home)
    data_path = settings.lake.data_path or str(home.data_path)
    return LakeConfig(
        catalog=settings.lake.catalog or str(home.catalog),
        data_path=data_path,
        memory_limit=settings.lake.memory_limit,
        settings=_bucket(settings.lake) if "://" in data_path else {},
    )


def open_lake(settings: Settings) -> ReadOnlyLake:
    """Open the lake as a reader: it hides the originals of dead letters, and nothing can be written."""
    from warehouse.query.readonly import ReadOnlyLake

    hide_pandas()  # DuckDB and pyarrow would import it, half a second, at a parameter or an array
    config = replace(lake(settings), memory_limit=settings.lake.query_memory_limit)
    return ReadOnlyLake.open(config, timeout_s=settings.lake.query_timeout_s)


def _bucket(section: LakeSettings) -> dict[str, str]:
    """Return DuckDB's settings for a bucket; what is not set is left to AWS_* in the environment."""
    key, secret = section.s3_access_key_id, section.s3_secret_access_key
    found = {
        "s3_endpoint": section.s3_endpoint,
        "s3_region": section.s3_region,
        "s3_url_style": section.s3_url_style,
        "s3_use_ssl": str(section.s3_use_ssl).lower(),
        "s3_access_key_id": key.get_secret_value() if key else "",
        "s3_secret_access_key": secret.get_secret_value() if secret else "",
    }
    return {name: value for name, value in found.items() if value}


def make_topics(settings: Settings, bootstrap_servers: str) -> tuple[list[str], list[Finding]]:
    """Create the topics that are missing, repair the settings of the others; return names, and what deviated.

    Raises:
        KafkaUnavailableError: the caller may try again.
    """
    from pipelines.kafka import Action, Admin, ensure_topics

    admin = Admin(kafka(settings, bootstrap_servers))
    created, findings = ensure_topics(
        admin, TOPICS, partitions=settings.kafka.partitions, replication=settings.kafka.replication
    )
    if repaired := [str(finding) for finding in findings if finding.action is Action.REPAIR]:
        Home(settings.home).write_run("topics", {"at": now_us(), "repaired": repaired})  # for doctor
    return created, findings


def announce_prices(settings: Settings, bootstrap_servers: str) -> None:
    """Announce the settings' prices where others were announced before; until then they hold without it.

    Raises:
        KafkaUnavailableError: the caller may try again.
        SettingsError: an override is not understood.
    """
    from pipelines.pricing import default_book
    from pipelines.pricing.published import ClockAheadError, announce, published

    where = kafka(settings, bootstrap_servers)
    if not published(where):
        return
    try:
        announce(where, default_book(settings.price_rules), now=now_us())
    except ClockAheadError as error:  # the books that were announced hold on; landing and alerts need not wait
        log.error("prices_not_announced", cause=str(error))


def land(settings: Settings) -> LandConfig:
    """Return land's arguments.

    Raises:
        SettingsError: one of several copies would write its files where the others cannot read them.
    """
    from pipelines.decode import Redaction
    from pipelines.land import LandConfig
    from tailrace.home.people import people

    if settings.copy_name and settings.lake.catalog and not settings.lake.data_path:
        problem = "copies of land share a catalog, and each would write its files into its own home"
        raise SettingsError("lake.data_path", problem, "name a bucket, or a folder that all of them reach")

    section = settings.land
    return LandConfig(
        kafka(settings),
        lake(settings),
        batch_rows=section.batch_rows,
        batch_bytes=section.batch_mb << 20,
        batch_wait_s=section.batch_wait_s,
        dead_ratio_limit=section.dead_ratio_limit,
        price_overrides=tuple(settings.price_rules),
        cost_preference=settings.cost_preference,
        rules=Redaction(people=people(settings)),
        copy_name=copy_name(settings),
    )


def meter(settings: Settings) -> MeterConfig:
    """Return meter's arguments; the epoch is read from the lake, so call it for every start.

    Raises:
        LakeUnavailableError: the caller may try again.
        SettingsError: a text signal is named that does not exist.
    """
    from pipelines.decode import Redaction
    from pipelines.meter.epoch import landed_epoch
    from pipelines.meter.stage import MeterConfig
    from pipelines.signals import chosen
    from tailrace.home.people import people

    section = settings.meter
    landed = landed_epoch(lake(settings))
    return MeterConfig(
        kafka(settings),
        copy_name=copy_name(settings),
        epoch=landed.number,
        landed_id=landed.topic_id,
        starts=landed.starts,
        price_overrides=tuple(settings.price_rules),
        cost_preference=settings.cost_preference,
        samples_per_s=section.samples_per_s,
        signals=chosen(section.signals),
        rules=Redaction(people=people(settings)),
        batch_rows=section.batch_rows,
        batch_bytes=section.batch_mb << 20,
        batch_wait_s=section.batch_wait_s,
    )


def detect_rules(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return detector -> field -> value of what the settings change."""
    rules: dict[str, dict[str, Any]] = {name: dict(changes) for name, changes in settings.rules.detectors.items()}
    if settings.rules.single_call_usd is not None:
        rules.setdefault("ceiling", {})["limit_usd"] = settings.rules.single_call_usd
    return rules


def detect(settings: Settings) -> DetectConfig:
    """Return detect's arguments.

    Raises:
        SettingsError: a rule names a detector or a field that is not there.
    """
    from pipelines.detect.app import DetectConfig
    from pipelines.detect.detectors import configure

    rules = detect_rules(settings)
    configure(rules)
    state = Home(settings.home).folder("state/detect")
    slot = copy_name(settings) or "0"
    return DetectConfig(kafka(settings), state, slot=slot, replication=settings.kafka.replication, rules=rules)


def embed(settings: Settings) -> EmbedConfig:
    """Return the arguments of drift's model."""
    from pipelines.drift.embed import EmbedConfig

    return EmbedConfig(model=settings.drift.model, threads=settings.drift.threads)


def drift(settings: Settings) -> DriftConfig:
    """Return drift's arguments."""
    from pipelines.drift.config import DriftConfig

    state, slot = Home(settings.home).folder("state/drift"), copy_name(settings) or "0"
    return DriftConfig(kafka(settings), state, slot=slot, embed=embed(settings))


def notify(settings: Settings) -> NotifyConfig:
    """Return notify's arguments."""
    from pipelines.notify.backlog import Lateness
    from pipelines.notify.spec import parse_channels
    from pipelines.notify.stage import NotifyConfig
    from pipelines.notify.storm import StormRules

    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else ""
    return NotifyConfig(
        kafka(settings),
        parse_channels(settings.alert_channels, secrets=secret),
        settings.webhook_allow_hosts,
        ca_file=settings.webhook_ca_file,
        texts=settings.alert_texts,
        late=Lateness(send=settings.alert_late_digest),
        storm=StormRules(most=settings.alert_storm),
    )


def schedule(settings: Settings, jobs: Iterable[Job]) -> ScheduleConfig:
    """Return the scheduler's arguments: each of ``jobs`` is this command line again, and ends with this process."""
    from jobs.job_runner import ScheduleConfig

    parent = str(os.getpid())
    return ScheduleConfig(
        kafka(settings),
        lake(settings),
        Home(settings.home).folder("state"),
        lambda name: [sys.executable, "-m", "tailrace", "job", "run", name, "--json", "--parent", parent],
        jobs=tuple(jobs),
    )
