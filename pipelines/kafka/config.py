"""Where Kafka is, and what every client of it shares."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 15.0
"""How long an answer of the brokers is waited for."""


@dataclass(frozen=True)
class KafkaConfig:
    """One cluster. ``client`` passes any librdkafka setting through (SASL, TLS); what promises rest on wins over it."""

    bootstrap_servers: str
    prefix: str = ""
    """Put before every topic name on the wire; never seen behind this package."""
    client: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Passwords are among them."""

    def on_wire(self, topic: str) -> str:
        """Name of ``topic`` at the brokers, with the prefix."""
        return self.prefix + topic

    def plain(self, topic: str) -> str:
        """Name of ``topic`` in the code and the lake, without the prefix."""
        return topic.removeprefix(self.prefix)

    def settings(self, defaults: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults, then the user's, then what must not be changed."""
        return {
            "socket.keepalive.enable": True,
            # a restarted broker is found again within a second
            "reconnect.backoff.max.ms": 1000,
            "logger": logging.getLogger("librdkafka"),
            **defaults,
            **self.client,
            "bootstrap.servers": self.bootstrap_servers,
            **fixed,
        }
