"""The frame of a run of evals and the sample out of it: counts by group, the drawn calls, and their rows.

A run reads the calls that had landed when it was created (``as_of``), and none that landed later. So a run that was
killed draws the same sample again. Of all calls only narrow columns are read; texts are read once, of what was drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

FOLDED = 20
"""Features, models and prompt versions of an app that are groups of their own, the most frequent ones; the others share
``*``: an app may put an id into any of them."""
_LATE = timedelta(days=30)
"""Longest time after a call at which feedback is still matched to it."""
_MOST_VECTORS = 20_000
"""Of an app, by a hash of the call's id; 8 MB."""
_MIN_TOPIC = 30
"""Calls of a group in one topic; fewer stay with the calls of the group that have no topic."""
Cluster = Callable[[npt.NDArray[np.int8]], npt.NDArray[np.int64]]
"""(n, d) vectors of an app's prompts -> (n,) number of the topic of each."""
_NAME = re.compile(r"\$(\w+)")

_CALLS = """
CREATE OR REPLACE TEMP TABLE eval_calls AS
SELECT c.id, c.day, c._epoch, c._partition, c._offset, c.app, c.feature, c.model, c.prompt_name, c.prompt_version,
    coalesce(c.content_mode IN ('full', 'redacted'), false) AS has_text
FROM raw_calls AS c
WHERE c.day >= $since AND c.day <= $until AND c._landed_at <= make_timestamptz($as_of::BIGINT)
    AND NOT coalesce(c._dup, false) AND c.op IS DISTINCT FROM 'embeddings'
    AND (len($apps::VARCHAR[]) = 0 OR list_contains($apps::VARCHAR[], c.app))
    AND NOT list_contains($not_apps::VARCHAR[], c.app)
    AND (len($envs::VARCHAR[]) = 0 OR coalesce(list_contains($envs::VARCHAR[], lower(c.env)), false))
    AND NOT coalesce(list_contains($not_envs::VARCHAR[], lower(c.env)), false)
    AND NOT EXISTS (
        FROM late_duplicates AS d
        WHERE d._epoch = c._epoch AND d._partition = c._partition AND d._offset = c._offset
            AND d.found_at <= make_timestamptz($as_of::BIGINT)
    )
"""


_VECTORS = """
WITH found AS (
    SELECT c.id, e.vector, e.embedding_model, e._epoch, e._partition, e._offset
    FROM embeddings AS e JOIN eval_calls AS c ON c.id = TRY_CAST(e.call_id AS UUID)
    WHERE c.app = $app AND e.side = 'input' AND e.day >= $since AND e.day <= $late
        AND e._landed_at <= make_timestamptz($as_of::BIGINT)
    QUALIFY row_number() OVER (PARTITION BY c.id ORDER BY e._epoch, e._partition, e._offset) = 1
)
SELECT id::VARCHAR AS id, vector FROM found
WHERE embedding_model IS NOT DISTINCT FROM (SELECT mode(embedding_model) FROM found)
ORDER BY sha256(id::VARCHAR) LIMIT $most
"""
_KEY = "hash(app, feature, model, prompt_name, prompt_version, topic)"
_FOLD_TOPICS = f"""
UPDATE eval_grouped SET topic = NULL WHERE topic IS NOT NULL AND {_KEY} NOT IN (
    SELECT {_KEY} FROM eval_grouped WHERE topic IS NOT NULL GROUP BY ALL HAVING count(*) >= $min_topic
)
"""


def _frequent(columns: str) -> str:
    return (
        f"SELECT app, {columns} FROM eval_calls GROUP BY app, {columns} "
        f"QUALIFY row_number() OVER (PARTITION BY app ORDER BY count(*) DESC, {columns}) <= $folded"
    )


def _same(table: str, *columns: str) -> str:
    return " AND ".join(
        [f"{table}.app = c.app", *(f"{table}.{name} IS NOT DISTINCT FROM c.{name}" for name in columns)]
    )


