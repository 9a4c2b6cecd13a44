"""Whether the labels of the last three days are worse than those of the two weeks before. Pure.

The test is that of the detector surge (``pipelines.detect.detectors.likelihood``): it may be evaluated every five
minutes without limit. It tests against the upper confidence bound of the baseline's share (Wilson 1927), so that with
few labels the test is slow, but not wrong. Labels of one user or hour are not independent of each other: the evidence
is divided by the overdispersion that the baseline has shown (McCullagh and Nelder 1989, 4.5).

The evidence that is needed grows with the number of series of an app (Bonferroni): all of them together give at most
``false_alarms_a_year`` while nothing is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from jobs.evals.quality_alerts import CRITICAL_DROP, LEAST_DROP
from jobs.live_quality.labels import SLOT_S, Counts, Series
from jobs.wilson import wilson
from pipelines.detect.detectors.likelihood import log_ratios, mean_evidence
from pipelines.detect.windows import Floats
from schemas.alerts import Severity

LIFTS = (1.3, 2.0, 4.0)
"""Multiples of the limit that are tested: scores fall by less than shares of errors rise."""
_SLOTS_A_YEAR = 365 * 86_400 / SLOT_S
_CERTAINTY = 2.5
"""Standard deviations of the upper bound of the baseline."""
_SLACK = 0.01
_MAX_SPREAD = 20.0
_MIN_SPREAD_HOURS = 30
_EXPLAINS = 0.8
Masks = Mapping[tuple[str, str, str | None, str | None], Sequence[tuple[int, int]]]
"""Group of series -> seconds [start, end) of its earlier incidents: they are no baseline."""


@dataclass(frozen=True)
class Settings:
    """When labels are worse."""

    false_alarms_a_year: float = 1.0
    """Of one app, over all its series, while nothing is wrong."""
    drop: float = LEAST_DROP
    """Difference to the baseline that is worth an alert: 0.05 are five of a hundred labels, or 0.05 of a score."""
    min_baseline: int = 100
    """Labels of an app in the two weeks before, below which nothing is judged."""
    min_labels: int = 20
    """Labels since the onset."""
    own_baseline: int = 50
    """Labels from which on a feature, model or version has its own baseline; below, it uses that of the app."""
    ignore: tuple[str, ...] = ()
    """Apps that are left out."""


@dataclass(frozen=True)
class Verdict:
    """The result of the test of one series; shares are of bad outcomes."""

    series: Series
    expected: float
    baseline: int
    """Labels that ``expected`` is learned from."""
    evidence: float
    """Log of the evidence against the baseline."""
    needed: float
    onset: int
    """Second."""
    bad: float
    labels: int
    """Since the onset."""
    last_bad: float
    last_labels: int
    """The newest labels: they decide whether it is over."""
    recent_bad: float
    recent: int
    """All labels that are tested."""

    @property
    def excess(self) -> float:
        """Bad labels above the baseline, of all that are tested."""
        return self.recent_bad - self.expected * self.recent

    @property
    def share(self) -> float:
        """Of bad outcomes since the onset."""
        return self.bad / max(self.labels, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of ``share``."""
        return wilson(self.bad, self.labels)

    @property
    def severity(self) -> Severity:
        """Critical where the whole interval is far from the baseline."""
        return "critical" if self.interval[0] - self.expected >= CRITICAL_DROP else "warning"

    def is_worse(self, settings: Settings) -> bool:
        """Whether it is certain, and large enough to matter."""
        clear = self.labels >= settings.min_labels and self.share - self.expected >= settings.drop
        return clear and self.evidence >= self.needed

    def is_over(self, expected: float, settings: Settings) -> bool:
        """Whether the newest labels are at the level of ``expected`` again."""
        enough = self.last_labels >= settings.min_labels
        return enough and self.last_bad / self.last_labels <= expected + settings.drop / 2


def judge(
    counts: Counts, recent: int, masks: Masks, settings: Settings, over: Masks = MappingProxyType({})
) -> list[Verdict]:
    """Judge every series of every app that has baseline enough.

    Args:
        counts: labels by series and time.
        recent: second at which the baseline ends.
        masks: incidents that are no baseline.
        settings: when labels are worse.
        over: those of them that are over: labels that were part of an alert are not counted again.
    """
    base = {series: _baseline(slots, recent, masks.get(series.group, ())) for series, slots in counts.items()}
    judged = [s for s in counts if s.app not in settings.ignore and _total(base, s.group) >= settings.min_baseline]
    sizes: dict[str, int] = {}
    for series in judged:
        sizes[series.app] = sizes.get(series.app, 0) + 1
    verdicts = []
    for series in judged:
        own = base[series]
        if own[1].sum() < settings.own_baseline:
            own = base[Series(*series.group)]
        needed = math.log(_SLOTS_A_YEAR * sizes[series.app] / settings.false_alarms_a_year)
        tested = _recent(counts[series], recent, over.get(series.group, ()))
        verdicts.append(_verdict(series, own, tested, needed, settings))
    return verdicts


