"""What an attempt came to, what that means, and how long to wait before the next one. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from pipelines.backoff import exponential_s

_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one attempt. ``gone``: the receiver never accepts anything again (HTTP 410)."""

    kind: Literal["delivered", "retry", "failed", "gone"]
    detail: str = ""
    retry_after_s: float | None = None


def judge(status: int, retry_after: str | None, now: int) -> Outcome:
    """Read an HTTP answer. Only what may pass is retried: 408, 425, 429 and 5xx; a redirect is not followed.

    Args:
        status: of the answer.
        retry_after: its header: seconds or an HTTP date (RFC 9110, 10.2.3).
        now: µs UTC.
    """
    detail = f"HTTP {status}"
    if 200 <= status < 300:
        return Outcome("delivered", detail)
    if status == 410:
        return Outcome("gone", detail)
    if status in (408, 425, 429) or status >= 500:
        return Outcome("retry", detail, _seconds(retry_after, now))
    if 300 <= status < 400:
        return Outcome("failed", f"{detail}: redirects are not followed")
    return Outcome("failed", detail)


def _seconds(retry_after: str | None, now: int) -> float | None:
    """Read the header; None where it is absent or neither seconds nor a date, and then our own pause applies."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.fromtimestamp(now / _S, UTC)).total_seconds())
    # OverflowError: a zone of more than 24 hours, or a date that its zone moves out of the years 1 to 9999
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


@dataclass(frozen=True)
class RetryPolicy:
    """How retries are spaced and when they end. All in seconds."""

    base_s: float = 1.0
    cap_s: float = 120.0
    give_up_after_s: float = 86_400.0

    def wait_s(self, attempts: int, jitter_key: str) -> float:
        """Exponential, with jitter from half to whole; a function of ``jitter_key``, without randomness."""
        whole = exponential_s(attempts, first_s=self.base_s, longest_s=self.cap_s)
        return whole * (0.5 + zlib.crc32(f"{jitter_key}#{attempts}".encode()) / 2**33)
