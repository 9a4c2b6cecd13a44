"""Whether an incident is over: a sequential test on calls, so that sparse traffic gets more time than dense traffic.

Two hypotheses are compared bucket by bucket: the rate is back near the learned level, or it still is near the level of
the incident. The log likelihood ratio is summed as in a CUSUM (Page, Biometrika 41, 1954), which repeats Wald's
sequential probability ratio test (1945) from zero. While the incident goes on its exponential is an e-value of mean at
most one, so a false recovery comes on average not before e^``evidence`` buckets (Lorden, Ann. Math. Stat. 42, 1971).

A share is a Bernoulli rate per call. Cost, tokens and calls are rates per bucket, as Poisson sums of a quasi-likelihood
whose variance is ``dispersion`` times the mean (McCullagh & Nelder 1989, 9.2): the unit of evidence is one independent
call, not one second. The dispersion is that of the incident itself, in buckets and in blocks of six of them, so what
comes in bursts or pauses for minutes needs more proof. Measured by ``bench/recovery.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

BLOCK = 6
"""Buckets in a block: with buckets of 10 s one minute."""


@dataclass(frozen=True)
class RecoveryConfig:
    """Settings of the test."""

    evidence: float = 12.0
    """Log of 1/alpha, as in the detector ``surge``: a false recovery in e^12 buckets."""
    least_s: float = 30.0
    """Event time that must be back to normal, however many calls prove it sooner."""
    least_reopened_s: float = 600.0
    """The same for an incident that was reopened: a series that flaps is one incident."""
    near_incident: float = 0.75
    """The rate of "goes on", as a part of the way from the normal rate to that of the incident."""
    near_normal: float = 0.35
    """The rate of "is over", as the greatest part of that way."""
    least_reach: float = 0.6
    """Least rate of an incident, as a part of the way from the normal rate to the alarm limit."""
    below_limit: float = 0.5
    """Hysteresis: at the end the rate must be under this part of the way from the normal rate to the lowest rate that
    raises an alarm."""
    still_breached: float = 0.8
    """Part of the lowest rate that raises an alarm above which an app is still in the incident of one of its series."""
    prior_blocks: float = 4.0
    """How many blocks the dispersion assumed beforehand counts."""
    most_dispersion_share: float = 4.0
    """Most that a share is taken to show by itself: calls of a session fail together. A share that differs more from
    minute to minute has changed, or pauses."""
    prior_calls: float = 8.0
    """Independent calls at the alarm limit to which the rate of the incident is drawn. A detector fires at the highest
    of many windows, so a rate that only a few calls show is too high: the incident may go on at a lower one."""
    certainty: float = 2.0
    """Standard deviations by which the sum of an incident may be above its mean, for the same reason; half of it where
    every call raises the alarm. Its rate is taken to be the lowest that may have given the sum."""
    proof_most_s: float = 7200.0
    """Time for which all has pointed to recovery that is proof by itself: a weak incident of few calls gives hardly
    any. Not of shares: where calls are few, they stay unknown."""
    silence_calls: float = 64.0
    """Calls missing at the rate of the incident after which a series that makes no calls is over, if its measure is
    one per call."""
    silence_least_s: float = 300.0
    silence_most_s: float = 7200.0


class Terms(msgspec.Struct, frozen=True):
    """The current numbers of one series, from its detector."""

    normal: float
    """Learned rate: value per exposure."""
    limit: float
    """Lowest rate that raises an alarm; 0 = any."""
    size: float = 1.0
    """Least dispersion: what one call adds to ``value``."""
    dispersion: float = 1.0
    """Multiple of ``size`` assumed before the incident has shown its own."""
    share: bool = False
    """Whether ``value`` counts calls out of ``exposure`` calls."""


class Bucket(msgspec.Struct, frozen=True):
    """What one closed bucket of the series holds."""

    value: float
    exposure: float
    """Calls for shares and costs per call, else 1."""
    calls: float


class Blocks(msgspec.Struct, frozen=True):
    """Sums from which the dispersion between blocks of one length follows."""

    value: float = 0.0
    exposure: float = 0.0
    square: float = 0.0
    """Sum of value^2 / exposure."""
    count: int = 0
    open_value: float = 0.0
    open_exposure: float = 0.0
    open_buckets: int = 0

    def add(self, bucket: Bucket, length: int) -> Blocks:
        """Return the sums with one bucket more."""
        value, exposure = self.open_value + bucket.value, self.open_exposure + bucket.exposure
        if self.open_buckets + 1 < length:
            return Blocks(self.value, self.exposure, self.square, self.count, value, exposure, self.open_buckets + 1)
        if exposure <= 0:
            return Blocks(self.value, self.exposure, self.square, self.count)
        square = self.square + value * value / exposure
        return Blocks(self.value + value, self.exposure + exposure, square, self.count + 1)

    def dispersion(self, rate: float, prior: float, weight: float, *, share: bool) -> float:
        """Pearson's chi-square over its degrees of freedom, drawn to ``prior`` as if ``weight`` blocks showed it."""
        chi = max(self.square / rate - 2 * self.value + rate * self.exposure, 0.0) if self.count > 1 else 0.0
        if share:
            chi /= max(1 - rate, 0.05)
        return (chi + weight * prior) / (max(self.count - 1, 0) + weight)


