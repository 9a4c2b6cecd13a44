"""Write the records and alerts of a batch job to llm.log and llm.alerts, for land and notify."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing

import msgspec

from pipelines.kafka import Producer
from schemas.alerts import Alert, LogRecord
from schemas.topics import ALERTS, LOG
from tailrace import wiring
from tailrace.cli.context import Context

_FLUSH_S = 30.0


def publish(here: Context, alerts: Sequence[Alert], *, records: Iterable[LogRecord] = ()) -> None:
    """Write ``records`` and then ``alerts``, and wait until the brokers have them; without any, do nothing."""
    records = tuple(records)
    if not alerts and not records:
        return
    with closing(Producer(wiring.kafka(here.settings, here.bootstrap_servers))) as producer:
        for record in records:
            producer.send(LOG, msgspec.json.encode(record))
        for alert in alerts:
            producer.send(ALERTS, alert.to_json(), alert.fingerprint.encode())
        producer.flush(_FLUSH_S)
