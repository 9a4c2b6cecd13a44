"""The expectations of every table of events: volume, freshness, positions, shares.

The SQL is built from our constants only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.data_quality.suite import Check

WINDOW = "_landed_at >= $since AND _landed_at < $until AND NOT coalesce(_dup, false)"
DAYS = 14
"""Of history, for volume and freshness."""
MOST_SCOPES = 1000
"""Apps with the most rows that are judged one by one."""
_Z = 2.576
"""Two-sided 99 %."""


@dataclass(frozen=True)
class Share:
    """A share of rows with a limit. What is judged is the lower end of its 99 % interval, so few rows fail nothing."""

    name: str
    description: str
    part: str
    """SQL condition of what counts."""
    limit: float
    of: str = "true"
    """SQL condition of what it is a share of."""
    severity: str = "warning"

    @property
    def column(self) -> str:
        """Measure that is judged."""
        return f"{self.name}_at_least"

    @property
    def aggregates(self) -> str:
        """SQL of the measures: the share, and the least that it can be."""
        total, part = f"count(*) FILTER ({self.of})", f"count(*) FILTER (({self.of}) AND ({self.part}))"
        return f"{part} / nullif({total}, 0) AS {self.name}, {at_least(part, total)} AS {self.column}"

    def check(self, table: str) -> Check:
        """Return the expectation."""
        failing = (
            f"SELECT count(*) OVER () AS observed, id, app, ts, _partition, _offset FROM {table} "
            f"WHERE {WINDOW} AND ({self.of}) AND ({self.part}) LIMIT 100"
        )
        return Check(
            self.name,
            self.description,
            "expect_column_values_to_be_between",
            {"column": self.column, "max_value": self.limit},
            "critical" if self.severity == "critical" else "warning",
            failing=failing,
        )


def at_least(part: str, total: str) -> str:
    """Return SQL of the lower end of Wilson's 99 % interval of ``part / total``; NULL where there are none.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    n, z2 = f"nullif({total}, 0)", _Z * _Z
    p = f"({part} / {n})"
    return f"({p} + {z2 / 2} / {n} - {_Z} * sqrt({p} * (1 - {p}) / {n} + {z2 / 4} / ({n} * {n}))) / (1 + {z2} / {n})"


def measures(table: str, shares: Sequence[Share] = (), totals: Mapping[str, str] | None = None) -> str:
    """Return the measures of ``table``: one row for everything (scope empty), and one an app.

    Volume is compared with the same hour (UTC) of the last 14 days, working days with working days, from the first
    day on which the scope had rows; three days at least. Low is half of the least, high twice the most, both widened
    by three standard deviations of a Poisson count. Freshness allows twice the longest gap between rows in those days.

    Args:
        table: of events.
        shares: judged scope by scope.
        totals: further measures of everything: name -> scalar subquery.
    """
    more = "".join(f", {share.aggregates}" for share in shares)
    names = "".join(f", s.{share.name}, s.{share.column}" for share in shares)
    whole = "".join(f", CASE WHEN scope = '' THEN ({sql}) END AS {name}" for name, sql in (totals or {}).items())
    return f"""
WITH landed AS (
    SELECT app, date_trunc('hour', _landed_at) AS h, count(*) AS n, max(_landed_at) AS newest FROM {table}
    WHERE _landed_at >= $since - INTERVAL {DAYS} DAY AND _landed_at < $now AND NOT coalesce(_dup, false) GROUP BY ALL
), scoped AS (
    SELECT CASE WHEN grouping(app) = 1 THEN '' ELSE app END AS scope, h::DATE AS d, sum(n) AS n FROM landed
    WHERE h < $since AND hour(h) = hour($since) GROUP BY GROUPING SETS ((d), (d, app))
), days AS (
    SELECT ($since - to_days(i::INTEGER))::DATE AS d FROM range(1, {DAYS + 1}) AS r(i)
    WHERE (isodow($since - to_days(i::INTEGER)) >= 6) = (isodow($since) >= 6)
), known AS (
    SELECT scope, min(d) AS first_day FROM scoped WHERE scope IS NOT NULL GROUP BY scope
), reference AS (
    SELECT k.scope, count(*) AS days, min(coalesce(s.n, 0)) AS least, max(coalesce(s.n, 0)) AS most
    FROM known AS k JOIN days AS d ON d.d >= k.first_day LEFT JOIN scoped AS s ON s.scope = k.scope AND s.d = d.d
    GROUP BY k.scope HAVING count(*) >= 3
), stats AS (
    SELECT CASE WHEN grouping(app) = 1 THEN '' ELSE app END AS scope, count(*) AS rows{more}
    FROM {table} WHERE {WINDOW} GROUP BY GROUPING SETS ((), (app))
), silence AS (
    SELECT max(date_diff('hour', before, h)) AS longest, count(DISTINCT h::DATE) AS days
    FROM (SELECT h, lag(h) OVER (ORDER BY h) AS before FROM (SELECT DISTINCT h FROM landed))
)
SELECT scope, coalesce(s.rows, 0)::DOUBLE AS rows,
    CASE WHEN r.least IS NOT NULL THEN greatest(floor(0.5 * r.least - 3 * sqrt(r.least)), 0) END::DOUBLE AS rows_low,
    (ceil(2 * r.most + 3 * sqrt(r.most)) + 10)::DOUBLE AS rows_high{names},
    CASE WHEN scope = '' THEN (SELECT epoch($now - max(newest)) FROM landed) END AS age_s,
    CASE WHEN scope = '' THEN (SELECT (2 * longest + 1) * 3600.0 FROM silence WHERE days >= 3) END AS age_limit_s,
    CASE WHEN scope = '' THEN (SELECT count(*)::DOUBLE FROM ({doubled(table)})) END AS doubled_positions{whole}
FROM stats AS s FULL JOIN reference AS r USING (scope)
WHERE scope IS NOT NULL ORDER BY scope <> '', greatest(coalesce(s.rows, 0), coalesce(r.most, 0)) DESC, scope
LIMIT {MOST_SCOPES + 1}
"""