class Tally(msgspec.Struct, frozen=True):
    """Sums over the buckets of an incident."""

    value: float = 0.0
    exposure: float = 0.0
    calls: float = 0.0
    buckets: int = 0
    single: Blocks = Blocks()
    block: Blocks = Blocks()

    def add(self, bucket: Bucket) -> Tally:
        """Return the sums with one bucket more."""
        return Tally(
            self.value + bucket.value,
            self.exposure + bucket.exposure,
            self.calls + bucket.calls,
            self.buckets + 1,
            self.single.add(bucket, 1),
            self.block.add(bucket, BLOCK),
        )


class Recovery(msgspec.Struct):
    """The test of one open incident."""

    seen: Tally = Tally()
    """All buckets since its start."""
    before: Tally | None = None
    """The same up to ``since``; None while nothing points to recovery."""
    log: float = 0.0
    """Evidence that it is over."""
    since: int = 0
    """End of the last bucket in which it went on, µs UTC; 0 = it goes on."""
    silent_since: int = 0
    """Start of the buckets without a call that came last, µs UTC; 0 = there are none."""
    until: int = 0
    """End of the last bucket that is in ``seen``, µs UTC."""
    excess: float = 0.0
    """Value beyond the learned rate since the start."""
    reopened: bool = False


def absorb(state: Recovery, terms: Terms, bucket: Bucket, end: int) -> None:
    """Count a bucket that belongs to the incident without a test: what came before the alarm, or before a reopening."""
    state.seen = state.seen.add(bucket)
    state.excess += bucket.value - terms.normal * bucket.exposure
    state.until = end


def resume(state: Recovery) -> None:
    """Go on after a reopening: what looked like recovery was a pause, and is part of the incident."""
    state.before, state.log, state.since, state.silent_since = None, 0.0, 0, 0
    state.reopened = True


def step(state: Recovery, terms: Terms, bucket: Bucket, start: int, end: int, config: RecoveryConfig) -> int:
    """Test one closed bucket; return when the incident ended (µs UTC), or 0 while it goes on.

    Args:
        state: of the incident; it is updated.
        terms: normal rate and alarm limit now.
        bucket: the closed bucket.
        start: of the bucket, µs UTC.
        end: of the bucket, µs UTC.
        config: settings.
    """
    incident = state.before or state.seen
    dispersion = _dispersion(incident, terms, config)
    gain = _gain(incident, terms, bucket, dispersion, config) / dispersion
    if state.before is None and gain > 0:
        state.before, state.since = state.seen, start
    absorb(state, terms, bucket, end)
    state.log = max(state.log + gain, 0.0)
    state.silent_since = 0 if bucket.calls else state.silent_since or start
    if state.before is not None:
        if state.log <= 0:
            _go_on(state)
        elif _breaches(bucket, terms, dispersion):
            state.since = end
    least_s = config.least_reopened_s if state.reopened else config.least_s
    longest = config.proof_most_s * 1e6 if not terms.share else math.inf
    proven = state.log >= config.evidence or end - state.since >= longest
    if state.before is not None and proven and end - state.since >= least_s * 1e6:
        if _below(state, state.before, terms, dispersion, config):
            return state.since
        _go_on(state)
    # where time is the exposure, a bucket without a call has been evidence already
    usual = silence_us(incident.calls, (end - start) * incident.buckets, config) if bucket.exposure <= 0 else 0.0
    silence = max(usual or config.silence_most_s * 1e6, least_s * 1e6)
    if state.silent_since and end - state.silent_since >= silence:
        return state.since or state.silent_since
    return 0


