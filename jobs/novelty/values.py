"""When each value of each app was first seen, as it was recorded in the lake at a moment.

Values are bound or compared as columns.

Calls of shadow and canary variants are left out: a model that is tested there is no change for users. A call with a
wrong event time counts at the time of its arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas.variants import NOT_USER_FACING
from warehouse.query.readonly import ReadOnlyLake

HISTORY_DAYS = 30
"""A value that was not seen for so long counts as never seen."""
LOOKBACK = timedelta(days=2)
"""Values that were first seen earlier give no note, also where the scheduler did not run for longer."""
FIRST_DAY = timedelta(days=1)
"""Values of the first day of an app are not new."""
_MOST_VALUES = 50
"""Values of one app and kind that one run looks at, the earliest first."""


@dataclass(frozen=True)
class Kind:
    """A kind of value that may be new."""

    name: str
    """Also its dimension in the series of an alert."""
    value: str
    """Expression over raw_calls."""
    within: str = ""
    """Column that the value belongs to: a fingerprint is one of a model."""
    within_name: str = ""
    """Its dimension in the series."""
    reported: bool = True
    """Whether an app reports it for all calls from some version of its emitter on: its first day then gives no note."""
    skip_first_day: bool = False
    """Whether the first day of ``within`` gives no note either: a new model always has a new fingerprint."""
    words: str = ""
    """In a title."""


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("model", "model", words="model"),
        Kind("response_model", "response_model", "model", "model", skip_first_day=True, words="answering model"),
        Kind("provider", "provider", words="provider"),
        Kind("prompt_version", "prompt_version", "prompt_name", "prompt_name", words="prompt version"),
        Kind("feature", "feature", words="feature"),
        Kind("tool", "tool", reported=False, words="tool"),
        Kind("fingerprint", "fingerprint", "model", "model", skip_first_day=True, words="fingerprint"),
        Kind("release", "release", words="release"),
    )
}
"""By name; the order is that in which values of one moment are named."""
DEFAULT_KINDS = tuple(name for name in KINDS if name != "release")
"""Releases come often and are marked (`tailrace release mark`)."""


@dataclass(frozen=True)
class Value:
    """One value of one app, with when it was first seen."""

    app: str
    kind: str
    within: str | None
    value: str
    first: datetime
    last: datetime
    calls: int
    app_first: datetime
    """First call of the app in the history."""
    kind_first: datetime
    """First call of the app that reported this kind."""
    within_first: datetime
    """First call of the app that reported it of ``within``."""
    new_in_week: int
    """Values of this kind that were new to this app in the last seven days, without its first day."""


_SEEN = """
WITH calls_seen AS (
    SELECT app, model, response_model, provider, prompt_name, prompt_version, feature, fingerprint, release, tools,
        CASE WHEN list_contains(_flags, 'clock_skew') THEN _kafka_time ELSE ts END AS seen_at
    FROM raw_calls
    WHERE day >= $1 AND _landed_at <= $2 AND NOT coalesce(_dup, false)
        AND NOT coalesce(regexp_matches(variant, $3, 'i'), false)
),
used AS (
    {parts}
),
history AS (
    SELECT *,
        min(first) OVER (PARTITION BY app) AS app_first,
        min(first) OVER (PARTITION BY app, kind) AS kind_first,
        min(first) OVER (PARTITION BY app, kind, within) AS within_first
    FROM used
),
judged AS (
    SELECT *, (count(*) FILTER (first >= $4 AND first >= kind_first + INTERVAL 1 DAY)
        OVER (PARTITION BY app, kind))::INTEGER AS new_in_week
    FROM history
)
SELECT * FROM judged WHERE first >= $5
QUALIFY row_number() OVER (PARTITION BY app, kind ORDER BY first, within, value) <= {most}
ORDER BY app, first, kind, within, value
"""


def values(lake: ReadOnlyLake, known_at: datetime, kinds: Sequence[str]) -> list[Value]:
    """Return the values that were first seen within ``LOOKBACK`` of ``known_at``, by app and time.

    Args:
        lake: what has landed.
        known_at: what landed later is not looked at.
        kinds: names of ``KINDS``. The model is always read: its first call is the first call of the app.
    """
    wanted = [KINDS[name] for name in KINDS if name in kinds or name == "model"]
    asked = [
        (known_at - timedelta(days=HISTORY_DAYS)).date(),
        known_at,
        NOT_USER_FACING,
        known_at - timedelta(days=7),
        known_at - LOOKBACK,
    ]
    sql = _SEEN.format(parts="\n    UNION ALL\n    ".join(map(_part, wanted)), most=_MOST_VALUES)
    rows = lake.query(sql, asked).to_pylist()
    return [_value(row) for row in rows if row["kind"] in kinds]


def _part(kind: Kind) -> str:
    """Return the question for one kind; all names are those of ``KINDS``."""
    source = "calls_seen"
    if kind.name == "tool":
        source = (
            "(SELECT app, seen_at, unnest(list_distinct(list_transform(tools, lambda t: t.name))) AS tool "
            "FROM calls_seen)"
        )
    within = kind.within or "NULL::VARCHAR"
    return (
        f"SELECT app, '{kind.name}' AS kind, {within} AS within, {kind.value} AS value, min(seen_at) AS first, "
        f"max(seen_at) AS last, count(*) AS calls FROM {source} WHERE {kind.value} IS NOT NULL GROUP BY ALL"
    )


def _value(row: Mapping[str, object]) -> Value:
    times = ("first", "last", "app_first", "kind_first", "within_first")
    found = {name: moment.astimezone(UTC) if name in times else moment for name, moment in row.items()}  # type: ignore[attr-defined]
    return Value(**found)  # type: ignore[arg-type]
