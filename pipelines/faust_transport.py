"""Faust on transactional topics: its transport, corrected in three places, and an app in a plain process.

Faust 0.15.3 as it comes reads aborted records, cannot commit across transaction markers, and continues from the group's
offset although its tables may be older or newer than that (docs/engine-notes.md). Example::

    app = build_app("detect", config, slot="0", partitions=4, data_dir=home / "state" / "detect")
    resume_from(app, lambda: {(topic, partition): offset})
    serve(lambda: app, stop=stop)
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import faust
import structlog
from faust.auth import SASLCredentials
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from yarl import URL

from schemas.errors import RetryableError, SettingsError

if TYPE_CHECKING:
    from pipelines.kafka import KafkaConfig

log = structlog.get_logger("faust")
_LET_GO_S = 4.0
"""For Faust to end its parts, and for its tasks to end."""
Positions = Callable[[], Mapping[tuple[str, int], int]]

_TLS = {
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
}
_MEANINGLESS = {  # they shape librdkafka's own sockets, queues and logs; nothing here has such a part
    "client.id",
    "debug",
    "linger.ms",
    "queue.buffering.max.ms",
    "compression.type",
    "batch.size",
    "batch.num.messages",
    "log.connection.close",
    "statistics.interval.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "broker.address.family",
}
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class AppStoppedError(RetryableError):
    """Faust gave up; the supervisor starts the stage again and its state comes back from the changelog."""

    def __init__(self, app_id: str, cause: BaseException | None) -> None:
        self.app_id = app_id
        super().__init__(f"faust app {app_id} stopped by itself: {cause!r}; start the stage again")


class App(faust.App):
    """A Faust app with the position of its state, and an end where an agent raises."""

    resume: Positions | None = None

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """End the app at an exception: Faust would restart the agent behind that record, or leave it stopped."""
        log.error("agent_failed", app=self.conf.id, agent=agent.name, exc_info=exc)
        await self.crash(exc)


class _CommittedThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust sets read_committed only under its own exactly_once, which is not usable (faust#47, #517)
        consumer._isolation_level = "read_committed"
        return consumer


class _Consumer(Consumer):
    _held: Set[TP] = frozenset()
    """Source partitions that wait for their seek."""

    def _new_consumer_thread(self) -> Any:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # the caller passes the offset of the message itself as the gap's (included) end: the message then counts as
        # acked twice, the run of consecutive offsets breaks, and nothing is committed any more
        await super()._add_gap(tp, offset_from, offset_to - 1)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Let changelogs flow at once, source partitions only when ``perform_seek`` has placed them.

        Faust resumes first and seeks then: what it reads in between reaches the agents from the group's offset, and
        the seek's own records behind it are dropped as read already (44 samples lost in a restart, seen in tests).
        """
        self._held = {tp for tp in tps if not self._is_changelog_tp(tp)}
        super().resume_partitions(set(tps) - self._held)

    async def _getmany(self, active_partitions: Set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - not ours to name
        # a copy: Faust empties the set while the thread waits, and an empty set means every partition to aiokafka
        active = None if active_partitions is None else set(active_partitions)
        return await super()._getmany(active_partitions=active, timeout=timeout)

    async def perform_seek(self) -> None:
        """Seek to the group's offsets, then to the positions of the recovered tables."""
        await super().perform_seek()
        resume = cast(App, self.app).resume
        assignment = self.assignment()
        # in a thread: bringing a state back may take minutes, and the loop has heartbeats to send
        positions = await asyncio.to_thread(resume) if resume else {}
        for (topic, partition), offset in positions.items():
            tp = TP(topic, partition)
            if tp in assignment:
                await self.seek_wait({tp: offset})  # in the consumer's own thread, unlike ``seek``
                # or commits wait for the offsets between the group's and ours, which are never acknowledged
                self._committed_offset[tp] = offset
        held, self._held = self._held & set(assignment), set()
        super().resume_partitions(held)


class _Transport(Transport):
    Consumer = _Consumer


def build_app(
    name: str,
    config: KafkaConfig,
    *,
    slot: str,
    partitions: int,
    data_dir: Path,
    reset: str = "earliest",
) -> App:
    """Make the Faust app of one stage, to be started with ``serve``.

    Its group and the prefix of its changelog topics is ``config.prefix + name``. No web server, no pickle, no
    declared topics: create them first, with ``partitions`` equal to the source's (faust#325).

    Args:
        name: of the stage, such as ``detect``.
        config: address, prefix and librdkafka settings, of which TLS and SASL are taken over.
        slot: which copy this is; static, so a restart gets its partitions back in seconds, not in a minute.
        partitions: of the source topic, and so of every changelog.
        data_dir: Faust's own folder.
        reset: where a group without offsets begins.

    Raises:
        SettingsError: a client setting that Faust cannot honour.
    """
    app = App(
        f"{config.prefix}{name}",
        broker=[URL(f"kafka://{server.strip()}") for server in config.bootstrap_servers.split(",")],
        store="memory://",
        datadir=str(data_dir),
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset=reset,
        consumer_group_instance_id=f"{config.prefix}{name}-{slot}",
        broker_session_timeout=10,
        broker_heartbeat_interval=2,
        broker_commit_interval=1.0,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
        producer_acks=-1,
        **_security(config.client),
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    # Faust creates these at their first use, in the event loop of the caller: were that the
    # heartbeat's thread, what waits for the tables here would never be woken
    _ = cast(Any, app.tables).recovery
    return app


def resume_from(app: App, positions: Positions) -> None:
    """After every recovery ``app`` continues from ``positions()``: (topic on the wire, partition) -> next offset."""
    app.resume = positions


def serve(build: Callable[[], App], *, stop: threading.Event) -> None:
    """Run the app that ``build`` returns, in a new event loop, until ``stop`` is set; it handles no signals.

    Raises:
        AppStoppedError: Faust crashed or stopped by itself; start the process again.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_serve(build, stop))
    finally:
        # asyncio.run would wait without end for a task of a crashed Faust that ignores its cancellation
        left = loop.run_until_complete(_cancel_all())
        asyncio.set_event_loop(None)
        if not left:
            loop.close()


async def _cancel_all() -> int:
    """Cancel every task of this loop; return how many do not end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    return len((await asyncio.wait(tasks, timeout=_LET_GO_S))[1]) if tasks else 0


async def _serve(build: Callable[[], App], stop: threading.Event) -> None:
    app = build()
    starting = asyncio.ensure_future(app.start())
    try:
        while not stop.is_set():
            if app.should_stop or app.crashed or (starting.done() and starting.exception()):
                cause = starting.exception() if starting.done() else None
                raise AppStoppedError(app.conf.id, cause or app._crash_reason)
            await asyncio.sleep(0.1)
    finally:
        starting.cancel()
        await asyncio.wait([starting])
        # a call that waits for an unavailable broker would never end
        await asyncio.wait([asyncio.ensure_future(app.stop())], timeout=_LET_GO_S)
        _close_loop(app)


def _close_loop(app: App) -> None:
    """Close the event loop that Faust's consumer thread leaves open."""
    thread = getattr(app._consumer, "_thread", None)
    if thread is not None and not thread.thread_loop.is_running():
        thread.thread_loop.close()


def _security(client: Mapping[str, str]) -> dict[str, Any]:
    """Map librdkafka's names for TLS and SASL to Faust's; refuse what it would drop without an error."""
    for key in client:
        if key not in _TLS and key not in _MEANINGLESS:
            raise SettingsError(
                f"kafka.client[{key!r}]", "detect and drift cannot honour it", "remove it, or run them without"
            )
    protocol = client.get("security.protocol", "plaintext").lower()
    if protocol == "plaintext":
        return {}
    context = _tls(client) if protocol in ("ssl", "sasl_ssl") else None
    if protocol == "ssl":
        # not SSLCredentials: the producer half of Faust takes its protocol from the context alone
        return {"ssl_context": context, "broker_credentials": context}
    mechanism = client.get("sasl.mechanisms") or client.get("sasl.mechanism") or "PLAIN"
    if protocol not in ("sasl_plaintext", "sasl_ssl") or mechanism not in _MECHANISMS:
        raise SettingsError(
            "kafka.client", f"no way to speak {protocol} with {mechanism} here", f"use one of {', '.join(_MECHANISMS)}"
        )
    return {
        "broker_credentials": SASLCredentials(
            username=client.get("sasl.username"),
            password=client.get("sasl.password"),
            ssl_context=context,
            mechanism=mechanism,
        )
    }


def _tls(client: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=client.get("ssl.ca.location"))
    if client.get("ssl.endpoint.identification.algorithm", "https") == "none":
        context.check_hostname = False
    if client.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate := client.get("ssl.certificate.location"):
        context.load_cert_chain(certificate, client.get("ssl.key.location"), client.get("ssl.key.password"))
    return context
