"""The configuration of the broker: its properties, its ports, its identity."""

from __future__ import annotations

import base64
import random
import socket
import uuid
from typing import TYPE_CHECKING

from schemas.errors import SettingsError
from tailrace.broker.errors import ClusterMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Below Linux' ephemeral range (32768 to 60999): no outgoing connection can sit on the port while the broker
# is down, and a client that keeps reconnecting to it cannot connect to itself.
PORTS = range(20_000, 32_000)

# Values that a further listener adds to; everything else in ``extra`` replaces ours.
_APPENDED = ("listeners", "advertised.listeners", "listener.security.protocol.map")


def properties(port: int, controller_port: int, extra: Mapping[str, str]) -> dict[str, str]:
    """A whole server.properties for one broker on loopback; ``extra`` overrides the others."""
    # paths are relative to the folder the JVM runs in: commas and spaces in a home's name mean nothing
    result = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "data",
        **_SETTINGS,
    }
    for key, value in extra.items():
        result[key] = f"{result[key]},{value}" if key in _APPENDED else value
    return result


def external_listeners(addresses: Sequence[str]) -> dict[str, str]:
    """Return ``extra`` for a broker that clients elsewhere reach under ``addresses`` (``host:port``).

    One listener an address, on its port of every network interface: a client goes on with the address that the listener
    it came by advertises, and that of one network is unknown in another.

    Raises:
        SettingsError: an address is not ``host:port``, or two have one port.
    """
    ports = [_port_of(address) for address in addresses]
    if len(set(ports)) < len(ports):
        raise SettingsError("kafka.listen", "two addresses have one port", "give every address a port of its own")
    names = [f"EXTERNAL{number}" for number in range(len(ports))]
    if not names:
        return {}
    return {
        "listeners": ",".join(f"{name}://0.0.0.0:{port}" for name, port in zip(names, ports, strict=True)),
        "advertised.listeners": ",".join(f"{name}://{at}" for name, at in zip(names, addresses, strict=True)),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
    }


def _port_of(address: str) -> int:
    host, _, port = address.rpartition(":")
    if not host or any(each in host for each in ",/ ") or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError("kafka.listen", f"{address[:80]!r} is not host:port", "write it like kafka:9092")
    return int(port)


_SETTINGS = {
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "message.max.bytes": str(2 * 1024 * 1024),
    # an app's clock may be wrong: the event carries its time, and land judges it
    "log.message.timestamp.after.max.ms": str(2**63 - 1),
    # after a SIGKILL the controller refuses the broker's new life until the old one's session is over
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # KIP-848 members learn of a change with their next heartbeat: 5 s by default, too slow for one machine
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "10000",
    "offsets.topic.num.partitions": "8",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # each segment maps two index files of this size; 2 MiB still index 1 GiB of log
    "log.index.size.max.bytes": str(2 * 1024 * 1024),
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "socket.send.buffer.bytes": "-1",
    "socket.receive.buffer.bytes": "-1",
}


def to_properties_text(values: Mapping[str, str]) -> str:
    """As Java's Properties.load reads it: Latin-1, backslash escapes."""

    def escaped(value: str) -> str:
        marks = value.replace("\\", "\\\\").replace("\n", "\\n")
        utf16 = (marks.encode("utf-16-be")[i : i + 2] for i in range(0, len(marks.encode("utf-16-be")), 2))
        units = (int.from_bytes(unit, "big") for unit in utf16)
        return "".join(chr(unit) if 32 <= unit < 127 else f"\\u{unit:04x}" for unit in units)

    return "".join(f"{key}={escaped(value)}\n" for key, value in values.items())


def pick_free_port(other_than: int = 0) -> int:
    """A port of ``PORTS`` on which no process listens now, and which is none of ``other_than``."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if port != other_than and can_listen(port))


def can_listen(port: int) -> bool:
    """Whether 127.0.0.1:``port`` is free, by the rules under which Java will bind it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def keep_port(file: Path) -> int:
    """The port this home has always had; picked at its first start."""
    if not file.exists():
        file.write_text(f"{pick_free_port()}\n")
    return int(file.read_text())


def keep_cluster_id(file: Path, data: Path) -> str:
    """The id of this home's cluster; made at its first start.

    Raises:
        ClusterMismatchError: ``data`` belongs to another cluster.
    """
    expected = file.read_text().strip() if file.exists() else ""
    meta = data / "meta.properties"
    found = _cluster_id_of(meta.read_text()) if meta.exists() else ""
    if found and found != expected:
        raise ClusterMismatchError(data, expected, found)
    if not expected:
        # Kafka's own form of an id; it must not begin with a dash, which StorageTool takes for an option
        expected = "t" + base64.urlsafe_b64encode(uuid.uuid4().bytes)[1:22].decode()
        file.write_text(f"{expected}\n")
    return expected


def _cluster_id_of(meta: str) -> str:
    return next((line.split("=", 1)[1].strip() for line in meta.splitlines() if line.startswith("cluster.id=")), "?")
