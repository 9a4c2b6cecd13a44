"""One constant shift is one alert, at any rate of texts: through the pure core.

From 0.01 texts/s to 20: 1,000 calls/s are sampled to that by default.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.drift.compose import iso
from pipelines.drift.strata import ReferenceConfig
from pipelines.drift.watch import Watch, WatchConfig
from tests.pipelines.drift.conftest import make

STEADY = {t: 1.0 for t in range(8)}
GROWN = {0.6: {**STEADY, 20: 12.0}, 1.0: {20: 1.0}}
CONFIG = WatchConfig(reference=ReferenceConfig(size=120))
BEFORE = 400


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    rate=st.sampled_from((0.01, 0.1, 0.6, 3.0, 20.0)),
    share=st.sampled_from(sorted(GROWN)),
    count=st.sampled_from((180, 320)),
    seed=st.integers(0, 1000),
)
def test_a_shift_that_lasts_is_one_incident_and_does_not_come_back(
    rate: float, share: float, count: int, seed: int
) -> None:
    """``count`` texts: at 0.01 texts/s most of the time until a shift would be the new normal."""
    count = min(count, int(0.8 * CONFIG.accept_s * rate))
    after_count = max(350, int(45 * rate))  # at least 30 s of normal texts end it
    watch = Watch("bot", "input", CONFIG)
    assert watch.step(make(seed, STEADY, BEFORE, rate=rate)) == []
    during = watch.step(make(seed, GROWN[share], count, start=BEFORE, rate=rate))
    assert [a.state for a in during if a.state != "update"] == ["firing"], "found, and not over while it lasts"
    normal = make(seed, STEADY, after_count, start=BEFORE + count, rate=rate)
    after = watch.step(normal)
    assert [a.state for a in after if a.state != "update"] == ["resolved"]
    alerts = [*during, *after]
    assert len({(a.id, a.fingerprint) for a in alerts}) == 1
    assert [a.seq for a in alerts] == list(range(len(alerts)))
    assert alerts[-1].detected_at >= iso(normal[0].ts)
    again = Watch.restore(watch.snapshot(), CONFIG)
    assert again.step(make(seed, STEADY, 200, start=BEFORE + count + after_count, rate=rate)) == []
