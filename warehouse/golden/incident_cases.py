"""Golden cases that were made from the calls of an incident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.alerts import Alert
from warehouse.query.readonly import ReadOnlyLake

_COLUMNS = ("app", "feature", "model", "prompt_name", "prompt_version")
_CASES = """
SELECT g.set_name, g.version, g.case_id, coalesce(v.verdict, 'not reviewed') AS review
FROM golden AS g LEFT JOIN golden_verdicts AS v USING (case_id)
WHERE g.input_text IS NOT NULL AND v.verdict IS DISTINCT FROM 'rejected' AND (
    list_contains($1::VARCHAR[], g.call_id::VARCHAR)
    OR (list_has_any($2::VARCHAR[], g.reasons) AND g.ts >= $3::TIMESTAMPTZ AND g.ts < $4::TIMESTAMPTZ
        AND ($5 IS NULL OR g.app = $5) AND ($6 IS NULL OR g.feature = $6) AND ($7 IS NULL OR g.model = $7)
        AND ($8 IS NULL OR g.prompt_name = $8) AND ($9 IS NULL OR g.prompt_version = $9)
        AND ($10 IS NULL OR g.call_id IN (
            SELECT call_id::VARCHAR FROM guardrail_triggers
            WHERE guardrail = $10 AND day >= $3::TIMESTAMPTZ::DATE - 1 AND day <= $4::TIMESTAMPTZ::DATE + 1
        )))
)
ORDER BY g.set_name, g.case_id
"""


@dataclass(frozen=True)
class IncidentCase:
    """A case of the newest version of a set."""

    set_name: str
    version: int
    case_id: str
    review: str
    """Newest verdict; ``not reviewed`` where there is none."""


def incident_cases(lake: ReadOnlyLake, states: Sequence[Alert]) -> list[IncidentCase]:
    """Return the cases made from the calls of an incident, of the newest version of each set; rejected ones left out.

    Calls of an incident are those that its evidence names. For a drop of quality and a surge of a guardrail they are
    also those of the series that failed for this reason in the window.

    Args:
        lake: to read.
        states: of one alert, the newest last.
    """
    alert = states[-1]
    calls = [call for state in states for call in state.evidence.call_ids]
    series = [alert.series.get(name) for name in (*_COLUMNS, "guardrail")]
    asked = [calls, _reasons(alert), alert.window.start, alert.window.end, *series]
    return [IncidentCase(**row) for row in lake.query(_CASES, asked).to_pylist()]


def _reasons(alert: Alert) -> list[str]:
    """Return the reasons for which calls of the series became cases; none where a case lacks a name of the series."""
    extra = set(alert.series) - set(_COLUMNS)
    if alert.detector == "quality" and extra <= {"scorer", "version"} and "scorer" in alert.series:
        return [f"low_score:{alert.series['scorer']}"]
    return ["guardrail"] if extra == {"guardrail"} else []
