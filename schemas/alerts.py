"""An alert, a delivery, a log record: JSON on llm.alerts, llm.deliveries, llm.log, on webhooks and from ``--json``."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

Severity = Literal["info", "warning", "critical"]
State = Literal["firing", "update", "resolved"]


class Window(msgspec.Struct, frozen=True):
    """Event time, RFC 3339 UTC, half open."""

    start: str
    end: str


class Impact(msgspec.Struct, frozen=True):
    """Who and what it touches; None = not known."""

    calls: int | None = None
    users: int | None = None
    sessions: int | None = None
    usd_per_hour: float | None = None
    usd_so_far: float | None = None


class Parts(msgspec.Struct, frozen=True):
    """What a change of cost, tokens or calls consists of, in its unit. The parts add up to the change exactly."""

    volume: float = 0.0
    """More or fewer calls, each like the usual one."""
    mix: float = 0.0
    """Other features or models than usual."""
    tokens_per_call: float = 0.0
    price: float = 0.0
    """Price of a token, before what cache reads save."""
    cache: float = 0.0
    """Share of that price that cache reads save."""


class Usage(msgspec.Struct, frozen=True):
    """Calls, tokens and money of one series in one window."""

    calls: float
    tokens: float
    cost_usd: float


class Cause(msgspec.Struct, frozen=True):
    """One ranked explanation: this dimension value explains ``share`` of the change."""

    dimension: str
    """Several are separated by a comma, as their values are; "" where ``value`` is BROAD."""
    value: str
    share: float
    text: str
    """In words: "user u-17 is 94% of the rise; its calls went from 12 to 640 a minute"."""
    named: bool = False
    """Whether it is one of the smallest set of at most three values that together explain 80 % of the change."""
    normal: float | None = None
    """Its share of what is usual for the app, 0..1."""
    parts: Parts | None = None
    """Of its change, ``now`` minus ``before``. None where a share of calls changed, and in alerts of old versions."""
    before: Usage | None = None
    """What is usual for it in a window of this length; for a mean per call, in as many calls as there are ``now``."""
    now: Usage | None = None
    """What it was in the window, which ``evidence.cause_sql`` returns."""


BROAD = "broad"
"""Value of a `Cause` that names nothing: no set of at most three values explains 80 % of the change."""

CONTENT = frozenset({"topic"})
"""Dimensions of a `Cause` whose value is an excerpt of prompts or answers, quoted “so” in its text. They land in the
lake; a channel gets them only where the setting ``alert_texts`` allows it."""


class Change(msgspec.Struct, frozen=True):
    """What was released or first seen in this scope in the last 24 h."""

    at: str
    kind: str
    text: str


class Evidence(msgspec.Struct, frozen=True):
    """SQL over the append-only tables that returns exactly ``observed``, and the calls that show it."""

    sql: str = ""
    call_ids: tuple[str, ...] = ()
    cause_sql: str = ""
    """SQL that returns ``now`` of the causes that have one; "" where there are none."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One state change of one alert."""

    id: str
    """Deterministic: ``alert_id(rule, series, window start)``."""
    seq: int
    """0 for the first message of the alert, then 1, 2, ...; ``firing`` above 0 reopens a resolved alert."""
    fingerprint: str
    """Of (rule, series): the same for every alert of one cause."""
    detector: str
    rule: str
    severity: Severity
    state: State
    series: dict[str, str]
    window: Window
    observed: float
    expected: float
    score: float
    unit: str
    impact: Impact = Impact()
    cause: tuple[Cause, ...] = ()
    changes: tuple[Change, ...] = ()
    evidence: Evidence = Evidence()
    runbook: tuple[str, ...] = ()
    links: dict[str, str] = {}
    late: bool = False
    """What it is about was history (more than a minute ago) when it was judged: out of a backlog."""
    detected_at: str
    """RFC 3339, the wall time of the tick or record that decided: a function of the log."""
    title: str = ""
    """One plain-text line for people."""
    children: tuple[dict[str, str], ...] = ()
    """Series grouped under this one."""

    def to_json(self) -> bytes:
        """Encode for the wire: always all fields."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> Alert:
        """Decode; raises msgspec.ValidationError."""
        return msgspec.json.decode(data, type=Alert)


def rfc3339(microseconds: int) -> str:
    """Return a time (µs UTC) as alerts write it: milliseconds."""
    return f"{datetime.fromtimestamp(microseconds / 1e6, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def time_text(moment: datetime) -> str:
    """Return ``moment``, in any time zone, in the text form of alerts."""
    return rfc3339(round(moment.timestamp() * 1e6))


_NAMESPACE = uuid.UUID("6f0f3d6e-2f0b-5a37-9c61-7b1f6f6f5a11")


def fingerprint(rule: str, series: dict[str, str]) -> str:
    """Return the identity of (rule, series): 32 hex digits."""
    canonical = msgspec.json.encode([rule, sorted(series.items())]).decode()
    return uuid.uuid5(_NAMESPACE, canonical).hex


def alert_id(rule: str, series: dict[str, str], window_start: int) -> str:
    """Return the deterministic id of the alert of ``rule`` on ``series`` that opened at ``window_start`` (µs UTC)."""
    return str(uuid.uuid5(_NAMESPACE, f"{fingerprint(rule, series)}@{window_start}"))


LATE_DIGEST = "late_digest"
"""Rule of the digest, one message for all alerts of a backlog; notify makes it, it is not on llm.alerts."""
STORM_DIGEST = "storm_digest"
"""The same of a storm: more incidents began, or ended, at once than people read one by one."""


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that match are not sent from ``start`` until ``end``; they still land and are listed."""

    id: str
    matchers: dict[str, str]
    """``rule``, ``detector``, ``severity``, or a dimension of the series -> value; all must hold."""
    start: int
    """µs UTC."""
    end: int
    """µs UTC."""
    by: str
    why: str = ""


SILENCE, UNSILENCE, ACK = "alert.silence", "alert.unsilence", "alert.ack"
"""Actions of audit records that notify applies. The first carries the `Silence`, the others name it or the alert."""

VERDICT = "alert.verdict"
"""Action of an audit record that carries a `Verdict` on an alert. Nothing depends on it but reports."""
Verdict = Literal["useful", "noise", "known"]
"""The verdict of a person on an alert: it was right to send it; it was not needed; it was right, but known before."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """notify's only state, compacted by ``key()``."""

    alert_id: str
    seq: int
    channel: str
    """Name of the channel (never its URL: a Slack URL is a secret)."""
    state: Literal["pending", "retry", "delivered", "failed", "silenced"]
    attempts: int = 0
    retry_at: int | None = None
    """µs UTC."""
    detail: str = ""
    at: int = 0
    """µs UTC."""
    digest: str = ""
    """Id of the digest that names this alert in its place; "" where it is sent by itself."""

    def key(self) -> bytes:
        """Kafka key."""
        return f"{self.alert_id}/{self.seq}/{self.channel}".encode()


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A row for a small table: small writers reach the lake through llm.log, so the catalog has one writer."""

    table: Literal["job_runs", "audit", "releases", "gaps", "data_quality", "eval_runs", "golden_reviews"]
    at: int
    """µs UTC."""
    row: dict[str, Any]
