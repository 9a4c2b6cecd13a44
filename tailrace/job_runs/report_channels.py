"""Send a report of a command to the channels of the settings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipelines.clock import now_us
from pipelines.notify.channels import Report
from pipelines.notify.guard import Guard
from pipelines.notify.reports import Delivered, send_report

if TYPE_CHECKING:
    from pipelines.notify.stage import NotifyConfig


def to_channels(report: Report, config: NotifyConfig) -> tuple[Delivered, ...]:
    """Send ``report`` to the channels of ``alert_channels`` without a route; return the outcome of each."""
    return send_report(
        report,
        config.channels,
        Guard.allowing(config.allow_hosts),
        now=now_us,
        sleep=time.sleep,
        ca_file=config.ca_file,
        deadline_s=config.deadline_s,
    )
