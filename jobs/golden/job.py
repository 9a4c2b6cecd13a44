"""The job ``golden``: refresh a set from recent failures. A version is written in one transaction."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from jobs.golden.cases import Row, chat_text, content_hash
from jobs.golden.choose import Before, Chosen, choose
from jobs.golden.report import GoldenReport
from jobs.golden.settings import GoldenSettings, criteria, traffic_window, window
from jobs.golden.similar import sketch
from jobs.golden.topics import FEWEST, Topics, Vectors, topics
from pipelines.drift.embed import EmbedderUnavailableError
from schemas.errors import RetryableError
from warehouse.golden import versions
from warehouse.golden.versions import Change, GoldenState
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

log = structlog.get_logger(__name__)
PRODUCTION = "production"
"""The set that the job refreshes."""
_MOST_PER_CASE = 20
"""Failed calls that are read per case of a full set: enough where most are near duplicates."""
_MOST = 10_000
_TRIES = 3
_DAY_US = 86_400_000_000
_START = datetime(1970, 1, 1, tzinfo=UTC)


class GoldenBusyError(RetryableError):
    """Other processes refreshed the set several times during this refresh."""

    def __init__(self, set_name: str) -> None:
        self.set_name = set_name
        super().__init__(f"cannot refresh golden set {set_name}: others did so {_TRIES} times meanwhile; run it again")


def refresh(
    config: LakeConfig,
    *,
    now: Callable[[], int],
    settings: GoldenSettings | None = None,
    set_name: str = PRODUCTION,
    owner: str = "",
    dry_run: bool = False,
    stop: Callable[[], bool] = lambda: False,
    memory_limit: str = "512MiB",
    vectors: Vectors | None = None,
) -> GoldenReport:
    """Make the next version of ``set_name``, where one differs from the last.

    Args:
        config: where the lake is; its memory limit is lowered to the job's.
        now: wall clock, µs UTC.
        settings: window, size, turnover, similarity, seed, what counts as failed, how many versions stay.
        set_name: of the golden set.
        owner: who makes it, for golden_versions.
        dry_run: only report what would be done.
        stop: called before the lake is read, and before it is written.
        memory_limit: of DuckDB.
        vectors: embeds texts, so that the topics of the traffic are covered; without it, or where the model does not
            answer, failures are chosen by app, feature and kind of reason alone.

    Raises:
        LakeMissingError: no lake there.
        GoldenBusyError: others refreshed it during this refresh, more than once; run it again.
        LakeBusyError: others held the catalog for too long; run it again.
        LakeUnavailableError: the catalog does not answer, or the disk is full.
    """
    options = settings or GoldenSettings()
    owner = owner or f"{socket.gethostname()}/{os.getpid()}"
    work = _Refresh(set_name, options, now(), owner, time.monotonic(), vectors)
    with Lake.open(replace(config, memory_limit=memory_limit, threads=1), now=now, lander=False, create=False) as lake:
        for _ in range(_TRIES):
            if report := work.attempt(lake, dry_run=dry_run, stop=stop):
                return report
            log.info("golden_refresh_repeated", set_name=set_name)  # the rows that the other refresh wrote
    raise GoldenBusyError(set_name)


class _Refresh:
    """One run: its options, and the steps between the lake and the pure core."""

    def __init__(
        self, set_name: str, settings: GoldenSettings, at: int, owner: str, began: float, vectors: Vectors | None
    ) -> None:
        self._at, self._began = at, began
        self._set_name, self._settings, self._owner = set_name, settings, owner
        self._vectors = vectors
        self._topics: Topics | None = None
        self._topics_missing = ""

    def attempt(self, lake: Lake, *, dry_run: bool, stop: Callable[[], bool]) -> GoldenReport | None:
        """Refresh once; None where another refresh wrote in between, so that it has to be done again."""
        if stop():
            return self._report(None, None)
        if not dry_run:
            versions.prepare(lake, self._set_name)
        state = self._read(lake)
        chosen = self._choose(state)
        if stop():
            return self._report(state, None)
        change = self._change(state, chosen)
        if dry_run:
            return self._report(state, chosen)
        wrote = versions.write(lake, state, self._set_name, change, now=self._at)
        # the record of the covered window is not retried: without it the next refresh reads a longer window
        if wrote or not (change.version or change.rejected or change.oldest > _oldest(state)):
            return self._report(state, chosen, change if wrote else None)
        return None

    def _read(self, lake: Lake) -> GoldenState:
        """Read the newest version, its reviews, and the failures."""
        options = self._settings
        return versions.read_state(
            lake,
            self._set_name,
            lambda looked: window(options, self._at, looked),
            criteria(options),
            seed=options.seed,
            most=min(_MOST_PER_CASE * options.size, _MOST),
            traffic=(traffic_window(self._at), options.traffic) if self._vectors and options.traffic else None,
        )

    def _choose(self, state: GoldenState) -> Chosen:
        """Choose the next version."""
        before = Before(
            state.cases,
            recent_versions=self._recent_versions(state),
            reviews=state.reviews,
            returning=state.returning,
            rejected={**_sketches(state), **state.sketches},
        )
        try:
            self._topics = self._found_topics(state)
            return self._chosen(state, before)
        except EmbedderUnavailableError as error:
            self._topics, self._topics_missing = None, error.cause
            return self._chosen(state, before)

    def _chosen(self, state: GoldenState, before: Before) -> Chosen:
        return choose(
            before,
            state.failures.calls,
            self._settings,
            set_name=self._set_name,
            version=_newest(state) + 1,
            topics=self._topics,
        )

    def _found_topics(self, state: GoldenState) -> Topics | None:
        if self._vectors is None or not self._settings.traffic:
            return None
        found = topics(state.traffic, self._vectors, size=self._settings.size)
        if found is None:
            self._topics_missing = f"the last weeks have {len(state.traffic)} calls with a text, {FEWEST} are needed"
        return found

    def _recent_versions(self, state: GoldenState) -> set[int]:
        half = self._at - self._settings.days * _DAY_US // 2
        return {v["version"] for v in state.versions if v["window_to"] > half}

    def _change(self, state: GoldenState, chosen: Chosen) -> Change:
        """Return what is to be written."""
        differs = _differs(state, chosen)
        # a recent version counts against the turnover, and is found by its row
        oldest = min([_newest(state) + differs - self._settings.keep_versions + 1, *self._recent_versions(state)])
        if not differs:
            return Change(state.window, rejected=_sketches(state), oldest=oldest)
        version: Row = {
            "version": _newest(state) + 1,
            "parent": _newest(state) or None,
            "content_hash": content_hash(chosen.cases),
            "created_at": _moment(self._at),
            "window_from": _moment(state.window.since),
            "window_to": _moment(state.window.until),
            "cases": len(chosen.cases),
            "added": chosen.added,
            "kept": chosen.kept,
            "dropped": chosen.dropped,
            "candidates": state.failures.found,
            "near_duplicates": chosen.near_duplicates,
            "settings": msgspec.json.encode(asdict(self._settings)).decode(),
            "owner": self._owner,
        }
        return Change(state.window, version, chosen.cases, rejected=_sketches(state), oldest=oldest)

    def _report(self, state: GoldenState | None, chosen: Chosen | None, change: Change | None = None) -> GoldenReport:
        """Report what was done; without ``chosen`` it was stopped, without ``change`` nothing was written."""
        written = bool(change and change.version)
        newest = (_newest(state) + written or None) if state else None
        report = GoldenReport(
            ok=True,
            done=chosen is not None,
            took_s=round(time.monotonic() - self._began, 3),
            set_name=self._set_name,
            version=newest,
            changed=bool(state and chosen and _differs(state, chosen)),
            written=written,
            content_hash=content_hash(chosen.cases) if chosen else "",
            cases=len(chosen.cases) if chosen else 0,
            added=chosen.added if chosen else 0,
            kept=chosen.kept if chosen else 0,
            dropped=chosen.dropped if chosen else 0,
            candidates=state.failures.found if state else 0,
            near_duplicates=chosen.near_duplicates if chosen else 0,
            blanked=len(change.rejected) if change else 0,
            expired=sum(v["version"] < change.oldest for v in state.versions) if state and change else 0,
            vanished=chosen.vanished if chosen else 0,
            topics=len(self._topics.shares) if self._topics else None,
            coverage=chosen.coverage if chosen else None,
            topics_missing=self._topics_missing,
        )
        log.info("golden_refreshed", **{k: v for k, v in asdict(report).items() if k != "ok"})
        return report


def _differs(state: GoldenState, chosen: Chosen) -> bool:
    if not state.versions:
        return bool(chosen.cases)
    return content_hash(chosen.cases) != str(state.versions[-1]["content_hash"])


def _sketches(state: GoldenState) -> dict[str, str]:
    """Return what is to be left of those cases that a review rejected and whose texts are still there."""
    return {case["case_id"]: sketch(chat_text(case)) for case in state.rejected}


def _oldest(state: GoldenState) -> int:
    return int(state.versions[0]["version"]) if state.versions else 0


def _newest(state: GoldenState) -> int:
    return int(state.versions[-1]["version"]) if state.versions else 0


def _moment(at: int) -> datetime:
    return _START + timedelta(microseconds=at)
