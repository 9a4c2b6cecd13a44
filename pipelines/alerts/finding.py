"""What a detector reports: an abnormal value in one app, for one family of measures."""

from __future__ import annotations

import msgspec

from schemas.alerts import Cause, Severity


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One abnormal value now. Times are µs UTC, event time."""

    detector: str
    rule: str
    family: str
    """At most one incident of a family is open in an app: ``spend``, ``guardrail:pii``, ``errors`` ..."""
    rank: int = 0
    """Of several families with one cause, that with the lowest rank opens the incident."""
    weak: bool = False
    """Not enough evidence to open an incident, but enough to be the leader of a finding of higher rank."""
    severity: Severity = "warning"
    measure: str
    target: str
    """The rollup series (JSON) that explains it best."""
    series: dict[str, str]
    """The same as the alert shows it, with ``guardrail`` where there is one."""
    start: int
    end: int
    observed: float
    expected: float
    score: float
    """Observed value over the limit, or the log of the evidence."""
    unit: str
    peak: float = 0.0
    """Highest rate or share so far."""
    excess: float = 0.0
    """Calls or USD beyond what was expected."""
    expected_rate: float | None = None
    """Of a sum: expected per slot; None for rates and shares, whose expectation has no length."""
    usd_rate: float = 0.0
    """USD expected per slot in the target series."""
    usd_lost: float | None = None
    """USD beyond what was expected since the start, where ``excess`` is not money; None = not known."""
    calls: int = 0
    users: int | None = None
    usd_per_hour: float | None = None
    causes: tuple[Cause, ...] = ()
    cause_sql: str = ""
    """SQL that returns what the causes were in their window; see ``pipelines.alerts.evidence``."""
    children: tuple[dict[str, str], ...] = ()
    call_ids: tuple[str, ...] = ()
    noun: str = ""
    """What ``observed`` is, for people, where the detector brings its own words; "" = the words of ``compose``."""
    of: str = "calls"
    """What a share is a share of, where there is a ``noun``."""
    value_sql: str = ""
    """Expression over the landed rows that returns ``observed``, where the detector brings its own: then the tally of
    the recovery test holds the sums of the whole incident, a share of the exposure."""
    over: float | None = None
    """The value of the measure above which a call counts, where it counts such calls."""
    falls: bool = False
    """Whether ``observed`` is what the tally does not count: a share that fell."""
    steps: tuple[str, ...] = ()
    """The runbook of the detector, where it brings its own."""
    learning: bool = False
    """Whether too little is learned of the series for a usual value: ``expected`` is a limit, or the highest so far."""