_GROUPED = f"""
CREATE OR REPLACE TEMP TABLE eval_grouped AS
SELECT c.id, c.day, c._epoch, c._partition, c._offset, c.has_text, c.app,
    CASE WHEN f.app IS NULL THEN '*' ELSE c.feature END AS feature,
    CASE WHEN m.app IS NULL THEN '*' ELSE c.model END AS model,
    CASE WHEN p.app IS NULL THEN '*' ELSE c.prompt_name END AS prompt_name,
    CASE WHEN p.app IS NULL THEN '*' ELSE c.prompt_version END AS prompt_version,
    t.topic
FROM eval_calls AS c
LEFT JOIN eval_topics AS t ON t.id = c.id
LEFT JOIN ({_frequent("feature")}) AS f ON {_same("f", "feature")}
LEFT JOIN ({_frequent("model")}) AS m ON {_same("m", "model")}
LEFT JOIN ({_frequent("prompt_name, prompt_version")}) AS p ON {_same("p", "prompt_name", "prompt_version")}
"""
_GROUP = "app, feature, model, prompt_name, prompt_version, topic"
_GROUPS = f"""
CREATE OR REPLACE TEMP TABLE eval_groups AS
SELECT (row_number() OVER (ORDER BY calls DESC, {_GROUP}))::INTEGER AS number, *
FROM (SELECT {_GROUP}, count(*) AS calls, count(*) FILTER (has_text) AS with_text FROM eval_grouped GROUP BY ALL)
"""
_DRAWN = f"""
CREATE OR REPLACE TEMP TABLE eval_drawn AS
WITH ranked AS (
    SELECT c.id, c.day, c._epoch, c._partition, c._offset, t.stratum, t.take,
        sha256($seed || '/' || c.id::VARCHAR) AS draw
    FROM eval_grouped AS c
    JOIN eval_groups AS g ON g.app = c.app AND {
    " AND ".join(f"g.{n} IS NOT DISTINCT FROM c.{n}" for n in _GROUP.split(", ")[1:])
}
    JOIN takes AS t ON t.number = g.number
    WHERE c.has_text AND t.take > 0
)
SELECT * EXCLUDE (take) FROM ranked
QUALIFY row_number() OVER (PARTITION BY stratum ORDER BY draw, id) <= any_value(take) OVER (PARTITION BY stratum)
"""
_WHOLE = """
CREATE OR REPLACE TEMP TABLE eval_rows AS
SELECT w.stratum, w.draw, c.id, c.id::VARCHAR AS call_id, c.app, c.feature, c.model, c.prompt_name, c.prompt_version,
    c.experiment, c.variant, c.env, c.response_id, c.trace_id, c.messages, c.system_text, c.input_text, c.output_text,
    c.retrieval_docs, c.finish_reason, coalesce(c.status, 'ok') AS status, c.refused, c.latency_ms, c.ttft_ms, c.tools,
    CASE WHEN a.delta_usd IS NULL THEN c.cost_usd
        ELSE (coalesce(c.cost_usd, 0) + a.delta_usd)::DECIMAL(18,9) END AS cost_usd
FROM eval_drawn AS w
JOIN raw_calls AS c USING (day, _epoch, _partition, _offset)
LEFT JOIN (
    SELECT _epoch, _partition, _offset, sum(delta_usd) AS delta_usd FROM cost_adjustments
    WHERE day >= $since AND day <= $until GROUP BY ALL
) AS a USING (_epoch, _partition, _offset)
WHERE c.day >= $since AND c.day <= $until
"""
# by the id of the call, else by that of the response; feedback on a whole trace is not feedback on one call
_OPINIONS = """
CREATE OR REPLACE TEMP TABLE eval_said AS
WITH said AS (
    SELECT call_id, response_id, ts, id, kind, score, label, edited, '' AS name FROM feedback
    WHERE day >= $since AND day <= $late AND _landed_at <= make_timestamptz($as_of::BIGINT)
    UNION ALL
    SELECT call_id, response_id, ts, id, 'label', score, label, NULL, name FROM evals
    WHERE day >= $since AND day <= $late AND _landed_at <= make_timestamptz($as_of::BIGINT)
        AND evaluator_kind = 'human' AND dataset IS NULL AND run_id IS NULL
)
SELECT r.id, list({'kind': s.kind, 'score': s.score, 'label': s.label, 'edited': s.edited, 'name': s.name}
    ORDER BY s.ts, s.id) AS opinions
FROM said AS s JOIN eval_rows AS r ON coalesce(s.call_id = r.id, s.response_id = r.response_id) GROUP BY r.id
"""
_READ = """
SELECT r.* EXCLUDE (id, draw), s.opinions FROM eval_rows AS r LEFT JOIN eval_said AS s USING (id)
ORDER BY r.draw, r.call_id
"""


