"""What may be decided about alerts, and until when."""

from __future__ import annotations

import pytest

from schemas.errors import FatalError
from tailrace.records.decide import canonical, matchers, until

S = 1_000_000
NOW = 1_796_000_000 * S  # 2026-11-30T00:53:20Z


def test_matchers_are_names_and_values() -> None:
    found = matchers(["app=shop", "rule=spike_cost", "user=a=b c", "severity=critical"])
    assert found == {"app": "shop", "rule": "spike_cost", "user": "a=b c", "severity": "critical"}
    assert canonical(found) == "app=shop rule=spike_cost user=a=b c severity=critical"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["app"], "it is not NAME=VALUE"),
        (["app="], "it is not NAME=VALUE"),
        (["ap=shop"], "did you mean app?"),
        (["colour=red"], "known are rule, detector, severity, app"),
        (["app=a", "app=b"], "it is given twice"),
        (["severity=bad"], "use info, warning, critical"),
    ],
)
def test_what_matches_no_alert_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(FatalError) as error:
        matchers(words)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("length", "end", "seconds"),
    [(None, None, 3600), ("90m", None, 5400), ("28d", None, 28 * 86_400), (None, "2026-11-30T01:53:20Z", 3600)],
)
def test_a_silence_ends_after_a_span_or_at_a_time(length: str | None, end: str | None, seconds: int) -> None:
    assert until(length, end, NOW) == NOW + seconds * S


@pytest.mark.parametrize(
    ("length", "end", "message"),
    [
        ("soon", None, "expected how long"),
        ("0m", None, "it is not after now"),
        ("29d", None, "give at most 28d"),
        (None, "2027-06-01T00:00:00Z", "give at most 28d"),
        (None, "2020-01-01T00:00:00Z", "it is not after now"),
        (None, "2h", "is not a time"),
        (None, "2026-13-01", "expected how long ago"),
        ("1h", "2030-01-01T00:00:00Z", "give one of them"),
    ],
)
def test_an_end_that_cannot_be_is_refused(length: str | None, end: str | None, message: str) -> None:
    with pytest.raises(FatalError) as error:
        until(length, end, NOW)
    assert message in str(error.value)
