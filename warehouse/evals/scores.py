"""The scores of a run out of the lake, each with the call that it is about; and which runs there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from schemas.variants import NOT_USER_FACING
from warehouse.query.readonly import ReadOnlyLake

_RUNS = """
SELECT run_id, max(epoch_us(ts)) AS as_of, count(*) AS scores FROM evals
WHERE dataset IS NULL AND starts_with(run_id, $1) GROUP BY run_id ORDER BY as_of DESC, run_id
"""
# a run that was resumed hours later may have published a score twice before the duplicates job has looked at it; a
# scorer that failed at a call and was run again has an error and a score
_SCORES = """
WITH scores AS (
    SELECT id, name, evaluator_version AS version, evaluator_kind AS kind, evaluator_model AS judge_model, call_id, app,
        experiment, variant, score, label, explanation, error, epoch_us(ts) AS as_of,
        TRY_CAST(extra->>'inclusion_probability' AS DOUBLE) AS probability, extra->>'stratum' AS stratum,
        TRY_CAST(extra->>'stratum_calls' AS BIGINT) AS stratum_calls,
        TRY_CAST(extra->>'stratum_with_text' AS BIGINT) AS stratum_with_text,
        TRY_CAST(extra->>'stratum_sampled' AS BIGINT) AS stratum_sampled
    FROM evals WHERE run_id = $1 AND dataset IS NULL
    QUALIFY row_number() OVER (
        PARTITION BY call_id, name, version ORDER BY error IS NOT NULL, _epoch, _partition, _offset
    ) = 1
)
SELECT s.* EXCLUDE (id, call_id), s.call_id::VARCHAR AS call_id, c.feature, c.model, c.prompt_name, c.prompt_version,
    c.team, c.release, epoch_us(c.ts) AS called_at
FROM scores AS s
LEFT JOIN (
    SELECT id, ts, feature, model, prompt_name, prompt_version, team, release FROM calls WHERE day >= $2 AND day <= $3
) AS c ON c.id = s.call_id
WHERE s.probability > 0
ORDER BY s.name, s.call_id
"""
# runs of other days with the same sample settings: the end of the name is their hash; without shadow and canary calls
_TREND = """
WITH scores AS (
    SELECT run_id, name, evaluator_version AS version, score,
        TRY_CAST(extra->>'inclusion_probability' AS DOUBLE) AS probability
    FROM evals
    WHERE dataset IS NULL AND regexp_matches(run_id, '^[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{4}-[0-9]{2}-[0-9]{2}_')
        AND ends_with(run_id, $1) AND score IS NOT NULL
        AND NOT coalesce(regexp_matches(variant, $2, 'i'), false)
    QUALIFY row_number() OVER (PARTITION BY run_id, call_id, name, version ORDER BY _epoch, _partition, _offset) = 1
)
SELECT run_id, left(run_id, 10) AS since, substr(run_id, 12, 10) AS until, name, version, count(*) AS n,
    sum(score / probability) / sum(1 / probability) AS mean
FROM scores WHERE probability > 0 GROUP BY ALL ORDER BY since, name, n DESC, version
"""
_TEXTS = """
SELECT id::VARCHAR AS call_id, ts, app, feature, model, prompt_name, prompt_version, variant, release, input_text,
    output_text, retrieval_docs, finish_reason
FROM calls WHERE day >= $2 AND day <= $3 AND list_contains($1::VARCHAR[], id::VARCHAR)
"""


@dataclass(frozen=True)
class StoredRun:
    """A run of which scores have landed."""

    run_id: str
    as_of: int
    """µs UTC."""
    scores: int


def runs(lake: ReadOnlyLake, since: date, until: date) -> list[StoredRun]:
    """Return the runs over these days, the newest first."""
    return [StoredRun(**row) for row in lake.query(_RUNS, [f"{since}_{until}_"]).to_pylist()]


def scores(lake: ReadOnlyLake, run_id: str, since: date, until: date) -> list[dict[str, Any]]:
    """Return the scores of ``run_id``, each id once, with feature, model, prompt, team and release of the call."""
    return list(lake.query(_SCORES, [run_id, since, until]).to_pylist())


def trend(lake: ReadOnlyLake, run_id: str) -> list[dict[str, Any]]:
    """Return the weighted mean of each scorer and version in the runs with the sample settings of ``run_id``."""
    return list(lake.query(_TREND, [f"_{run_id.rpartition('_')[2]}", NOT_USER_FACING]).to_pylist())


def texts(lake: ReadOnlyLake, call_ids: Sequence[str], since: date, until: date) -> dict[str, dict[str, Any]]:
    """Return the calls of ``call_ids`` with their texts, by id."""
    rows = lake.query(_TEXTS, [list(call_ids), since, until]).to_pylist() if call_ids else []
    return {row["call_id"]: row for row in rows}
