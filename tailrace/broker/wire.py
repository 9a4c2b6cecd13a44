"""The one question put to the broker over its own protocol: do you lead a cluster yet?

Not asked through confluent-kafka, whose client threads would outlive the question.
"""

from __future__ import annotations

import socket
import struct

METADATA = 3
REQUEST_V1 = struct.pack(">hhihi", METADATA, 1, 1, -1, 0)  # correlation 1, no client id, no topics


def answers(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether a broker there lists at least one live broker (Metadata v1, KIP-4)."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(REQUEST_V1)) + REQUEST_V1)
            with connection.makefile("rb") as stream:
                _, correlation, brokers = struct.unpack(">iii", stream.read(12))
    except (OSError, struct.error):
        return False
    return bool(correlation == 1 and brokers > 0)
