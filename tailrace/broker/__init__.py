"""The embedded Kafka: a real broker that needs nothing but this Python environment."""

from tailrace.broker.errors import (
    BrokerError,
    BrokerRunningError,
    BrokerStartError,
    BrokerStopError,
    ClusterMismatchError,
    JarDamagedError,
    JarFetchError,
    JavaMissingError,
    PortTakenError,
)
from tailrace.broker.jars import default_cache, ensure_jars
from tailrace.broker.process import Broker
from tailrace.broker.serve import serve, stop_running

__all__ = [
    "Broker",
    "BrokerError",
    "BrokerRunningError",
    "BrokerStartError",
    "BrokerStopError",
    "ClusterMismatchError",
    "JarDamagedError",
    "JarFetchError",
    "JavaMissingError",
    "PortTakenError",
    "default_cache",
    "ensure_jars",
    "serve",
    "stop_running",
]
