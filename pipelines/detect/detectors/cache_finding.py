"""What ``cache`` reports: which series, how far its share fell, and what the misses cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from pipelines.alerts.cause import explain
from pipelines.alerts.finding import Finding
from pipelines.detect.detectors.cache_state import CACHED, CALLS, CODES, FAMILY, INPUT, CacheState, usd_lost
from pipelines.detect.windows import SLOT, Floats
from schemas.alerts import BROAD, Cause, Parts
from schemas.rollups import series_pairs

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.cache import Cache

SQL = "sum(coalesce(cache_read_tokens, 0))::DOUBLE / sum(input_tokens)"
STEPS = (
    "Open a call (`tailrace call CALL_ID`): did the beginning of the prompt change (a time, an id, the order of tools "
    "or documents)? A cache serves only what is equal from the first token on.",
    "Compare prompt versions and releases since then (`tailrace release list`); put what changes behind what stays.",
    "Nothing changed here: the provider evicts sooner or its cache is off; compare its status, or another region.",
)


def finding_of(test: Cache, state: CacheState, view: View, run: tuple[int, int, float]) -> Finding:
    """The finding of a ``run``: the series that breached, its onset (µs UTC) and its evidence."""
    (row, start, score), windows, end = run, view.windows, view.windows.closed
    sums = windows.side.total(CODES, start, end)[: len(state.names)]
    share, _, _ = test.bars(state)
    lost_tokens = share * sums[:, INPUT] - sums[:, CACHED]
    app = state.names.index(windows.own)
    normal = state.learned[:, INPUT] / max(state.learned[app, INPUT], 1.0)
    enough = (sums[:, CALLS] >= test.min_calls // 3) & np.array([n in windows.index for n in state.names])
    explained = explain(state.names, lost_tokens, normal, app=app, trigger=row, enough=enough)
    place, target, mine = explained.place, state.names[explained.place], sums[explained.place]
    usd = float(usd_lost(state.learned[[place]], sums[[place]])[0])
    lost = None if np.isnan(usd) else usd
    hourly = None if lost is None else round(lost / max((end - start) // SLOT, 1) * (3_600_000_000 // SLOT), 6)
    return Finding(
        detector=test.name,
        rule="cache_hit_rate",
        family=FAMILY,
        rank=1,
        measure="cache_reads",
        target=target,
        series=series_pairs(target),
        start=start,
        end=end,
        observed=float(mine[CACHED] / max(mine[INPUT], 1.0)),
        expected=float(share[place]),
        score=round(score, 3),
        unit="share",
        excess=float(lost_tokens[place]),
        usd_lost=lost,
        usd_per_hour=hourly,
        calls=int(mine[CALLS]),
        causes=_causes(explained.causes, _money(state.learned[place], mine, hourly), lost),
        call_ids=windows.calls_of(windows.index.get(target, 0), "cost", start, end),
        noun="cache reads",
        of="input tokens",
        value_sql=SQL,
        falls=True,
        steps=STEPS,
    )


def _money(usual: Floats, now: Floats, hourly: float | None) -> str:
    """Input tokens per call before and now, and what the misses cost."""
    before, after = (row[INPUT] / max(row[CALLS], 1.0) for row in (usual, now))
    steady = abs(after - before) <= 0.1 * before
    tokens = f"input tokens per call {'unchanged' if steady else f'went from {before:,.0f} to {after:,.0f}'}"
    money = "what it costs is not known" if hourly is None else f"{hourly:,.2f} USD an hour more for the same tokens"
    return f"{tokens}; {money}"


def _causes(named: tuple[Cause, ...], text: str, lost: float | None) -> tuple[Cause, ...]:
    parts = None if lost is None else Parts(cache=round(lost, 9))
    if not any(cause.named for cause in named):
        return (Cause("", BROAD, 1.0, text, parts=parts), *named)
    return (replace(named[0], text=f"{named[0].text}; {text}", parts=parts), *named[1:])
