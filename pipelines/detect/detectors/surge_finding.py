"""What ``surge`` reports: which kinds are above their baseline, in which series, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.alerts.cause import Explained, explain
from pipelines.alerts.finding import Finding
from pipelines.detect.detectors.surge_bases import columns_of
from pipelines.detect.detectors.surge_errors import error_causes
from pipelines.detect.detectors.surge_state import KINDS, SurgeState
from pipelines.detect.items import COLUMN, GUARDRAIL
from pipelines.detect.windows import RING, SLOT, Floats, Matrix
from schemas.alerts import Cause
from schemas.rollups import SIGNAL, series_pairs

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.surge import Surge


@dataclass(frozen=True)
class _Run:
    """The evidence of one kind since its onset."""

    kind: str
    row: int
    """The tested series with most of it."""
    onset: int
    """µs UTC."""
    score: float
    share: Floats
    """(tested series,) learned."""
    hits: Floats
    """(tested series,) since the onset."""


def findings_of(surge: Surge, trial: SurgeState, view: View, kinds: list[str], share: Floats) -> list[Finding]:
    """The findings of the evidence of ``trial``: at most one per kind, of the app or of the series with most of it."""
    mean, best = surge.clearest(trial.log, trial.run_hits, trial.run_calls, share)
    hits: Floats = np.take_along_axis(trial.run_hits, best[..., None], -1)[..., 0]
    onset: Matrix = np.take_along_axis(trial.onset, best[..., None], -1)[..., 0]
    app = trial.places.index(view.app)
    learned = trial.calls[app] >= surge.min_calls
    tested = surge.tested(view.windows, view.app)[trial.places]  # a place may have been given to a user since
    judged = learned & tested[:, None]
    found = []
    for i, kind in enumerate(kinds):
        weak = judged[:, i] & (mean[:, i] >= surge.weak_evidence)
        if weak.any() and kind not in view.open:
            row = app if weak[app] and mean[app, i] >= 0.5 * mean[:, i].max() else int(mean[:, i].argmax())
            run = _Run(kind, row, int(onset[row, i]), float(mean[row, i]), share[:, i], hits[:, i])
            found.append(_finding(surge, trial, view, run))
    return found


def _finding(surge: Surge, trial: SurgeState, view: View, run: _Run) -> Finding:
    windows, start = view.windows, max(run.onset, view.until - RING * SLOT)
    sums = windows.total(start, view.until)
    hits, calls, expected = _compared(trial, view, run, sums)
    excess = hits - calls * expected
    # where few call, five minutes hold few hits: those since the onset count, too
    enough = hits >= surge.min_hits
    enough[trial.places] |= run.hits >= surge.min_hits
    normal, trigger = calls / max(calls[view.app], 1.0), trial.places[run.row]
    explained = explain(windows.series, excess, normal, app=view.app, trigger=trigger, enough=enough)
    kind = run.kind
    place, labels = explained.place, labels_of(kind)
    target, seen = windows.series[place], float(hits[place] / max(calls[place], 1.0))
    return Finding(
        detector=surge.name,
        rule=f"surge_{next(iter(labels))}" if labels else f"surge_{kind}",
        family=kind,
        rank=_rank(kind, labels),
        weak=run.score < surge.evidence,
        severity="critical" if seen >= 0.3 else "warning",
        measure=kind,
        target=target,
        series={**series_pairs(target), **labels},
        start=start,
        end=view.until,
        observed=seen,
        expected=float(expected[place]),
        score=round(run.score, 3),
        unit="share",
        peak=seen,
        excess=float(excess[place]),
        calls=int(hits[place]),
        causes=_causes(view, kind, explained, start, int(sums[place, COLUMN["fallbacks"]])),
        call_ids=windows.calls_of(place, _exemplars_of(kind, labels), start, view.until),
        noun=f"signal {labels['signal']}" if "signal" in labels else "",
        of=f"sampled {kind.split(':')[1]}s" if "signal" in labels else "calls",
    )


def _compared(trial: SurgeState, view: View, run: _Run, sums: Matrix) -> tuple[Floats, Floats, Floats]:
    """(series,) hits, calls and expected share; a series that is not tested is expected to be like the app."""
    top, base = columns_of(run.kind, view.windows.kinds)
    expected = np.full(len(sums), run.share[trial.places.index(view.app)])
    expected[trial.places] = run.share
    return sums[:, top].astype(float), sums[:, base].astype(float), expected


def _rank(kind: str, labels: dict[str, str]) -> int:
    """Guardrails first, then KINDS in their order, then text signals."""
    if "guardrail" in labels:
        return 0
    return 1 + len(KINDS) if labels else 1 + KINDS.index(kind)


def _causes(view: View, kind: str, explained: Explained, start: int, fallbacks: int) -> tuple[Cause, ...]:
    if kind != "errors":
        return explained.causes
    target = view.windows.series[explained.place]
    return (*explained.causes, *error_causes(view.windows, target, start, view.until, fallbacks))


def _exemplars_of(kind: str, labels: dict[str, str]) -> str:
    """The measure of the example calls."""
    if labels or kind == "cost_differs":
        return kind
    return "error" if kind == "errors" else "cost"


def labels_of(kind: str) -> dict[str, str]:
    """Return what an alert adds to its series for ``kind``: the guardrail, or the text signal."""
    if kind.startswith(SIGNAL):
        return {"signal": kind.removeprefix(SIGNAL).partition(":")[2]}
    return {"guardrail": kind.removeprefix(GUARDRAIL)} if kind.startswith(GUARDRAIL) else {}
