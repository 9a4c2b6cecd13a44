"""What ``surge`` holds back of buckets that leave the ring, and when it becomes part of the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.likelihood import mean_evidence
from pipelines.detect.detectors.surge_limits import HITS, HITS_TEN_MINUTES, LEARNED, distances, held_and_known
from pipelines.detect.detectors.surge_state import SurgeState
from pipelines.detect.windows import RING, SLOT, Floats, Matrix

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import View
    from pipelines.detect.detectors.surge import Surge


def held_back(state: SurgeState, hits: Floats, calls: Floats, live: NDArray[np.bool_]) -> Floats:
    """(..., series, kinds, HELD): what buckets that leave the ring add to ``held``."""
    chi, counted = distances(hits, calls, state.hits, state.calls, HITS)
    live = np.broadcast_to(live, hits.shape)
    return np.stack([hits, calls, chi, counted, np.ones(hits.shape)], axis=-1) * live[..., None]


def hold(surge: Surge, state: SurgeState, view: View, kinds: list[str]) -> None:
    """Hold back the bucket that left the ring; discard what was held of a kind that is an incident now."""
    assert view.evicted is not None
    assert view.closed is not None
    slot = view.closed - RING * SLOT
    sums = np.zeros((len(view.windows.series), view.windows.width), np.int64)
    sums[: view.evicted.shape[0], : view.evicted.shape[1]] = view.evicted
    hits, calls = surge.counts(sums[state.places], kinds)
    live = np.array([not is_muted(state, view.open, k, slot) for k in kinds])
    state.held[:, [kind in view.open for kind in kinds]] = 0.0
    state.held = state.held + held_back(state, hits, calls, live)


def learn(surge: Surge, state: SurgeState) -> None:
    """Add what is held back to the baselines, in place, except where evidence against the baseline is pending.

    Evidence that was enough for an alert ten minutes ago and still is, without an incident, is of a change that is
    not worth an alert or was accepted as the new level: it is learned.
    """
    above = mean_evidence(state.log) >= surge.evidence
    pending = (state.log > 0).any(axis=2) & ~(above & state.above)
    learned = ~(pending & (state.held[..., 4] < surge.hold_most_s * 1e6 / SLOT))
    decay = np.where(learned, surge.decay ** state.held[..., 4], 1.0)
    more = *np.moveaxis(state.held, -1, 0)[:4], *distances(*held_and_known(state), HITS_TEN_MINUTES)
    for name, added in zip(LEARNED, more, strict=True):
        setattr(state, name, getattr(state, name) * decay + np.where(learned, added, 0.0))
    state.held = np.where(learned[..., None], 0.0, state.held)
    state.limit()
    state.above = above


def is_muted(state: SurgeState, open_: Mapping[str, int], kind: str, slot: int) -> bool:
    """Whether ``slot`` belongs to an incident of ``kind`` and is not learned."""
    if kind in open_ and slot >= open_[kind]:
        return True
    return any(name == kind and start <= slot < end for name, start, end in state.muted)


def live_slots(state: SurgeState, open_: Mapping[str, int], kinds: list[str], slots: Matrix) -> NDArray[np.bool_]:
    """(slots, kinds): the opposite of ``is_muted``."""
    live = np.ones((len(slots), len(kinds)), bool)
    spans = [*state.muted, *((kind, start, int(slots[-1]) + SLOT) for kind, start in open_.items())]
    for kind, start, end in spans:
        if kind in kinds:
            live[(slots >= start) & (slots < end), kinds.index(kind)] = False
    return live
