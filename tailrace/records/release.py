"""Mark a release: one record on llm.log that lands once.

The record's id follows from the app, the manifest and the release before it. So a mark that is repeated after a crash
is the same mark, and marking the manifest that is current already changes nothing.
"""

from __future__ import annotations

from contextlib import closing

import msgspec

from pipelines.kafka import KafkaConfig, Producer
from schemas import faults
from schemas.alerts import LogRecord
from schemas.releases import Release, by_time, of_row, release_id
from schemas.topics import LOG
from tailrace.records.manifest import Manifest
from warehouse.query.readonly import ReadOnlyLake

_FLUSH_S = 15.0
_MARKS = "SELECT epoch_us(logged_at) AS at, entry FROM releases WHERE app = $1 AND release_id IS NOT NULL"


def marks(lake: ReadOnlyLake, app: str) -> list[Release]:
    """Return the releases of an app, from the earliest to the newest."""
    rows = lake.query(_MARKS, [app]).to_pylist()
    return by_time(of_row(msgspec.json.decode(row["entry"]), row["at"]) for row in rows)


def mark_of(app: str, manifest: Manifest, known: list[Release], *, actor: str, at: int) -> Release:
    """Return the mark of ``manifest``: the newest of ``known`` itself where it has this manifest already."""
    current = known[-1] if known else None
    if current is not None and (current.manifest_sha256, current.release) == (manifest.sha256, manifest.release):
        return current
    identity = release_id(app, f"{manifest.release} {manifest.sha256}", current.id if current else "")
    return Release(
        id=identity,
        app=app,
        release=manifest.release,
        manifest=dict(manifest.parts),
        manifest_sha256=manifest.sha256,
        note=manifest.note,
        actor=actor,
        at=at,
    )


def send(kafka: KafkaConfig, release: Release) -> None:
    """Write the mark on llm.log.

    Raises:
        KafkaUnavailableError: it is not written; mark it again.
    """
    row = msgspec.to_builtins(release)
    del row["at"]
    with closing(Producer(kafka)) as producer:
        producer.send(LOG, msgspec.json.encode(LogRecord(table="releases", at=release.at, row=row)))
        producer.flush(_FLUSH_S)
    faults.point("release.after_publish")
