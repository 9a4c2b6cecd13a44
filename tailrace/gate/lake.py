"""What the gate reads from the lake: the cases of a version, why it is stale, and open quality alerts."""

from __future__ import annotations

from pathlib import Path

from jobs.evals.judge.agreement import agreement as compare
from jobs.gate.golden_file import GoldenCases, from_row
from jobs.gate.measured import Agreement
from jobs.gate.report import OpenAlert
from jobs.golden import PRODUCTION
from jobs.golden.splits import split
from tailrace import wiring
from tailrace.golden import reviews as sets
from tailrace.settings.model import Settings
from warehouse.query.readonly import ReadOnlyLake

STALE_DAYS = 21
_NEWEST = "SELECT set_name, max(version) AS version FROM golden_versions GROUP BY set_name ORDER BY set_name"
_VERSION = "SELECT version FROM golden_versions WHERE set_name = $1 AND version = $2"
_CASES = """
SELECT c.*, r.verdict AS review, r.expected AS review_expected, r.rubric AS review_rubric
FROM golden_cases AS c
LEFT JOIN golden_verdicts AS r ON r.case_id = c.case_id
WHERE c.set_name = $1 AND c.version = $2 AND c.input_text IS NOT NULL AND r.verdict IS DISTINCT FROM 'rejected'
ORDER BY c.case_id
"""
_UNREVIEWED = """
SELECT count(*) AS cases, ($3 - epoch_us(min(v.created_at))) / 86400e6 AS days, mode(c.app) AS owner,
    count(DISTINCT c.app) - 1 AS more
FROM golden_cases AS c
JOIN golden_versions AS v ON v.set_name = c.set_name AND v.version = c.added_in
LEFT JOIN golden_verdicts AS r ON r.case_id = c.case_id
WHERE c.set_name = $1 AND c.version = $2 AND c.input_text IS NOT NULL AND r.verdict IS NULL
"""
_ALERTS = """
WITH newest AS (FROM alerts QUALIFY row_number() OVER (PARTITION BY id ORDER BY seq DESC) = 1)
SELECT id, detector, severity, title FROM newest
WHERE detector = 'quality' AND severity = 'critical' AND state <> 'resolved' ORDER BY detected_at DESC LIMIT 20
"""

_LABELS = """
WITH judged AS (
    SELECT name, evaluator_version, call_id, score FROM evals
    WHERE evaluator_kind = 'llm' AND call_id IS NOT NULL AND score IS NOT NULL
    QUALIFY evaluator_version IS NOT DISTINCT FROM last_value(evaluator_version) OVER (
        PARTITION BY name ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AND row_number() OVER (PARTITION BY name, evaluator_version, call_id ORDER BY ts DESC) = 1
),
said AS (
    SELECT call_id, score >= 0.5 AS good, ts FROM evals
    WHERE evaluator_kind = 'human' AND call_id IS NOT NULL AND score IS NOT NULL
    UNION ALL
    SELECT call_id, score > 0, ts FROM feedback WHERE kind = 'thumbs' AND call_id IS NOT NULL AND score <> 0
),
people AS (FROM said QUALIFY row_number() OVER (PARTITION BY call_id ORDER BY ts DESC) = 1)
SELECT j.name, j.score, p.good FROM judged AS j JOIN people AS p USING (call_id) ORDER BY j.name, j.call_id
"""
"""Scores of the newest version of each judge, and the newest word of a person on the same call."""
_GOOD = 0.5


def golden(settings: Settings, name: str | None, version: int, *, stale_days: int, at: int) -> GoldenCases:
    """Return the cases of a version; reviews count at once, as in an export.

    Args:
        settings: where the lake is.
        name: of the set; None: the one of production.
        version: of it.
        stale_days: days without a review after which the set is stale.
        at: µs UTC.

    Raises:
        NoGoldenSetError: there is no such version.
        LakeUnavailableError: the lake cannot be read.
    """
    set_name = sets.set_name(name or PRODUCTION)
    with wiring.open_lake(settings) as lake:
        if not lake.query(_VERSION, [set_name, version]).num_rows:
            raise sets.NoGoldenSetError(set_name, version, wiring.lake(settings).name)
        rows = sets.with_reviews(lake.query(_CASES, [set_name, version])).to_pylist()
        open_, days, _, _ = lake.query(_UNREVIEWED, [set_name, version, at]).to_pylist()[0].values()
    warnings = []
    if open_ and days > stale_days:
        warnings.append(
            f"golden set {set_name} is stale: {open_} cases wait for a review, the oldest for {days:.0f} days; "
            "`tailrace golden review` shows them"
        )
    cases = tuple(from_row({**row, "split": split(row)}) for row in rows)
    return GoldenCases(f"{set_name}@{version}", cases, (), tuple(warnings))


def waiting(lake: ReadOnlyLake, *, at: int) -> list[str]:
    """Return a sentence for each golden set with cases that wait for a review: how many, how long, of which apps.

    The owner is that of the app with most of them. After three weeks it reports that the set is stale.

    Args:
        lake: to read.
        at: µs UTC.
    """
    sentences = []
    for name, version in (row.values() for row in lake.query(_NEWEST).to_pylist()):
        open_, days, owner, more = lake.query(_UNREVIEWED, [name, version, at]).to_pylist()[0].values()
        if open_:
            stale = ", so the set is stale" if days > STALE_DAYS else ""
            apps = f"{owner}{f' and {more} other apps' if more > 1 else ' and another app' if more else ''}"
            waits = f"a review of {open_} cases of golden set {name} by the owner of {apps}, "
            waits += f"the oldest waits for {days:.0f} days{stale}"
            sentences.append(f"{waits}: `tailrace golden review`")
    return sentences


def open_alerts(settings: Settings) -> list[OpenAlert] | None:
    """Return open critical alerts of quality; None where there is no lake, as in CI."""
    if is_absent(settings):
        return None
    with wiring.open_lake(settings) as lake:
        return [OpenAlert(**row) for row in lake.query(_ALERTS).to_pylist()]


def is_absent(settings: Settings) -> bool:
    """Return whether the settings name a file that is not there, as in CI."""
    catalog = wiring.lake(settings).catalog
    return "://" not in catalog and ":" not in catalog and not Path(catalog).exists()


def agreement(settings: Settings) -> dict[str, Agreement]:
    """Return how well each judge agrees with people, over calls that both judged; empty without a lake."""
    if is_absent(settings):
        return {}
    with wiring.open_lake(settings) as lake:
        rows = lake.query(_LABELS).to_pylist()
    found: dict[str, Agreement] = {}
    for name in {row["name"] for row in rows}:
        mine = [row for row in rows if row["name"] == name]
        scores = [float(row["score"]) for row in mine]
        known = compare([s >= _GOOD for s in scores], [bool(row["good"]) for row in mine], scores)
        found[name] = Agreement(known.kappa, known.labels)
    return found
