"""What an answer means, and how long to wait: functions of values."""

from __future__ import annotations

import pytest

from pipelines.notify.outcome import Outcome, RetryPolicy, judge

NOW = 1_760_000_000_000_000  # Thu, 09 Oct 2025 08:53:20 GMT


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((s, "delivered") for s in (200, 201, 202, 204)),
        *((s, "retry") for s in (408, 425, 429, 500, 502, 503, 504)),
        *((s, "failed") for s in (301, 302, 307, 308, 304, 400, 401, 403, 404, 405, 413, 422)),
        (410, "gone"),
    ],
)
def test_only_what_may_pass_is_tried_again(status: int, kind: str) -> None:
    assert judge(status, None, NOW).kind == kind


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        (" 7 ", 7.0),
        ("Thu, 09 Oct 2025 08:54:20 GMT", 60.0),
        ("Thu, 09 Oct 2025 08:00:00 GMT", 0.0),
        ("9" * 50, 999_999_999.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 251_642_387_139.0),
        ("Thu, 09 Oct 2025 08:54:20 +99999999999999", None),
        ("Thu, 09 Oct 99999999999999999999 08:54:20 GMT", None),
        ("1e309", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("١٢", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_none(header: str | None, seconds: float | None) -> None:
    assert judge(429, header, NOW) == Outcome("retry", "HTTP 429", seconds)


def test_waits_double_up_to_the_cap_and_are_spread() -> None:
    retry = RetryPolicy(base_s=1.0, cap_s=120.0)
    for attempts in range(1, 1500):
        whole = min(120.0, 2.0 ** min(attempts - 1, 30))
        assert whole / 2 <= retry.wait_s(attempts, "a/0/slack") <= whole
    spread = {round(retry.wait_s(5, f"alert-{i}/0/slack"), 1) for i in range(200)}
    assert len(spread) > 30
    assert retry.wait_s(3, "x") == retry.wait_s(3, "x")
