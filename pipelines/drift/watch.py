"""The drift of one app and side: its features, their references, its tests, its incidents.

Pure: texts in their order, and nothing else, decide. The same texts one by one or in batches, with or without a
snapshot between them, give the same alerts. Every decision is dated by the text that brought it about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import structlog

from pipelines.alerts.lifecycle import Timing
from pipelines.drift import follow, style_shift, topic_shift
from pipelines.drift.compose import compose_alert
from pipelines.drift.incident import Incident, Shift, open_incident, reopen
from pipelines.drift.level import Level, Saved
from pipelines.drift.points import ANSWERS, Point
from pipelines.drift.strata import OTHER, SECOND, ReferenceConfig, Stratum, combine, group_id, learn, ready, renew, wait
from pipelines.drift.style_bets import StyleConfig
from pipelines.drift.style_level import SavedStyles, StyleLevel
from pipelines.drift.topic_bets import TestConfig
from schemas.alerts import Alert

log = structlog.get_logger()
VERSION = 1
LIVE = 60_000_000
"""µs: a text that was older when its sample was written is history, and what it brings about is late."""
APP = ""
"""Key of the level that spans all features."""
_OVERHEAD = 10
_APP_WIDE_EVIDENCE = 2.0
"""Evidence (power of ten) for the whole app that makes a feature's alarm the app's affair."""
_PROMPTS_MOVE = 2.0
"""Evidence (power of ten) of other prompts from which on other answers are no alarm."""
_PROMPTS_FIRST = 60
"""Prompts since the onset of other answers that are judged before an alarm: enough to show that they have moved."""


@dataclass(frozen=True)
class WatchConfig:
    """Settings of drift; none needs tuning."""

    test: TestConfig = field(default_factory=TestConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    styles: StyleConfig = field(default_factory=StyleConfig)
    style_reference: ReferenceConfig = field(default_factory=lambda: ReferenceConfig(size=600, least=150, delay=400))
    """Of answers; a style has 22 bytes, so that there is room for more of them."""
    window: int = 160
    """Texts of each feature that are kept to describe a shift."""
    confined: float = 0.8
    """A feature with this share of the growth gives the alert its series; else it is the app's."""
    user_span: int = 40
    """Of this number of last texts at most ``user_texts`` of one user count: a runaway user is not drift."""
    user_texts: int = 2
    least_users: int = 3
    """Where users are known, as many must bring the new texts."""
    cooldown_s: float = 120.0
    """After an incident no other series of the app fires for this time (event time)."""
    timing: Timing = field(default_factory=Timing)
    """When an incident is over, how long a breach of the same series reopens it, when an update is emitted."""
    accept_s: float = 21_600.0
    """A shift that lasts this long is the new normal: the incident closes and the reference starts over."""
    most_texts: int = 200_000
    """A partition keeps this number of texts over all its apps (2 to 5 KB each; a busy app has 20,000), for any names
    of apps.
    """


class State(msgspec.Struct):
    """A watch at rest: versioned, no pickle."""

    version: int
    app: str
    side: str
    ordinal: int
    strata: list[Stratum]
    members: list[str]
    windows: dict[str, list[tuple[int, Point]]]
    levels: dict[str, Saved]
    incident: Incident | None
    quiet_until: int
    users: list[str | None]
    closed: Incident | None = None
    reopens_until: int = 0
    styles: dict[str, SavedStyles] = {}
    resting: bool = False


