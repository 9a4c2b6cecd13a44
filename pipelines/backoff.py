"""How long to wait before another attempt: tenacity's exponential back-off as a function of the number of failures.

The loops of the stages are not tenacity's, because they send heartbeats while they wait and reset after a time of
health. Only its formula is used: written out, ``2.0 ** n`` raises OverflowError after 1,024 failures, which a broker
that is away for 90 minutes causes.
"""

from __future__ import annotations


def exponential_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """Return the pause after ``attempt``, the first of which is 1: ``first_s``, doubled each time, up to ``longest_s``.

    Callers add jitter where several processes may wait for one resource.
    """
    from tenacity import RetryCallState, Retrying, wait_exponential  # 40 ms, which commands need not wait for

    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    return wait_exponential(multiplier=first_s, max=longest_s)(state)
