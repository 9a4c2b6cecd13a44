"""One real Kafka broker as a child process, on loopback, which ends when its owner ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import structlog

from tailrace.broker import config, home, jvm, wire
from tailrace.broker.errors import BrokerStartError, PortTakenError
from tailrace.broker.jars import default_cache, ensure_jars
from tailrace.broker.java import child_environment, find_java
from warehouse.storage.locks import process_start_time

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger()

GUARD = Path(__file__).parent / "guard.py"
LOG_LIMIT_BYTES = 8 * 1024 * 1024
POLL_S = 0.03
STOPS_WITHIN_S = 5.0
STOPPED = frozenset((psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
"""States in which a thread runs no code."""


class Broker:
    """Apache Kafka in KRaft mode: broker and controller in one JVM, data under ``home``/kafka.

    The port and the cluster's id are picked at the first start and kept beside the data.

    Args:
        home: Folder that holds everything of one Tailrace; made if missing.
        cache: Where the jars are kept; default ``TAILRACE_CACHE``, else the user's cache folder, else in the home.
        java_home: A Java to use instead of the packaged one.
        heap_mb: The JVM's heap.
        extra: Further broker properties; of the listener lists, entries to add.
    """

    def __init__(
        self,
        home: Path,
        *,
        cache: Path | None = None,
        java_home: Path | None = None,
        heap_mb: int = 512,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        # absolute: the JVM runs in its own folder
        self.folder = home.absolute() / "kafka"
        self.log_file = self.folder / "broker.log"
        self._cache = (cache or default_cache(home)).absolute()
        self._java_home = java_home
        self._heap_mb = heap_mb
        self._extra = dict(extra or {})
        self._port = 0
        self._pid = 0
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect, ``host:port``; known once started."""
        return f"127.0.0.1:{self._port}"

    @property
    def bootstrap(self) -> str:
        """Short for ``bootstrap_servers``."""
        return self.bootstrap_servers

    @property
    def pid(self) -> int:
        """The JVM's process id; 0 while stopped."""
        return self._pid

    @property
    def guard_pid(self) -> int | None:
        """The process between us and the JVM, a child of ours; None while stopped."""
        return self._guard.pid if self._guard is not None else None

    @property
    def alive(self) -> bool:
        """Whether the process runs; it may be paused, or not ready yet."""
        return self._guard is not None and self._guard.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_s: float = 90) -> None:
        """Start, and return once clients are served. Does nothing while it runs.

        Raises:
            BrokerError: A subclass with the cause and the remedy.
        """
        if self.alive:
            return
        self._forget()
        began = time.monotonic()
        java = find_java(self._java_home)
        class_path = os.pathsep.join(map(str, ensure_jars(self._cache)))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        (self.folder / "tmp").mkdir(mode=0o700, exist_ok=True)
        lock_fd = home.lock(self.folder)
        launch = jvm.JvmLaunch(java, child_environment() | {"CLASSPATH": class_path}, lock_fd)
        try:
            self._prepare(launch)
            self._spawn(launch)
        finally:
            # the guard and the JVM hold it from here on: it must not depend on us, nor on what we fork
            os.close(lock_fd)
        self._await_ready(timeout_s)
        log.info("broker_started", bootstrap=self.bootstrap_servers, pid=self._pid, took_s=_since(began))

    def stop(self, within_s: float | None = None) -> None:
        """Shut down in order; what still runs after 8 s, or ``within_s``, is killed. Does nothing while stopped.

        A kill loses nothing that was acknowledged; the next start recovers the log.
        """
        if self._guard is not None:
            began = time.monotonic()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            try:
                self._guard.wait(within_s)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._guard.wait()
            log.info("broker_stopped", bootstrap=self.bootstrap_servers, took_s=_since(began))
        self._forget()

    def kill(self) -> None:
        """SIGKILL, for fault tests; returns when it is dead. ``start`` recovers."""
        self._signal(signal.SIGKILL)
        self._forget()

    def pause(self) -> None:
        """SIGSTOP: connections stay open without an answer. Returns when every thread of the JVM has stopped."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOPS_WITHIN_S
        while not _thread_states(self._pid) <= STOPPED and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def resume(self) -> None:
        """SIGCONT after ``pause``."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._pid, "not started"  # pid 0 would be our own process group
        os.kill(self._pid, number)

    def _prepare(self, launch: jvm.JvmLaunch) -> None:
        """Files, ports and identity; formats the data folder at the first start."""
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        port_file = self.folder / "port"
        self._port = config.keep_port(port_file)
        if not config.can_listen(self._port):
            raise PortTakenError(self._port, home.listener_of(self._port), port_file)
        data = self.folder / "data"
        cluster_id = config.keep_cluster_id(self.folder / "cluster_id", data)
        values = config.properties(self._port, config.pick_free_port(self._port), self._extra)
        jvm.write_private(self.folder / "server.properties", config.to_properties_text(values))
        if not (data / "meta.properties").exists():
            jvm.format_data(data, launch, cluster_id, values)

    def _spawn(self, launch: jvm.JvmLaunch) -> None:
        kafka = [*jvm.command(launch.java, self._heap_mb), "kafka.Kafka", "server.properties"]
        with open(self.log_file, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as log_stream:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(launch.lock_fd), *kafka],
                cwd=self.folder,
                env=launch.environment,
                pass_fds=(launch.lock_fd,),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_stream,
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        self._pid = int(self._guard.stdout.readline() or 0)
        me = os.getpid()
        running = home.Running(pid=self._pid, owner_pid=me, port=self._port, owner_born=process_start_time(me))
        home.write_running(self.folder, running)

    def _await_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not wire.answers("127.0.0.1", self._port):
            if not self.alive or time.monotonic() > deadline:
                problem = f"it did not answer within {timeout_s:g} s" if self.alive else "the process ended"
                self.stop()
                words = jvm.last_lines(self.log_file.read_text(errors="replace"))
                raise BrokerStartError(self.log_file, problem, words)
            time.sleep(POLL_S)

    def _forget(self) -> None:
        if self._guard is not None:
            self._guard.wait()
            for pipe in (self._guard.stdin, self._guard.stdout):
                assert pipe is not None
                pipe.close()
        self._guard, self._pid = None, 0


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)


def _thread_states(pid: int) -> set[str]:
    """The states of the threads of ``pid``. Linux shows a thread under its number as it shows a process."""
    states = set()
    with contextlib.suppress(psutil.Error):
        for thread in psutil.Process(pid).threads():
            with contextlib.suppress(psutil.NoSuchProcess):  # the thread ended meanwhile
                states.add(psutil.Process(thread.id).status())
    return states
