"""The dead man's switch: an external service is called while all is well, and raises an alarm when the calls stop.

Healthchecks.io, Dead Man's Snitch, Better Stack and Uptime Kuma all take a GET; the URL is a secret.
"""

from __future__ import annotations

from collections.abc import Callable

from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard, RefusedTargetError, UnreachableError
from schemas.errors import SettingsError


class Deadman:
    """Calls one URL, under the same guard as alerts."""

    def __init__(self, url: str, *, guard: Guard, deadline_s: float = 10.0, ca_file: str | None = None) -> None:
        """Check the URL as text.

        Raises:
            SettingsError: the guard refuses the address; the error never shows the URL.
        """
        self._poster = Poster(guard, deadline_s=deadline_s, ca_file=ca_file)
        try:
            self._target = guard.target(url)
        except RefusedTargetError as error:
            raise SettingsError(
                "deadman_url", error.reason, "name an https URL, or the host in TAILRACE_WEBHOOK_ALLOW_HOSTS"
            ) from None

    def call(self, well: Callable[[], bool]) -> str:
        """Call once if ``well()``; return ``called``, ``withheld``, or why the call failed. Does not raise."""
        if not well():
            return "withheld"
        try:
            reply = self._poster.post(self._target, b"", {}, method="GET")
        except (RefusedTargetError, UnreachableError) as error:
            return error.reason
        return "called" if reply.status < 300 else f"answered {reply.status}"