@dataclass(frozen=True)
class Frame:
    """Which calls a run is about. Days are UTC, both included; names of environments are in lower case."""

    since: date
    until: date
    as_of: int
    """Calls, feedback and re-pricing that landed up to then, µs UTC."""
    apps: Sequence[str] = ()
    """Only these; empty: all but ``not_apps``."""
    not_apps: Sequence[str] = ()
    envs: Sequence[str] = ()
    """Only these; empty: all but ``not_envs``, and calls that name none."""
    not_envs: Sequence[str] = ()


class SampleReader:
    """Reads the frame and the sample of one run through temporary tables of one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, frame: Frame, *, seed: int) -> None:
        self._connection = connection
        self._asked: dict[str, object] = {
            **{"since": frame.since, "until": frame.until, "as_of": frame.as_of, "late": frame.until + _LATE},
            **{name: list(getattr(frame, name)) for name in ("apps", "not_apps", "envs", "not_envs")},
            **{"folded": FOLDED, "seed": str(seed), "most": _MOST_VECTORS, "min_topic": _MIN_TOPIC},
        }

    def groups(self, cluster: Cluster | None = None) -> list[dict[str, Any]]:
        """Return number, app, feature, model, prompt_name, prompt_version, topic, calls and with_text of every group.

        Args:
            cluster: finds the topics of an app; None: calls are not grouped by topic.
        """
        self._execute(_CALLS)
        self._assign_topics(cluster)
        for sql in (_GROUPED, _FOLD_TOPICS, _GROUPS):
            self._execute(sql)
        return list(self._execute("FROM eval_groups ORDER BY number").to_arrow_table().to_pylist())

    def _assign_topics(self, cluster: Cluster | None) -> None:
        self._execute("CREATE OR REPLACE TEMP TABLE eval_topics (id UUID, topic INTEGER)")
        apps = self._execute("SELECT DISTINCT app FROM eval_calls ORDER BY app").fetchall() if cluster else []
        for (app,) in apps:
            self._asked["app"] = app
            found = self._execute(_VECTORS).to_arrow_table().combine_chunks()
            if cluster and found.num_rows:
                values = found["vector"].combine_chunks().flatten().to_numpy()
                numbers = cluster(values.reshape(found.num_rows, -1))
                table = pa.table({"id": found["id"], "topic": pa.array(numbers, pa.int32())})
                self._connection.register("found_topics", table)
                self._execute("INSERT INTO eval_topics SELECT id::UUID, topic FROM found_topics")
                self._connection.unregister("found_topics")

    def draw(self, takes: Sequence[tuple[int, int, int]]) -> int:
        """Draw calls with text, in each stratum those with the least hash; return how many there are.

        Args:
            takes: (number of a group, number of its stratum, calls to draw from that stratum).
        """
        columns = [pa.array(column, pa.int32()) for column in (zip(*takes, strict=True) if takes else ((), (), ()))]
        self._connection.register("takes", pa.table(columns, names=["number", "stratum", "take"]))
        try:
            for sql in (_DRAWN, "DROP TABLE eval_grouped", "DROP TABLE eval_calls", _WHOLE, _OPINIONS):
                self._execute(sql)
        finally:
            self._connection.unregister("takes")
        return int((self._execute("SELECT count(*) FROM eval_rows").fetchone() or (0,))[0])

    def slices(self, rows: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the drawn calls with their feedback, at most ``rows`` at a time, in a fixed order."""
        reader = self._execute(_READ).to_arrow_reader(rows)
        for batch in reader:
            if batch.num_rows:
                yield list(batch.to_pylist())

    def _execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        """Run ``sql`` with the parameters that it names: DuckDB refuses others."""
        asked: Mapping[str, object] = {name: self._asked[name] for name in _NAME.findall(sql)}
        return self._connection.execute(sql, asked) if asked else self._connection.execute(sql)
