"""Labels of calls, counted by series and time of arrival. A label counts when it arrives, however old its call is.

Each label has an outcome in [0, 1]; 1 is bad. It belongs to the series of its call; one whose call is not known, to
those that the label names itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.alerts.evidence import literal
from warehouse.query.readonly import ReadOnlyLake

BASELINE = timedelta(days=14)
RECENT = timedelta(days=3)
"""The tested period; the baseline is before it."""
_CALLS_BEFORE = timedelta(days=30)
"""A label may arrive so long after its call and still be joined to it."""
SLOT_S, HOUR_S = 300, 3600
DIMENSIONS = ("feature", "model", "response_model", "prompt_version")
LOW = 0.1
"""Quantile of the top retrieval scores of the baseline below which a top score is low."""
MIN_REFERENCE = 100
"""Retrievals of an index below which its scores are not judged."""
_NO_NAMES = "NULL::VARCHAR AS scorer, NULL::VARCHAR AS version"
_OWN = "feature, model, NULL::VARCHAR AS response_model, prompt_version"
_OF_CALL = "feature, model, response_model, prompt_version"
_TOP = "list_max(list_transform(retrieval_docs, lambda d: d.score))"
_INDEX = "coalesce(retrieval_index, retrieval_source, '')"
_CITED = "list_filter(retrieval_docs, lambda d: d.cited IS NOT NULL)"
SOURCES: Mapping[str, str] = {
    "thumbs_down": (
        f"SELECT app, call_id, _kafka_time AS arrived, (score < 0)::INTEGER::DOUBLE AS bad, {_NO_NAMES}, {_OWN} "
        "FROM feedback WHERE kind = 'thumbs' AND score IS NOT NULL"
    ),
    "edited": (
        f"SELECT app, call_id, _kafka_time AS arrived, (kind = 'edit')::INTEGER::DOUBLE AS bad, {_NO_NAMES}, {_OWN} "
        "FROM feedback WHERE kind IN ('edit', 'accept', 'copy')"
    ),
    "score": (
        "SELECT app, call_id, _kafka_time AS arrived, "
        "CASE WHEN score IS NOT NULL THEN 1 - score "
        "ELSE (lower(label) IN ('fail', 'failed', 'incorrect', 'bad'))::INTEGER::DOUBLE END AS bad, "
        "name AS scorer, coalesce(evaluator_version, '') AS version, NULL::VARCHAR AS feature, "
        "NULL::VARCHAR AS model, NULL::VARCHAR AS response_model, NULL::VARCHAR AS prompt_version FROM evals "
        "WHERE dataset IS NULL AND error IS NULL AND (extra->>'inclusion_probability') IS NULL "
        "AND coalesce(score BETWEEN 0 AND 1, lower(label) IN ('pass', 'passed', 'correct', 'good', 'fail', 'failed', "
        "'incorrect', 'bad'))"
    ),
    "low_top_score": (
        f"SELECT app, NULL::UUID AS call_id, _kafka_time AS arrived, ({_TOP} < {{low}})::INTEGER::DOUBLE AS bad, "
        f"{_INDEX} AS scorer, NULL::VARCHAR AS version, {_OF_CALL} FROM calls "
        f"WHERE user_facing AND {_TOP} IS NOT NULL AND {{low}} IS NOT NULL"
    ),
    "uncited": (
        "SELECT app, NULL::UUID AS call_id, _kafka_time AS arrived, "
        f"(len(list_filter({_CITED}, lambda d: d.cited)) = 0)::INTEGER::DOUBLE AS bad, {_NO_NAMES}, {_OF_CALL} "
        f"FROM calls WHERE user_facing AND len({_CITED}) > 0"
    ),
}
"""Measure -> its labels; ``{low}``: condition of a low top score of the index.

The weekly report's sample is left out.
"""
_LOWS = f"""
SELECT app, {_INDEX} AS index, quantile_cont({_TOP}, {LOW}) AS low FROM calls
WHERE user_facing AND day >= $1 AND _kafka_time >= $2 AND _kafka_time < $3 AND {_TOP} IS NOT NULL
GROUP BY ALL HAVING count(*) >= {MIN_REFERENCE}
"""
_COUNTS = """
WITH lows AS (
    SELECT unnest($1::VARCHAR[]) AS low_app, unnest($2::VARCHAR[]) AS low_index, unnest($3::DOUBLE[]) AS low
),
labels AS ({labels}),
of_calls AS (
    SELECT id, feature, model, response_model, prompt_version FROM raw_calls
    WHERE day >= $4 AND _landed_at <= $7 AND NOT coalesce(_dup, false) AND id IN (SELECT call_id FROM labels)
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY _epoch, _partition, _offset) = 1
),
joined AS (
    SELECT l.app, l.measure, l.scorer, l.version, l.bad,
        coalesce(c.feature, l.feature) AS feature, coalesce(c.model, l.model) AS model,
        coalesce(c.response_model, l.response_model) AS response_model,
        coalesce(c.prompt_version, l.prompt_version) AS prompt_version,
        epoch_us(l.arrived) // 1000000 // size * size AS slot
    FROM (SELECT *, CASE WHEN arrived < $6 THEN {hour} ELSE {slot} END AS size FROM labels) AS l
    LEFT JOIN of_calls AS c ON c.id = l.call_id
)
SELECT app, measure, scorer, version, feature, model, response_model, prompt_version,
    grouping(feature, model, response_model, prompt_version) AS left_out, slot, sum(bad) AS bad, count(*) AS labels