def breaches_since(seen: Tally, before: Tally, terms: Terms, config: RecoveryConfig) -> bool:
    """Whether the rate of what ``seen`` holds beyond ``before`` is that of an incident, by more than chance."""
    value, exposure = seen.value - before.value, seen.exposure - before.exposure
    return value > config.still_breached * terms.limit * exposure + 2 * _dispersion(seen, terms, config)


def silence_us(calls: float, span_us: int, config: RecoveryConfig) -> float:
    """Time without a call after which a series that made ``calls`` calls in ``span_us`` has stopped, µs."""
    usual = config.silence_calls * span_us / max(calls, 1e-12)
    return min(max(usual, config.silence_least_s * 1e6), config.silence_most_s * 1e6)


def _go_on(state: Recovery) -> None:
    state.before, state.log, state.since = None, 0.0, 0


def _rate(incident: Tally, terms: Terms, dispersion: float, config: RecoveryConfig) -> float:
    """Rate of the incident; at least a part of the way to the alarm limit, where pauses have thinned it out."""
    if terms.share:
        mean = incident.value / incident.exposure if incident.exposure > 0 else 0.0
        weight = incident.value / max(incident.value + config.prior_calls * dispersion, 1e-12)
        drawn = weight * mean + (1 - weight) * terms.limit
    else:
        drawn = _least_mean(incident.value, dispersion, config.certainty if terms.limit > 0 else 0.5 * config.certainty)
        drawn /= max(incident.exposure, 1e-12)
    return max(drawn, terms.normal + config.least_reach * (terms.limit - terms.normal))


def _least_mean(value: float, dispersion: float, certainty: float) -> float:
    """Lowest mean of which ``value`` is not above the confidence bound."""
    spread = certainty * math.sqrt(dispersion)
    return (0.5 * (math.sqrt(spread * spread + 4 * max(value, 0.0)) - spread)) ** 2


def _dispersion(incident: Tally, terms: Terms, config: RecoveryConfig) -> float:
    """Variance over mean. Of rates at most that of blocks that differ by as much as their mean: proof in 20 minutes."""
    rate = max(incident.value / incident.exposure if incident.value > 0 else terms.limit, 1e-12)
    prior = terms.dispersion * terms.size
    each = (
        blocks.dispersion(rate, prior, config.prior_blocks, share=terms.share)
        for blocks in (incident.single, incident.block)
    )
    found = max(each)
    per_block = BLOCK * incident.value / max(incident.buckets, 1)
    found = min(found, max(prior, config.most_dispersion_share if terms.share else per_block))
    return max(found, terms.size, 1e-12)


def _gain(incident: Tally, terms: Terms, bucket: Bucket, dispersion: float, config: RecoveryConfig) -> float:
    """Log likelihood ratio of "is over" against "goes on" in one bucket."""
    reach = _rate(incident, terms, dispersion, config) - terms.normal
    if reach <= 0 or bucket.exposure <= 0:
        return 0.0
    high = terms.normal + config.near_incident * reach
    low = terms.normal + min(config.near_normal * reach, max(0.5 * (terms.limit - terms.normal), 0.0))
    low = max(low, 1e-3 * high)
    if not terms.share:
        return bucket.exposure * (high - low) - bucket.value * math.log(high / low)
    high = min(high, 0.995)
    low = min(low, 0.99 * high)
    misses = max(bucket.exposure - bucket.value, 0.0)
    return misses * math.log((1 - low) / (1 - high)) - bucket.value * math.log(high / low)


def _breaches(bucket: Bucket, terms: Terms, dispersion: float) -> bool:
    """Whether a bucket by itself is above the limit by more than chance: four standard deviations and two calls."""
    limit = terms.limit * bucket.exposure
    return bucket.value > limit + 4 * math.sqrt(dispersion * limit) + 2 * dispersion


def _below(state: Recovery, before: Tally, terms: Terms, dispersion: float, config: RecoveryConfig) -> bool:
    """Whether the rate since the end, by itself, raises no alarm: a third of a big incident is an incident too."""
    value, exposure = state.seen.value - before.value, state.seen.exposure - before.exposure
    most = terms.normal + config.below_limit * max(terms.limit - terms.normal, 0.0)
    return value <= most * exposure + 2 * dispersion
