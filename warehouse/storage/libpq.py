"""Timeouts in the connection string of a Postgres catalog, for which libpq has none of its own."""

from __future__ import annotations

import re
from urllib.parse import quote

_LINK = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Of libpq: without them libpq waits two hours for a connection that a firewall has dropped.

Seconds; the last in milliseconds.
"""
_LOCK_S = 30


def with_timeouts(catalog: str, idle_s: int) -> str:
    """Return a libpq string or URI with timeouts, where it names none.

    They bound the wait for a lost connection, and for an idle writer: a process that was stopped in the middle of a
    transaction holds its locks until the server ends it, and all others wait inside libpq.

    Args:
        catalog: as the settings have it.
        idle_s: how long the server lets our transaction be idle; 0: without limit, for readers.
    """
    options = f"-c lock_timeout={_LOCK_S * 1000}"
    if idle_s:
        options += f" -c idle_in_transaction_session_timeout={idle_s * 1000}"
    uri = re.match(r"postgres(ql)?://", catalog)
    parameters = {**_LINK, "options": quote(options, safe="") if uri else f"'{options}'"}
    more = [f"{name}={value}" for name, value in parameters.items() if not re.search(rf"\b{name}\s*=", catalog)]
    if not uri:
        return " ".join((catalog, *more))
    asks = "?" in catalog.rpartition("@")[2]  # one in a password asks nothing
    return catalog + ("&" if asks else "?") + "&".join(more) if more else catalog
