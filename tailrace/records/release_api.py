"""``POST /v1/releases``: mark a release from a machine that has no Tailrace, such as the one that deploys.

The body is a manifest as JSON with ``app`` in it, and optionally ``at`` (when) and ``by`` (who). Files are
not read for others: what is a file is named by its hash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from schemas.errors import RetryableError, TailraceError
from schemas.releases import MOST_CHARS, Release
from tailrace.records.manifest import Origin, manifest_of
from tailrace.records.release import mark_of
from tailrace.times import moment

MOST_BYTES = 256 * 1024
"""Of a body: 500 entries of 256 characters fit."""
_BODY = Origin("body", "", None)
_EXAMPLE = '{"app": "support-bot", "release": "2.4.1", "prompts": {"answer": "18"}}'


class ReleaseApi:
    """Marks what is posted.

    Args:
        known: the releases of an app that have landed, from the earliest to the newest.
        send: writes a mark on llm.log.
        now: wall clock, µs UTC.
    """

    def __init__(
        self, *, known: Callable[[str], list[Release]], send: Callable[[Release], None], now: Callable[[], int]
    ) -> None:
        self._known, self._send, self._now = known, send, now
        self._one = threading.Lock()
        """A mark names the one before it; and a lake is opened once, however many ask."""
        self._sent: dict[str, Release] = {}
        """App -> its newest mark, which may not have landed yet."""

    def receive(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and the answer: 201 recorded, 200 current already, 400 not a release, 503 later."""
        try:
            with self._one:
                made, is_new = self._mark(body)
        except RetryableError as error:
            return 503, {"error": f"not recorded, post it again: {error}"}
        except TailraceError as error:
            return 400, {"error": str(error).removeprefix("setting ")}
        return (201 if is_new else 200), {**msgspec.to_builtins(made), "new": is_new}

    def _mark(self, body: bytes) -> tuple[Release, bool]:
        app, by, at, manifest = self._read(body)
        known = self._known(app)
        sent = self._sent.get(app)
        if sent is not None and all(each.id != sent.id for each in known):
            known = sorted([*known, sent], key=lambda each: each.at)
        made = mark_of(app, manifest_of(manifest, _BODY), known, actor=by, at=at)
        is_new = all(each.id != made.id for each in known)
        if is_new:
            self._send(made)
            self._sent[app] = made
        return made, is_new

    def _read(self, body: bytes) -> tuple[str, str, int, dict[str, Any]]:
        """Return app, who, when, and the rest."""
        try:
            read = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _BODY.error(f"it is not JSON: {error}"[:200], f"post for example {_EXAMPLE}") from error
        if not isinstance(read, dict):
            raise _BODY.error("it is no object", f"post for example {_EXAMPLE}")
        named = {}
        for key, default in (("app", ""), ("by", "api"), ("at", "")):
            value = read.pop(key, None)
            named[key] = default if value is None else value
            if not isinstance(named[key], str) or len(named[key]) > MOST_CHARS:
                raise _BODY.error(
                    f"{key} is no text of at most {MOST_CHARS} characters", f"post for example {_EXAMPLE}"
                )
        if not named["app"].strip():
            raise _BODY.error("app is missing", "name the app as its calls do")
        now = self._now()
        at = moment(named["at"], now) if named["at"] else now
        if at > now:
            raise _BODY.error("at is after now", "mark a release when it is made")
        return named["app"], named["by"], at, read
