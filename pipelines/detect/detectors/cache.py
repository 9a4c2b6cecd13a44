"""cache: fewer input tokens are read from the provider's prompt cache than usual, though calls bring as many as before.

The share of input tokens that the cache served falls when the first block of a prompt changes, when a release reorders
it, or when the provider evicts sooner; calls, tokens and answers stay the same and the cost rises. The test is that of
``surge`` on the share that was not served, a mean of outcomes in [0, 1] (``likelihood``), weighed once a minute. The
unit is a call, not a token, and the log ratio is divided by the overdispersion that the series has shown from minute to
minute: the calls of a session hit or miss together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.detectors import minute, minute_evidence
from pipelines.detect.detectors.bands import Band
from pipelines.detect.detectors.base import View
from pipelines.detect.detectors.cache_finding import finding_of
from pipelines.detect.detectors.cache_state import (
    ARRAYS,
    CACHED,
    CALLS,
    CODES,
    FAMILY,
    INPUT,
    LIFTS,
    CacheState,
    missed,
    usable,
    usd_lost,
)
from pipelines.detect.detectors.likelihood import log_ratios
from pipelines.detect.detectors.minute import LEARNED_AFTER, MINUTE, MinuteDetector
from pipelines.detect.side_cells import sums_of
from pipelines.detect.windows import RING, SLOT, Floats, Windows
from schemas.rollups import series_pairs


@dataclass(frozen=True)
class Cache(MinuteDetector):
    """The share of input tokens that is read from the cache fell, by a test that holds under continuous looking."""

    name: ClassVar[str] = "cache"
    follows: ClassVar[tuple[str, ...]] = (FAMILY,)
    """Families that may follow an incident of another detector: what is over is not learned here either."""
    evidence: float = 10.0
    """Log of 1/alpha: under the very lowest permitted share one false alarm in e^10 minutes, 15 days."""
    tolerance: float = 0.85
    """Part of the learned share that is not worth an alert."""
    part: float = 0.6
    """Most of the learned share that may be left since the onset."""
    least_fall: float = 0.05
    """Least distance to the learned share since the onset."""
    least_share: float = 0.05
    """Learned share below which nothing is judged."""
    least_usd: float = 0.02
    """USD lost since the onset, where prices are known."""
    least_usd_per_hour: float = 0.5
    """The same an hour."""
    min_calls: int = 30
    """Calls since the onset."""
    learn_calls: int = 200
    """Calls learned before anything is reported."""
    warm_up_s: float = 1800.0
    half_life_s: float = 21_600.0
    max_spread: float = 20.0
    pending: float = 2.0
    """Evidence from which a minute is held back and not learned."""
    hold_most_s: float = 86_400.0
    """Event time after which what is held back is learned, with any evidence."""

    def initial_state(self) -> CacheState:
        """State of an app never seen."""
        return CacheState()

    def minutes(
        self, state: CacheState, windows: Windows, ends: Sequence[int], open_: Mapping[str, int]
    ) -> Iterator[None]:
        """See ``MinuteTest``."""
        minute.fit_rows(state, windows.side.names, ARRAYS)
        sums = windows.side.minutes(ends, MINUTE).sums(CODES)
        share, misses, bar = self.bars(state)
        gains = log_ratios(missed(sums), usable(sums), bar, LIFTS)
        gains /= minute_evidence.shown_spread(state.spread[:, 0], state.spread[:, 1], self.max_spread)[:, None]
        gains[:, ~self._tested(state)] = -np.inf
        held = self._held(windows, [end - LEARNED_AFTER for end in ends], misses)
        for i, end in enumerate(ends):
            minute_evidence.weigh(state.log, state.onset, state.run, gains[i], sums[i], end - MINUTE)
            if minute.is_muted(state.muted, open_, FAMILY, end - MINUTE):
                state.log[:] = 0.0
            if FAMILY in open_:
                state.held[:], state.held_spread[:], state.held_minutes[:] = 0.0, 0.0, 0.0
            warm = end - windows.first >= self.warm_up_s * 1e6
            state.found = self._judged(state, share, end) if warm else np.zeros_like(state.found)
            if not minute.is_muted(state.muted, open_, FAMILY, end - LEARNED_AFTER - MINUTE):
                state.held += held[0][i]
                state.held_minutes += 1
                state.held_spread += held[1][i]
            if end % minute.TEN_MINUTES == 0:
                self._learn(state)
            yield

    def breaches(self, state: CacheState, open_: Mapping[str, int]) -> bool:
        """See ``MinuteTest``."""
        return FAMILY not in open_ and bool(state.found.any())

    def findings(self, state: CacheState, view: View) -> list[Finding]:
        """One finding: of the app, or of what explains most of it."""
        mean, onset, _ = minute_evidence.best(state.log, state.onset, state.run)
        mean = np.where(state.found, mean, 0.0)
        app = state.names.index(view.windows.own)
        row = app if state.found[app] and mean[app] >= 0.5 * mean.max() else int(mean.argmax())
        start = max(int(onset[row]), view.windows.closed - RING * SLOT)
        return [finding_of(self, state, view, (row, start, float(mean[row])))]

    def observe(
        self, state: CacheState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Tokens that were not served and input tokens per slot; a token is a small part of an independent call."""
        row = self._row(state, finding.target)
        known = state.learned[row]
        misses = 1 - known[CACHED] / max(known[INPUT], 1.0)
        bar = 1 - self.tolerance * (1 - misses)
        spread = float(minute_evidence.shown_spread(state.spread[row, 0], state.spread[row, 1], self.max_spread))
        per_call = float(known[INPUT] / max(known[CALLS], 1.0))
        terms = Terms(float(misses), float(bar), dispersion=max(spread * per_call, 1.0), share=True)
        side = view.windows.side
        place = side.index.get(finding.target, -1)
        buckets = []
        for start in range(since, until, SLOT):
            cells = side.cells(start, start + SLOT)
            calls, tokens, read, *_ = sums_of(cells[cells[:, 0] == place], CODES, len(side.names))[place].tolist()
            buckets.append(Bucket(tokens - min(read, tokens), tokens, calls))
        return terms, buckets

    def has_steady_terms(self, state: CacheState, finding: Finding, slot: int) -> bool:
        """Shares are learned when ten minutes end."""
        return (slot + SLOT) % minute.TEN_MINUTES != 0

    def about_app(self, state: CacheState, view: View, finding: Finding) -> Finding:
        """The same share, as learned of the whole app."""
        target = view.windows.own
        known = state.learned[self._row(state, target)]
        expected = float(known[CACHED] / max(known[INPUT], 1.0))
        return replace(finding, target=target, series=series_pairs(target), expected=expected, causes=())

    def on_resolved(self, state: CacheState, finding: Finding, end: int, proven: int) -> CacheState:
        """Reset the evidence; neither the incident nor the time until its end was proven is learned."""
        minute.resolved(state, FAMILY, finding.start, proven)
        return state

    def bands(self, state: CacheState, view: View, series: str) -> list[Band]:
        """What is compared for a series (JSON), for people."""
        if series not in state.names:
            return []
        row = state.names.index(series)
        known, side = state.learned[row], view.windows.side
        sums = side.total(CODES, view.until - RING * SLOT, view.until)[side.index[series]]
        if sums[INPUT] <= 0:
            return []
        share = float(known[CACHED] / max(known[INPUT], 1.0))
        tested = bool(self._tested(state)[row])
        limit = min(self.part * share, share - self.least_fall) if tested else None
        log = float(state.log[row].max())
        note = f"reported from {limit:.1%} down; evidence {log:.1f} of {self.evidence:g}" if limit is not None else ""
        if not tested:
            note = f"not judged: {known[CALLS]:.0f} calls learned, {share:.1%} of their input tokens were served"
        unserved, usual = 1 - float(sums[CACHED] / sums[INPUT]), 1 - share
        least = None if limit is None else 1 - limit
        window, calls = RING * SLOT // 1_000_000, int(sums[CALLS])
        return [
            Band(self.name, "not from the cache", window, "share", unserved, usual, least, calls, self.min_calls, note)
        ]

    def _row(self, state: CacheState, name: str) -> int:
        return state.names.index(name) if name in state.names else 0

    def bars(self, state: CacheState) -> tuple[Floats, Floats, Floats]:
        """Return the learned share from the cache, the share that is not, and the highest not worth an alert."""
        share = state.learned[:, CACHED] / np.maximum(state.learned[:, INPUT], 1.0)
        share = np.clip(share, 0.0, 0.99)
        return share, 1 - share, np.clip(1 - self.tolerance * share, 0.01, 0.97)

    def _tested(self, state: CacheState) -> NDArray[np.bool_]:
        share = state.learned[:, CACHED] / np.maximum(state.learned[:, INPUT], 1.0)
        tested: NDArray[np.bool_] = (state.learned[:, CALLS] >= self.learn_calls) & (share >= self.least_share)
        return tested

    def _judged(self, state: CacheState, share: Floats, end: int) -> NDArray[np.bool_]:
        if state.log.max(initial=0.0) < self.evidence:  # the mean is at most that
            return np.zeros_like(state.found)
        mean, onset, run = minute_evidence.best(state.log, state.onset, state.run)
        left = run[:, CACHED] / np.maximum(run[:, INPUT], 1.0)
        usd, hours = usd_lost(state.learned, run), (end - onset) / 3.6e9
        least = np.maximum(self.least_usd, self.least_usd_per_hour * hours)
        enough = (run[:, CALLS] >= self.min_calls) & (np.isnan(usd) | (usd >= least))
        clear = (left <= self.part * share) & (left <= share - self.least_fall)
        found: NDArray[np.bool_] = (mean >= self.evidence) & enough & clear
        return found

    def _held(self, windows: Windows, ends: Sequence[int], misses: Floats) -> tuple[Floats, Floats]:
        """(minutes, series, SUMS); (minutes, series, 2) squared distance from the learned share, 1 where it counts."""
        sums = windows.side.minutes(ends, MINUTE).sums(CODES)
        return sums, minute_evidence.distances(missed(sums), usable(sums), misses)

    def _learn(self, state: CacheState) -> None:
        """Add what is held back to what is known, except where evidence against it is pending."""
        pending = (state.log.max(axis=1, initial=0.0) > self.pending) & self._tested(state)
        pending &= state.held_minutes < self.hold_most_s * 1e6 / MINUTE
        known, held = (state.learned, state.spread), (state.held, state.held_spread)
        minute_evidence.absorb(known, held, ~pending, self.half_life_s)
        state.held_minutes[~pending] = 0.0
