"""From settings to the plain arguments of each stage. The only module that uses both.

A stage's modules are imported where it is wired: Faust and its kin cost seconds that no other process should pay.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from pipelines.clock import now_us
from schemas.errors import SettingsError
from schemas.topics import TOPICS
from tailrace.home.layout import Home
from tailrace.settings.model import LakeSettings, Settings
from warehouse.storage.connect import LakeConfig

if TYPE_CHECKING:
    from jobs.data_quality import DataQualitySettings
    from jobs.desk import ScheduleConfig
    from jobs.evals.job import EvalSettings
    from jobs.golden import GoldenSettings
    from jobs.maintain import MaintainSettings
    from jobs.schedule import Job
    from pipelines.detect.app import DetectConfig
    from pipelines.drift.app import DriftConfig
    from pipelines.drift.embed import EmbedConfig
    from pipelines.kafka import Finding, KafkaConfig
    from pipelines.land import LandConfig
    from pipelines.meter.stage import MeterConfig
    from pipelines.notify.stage import NotifyConfig

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
    """
    from pipelines.decode import Redaction
    from pipelines.meter.epoch import landed_epoch
    from pipelines.meter.stage import MeterConfig
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
    from pipelines.drift.app import DriftConfig

    state, slot = Home(settings.home).folder("state/drift"), copy_name(settings) or "0"
    return DriftConfig(kafka(settings), state, slot=slot, embed=embed(settings))


def maintain(settings: Settings) -> MaintainSettings:
    """Return maintain's arguments.

    Raises:
        SettingsError: a retention below a day, for a table that keeps everything, or of an app longer than its calls'.
    """
    from jobs.maintain import RETENTION_DAYS, MaintainSettings
    from warehouse.forget import unkeepable_apps
    from warehouse.upkeep import RETAINED, unkeepable

    section = settings.maintain
    if wrong := unkeepable(section.retention_days):
        raise SettingsError(
            "maintain.retention_days",
            f"{', '.join(f'{t} cannot be kept for {section.retention_days[t]} days' for t in wrong)}",
            f"name some of {', '.join(RETAINED)}, each with at least 1 day",
        )
    if apps := unkeepable_apps(section.app_retention_days, section.retention_days):
        longest = section.retention_days.get("raw_calls")
        raise SettingsError(
            "maintain.app_retention_days",
            ", ".join(f"app {app!r} cannot be kept for {section.app_retention_days[app]} days" for app in apps),
            "keep each at least 1 day"
            + (
                f", and at most {longest}: no app is kept longer than retention_days keeps raw_calls" if longest else ""
            ),
        )
    return MaintainSettings(
        retention_days={**RETENTION_DAYS, **section.retention_days},
        app_retention_days=dict(section.app_retention_days),
        snapshots_h=section.snapshots_h,
        files_days=section.files_days,
        slice_s=section.slice_s,
        memory_limit=section.memory_limit,
    )


def with_retention(settings: Settings, tables: Sequence[str], apps: Sequence[str] = ()) -> Settings:
    """Return ``settings`` with other retentions, each ``TABLE=DAYS`` or ``APP=DAYS``.

    Raises:
        SettingsError: one of them is invalid.
    """
    section = settings.maintain
    days = {**section.retention_days, **_days("--keep", tables, "TABLE=DAYS, such as raw_calls=400")}
    of_apps = {**section.app_retention_days, **_days("--keep-app", apps, "APP=DAYS, such as support-bot=30")}
    section = section.model_copy(update={"retention_days": days, "app_retention_days": of_apps})
    return settings.model_copy(update={"maintain": section})


def _days(option: str, words: Sequence[str], form: str) -> dict[str, int]:
    days: dict[str, int] = {}
    for word in words:
        name, _, count = word.rpartition("=")  # a name of an app may have the sign in it
        if not (name and count.isdecimal() and len(count) < 7):
            raise SettingsError(option, f"{word[:80]!r} is no retention", f"write {form}")
        days[name] = int(count)
    return days


def golden(settings: Settings, *, days: int | None = None, size: int | None = None) -> GoldenSettings:
    """Return how a golden set is made; ``days`` and ``size`` where a person gives them."""
    from jobs.golden import LOWER_IS_BETTER, GoldenSettings

    section = settings.golden
    return GoldenSettings(
        days=days or section.days,
        size=size or section.size,
        turnover=section.turnover,
        similarity=section.similarity,
        healthy=section.healthy,
        traffic=section.traffic,
        seed=section.seed,
        keep_versions=section.keep_versions,
        envs=section.envs,
        low_scores=section.low_scores,
        lower_is_better=LOWER_IS_BETTER if section.lower_is_better is None else section.lower_is_better,
    )


def evals(settings: Settings, *, apps: Sequence[str] = (), size: int | None = None) -> EvalSettings:
    """Return how production calls are sampled; ``apps`` and ``size`` where a person names them."""
    from jobs.evals.expect import Rules
    from jobs.evals.job import EvalSettings

    section = settings.evals
    return EvalSettings(
        size=size or section.size,
        floor=section.floor,
        seed=section.seed,
        apps=tuple(apps) or section.apps,
        envs=section.envs,
        expect=Rules.read(section.expect).of,
    )


def data_quality(settings: Settings) -> DataQualitySettings:
    """Return what data_quality judges."""
    from jobs.data_quality import DataQualitySettings

    section = settings.data_quality
    return DataQualitySettings(
        max_rows=section.max_rows,
        limits=section.limits,
        skip=section.skip,
        memory_limit=section.memory_limit,
    )


def notify(settings: Settings) -> NotifyConfig:
    """Return notify's arguments."""
    from pipelines.notify.backlog import Lateness
    from pipelines.notify.spec import parse_channels
    from pipelines.notify.stage import NotifyConfig

    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else ""
    return NotifyConfig(
        kafka(settings),
        parse_channels(settings.alert_channels, secrets=secret),
        settings.webhook_allow_hosts,
        ca_file=settings.webhook_ca_file,
        texts=settings.alert_texts,
        late=Lateness(send=settings.alert_late_digest),
    )


def schedule(settings: Settings, jobs: Iterable[Job]) -> ScheduleConfig:
    """Return the scheduler's arguments: each of ``jobs`` is this command line again, and ends with this process."""
    from jobs.desk import ScheduleConfig

    parent = str(os.getpid())
    return ScheduleConfig(
        kafka(settings),
        lake(settings),
        Home(settings.home).folder("state"),
        lambda name: [sys.executable, "-m", "tailrace", "job", "run", name, "--json", "--parent", parent],
        jobs=tuple(jobs),
    )
