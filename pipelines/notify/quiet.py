"""Quiet hours of a channel: what is not critical waits until they are over. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from zoneinfo import ZoneInfo

from pipelines.notify.times import from_micros
from schemas.errors import SettingsError

_FORM = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})(?: ([A-Za-z0-9_+/-]{1,60}))?")
_EXAMPLE = 'write quiet = "22:00-07:00 Europe/Berlin"; without a time zone it is UTC'


@dataclass(frozen=True)
class QuietHours:
    """From ``start`` to ``end`` by the clock of ``zone``, over midnight where the end is the earlier one."""

    start: time
    end: time
    zone: ZoneInfo

    def at(self, now: int) -> bool:
        """Whether ``now`` (µs UTC) is in them."""
        moment = from_micros(now)
        assert moment is not None
        clock = moment.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end


def parse(setting: str, text: str) -> QuietHours:
    """Read ``22:00-07:00 Europe/Berlin``.

    Raises:
        SettingsError: it is none, no time of the day, or an unknown time zone.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise SettingsError(setting, f"quiet {text[:60]!r} is no time of the day", _EXAMPLE)
    try:
        start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
        zone = ZoneInfo(found[5] or "UTC")
    except (ValueError, KeyError, OSError):  # no such hour; no such zone, or a name that is a folder
        raise SettingsError(setting, f"quiet {text[:60]!r} has no such hour or time zone", _EXAMPLE) from None
    if start == end:
        raise SettingsError(
            setting, f"quiet {text[:60]!r} is the whole day", "leave the channel out, or set min_severity"
        )
    return QuietHours(start, end, zone)
