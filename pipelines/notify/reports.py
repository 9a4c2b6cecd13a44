"""Send the report of a batch job to the channels that alerts go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
import tenacity

from pipelines.notify.channels import Report, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard
from pipelines.notify.outcome import Outcome
from pipelines.notify.spec import ChannelSpec

log = structlog.get_logger(__name__)
ATTEMPTS = 3
_LONGEST_S = 20.0
_BACK_OFF = tenacity.wait_exponential(multiplier=2.0, max=_LONGEST_S)


@dataclass(frozen=True)
class Delivered:
    """The outcome of one channel."""

    channel: str
    ok: bool
    detail: str


def send_report(
    report: Report,
    channels: Sequence[ChannelSpec],
    guard: Guard,
    *,
    now: Callable[[], int],
    sleep: Callable[[float], None],
    ca_file: str | None = None,
    deadline_s: float = 10.0,
) -> tuple[Delivered, ...]:
    """Send ``report`` to each channel without a route; what may pass is tried again, up to three attempts a channel.

    A channel with a route is configured for some alerts only, so it gets no report. A receiver may get a report twice
    where the job is killed in between; its id is the same.

    Args:
        report: what is sent.
        channels: as in ``alert_channels``.
        guard: which addresses may be called.
        now: µs UTC.
        sleep: waits between attempts, seconds.
        ca_file: further certificate authorities.
        deadline_s: for one attempt.
    """
    poster = Poster(guard, deadline_s=deadline_s, ca_file=ca_file)
    sent = []
    for spec in channels:
        if spec.route:
            continue
        outcome = _attempted(report, spec, poster, now, sleep)
        found = Delivered(spec.name, outcome.kind == "delivered", outcome.detail)
        log.info("report_sent", channel=spec.name, report=report.id, delivered=found.ok, detail=found.detail)
        sent.append(found)
    return tuple(sent)


def _attempted(
    report: Report, spec: ChannelSpec, poster: Poster, now: Callable[[], int], sleep: Callable[[float], None]
) -> Outcome:
    channel = build(spec, poster)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=_wait,
        retry=tenacity.retry_if_result(lambda outcome: outcome.kind == "retry"),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else Outcome("failed", "not tried"),
        sleep=sleep,
    )
    outcome: Outcome = retrying(lambda: channel.send_report(replace(report, at=now())))
    return outcome


def _wait(state: tenacity.RetryCallState) -> float:
    outcome = state.outcome.result() if state.outcome else None
    asked = outcome.retry_after_s if isinstance(outcome, Outcome) else None
    return _BACK_OFF(state) if asked is None else min(asked, _LONGEST_S)
