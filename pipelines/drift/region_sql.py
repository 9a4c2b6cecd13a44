"""SQL over the append-only table of embeddings that counts the share of texts in a region again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.alerts.evidence import literal
from pipelines.drift.clusters import CosineBall, HalfSpace
from pipelines.drift.points import Point


def region_sql(grown: CosineBall | HalfSpace, window: Sequence[Point], feature: str | None) -> str:
    """SQL over the append-only table that counts the share again: by source positions, each call once."""
    spans: dict[int, tuple[int, int]] = {}
    for p in window:
        low, high = spans.get(p.partition, (p.offset, p.offset))
        spans[p.partition] = (min(low, p.offset), max(high, p.offset))
    return share_sql(grown, spans, app=window[0].app, side=window[0].side, feature=feature)


def share_sql(
    grown: CosineBall | HalfSpace, spans: Mapping[int, tuple[int, int]], *, app: str, side: str, feature: str | None
) -> str:
    """SELECT the share of texts inside ``grown`` as ``observed``; ``spans``: source partition -> first, last offset."""
    is_ball = isinstance(grown, CosineBall)
    numbers = ",".join(map(str, grown.centre if isinstance(grown, CosineBall) else grown.weights))
    seen = " OR ".join(
        f"(source_partition = {p} AND source_offset BETWEEN {low} AND {high})"
        for p, (low, high) in sorted(spans.items())
    )
    function = "list_cosine_similarity" if is_ball else "list_dot_product"
    near = f"{function}(vector::DOUBLE[], [{numbers}]::DOUBLE[]) >= {grown.least!r}"
    mine = f" AND feature = {literal(feature)}" if feature is not None else ""
    return (
        f"SELECT count(DISTINCT call_id) FILTER ({near})::DOUBLE / count(DISTINCT call_id) AS observed FROM embeddings "
        f"WHERE app = {literal(app)} AND side = {literal(side)}{mine} AND ({seen})"
    )