FROM joined
GROUP BY GROUPING SETS (
    (app, measure, scorer, version, slot), (app, measure, scorer, version, slot, feature),
    (app, measure, scorer, version, slot, model), (app, measure, scorer, version, slot, response_model),
    (app, measure, scorer, version, slot, prompt_version)
)
"""


@dataclass(frozen=True)
class Series:
    """What labels are counted by."""

    app: str
    measure: str
    scorer: str | None
    """Name of the scorer; of ``low_top_score`` the index."""
    version: str | None
    dimension: str = ""
    value: str = ""

    @property
    def group(self) -> tuple[str, str, str | None, str | None]:
        """Series of one group are about the same measure, as a whole and by dimensions."""
        return self.app, self.measure, self.scorer, self.version

    @property
    def pairs(self) -> dict[str, str]:
        """The series of its alert."""
        name = "index" if self.measure == "low_top_score" else "scorer"
        scorer = {name: self.scorer} if self.scorer else {}
        version = {"version": self.version} if self.version else {}
        below = {self.dimension: self.value} if self.dimension else {}
        return {"app": self.app, **below, **scorer, **version}


Counts = dict[Series, dict[int, tuple[float, int]]]
"""Series -> second at which an hour (baseline) or five minutes (recent) begin -> bad, labels."""


@dataclass(frozen=True)
class Labels:
    """All that one run judges."""

    counts: Counts
    lows: Mapping[tuple[str, str], float]
    """(app, index) -> top score below which a retrieval is low."""
    since: datetime
    recent: datetime
    until: datetime


def read(lake: ReadOnlyLake, until: datetime) -> Labels:
    """Count the labels that had landed at ``until``."""
    recent = (until - RECENT).replace(minute=0, second=0, microsecond=0)  # hours and slots must not overlap
    since = recent - BASELINE
    day = (since - timedelta(days=1)).date()
    rows = lake.query(_LOWS, [day, since, recent]).to_pylist()
    lows = {(row["app"], row["index"]): float(row["low"]) for row in rows}
    known = [[app for app, _ in lows], [index for _, index in lows], list(lows.values())]
    calls_from = (since - _CALLS_BEFORE).date()
    sql = _COUNTS.format(labels=" UNION ALL ".join(map(_bounded, SOURCES)), hour=HOUR_S, slot=SLOT_S)
    found: Counts = {}
    for row in lake.query(sql, [*known, calls_from, since, recent, until, day]).to_pylist():
        if (series := _series(row)) is not None:
            found.setdefault(series, {})[row["slot"]] = (float(row["bad"]), int(row["labels"]))
    return Labels(found, lows, since, recent, until)


def _bounded(measure: str) -> str:
    low = f"(SELECT any_value(low) FROM lows WHERE low_app = app AND low_index = {_INDEX})"
    source = SOURCES[measure].format(low=low)
    return (
        f"SELECT '{measure}' AS measure, * FROM ({source} AND day >= $8 AND _kafka_time >= $5 AND _kafka_time < $7 "
        "AND _landed_at <= $7)"
    )


def _series(row: Mapping[str, Any]) -> Series | None:
    kept = [name for bit, name in enumerate(reversed(DIMENSIONS)) if not row["left_out"] >> bit & 1]
    group = row["app"], row["measure"], row["scorer"], row["version"]
    if not kept:
        return Series(*group)
    value = row[kept[0]]
    return None if value is None else Series(*group, kept[0], value)


def evidence(series: Series, labels: Labels, since: int, *, known_at: datetime) -> str:
    """Return SQL for the mean outcome of ``series`` from second ``since`` on: shares of bad ones, or the mean score."""
    low = repr(labels.lows.get((series.app, series.scorer or ""), 0.0))
    moment = f"TIMESTAMPTZ '{known_at:%Y-%m-%d %H:%M:%S.%f}+00'"
    days = f"DATE '{datetime.fromtimestamp(since, known_at.tzinfo) - timedelta(days=1):%Y-%m-%d}'"
    calls_from = f"DATE '{labels.since - _CALLS_BEFORE:%Y-%m-%d}'"
    where = [f"l.app = {literal(series.app)}"]
    where += [
        f"{name} = {literal(text)}"
        for name, text in (("l.scorer", series.scorer), ("l.version", series.version))
        if text is not None
    ]
    if series.dimension:
        where.append(f"coalesce(c.{series.dimension}, l.{series.dimension}) = {literal(series.value)}")
    value = "1 - avg(l.bad)" if series.measure == "score" else "avg(l.bad)"
    landed = f"_landed_at <= {moment}"
    return (
        f"SELECT {value} AS observed FROM ({SOURCES[series.measure].format(low=low)} AND day >= {days} "
        f"AND _kafka_time >= to_timestamp({since}) AND _kafka_time < {moment} AND {landed}) AS l "
        f"LEFT JOIN (SELECT id, {_OF_CALL} FROM raw_calls WHERE day >= {calls_from} AND {landed} "
        "AND NOT coalesce(_dup, false) "
        "QUALIFY row_number() OVER (PARTITION BY id ORDER BY _epoch, _partition, _offset) = 1) AS c "
        f"ON c.id = l.call_id WHERE {' AND '.join(where)}"
    )
