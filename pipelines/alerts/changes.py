"""What changed before an alert: releases that were marked, notes on what is new, the last known-good manifest. Pure.

Known good is the newest manifest that ran for ``GOOD_AFTER`` or longer, while no other alert of at least ``warning``
began in its app.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from msgspec.structs import replace

from schemas.alerts import Alert, Change, rfc3339
from schemas.releases import Release, by_time, contents, in_words

RECENT = 86_400_000_000
"""µs before the beginning of an alert in which a change is named."""
GOOD_AFTER = 86_400_000_000
MOST = 3
NOVELTY = "novelty"
"""Detector whose alerts are notes on what is new."""
_KEPT = {"releases": 50, "notes": 50, "troubles": 2000}


@dataclass(frozen=True)
class Note:
    """The content of an alert on a new value."""

    alert_id: str
    at: int
    """First call with it, µs UTC."""
    emitted_at: int
    text: str


@dataclass
class Past:
    """What is known of one app; the newest of each."""

    releases: list[Release] = field(default_factory=list)
    """From the earliest to the newest."""
    notes: deque[Note] = field(default_factory=lambda: deque(maxlen=_KEPT["notes"]))
    troubles: deque[int] = field(default_factory=lambda: deque(maxlen=_KEPT["troubles"]))
    """Beginnings of alerts of at least ``warning``, µs UTC."""

    def add_release(self, release: Release) -> None:
        """Add a release mark; a known one changes nothing."""
        self.releases = by_time([*self.releases, release])[-_KEPT["releases"] :]

    def add_alert(self, alert: Alert) -> None:
        """Add a state of an alert; only a beginning counts."""
        start = micros(alert.window.start)
        if start is None or alert.state != "firing":
            return
        if alert.detector != NOVELTY:
            if alert.severity != "info" and start not in self.troubles:
                self.troubles.append(start)
        elif all(note.alert_id != alert.id for note in self.notes):
            self.notes.append(note_of(alert, start))


def note_of(alert: Alert, start: int) -> Note:
    """Return the note that an alert of the detector ``novelty`` is."""
    text = alert.title.removeprefix(f"app {alert.series.get('app', '')}: ")
    return Note(alert.id, start, micros(alert.detected_at) or start, text)


def changes(past: Past, alert: Alert, *, all_known: bool = False) -> tuple[Change, ...]:
    """Return what changed in the 24 hours before ``alert`` began and until it was detected, newest first.

    Args:
        past: of its app.
        alert: what is to be explained.
        all_known: also notes that were written after the alert: for a person who looks now.

    Returns:
        At most ``MOST`` changes, then the last known-good manifest, where there is one and something changed.
    """
    start, until = micros(alert.window.start), micros(alert.detected_at)
    if start is None or until is None:
        return ()
    found: list[tuple[int, Change]] = []
    for before, release in pairwise([None, *past.releases]):
        assert release is not None
        if start - RECENT <= release.at <= until:
            found.append((release.at, Change(rfc3339(release.at), "release", in_words(release, before))))
    for note in past.notes:
        known = all_known or note.emitted_at <= until
        if note.alert_id != alert.id and known and start - RECENT <= note.at <= until:
            found.append((note.at, Change(rfc3339(note.at), NOVELTY, note.text)))
    newest = [change for _, change in sorted(found, key=lambda each: (-each[0], each[1].text))[:MOST]]
    if not newest:
        return ()
    good = known_good(past.releases, past.troubles, start)
    return (*newest, *([_good(good)] if good is not None else []))


def known_good(releases: Sequence[Release], troubles: Iterable[int], start: int) -> Release | None:
    """Return the newest of ``releases`` that ran a day or longer before ``start`` while no alert began; else None."""
    began = sorted(troubles)
    ends = [*(release.at for release in releases[1:]), start]
    for release, next_at in zip(reversed(releases), reversed(ends), strict=False):
        end = min(next_at, start)
        if end - release.at >= GOOD_AFTER and not any(release.at <= at < end for at in began):
            return release
    return None


def enriched(alert: Alert, found: tuple[Change, ...]) -> Alert:
    """Return ``alert`` with ``found`` appended to its own changes; the end of an alert is returned unchanged."""
    if not found or alert.state == "resolved":
        return alert
    return replace(alert, changes=(*alert.changes, *found))


def micros(text: str) -> int | None:
    """Return a time of an alert as µs UTC; None where it cannot be read."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e6)
    except ValueError:
        return None


def _good(release: Release) -> Change:
    text = f"last known good: release {release.release}, manifest {release.manifest_sha256[:12]}"
    return Change(rfc3339(release.at), "known_good", f"{text} ({contents(release.manifest)})")
