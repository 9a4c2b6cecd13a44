"""What people decided about alerts: silences and acknowledgements. Pure.

They are audit records on llm.log, so that a decision and the record of who made it are one write; land brings them
into the lake, and notify reads them from the topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.alerts import ACK, SILENCE, UNSILENCE, Alert, LogRecord, Silence
from schemas.errors import UNREADABLE

_OF_ALERT = ("rule", "detector", "severity")
"""Matchers that are fields of an alert; every other one is a dimension of its series."""
_KEEP_US = 31 * 86_400 * 1_000_000
"""How long an acknowledgement counts, µs: longer than llm.alerts keeps its records."""
_MOST = 10_000
"""Decisions of each kind that are kept in memory; beyond that the oldest go."""


def matches(silence: Silence, alert: Alert) -> bool:
    """Whether ``alert`` has every field and dimension that ``silence`` names, with that very value.

    One that names nothing matches nothing: no single record may hold back every alert.
    """
    return bool(silence.matchers) and all(
        (getattr(alert, name) if name in _OF_ALERT else alert.series.get(name)) == value
        for name, value in silence.matchers.items()
    )


class Decisions:
    """Silences in force and acknowledged alerts."""

    def __init__(self) -> None:
        self._silences: dict[str, Silence] = {}
        self._acks: dict[str, tuple[int, str]] = {}

    def apply(self, value: bytes) -> bool:
        """Apply one record of llm.log; return whether it was a decision. Applying it again changes nothing."""
        if b'"alert.' not in value:
            return False
        try:
            record = msgspec.json.decode(value, type=LogRecord)
            return record.table == "audit" and self._apply(record.row, record.at)
        except (*UNREADABLE, KeyError):
            return False

    def _apply(self, row: Mapping[str, Any], at: int) -> bool:
        action, target, actor = row.get("action"), str(row.get("object")), str(row.get("actor", ""))
        if action == SILENCE:
            silence = msgspec.convert(row["silence"], Silence)
            if silence.id not in self._silences:
                self._silences[silence.id] = silence
                _bound(self._silences)
        elif action == UNSILENCE:
            if known := self._silences.get(target):
                self._silences[target] = msgspec.structs.replace(known, end=min(known.end, at))
        elif action == ACK:
            self._acks[target] = at, actor
            _bound(self._acks)
        else:
            return False
        return True

    def reason(self, alert: Alert, now: int) -> str:
        """Why ``alert`` must not be sent now (µs UTC); "" where it may."""
        for silence in self._silences.values():
            if silence.start <= now < silence.end and matches(silence, alert):
                return f"{SILENCED}{silence.id[:8]} of {silence.by}{f': {silence.why}' if silence.why else ''}"
        if alert.state == "update" and alert.id in self._acks:
            at, actor = self._acks[alert.id]
            if now - at < _KEEP_US:
                return f"acknowledged by {actor}"
        return ""

    def in_force(self, now: int) -> int:
        """How many silences are active now; those that ended are removed."""
        self._silences = {i: s for i, s in self._silences.items() if s.end > now}
        return sum(s.start <= now for s in self._silences.values())


SILENCED = "silence "
"""How the reason of a silence begins, in the detail of a delivery."""


def _bound(kept: dict[str, Any]) -> None:
    while len(kept) > _MOST:
        del kept[next(iter(kept))]