def worst(verdicts: Iterable[Verdict], settings: Settings) -> list[tuple[Verdict, list[Verdict]]]:
    """Return what is worse, once a group: the series that names it, and the others.

    The smallest feature, model or version that explains ``_EXPLAINS`` of the bad labels above the baseline names it;
    where none does, the app.
    """
    groups: dict[tuple[str, str, str | None, str | None], list[Verdict]] = {}
    wholes = {}
    for verdict in verdicts:
        if not verdict.series.dimension:
            wholes[verdict.series.group] = verdict
        if verdict.is_worse(settings):
            groups.setdefault(verdict.series.group, []).append(verdict)
    found = []
    for key, group in groups.items():
        named = _named(group, wholes[key])
        found.append((named, sorted((v for v in group if v is not named), key=lambda v: -v.evidence)))
    return found


def _named(group: Sequence[Verdict], whole: Verdict) -> Verdict:
    explain = [
        v
        for v in group
        if v is not whole and v.excess >= _EXPLAINS * whole.excess and v.recent < _EXPLAINS * whole.recent
    ]
    if explain:
        return min(explain, key=lambda v: (v.recent, -v.evidence, v.series.dimension, v.series.value))
    return whole if whole in group else max(group, key=lambda v: v.evidence)


def _baseline(
    slots: Mapping[int, tuple[float, int]], recent: int, masks: Sequence[tuple[int, int]]
) -> tuple[Floats, Floats]:
    kept = [c for at, c in slots.items() if at < recent and not _within(at, masks)]
    table = np.array(kept, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _recent(
    slots: Mapping[int, tuple[float, int]], recent: int, over: Sequence[tuple[int, int]]
) -> list[tuple[int, float, int]]:
    return sorted((at, *count) for at, count in slots.items() if at >= recent and not _within(at, over))


def _within(at: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= at < end for start, end in spans)


def _total(base: Mapping[Series, tuple[Floats, Floats]], group: tuple[str, str, str | None, str | None]) -> float:
    whole = base.get(Series(*group))
    return 0.0 if whole is None else float(whole[1].sum())


def _verdict(
    series: Series,
    base: tuple[Floats, Floats],
    recent: Sequence[tuple[int, float, int]],
    needed: float,
    settings: Settings,
) -> Verdict:
    bad, labels = base
    total = float(labels.sum())
    share = float(bad.sum()) / total
    spread = _spread(bad, labels, share)
    limit = np.array(min(max(wilson(share * total, round(total), _CERTAINTY, spread)[1], share + _SLACK), 0.97))
    run = _run(recent, limit, spread)
    best = max(run, key=lambda each: each.log)
    last_bad, last = _newest(recent, settings.min_labels)
    return Verdict(
        series=series,
        expected=share,
        baseline=round(total),
        evidence=round(float(mean_evidence(np.array([each.log for each in run]))), 3),
        needed=round(needed, 3),
        onset=best.onset,
        bad=best.bad,
        labels=best.labels,
        last_bad=last_bad,
        last_labels=last,
        recent_bad=sum(bad for _, bad, _ in recent),
        recent=sum(count for *_, count in recent),
    )


@dataclass
class _Run:
    """Evidence of one lift since it was last zero."""

    log: float = 0.0
    onset: int = 0
    bad: float = 0.0
    labels: int = 0


def _run(recent: Sequence[tuple[int, float, int]], limit: Floats, spread: float) -> list[_Run]:
    """Return the evidence of every lift after the last slot."""
    table = np.array(recent, dtype=float).reshape(-1, 3)
    gains = log_ratios(table[:, 1], table[:, 2], np.full(len(table), limit), LIFTS) / spread
    runs = [_Run() for _ in LIFTS]
    for (at, bad, labels), gained in zip(recent, gains.tolist(), strict=True):
        for run, gain in zip(runs, gained, strict=True):
            if run.log <= 0:
                run.onset, run.bad, run.labels = at, 0.0, 0
            run.log = max(run.log + gain, 0.0)
            run.bad += bad
            run.labels += labels
    return runs


def _newest(recent: Sequence[tuple[int, float, int]], least: int) -> tuple[float, int]:
    """Bad and all of the newest labels, of as many slots as hold ``3 x least`` of them."""
    bad, labels = 0.0, 0
    for _, hits, count in reversed(recent):
        bad, labels = bad + hits, labels + count
        if labels >= 3 * least:
            break
    return bad, labels


def _spread(bad: Floats, labels: Floats, share: float) -> float:
    """Overdispersion of the hours of the baseline; 1 where too few hours show it."""
    variance = labels * share * (1 - share)
    shown = variance > 0.05
    if shown.sum() < _MIN_SPREAD_HOURS:
        return 1.0
    chi = (bad[shown] - labels[shown] * share) ** 2 / variance[shown]
    return float(np.clip(np.minimum(chi, 50.0).mean(), 1.0, _MAX_SPREAD))
