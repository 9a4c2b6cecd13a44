"""The drift stage: llm.samples -> llm.embeddings and llm.alerts, under Faust.

A batch goes through in this order: embed, write the embeddings (acknowledged), judge, write the alerts (acknowledged).
After a crash the state comes back from its checkpoint (a Faust table) and the embeddings behind it; only the alerts of
the very last embeddings may not have been written, so those are written again, under the same ids.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pipelines.drift.config import DriftConfig
from pipelines.drift.embed import Embedder, ModelProcess
from pipelines.drift.flow import Flow
from pipelines.drift.partition import CHANGELOG
from pipelines.drift.stage import Stage
from pipelines.faust_transport import App, build_app, resume_from, serve
from pipelines.kafka import Admin, Source, ensure_topics
from pipelines.liveness import watch
from schemas.stage_facts import HeartbeatCallback
from schemas.topics import SAMPLES, Topic

NAME = "drift"


def run(
    config: DriftConfig,
    *,
    stop: threading.Event,
    now: Callable[[], int] | None = None,
    heartbeat: HeartbeatCallback = lambda facts: None,
    embedder: Embedder | None = None,
) -> None:
    """Run the stage until ``stop`` is set.

    Args:
        config: plain values.
        stop: ends it within 5 s.
        now: not used: every decision is dated by its record.
        heartbeat: called once a second with state (``unknown`` while the model does not answer), positions, lag.
        embedder: another model than the one in ``config``; closed at the end.

    Raises:
        AppStoppedError: Faust gave up; start again.
        TopicMissingError: llm.samples is not there.
    """
    del now
    admin = Admin(config.kafka)
    partitions = admin.partitions(SAMPLES)
    compacted = {"cleanup.policy": "compact", "retention.ms": "-1"}
    ensure_topics(admin, [Topic(CHANGELOG, partitions, compacted)], partitions=partitions)
    model = embedder or ModelProcess(config.embed)
    stage, done = Stage(config, model), threading.Event()
    heart = threading.Thread(
        target=watch,
        args=(stage, Source(config.kafka, [SAMPLES], batch_rows=1), heartbeat),
        kwargs={"stall_timeouts": config.stall_timeouts, "until": done},
        daemon=True,
    )
    heart.start()
    try:
        serve(lambda: _build(stage, partitions), stop=stop)
    finally:
        done.set()
        model.close()
        heart.join(5)


def _build(stage: Stage, partitions: int) -> App:
    """Make the Faust app, and let it call ``Flow``."""
    config = stage.config
    app = build_app(NAME, config.kafka, slot=config.slot, partitions=partitions, data_dir=config.data_dir)
    stage.app, flow = app, Flow(app, stage, partitions)

    @flow.table.on_recover  # type: ignore[untyped-decorator]
    async def recovered() -> None:
        flow.on_recovered()

    @app.on_partitions_revoked.connect
    async def revoked(*_: Any, **__: Any) -> None:
        await stage.release_partitions()

    @app.agent(flow.samples)
    async def read(stream: Any) -> None:
        # not stream.take: it pairs a value with the event that is current after a wait, so that one is handed out
        # twice and its neighbour lost. Faust's acks run ahead here; ``resume`` makes that harmless
        async for event in stream.events():
            await stage.inbox.put((stage.generation, event.message))

    @app.task  # type: ignore[untyped-decorator]
    async def work() -> None:
        await flow.work()

    @app.timer(interval=1.0)  # type: ignore[untyped-decorator]
    async def flush() -> None:
        await flow.flush()

    resume_from(app, flow.resume)
    return app