class Watch:
    """Judges the texts of one app and side. At most one incident is open at a time: one cause, one alert."""

    def __init__(self, app: str, side: str, config: WatchConfig) -> None:
        self.app, self.side, self.config = app, side, config
        self.reference = config.style_reference if side == ANSWERS else config.reference
        self.ordinal = 0
        self.strata: dict[str, Stratum] = {}
        self.members: list[str] = []
        """Strata under test."""
        self.windows: dict[str, list[tuple[int, Point]]] = {}
        """Per stratum its last texts, with their ordinals."""
        self.levels: dict[str, Level | StyleLevel] = {}
        self.incident: Incident | None = None
        self.quiet_until = 0
        self.closed: Incident | None = None
        """The last incident, while a breach of the same series reopens it."""
        self.reopens_until = 0
        self.users: list[str | None] = []
        self.resting = False
        """Of answers: an incident of the prompts is open."""

    def step(self, points: Sequence[Point], prompts: Watch | None = None) -> list[Alert]:
        """Judge ``points`` in order; return the alerts to emit.

        Args:
            points: of this app and side.
            prompts: of answers, the watch of the prompts: while these have moved, answers are not judged.
        """
        return [alert for point in points if (alert := self._one(point, prompts)) is not None]

    @property
    def standing(self) -> str:
        """``learning`` until there is a reference, then ``watching`` or ``firing``."""
        return "firing" if self.incident else "watching" if self.levels else "learning"

    @property
    def evidence(self) -> float:
        """log10 of the strongest evidence that the texts have moved, over all levels; 0 while it is learning."""
        return round(max((level.evidence for level in list(self.levels.values())), default=0.0), 3)

    @property
    def latest(self) -> int:
        """Event time of the latest text in memory, µs UTC; 0 = there is none."""
        return max((texts[-1][1].ts for texts in self.windows.values() if texts), default=0)

    @property
    def held(self) -> int:
        """Texts in memory, a stratum's own cost among them."""
        strata = sum(_OVERHEAD + len(s.texts) + len(s.waiting) + len(s.incoming) for s in self.strata.values())
        return _OVERHEAD + strata + sum(map(len, self.windows.values()))

    def held_since(self, start: int) -> int:
        """Count the texts in memory from ``start`` (µs UTC) on; at most ``window`` of each feature are kept."""
        return sum(point.ts >= start for texts in self.windows.values() for _, point in texts)

    def _one(self, point: Point, prompts: Watch | None) -> Alert | None:
        self.ordinal += 1
        stratum = self._stratum(point)
        window = self.windows.get(stratum.name, [])
        self.windows[stratum.name] = [*window, (self.ordinal, point)][-self.config.window :]
        crowded = self._crowded(point.user)
        if self.closed is not None and point.ts >= self.reopens_until:
            self.closed = None
        if self.incident is not None:
            return self._follow(self.incident, point)
        if prompts is not None and self._rests(prompts):
            return None
        if stratum.name not in self.members:
            if not crowded and len(stratum.texts) < self.reference.size:
                learn(stratum, point)
            self._renew()
            return None
        if crowded:
            return None
        keys = self._keys(stratum.name)
        breached = [key for key in keys if self._take(key, stratum.name, point)]
        wait(stratum, point, self.reference, held=not all(self.levels[key].is_undisturbed for key in keys))
        alert = self._fire(breached, point, prompts) if breached else None
        self._renew()
        return alert

    def _rests(self, prompts: Watch) -> bool:
        """Whether the prompts have moved: other prompts have other answers, which are neither judged nor learned.

        Where the other prompts have become normal, the answers to them are so, too.
        """
        if prompts.incident is not None or prompts.evidence >= _PROMPTS_MOVE:
            if prompts.incident is not None and not self.resting:
                log.info("drift_dismissed", app=self.app, side=self.side, prompts_moved=True)
                self.resting = True
            self._forget()
            return True
        if self.resting:
            self.resting = False
            if prompts.closed is None:
                self._accept(None)
        return False

    def _forget(self) -> None:
        for level in self.levels.values():
            level.forget()
        for name in self.members:  # what waits to become normal may have come after the onset
            self.strata[name].waiting = []

    def _stratum(self, point: Point) -> Stratum:
        name = point.feature or APP
        if name not in self.strata and len(self.strata) >= self.reference.features:
            name = OTHER
        if name not in self.strata:
            self.strata[name] = Stratum(name)
        return self.strata[name]

    def _crowded(self, user: str | None) -> bool:
        crowded = user is not None and self.users.count(user) >= self.config.user_texts
        self.users = [*self.users, user][-self.config.user_span :]
        return crowded

    def _keys(self, stratum: str) -> list[str]:
        """Levels that test the texts of ``stratum``."""
        return [key for key in (APP, f"feature:{stratum}") if key in self.levels]

    def _take(self, key: str, stratum: str, point: Point) -> bool:
        level = self.levels[key]
        if isinstance(level, StyleLevel):
            return level.take(point, stratum, self.ordinal)
        group = group_id(point.tenant, level.strata.index(stratum))
        return level.take(point.unit(), stratum, group, self.ordinal)

    def _renew(self) -> None:
        """Rebuild the tests where the reference has new texts and the evidence of a shift is low."""
        config = self.reference
        grown = [s.name for s in self.strata.values() if s.name not in self.members and ready(s, config)]
        incoming = sum(len(self.strata[name].incoming) for name in self.members)
        known = sum(len(self.strata[name].texts) for name in self.members)
        if not grown and not (incoming and incoming >= 0.2 * known):
            return
        if self.incident or not all(level.is_undisturbed for level in self.levels.values()):
            return
        self.members += grown
        for name in self.members:
            renew(self.strata[name], config)
        self._build()

    def _build(self) -> None:
        self.levels = {}
        for key, names in self._scopes().items():
            strata = [self.strata[name] for name in names]
            if self.side == ANSWERS:
                self.levels[key] = StyleLevel(self.config.styles, strata)
            else:
                self.levels[key] = Level.of(self.config.test, combine(strata)[0], names)

    def _scopes(self) -> dict[str, list[str]]:
        """Level -> its strata. A single feature needs no separate level."""
        if not self.members:
            return {}
        own = {f"feature:{name}": [name] for name in self.members if name != OTHER}
        return {APP: list(self.members), **(own if len(self.members) > 1 else {})}

    def _fire(self, breached: Sequence[str], point: Point, prompts: Watch | None) -> Alert | None:
        """Raise the alarm of ``breached`` levels, unless it is too small, of too few users, or within the cooldown."""
        score = round(max(self.levels[key].evidence for key in breached), 3)
        shift = self._shift(breached, prompts)
        if prompts is not None and prompts.levels and prompts.held_since(shift.start) < _PROMPTS_FIRST:
            return None  # the evidence stays; prompts that have moved will have shown it by then
        lonely = shift.users is not None and shift.users < self.config.least_users
        small = shift.observed - shift.expected < self.config.test.min_growth
        incident = open_incident(self.app, self.side, shift, score)
        again = self.closed is not None and self.closed.series == incident.series
        if lonely or small or (point.ts < self.quiet_until and not again):
            log.info("drift_dismissed", app=self.app, side=self.side, evidence=score, lonely=lonely, small=small)
            for key in breached:
                self.levels[key].forget()
            return None
        if self.closed is not None and again:
            incident = reopen(self.closed, incident)
        self.incident, self.closed = incident, None
        self._forget()
        self._begin(incident, point)
        follow.emitted(incident, point.wall)
        window = (shift.start, shift.end)
        return compose_alert(
            incident, "firing", side=self.side, observed=shift.observed, window=window, wall=point.wall
        )

    def _begin(self, incident: Incident, point: Point) -> None:
        """Let the texts since the onset be those of the incident."""
        window = [p for _, p in sorted(pair for texts in self.windows.values() for pair in texts)]
        follow.begin(incident, window, self._effect(incident), self.config.test.min_growth)
        incident.wall = point.wall

    def _effect(self, incident: Incident) -> float:
        key = APP if incident.shift.feature is None else f"feature:{incident.shift.feature}"
        level = self.levels.get(key) or self.levels.get(APP)
        return level.effect if level else 1.0

    def _shift(self, breached: Sequence[str], prompts: Watch | None) -> Shift:
        """Describe the shift: over the app where its own evidence is high, else within the feature that breached."""
        app_wide = APP in breached or self.levels[APP].evidence >= _APP_WIDE_EVIDENCE
        key = APP if app_wide else breached[0]
        names = self.levels[key].strata
        # the texts of a busy feature reach less far back: the same span for all, so that the SQL counts the same texts
        full = [w[0][0] for name in names if len(w := self.windows[name]) == self.config.window]
        since = max([self.levels[key].onset(), *full])
        texts = sorted((o, names.index(name), p) for name in names for o, p in self.windows[name] if o >= since)
        strata = np.array([s for _, s, _ in texts], dtype=np.int64)
        reference, normal = combine([self.strata[name] for name in names])
        named = [None if name in (APP, OTHER) else name for name in names]
        points, within = [p for _, _, p in texts], None if app_wide else named[0]
        confined = self.config.confined
        if self.side == ANSWERS:
            shift = style_shift.describe(
                points, strata, normal, reference.strata, named=named, confined=confined, within=within
            )
            return msgspec.structs.replace(shift, are_prompts_steady=prompts is not None and bool(prompts.levels))
        return topic_shift.describe(points, strata, reference, normal, named=named, confined=confined, within=within)

    def stopped(self, wall: int) -> Alert | None:
        """Close the incident of a series without new texts at ``wall``, the brokers' time (µs UTC).

        The alert is late where its last texts were history: the series stopped in the past, with any text that shows
        it.
        """
        incident = self.incident
        if incident is None or not follow.stopped(incident, wall, self.config.timing.recovery):
            return None
        end = incident.recovery.since or incident.recovery.until
        late = 0 < incident.recovery.until < incident.wall - LIVE
        alert = self._close(incident, end, at=max(incident.recovery.until, end), wall=wall, note="have stopped")
        return msgspec.structs.replace(alert, late=late)

    def _follow(self, incident: Incident, point: Point) -> Alert | None:
        """Close ``incident`` when the texts are as before, or when the new ones have become normal."""
        if (alert := self.stopped(point.wall)) is not None:
            return alert
        if not follow.concerns(incident.shift, point):
            return None
        if not incident.recovery.until:  # of a version that kept no evidence
            self._begin(incident, point)
            follow.emitted(incident, point.wall)
            return None
        effect, least = self._effect(incident), self.config.test.min_growth
        end = follow.apply(incident, point, effect=effect, least=least, config=self.config.timing.recovery)
        if end:
            return self._close(incident, end, at=point.ts, wall=point.wall, note="are as before")
        if point.ts - incident.began >= self.config.accept_s * SECOND:
            alert = self._close(incident, point.ts + 1, at=point.ts, wall=point.wall, note="have a new normal")
            self.closed = None
            self._accept(incident.shift.feature)
            return alert
        if not follow.grown(incident, point.wall, self.config.timing):
            return None
        incident.seq += 1
        follow.emitted(incident, point.wall)
        window, now = (incident.began, point.ts + 1), follow.share(incident)
        return compose_alert(incident, "update", side=self.side, observed=now, window=window, wall=point.wall)

    def _close(self, incident: Incident, end: int, *, at: int, wall: int, note: str) -> Alert:
        incident.seq += 1
        self.incident, self.closed = None, incident
        self.quiet_until = at + int(self.config.cooldown_s * SECOND)
        self.reopens_until = at + max(int(self.config.timing.cooldown_s * SECOND), at - end)
        window, observed = (incident.began, max(end, incident.began + 1)), follow.share(incident)
        return compose_alert(
            incident, "resolved", side=self.side, observed=observed, window=window, wall=wall, note=note
        )

    def _accept(self, feature: str | None) -> None:
        """Let the last texts be the reference."""
        for name in list(self.members) if feature is None else [feature]:
            texts = [p for _, p in self.windows[name]]
            self.strata[name] = Stratum(name, texts, first=texts[0].ts, admitted=texts[-1].ts)
        self.members = [name for name in self.members if ready(self.strata[name], self.reference)]
        self._build()

    def snapshot(self) -> bytes:
        """Return the whole state as msgpack."""
        levels = {key: level.save() for key, level in self.levels.items() if isinstance(level, Level)}
        styles = {key: level.save() for key, level in self.levels.items() if isinstance(level, StyleLevel)}
        state = State(
            VERSION,
            self.app,
            self.side,
            self.ordinal,
            list(self.strata.values()),
            self.members,
            self.windows,
            levels,
            self.incident,
            self.quiet_until,
            self.users,
            self.closed,
            self.reopens_until,
            styles,
            self.resting,
        )
        return msgspec.msgpack.encode(state)

    @staticmethod
    def restore(data: bytes, config: WatchConfig) -> Watch:
        """Inverse of ``snapshot``; raises msgspec.ValidationError on another version's bytes."""
        state = msgspec.msgpack.decode(data, type=State)
        if state.version != VERSION:
            raise msgspec.ValidationError(f"drift state of version {state.version}, not {VERSION}")
        watch = Watch(state.app, state.side, config)
        watch.ordinal, watch.members, watch.windows = state.ordinal, state.members, state.windows
        watch.strata = {s.name: s for s in state.strata}
        watch.incident, watch.quiet_until, watch.users = state.incident, state.quiet_until, state.users
        watch.closed, watch.reopens_until, watch.resting = state.closed, state.reopens_until, state.resting
        scopes = watch._scopes()
        for key, saved in state.levels.items():
            reference, _ = combine([watch.strata[name] for name in scopes[key]])
            watch.levels[key] = Level.load(saved, config.test, reference)
        for key, styles in state.styles.items():
            strata = [watch.strata[name] for name in scopes[key]]
            watch.levels[key] = StyleLevel.load(styles, config.styles, strata)
        return watch
