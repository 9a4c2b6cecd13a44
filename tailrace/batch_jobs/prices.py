"""``prices``: announce the price book; price again what a better price is known of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.schedule import Job
from tailrace.batch_jobs.base import BatchJob, Report, Stop

if TYPE_CHECKING:
    from tailrace.cli.context import Context


def _run(here: Context, stop: Stop) -> tuple[Report, str]:
    from jobs.prices import prices
    from pipelines.clock import now_us
    from tailrace import wiring

    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    report = prices(wiring.lake(here.settings), kafka, here.settings.price_rules, now=now_us, stop=stop)
    did = report.repriced
    text = (
        f"ok in {did.took_s:.1f} s{'' if did.done else ', stopped early'}: book {report.book}"
        f"{', announced' if report.announced else ''}; {did.looked_at} calls looked at, {did.priced} priced that "
        f"had no cost, {did.corrected} corrected, {did.delta_usd:+} USD in all"
    )
    return report, text


PRICES = BatchJob(
    Job(
        "prices",
        "37 4 * * *",
        "announce the price book where it changed; price what was unpriced, or by a price that is known better by now",
        12 * 3600,
    ),
    _run,
    page="operate/prices.md",
)
