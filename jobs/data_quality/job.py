"""One run of the suites over the rows that landed in one hour. Run it in a process of its own.

Judging is exact for measures (DuckDB counts over all rows, bounded by ``memory_limit``); rows are judged one by one up
to ``max_rows`` a table, above that as a sample of as many.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import structlog

from jobs.data_quality import docs
from jobs.data_quality.batches import read_measures, read_rows
from jobs.data_quality.failing import failing_rows, window_rows
from jobs.data_quality.suite import Check, Outcome, Suite, Window
from jobs.data_quality.suites import SUITES
from jobs.data_quality.user_suites import read_suites
from jobs.data_quality.validate import Part, validate
from schemas.errors import TailraceError
from warehouse.errors import QueryFailedError, QueryRefusedError
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DataQualitySettings:
    """What is judged, and how much it may cost."""

    max_rows: int = 1_000_000
    """Rows of a table that are judged one by one; above that a sample of as many."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """``suite.expectation`` -> another upper limit than the shipped one."""
    skip: tuple[str, ...] = ()
    """``suite.expectation``, or a suite, that is not judged."""
    memory_limit: str = "512MiB"
    """Of DuckDB."""
    query_timeout_s: float = 600.0


@dataclass(frozen=True)
class DataQualityReport:
    """What one run found."""

    run_id: str
    since: str
    until: str
    took_s: float
    passed: int
    failed: int
    unknown: int
    docs: str
    """Path of the first page of Data Docs; empty: none were written."""
    outcomes: tuple[Outcome, ...]
    problems: tuple[str, ...] = ()
    """What could not be judged: files, SQL, expectations."""

    @property
    def ok(self) -> bool:
        """Whether everything could be judged; what failed is alerted, and is no failure of the job."""
        return not self.problems

    def to_json(self) -> str:
        """Encode for ``--json``."""
        return msgspec.json.encode({**asdict(self), "ok": self.ok}).decode()


def data_quality(
    config: LakeConfig,
    window: Window,
    *,
    site: Path,
    own: Path | None = None,
    settings: DataQualitySettings | None = None,
    suites: Sequence[Suite] = SUITES,
    stop: Callable[[], bool] = lambda: False,
) -> DataQualityReport:
    """Judge ``window`` of the lake of ``config``.

    Args:
        config: where it is.
        window: the hour.
        site: folder of Data Docs; replaced whole.
        own: folder of the user's suites.
        settings: limits.
        suites: the shipped ones.
        stop: asked between two suites; where it is True, only the suites that were read until then are judged.

    Raises:
        LakeMissingError: no lake there.
        LakeUnavailableError: the catalog or a file does not answer.
    """
    chosen, began = settings or DataQualitySettings(), time.monotonic()
    more, problems = read_suites(own, taken=[suite.name for suite in suites]) if own else ((), ())
    known = (*suites, *more)
    wrong = [*problems, *unknown_names(known, chosen)]
    limited = replace(config, memory_limit=chosen.memory_limit, threads=1)
    with ReadOnlyLake.open(limited, timeout_s=chosen.query_timeout_s) as lake:
        parts, unread = _read_parts(lake, chosen_suites(known, chosen), window, chosen, stop)
        found, wrong = _judge(lake, parts, window, site, [*wrong, *unread])
    report = _report(found, wrong, window, site, round(time.monotonic() - began, 3))
    facts: dict[str, Any] = {"passed": report.passed, "failed": report.failed, "unknown": report.unknown}
    log.info("data_quality_judged", since=report.since, took_s=report.took_s, problems=len(wrong), **facts)
    return report


def chosen_suites(suites: Sequence[Suite], settings: DataQualitySettings) -> list[Suite]:
    """Return the suites without what is skipped, with other limits where they are set."""

    def kept(suite: Suite, checks: Sequence[Check]) -> tuple[Check, ...]:
        left = (check for check in checks if f"{suite.name}.{check.name}" not in settings.skip)
        return tuple(_limited(check, settings.limits.get(f"{suite.name}.{check.name}")) for check in left)

    return [
        replace(suite, rows=kept(suite, suite.rows), measured=kept(suite, suite.measured))
        for suite in suites
        if suite.name not in settings.skip
    ]


def unknown_names(suites: Sequence[Suite], settings: DataQualitySettings) -> list[str]:
    """Return what is wrong with the names of ``skip`` and ``limits``."""
    checks = {f"{suite.name}.{check.name}": check for suite in suites for check in (*suite.rows, *suite.measured)}
    limited = {key for key, check in checks.items() if "max_value" in check.kwargs}
    known = {*checks, *(suite.name for suite in suites)}
    skipped = [
        f"data_quality.skip names {name[:80]!r}: no suite or expectation" for name in settings.skip if name not in known
    ]
    return skipped + [
        f"data_quality.limits names {name[:80]!r}: no expectation with an upper limit"
        for name in settings.limits
        if name not in limited
    ]


def _limited(check: Check, limit: float | None) -> Check:
    return (
        check
        if limit is None or "max_value" not in check.kwargs
        else replace(check, kwargs={**check.kwargs, "max_value": limit})
    )


def _read_parts(
    lake: ReadOnlyLake,
    suites: Sequence[Suite],
    window: Window,
    settings: DataQualitySettings,
    stop: Callable[[], bool],
) -> tuple[list[Part], list[str]]:
    """Return the rows and measures of ``suites``, and why a suite could not be read."""
    parts: list[Part] = []
    problems: list[str] = []
    for suite in suites:
        if stop():
            break
        try:
            parts += _parts(lake, suite, window, settings)
        except (QueryFailedError, QueryRefusedError) as error:
            problems.append(f"{suite.file or suite.name}: {error}")
    return parts, problems


def _parts(lake: ReadOnlyLake, suite: Suite, window: Window, settings: DataQualitySettings) -> list[Part]:
    parts = []
    if suite.rows:
        batch = read_rows(lake, suite, window, max_rows=settings.max_rows)
        sql = {check.name: failing_rows(suite, check, window) or window_rows(suite, window) for check in suite.rows}
        parts.append(Part(suite, suite.name, suite.rows, batch, sql, scoped=False))
    if suite.measured:
        batch = read_measures(lake, suite, window)
        sql = {check.name: window.sql(check.failing) for check in suite.measured}
        parts.append(Part(suite, f"{suite.name}.measures", suite.measured, batch, sql, scoped=True))
    return parts


def _judge(
    lake: ReadOnlyLake, parts: Sequence[Part], window: Window, site: Path, problems: Sequence[str]
) -> tuple[list[Outcome], list[str]]:
    """Judge ``parts`` and replace the Data Docs; return the outcomes, and ``problems`` with those of the outcomes."""
    draft = Path(tempfile.mkdtemp(prefix=".data-quality-", dir=site.parent))
    try:
        found = [_observed(lake, each) for each in validate(parts, window, site=draft)]
        wrong = [*problems, *(f"{each.key}: {each.detail}" for each in found if each.state == "error")]
        docs.finish(draft, found, wrong, window, judged_at=window.now)
        docs.replace(draft, site)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found, wrong


def _observed(lake: ReadOnlyLake, outcome: Outcome) -> Outcome:
    """Return ``outcome`` with what its SQL returns now, so that the alert names the number that its SQL returns."""
    if outcome.state != "failed" or not outcome.sql:
        return outcome
    try:
        rows = lake.query(outcome.sql)
    except TailraceError as error:
        return replace(outcome, sql="", detail=f"{outcome.detail} (its rows cannot be shown: {error})".strip())
    first = rows[0][0].as_py() if rows.num_rows else 0
    return replace(outcome, observed=float(first)) if isinstance(first, int | float | Decimal) else outcome


def _report(
    found: Sequence[Outcome], problems: Sequence[str], window: Window, site: Path, took_s: float
) -> DataQualityReport:
    states = [each.state for each in found]
    return DataQualityReport(
        run_id=uuid.uuid4().hex,
        since=_text(window.since),
        until=_text(window.until),
        took_s=took_s,
        passed=states.count("passed"),
        failed=states.count("failed"),
        unknown=states.count("unknown"),
        docs=str(site / "index.html"),
        outcomes=tuple(found),
        problems=tuple(problems),
    )


def _text(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat()
