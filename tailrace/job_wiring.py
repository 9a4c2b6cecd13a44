"""From settings to the plain arguments of the jobs; those of the stages are in ``wiring``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.errors import SettingsError
from tailrace.settings.model import Settings

if TYPE_CHECKING:
    from jobs.data_quality import DataQualitySettings
    from jobs.evals.settings import EvalSettings
    from jobs.golden import GoldenSettings
    from jobs.maintain import MaintainSettings


def maintain(settings: Settings) -> MaintainSettings:
    """Return maintain's arguments.

    Raises:
        SettingsError: a retention below a day, for a table that keeps everything, or of an app longer than its calls'.
    """
    from jobs.maintain import RETENTION_DAYS, MaintainSettings
    from warehouse.forget import invalid_app_retention
    from warehouse.upkeep import RETAINED, invalid_retention

    section = settings.maintain
    if wrong := invalid_retention(section.retention_days):
        raise SettingsError(
            "maintain.retention_days",
            f"{', '.join(f'{t} cannot be kept for {section.retention_days[t]} days' for t in wrong)}",
            f"name some of {', '.join(RETAINED)}, each with at least 1 day",
        )
    if apps := invalid_app_retention(section.app_retention_days, section.retention_days):
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
    from jobs.evals.settings import EvalSettings

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
