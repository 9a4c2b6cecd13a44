"""Documents that were retrieved regularly and no longer are, as after an index was rebuilt without them.

The baseline gives the expected number of retrievals of every document in a window. The test value is the share of the
documents with at least ``EXPECTED`` expected retrievals that were not retrieved once. The same share of every window of
the two weeks before, by the other windows, shows what is normal, because topics change. There is no false-alarm rate in
closed form; a window must be beyond twice the worst of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.live_quality.labels import BASELINE
from pipelines.alerts.evidence import literal
from warehouse.query.readonly import ReadOnlyLake

EXPECTED = 5.0
WINDOWS_H = (6, 24)
"""Hours: many retrievals are judged within a quarter of a day, few within a day."""
MIN_DOCUMENTS = 20
"""Documents that are expected often enough, below which nothing is judged."""
MIN_SHARE = 0.10
MIN_WINDOWS = 5
"""Windows of the baseline that can be judged themselves."""
_MOST = 5000
"""Documents of an index that are looked at, the most frequent first."""
_INDEX = "coalesce(retrieval_index, retrieval_source, '')"
_COUNTS = f"""
WITH used AS (
    SELECT app, {_INDEX} AS index, unnest(retrieval_docs).id AS document,
        (epoch_us($1) - epoch_us(_kafka_time)) // $2::BIGINT AS block
    FROM calls
    WHERE user_facing AND day >= $3 AND _kafka_time >= $4 AND _kafka_time < $1 AND _landed_at <= $1
        AND len(retrieval_docs) > 0
),
frequent AS (
    SELECT app, index, document FROM used WHERE document IS NOT NULL GROUP BY app, index, document
    QUALIFY row_number() OVER (PARTITION BY app, index ORDER BY count(*) DESC, document) <= {_MOST}
)
SELECT app, index, document, block, count(*) AS retrievals FROM used SEMI JOIN frequent USING (app, index, document)
GROUP BY ALL ORDER BY app, index, document, block
"""


@dataclass(frozen=True)
class Vanished:
    """What one index no longer returns."""

    app: str
    index: str
    hours: int
    """Of the window."""
    share: float
    """Of the documents that were to be expected."""
    documents: int
    """That were to be expected."""
    usual: float
    """The same share in the worst window of the baseline."""
    is_over: bool
    """Whether the documents are back, or no longer to be expected."""
    needed: float

    @property
    def pairs(self) -> dict[str, str]:
        """The series of its alert."""
        return {"app": self.app, **({"index": self.index} if self.index else {})}

    @property
    def is_worse(self) -> bool:
        """Whether it is beyond anything of the baseline."""
        return self.share >= self.needed


def vanished(lake: ReadOnlyLake, until: datetime) -> list[Vanished]:
    """Judge every index; of several windows of one, the one that is farthest beyond its limit."""
    found: dict[tuple[str, str], Vanished] = {}
    for hours in WINDOWS_H:
        since = until - BASELINE - timedelta(hours=hours)
        rows = lake.query(
            _COUNTS, [until, hours * 3_600_000_000, (since - timedelta(days=1)).date(), since]
        ).to_pylist()
        for (app, index), counts in _matrices(rows).items():
            judged = judge_index(app, index, hours, counts)
            before = found.get((app, index))
            if judged is not None and (before is None or judged.share - judged.needed > before.share - before.needed):
                found[app, index] = judged
    return list(found.values())


def judge_index(app: str, index: str, hours: int, counts: npt.NDArray[np.int64]) -> Vanished | None:
    """Judge the newest window of one index.

    Args:
        app: of the index.
        index: its name.
        hours: of a window.
        counts: (documents, windows), the newest window first.

    Returns:
        None where too little is known.
    """
    totals = counts.sum(axis=1)
    # the newest window is no part of what is normal for the others
    past = [_share(counts[:, b], totals - counts[:, b] - counts[:, 0])[0] for b in range(1, counts.shape[1])]
    known = [share for share in past if share is not None]
    share, documents = _share(counts[:, 0], totals - counts[:, 0]) if counts.size else (None, 0)
    if share is None or len(known) < MIN_WINDOWS:
        return None
    usual = max(known)
    needed = max(MIN_SHARE, 2 * usual + 0.02)
    return Vanished(app, index, hours, share, documents, usual, share < needed / 2, needed)


def evidence(found: Vanished, until: datetime) -> str:
    """Return SQL for the share, as it was known at ``until``."""
    moment, since = _time(until), until - BASELINE - timedelta(hours=found.hours)
    return (
        "WITH used AS (SELECT unnest(retrieval_docs).id AS document, "
        f"_kafka_time > {_time(until - timedelta(hours=found.hours))} AS is_new FROM calls "
        f"WHERE user_facing AND app = {literal(found.app)} AND {_INDEX} = {literal(found.index)} "
        f"AND day >= DATE '{since - timedelta(days=1):%Y-%m-%d}' AND _kafka_time >= {_time(since)} "
        f"AND _kafka_time < {moment} AND _landed_at <= {moment} AND len(retrieval_docs) > 0), "
        "counted AS (SELECT document, count(*) FILTER (NOT is_new) AS before, count(*) FILTER (is_new) AS now "
        f"FROM used WHERE document IS NOT NULL GROUP BY ALL ORDER BY count(*) DESC, document LIMIT {_MOST}) "
        "SELECT count(*) FILTER (now = 0)::DOUBLE / count(*) AS observed FROM counted WHERE before::DOUBLE "
        f"/ (SELECT sum(before) FROM counted) * (SELECT sum(now) FROM counted) >= {EXPECTED}"
    )


def _share(now: npt.NDArray[np.int64], before: npt.NDArray[np.int64]) -> tuple[float | None, int]:
    """Share of the documents that were to be expected and did not come, and how many were to be expected."""
    if not before.sum():
        return None, 0
    expected = before / before.sum() * now.sum() >= EXPECTED
    documents = int(expected.sum())
    return (None if documents < MIN_DOCUMENTS else float((now[expected] == 0).mean())), documents


def _matrices(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], npt.NDArray[np.int64]]:
    blocks = max((row["block"] for row in rows), default=0) + 1
    found: dict[tuple[str, str], dict[str, npt.NDArray[np.int64]]] = {}
    for row in rows:
        documents = found.setdefault((row["app"], row["index"]), {})
        documents.setdefault(row["document"], np.zeros(blocks, np.int64))[row["block"]] = row["retrievals"]
    return {key: np.array(list(documents.values())) for key, documents in found.items()}


def _time(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment:%Y-%m-%d %H:%M:%S.%f}+00'"