def doubled(table: str) -> str:
    """Return SQL of the rows at positions that several rows have, of those between the least and greatest of the hour.

    Rows of a day are compared with those of the hour: a process that lands twice does so within minutes.
    """
    return (
        f"SELECT t._epoch, t._partition, t._offset, t.id, t.app, t._landed_at FROM {table} AS t JOIN "
        f"(SELECT _epoch, _partition, min(_offset) AS low, max(_offset) AS high FROM {table} "
        "WHERE _landed_at >= $since AND _landed_at < $until GROUP BY ALL) AS w USING (_epoch, _partition) "
        "WHERE t._landed_at >= $since - INTERVAL 1 DAY AND t._landed_at < $now AND t._offset BETWEEN w.low AND w.high "
        "QUALIFY count(*) OVER (PARTITION BY t._epoch, t._partition, t._offset) > 1"
    )


def standard(table: str) -> tuple[Check, ...]:
    """Return the expectations of positions, volume and freshness."""
    count = f"SELECT count(*) AS observed FROM {table} WHERE {WINDOW}"
    kept = {"ignore_row_if": "either_value_is_missing", "or_equal": True}
    pair = "expect_column_pair_values_a_to_be_greater_than_b"
    return (
        Check(
            "positions_unique",
            "No position of the log landed twice.",
            "expect_column_values_to_be_between",
            {"column": "doubled_positions", "max_value": 0},
            "critical",
            failing=f"SELECT count(*) OVER () AS observed, * FROM ({doubled(table)}) LIMIT 100",
        ),
        Check(
            "volume_low",
            "As many rows landed as in the quietest of the same hours of the last 14 days, less half.",
            pair,
            {"column_A": "rows", "column_B": "rows_low", **kept},
            "critical",
            failing=count,
        ),
        Check(
            "volume_high",
            "No more rows landed than twice those of the busiest of the same hours of the last 14 days.",
            pair,
            {"column_A": "rows_high", "column_B": "rows", **kept},
            failing=count,
        ),
        Check(
            "fresh",
            "The newest row is not older than twice the longest silence of the last 14 days.",
            pair,
            {"column_A": "age_limit_s", "column_B": "age_s", **kept},
            "critical",
            failing=f"SELECT epoch($now - max(_landed_at)) AS observed FROM {table} "
            f"WHERE _landed_at >= $since - INTERVAL {DAYS} DAY AND _landed_at < $now",
            unit="s",
        ),
    )


def not_null(column: str, *, severity: str = "critical") -> Check:
    """Return that ``column`` is there in every row."""
    return Check(
        f"{column.strip('_')}_present",
        f"Every row has {column}.",
        "expect_column_values_to_not_be_null",
        {"column": column},
        "critical" if severity == "critical" else "warning",
    )


def between(column: str, low: float | None, high: float | None) -> Check:
    """Return that ``column`` is in a range where it is reported."""
    limits = {name: value for name, value in (("min_value", low), ("max_value", high)) if value is not None}
    bounds = f"from {low:,} to {high:,}" if low is not None and high is not None else f"at least {low:,}"
    return Check(
        f"{column}_in_range",
        f"{column} is {bounds} wherever it is reported.",
        "expect_column_values_to_be_between",
        {"column": column, **limits},
    )


def one_of(column: str, *values: str) -> Check:
    """Return that ``column`` is one of ``values`` where it is reported."""
    return Check(
        f"{column}_known",
        f"{column} is one of {', '.join(values)}.",
        "expect_column_values_to_be_in_set",
        {"column": column, "value_set": list(values)},
    )


def not_above(part: str, whole: str) -> Check:
    """Return that ``part`` is no more than ``whole`` where both are reported."""
    return Check(
        f"{part}_within_{whole}",
        f"{part} is no more than {whole} where both are reported.",
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": whole, "column_B": part, "or_equal": True, "ignore_row_if": "either_value_is_missing"},
    )
