"""What a refresh of a golden set did: for people, and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec


@dataclass(frozen=True)
class GoldenReport:
    """What a refresh did, or would do."""

    ok: bool
    done: bool
    """False where it was stopped: nothing was written."""
    took_s: float
    set_name: str
    version: int | None
    """The newest version afterwards; None: there is none, and nothing failed."""
    changed: bool
    """Whether the set became another one, or would in a dry run."""
    written: bool
    """Whether ``version`` is new."""
    content_hash: str
    """Of the set as it is, or would be."""
    cases: int
    added: int
    kept: int
    dropped: int
    candidates: int
    near_duplicates: int
    blanked: int
    """Cases whose texts were removed in all versions: a review rejected them since the last refresh."""
    expired: int
    """Versions that were deleted for their age."""
    vanished: int = 0
    """Of the dropped: cases of topics without current calls."""
    topics: int | None = None
    """Topics of the traffic; None: they are not known."""
    coverage: float | None = None
    """Share of the traffic whose topic has a case."""
    topics_missing: str = ""
    """Why they are not known."""

    def to_json(self) -> str:
        """Encode for ``tailrace job run golden --json``."""
        return msgspec.json.encode(asdict(self)).decode()

    def text(self) -> str:
        """Return the result in words."""
        if not self.done:
            return f"stopped early after {self.took_s:.1f} s; golden set {self.set_name} is as it was"
        stays = f"version {self.version} stays" if self.version else "it has no version"
        if self.written:
            became = f"version {self.version}"
        else:
            became = f"{stays}; it would become" if self.changed else f"nothing changed, {stays}"
        gone = f"; the texts of {self.blanked} rejected cases are gone" if self.blanked else ""
        gone += f"; {self.expired} old versions dropped" if self.expired else ""
        gone += f"; {self.vanished} cases left whose topic nobody asks about any more" if self.vanished else ""
        if self.coverage is not None:
            gone += f"; its cases cover {self.coverage:.1%} of the traffic ({self.topics} topics)"
        elif self.topics_missing:
            gone += f"; topics are not covered: {self.topics_missing}"
        return (
            f"ok in {self.took_s:.1f} s: golden set {self.set_name}: {became}: {self.cases} cases, {self.added} new, "
            f"{self.kept} kept, {self.dropped} dropped; {self.candidates} calls failed; {self.near_duplicates} "
            f"candidates are near duplicates of a case{gone}"
        )
