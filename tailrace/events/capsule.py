"""An alert as a capsule: made out of the lake, proved by judging it, and judged again from its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipelines.backtest.capsule import MOST_BYTES, Capsule, Manifest, packed, same, unpacked
from pipelines.backtest.cut import Cut, find_cut
from pipelines.detect import backtest
from pipelines.detect.detectors import DETECTORS, configure
from pipelines.detect.judge import Judge
from pipelines.notify.content import without_texts
from pipelines.notify.times import parsed
from schemas.alerts import Alert
from schemas.errors import FatalError, SettingsError
from tailrace.cli.render.printable import json_line
from tailrace.job_runs.run_detectors_again import beginning
from warehouse.query.readonly import ReadOnlyLake

Rules = Mapping[str, Mapping[str, Any]]
_SECOND = 1_000_000
MOST_CALLS = 5_000
_PARTITIONS = 'SELECT DISTINCT _partition FROM rollups WHERE "key" = $1 AND day >= $2 AND day <= $3 ORDER BY 1'
_CALLS = """
SELECT id::VARCHAR AS id, ts, app, feature, team, tenant_id, user_id, provider, model, response_model, prompt_name,
    prompt_version, release, variant, session_id, trace_id, status, error_type, finish_reason, latency_ms, ttft_ms,
    input_tokens, output_tokens, cache_read_tokens, cost_usd, guardrail_triggered, blocked_by,
    count(*) OVER () AS calls_of
FROM calls WHERE app = $1 AND ts >= $2 AND ts < $3 AND day >= $4 AND day <= $5
ORDER BY hash(id) LIMIT $6
"""


class NoCapsuleError(FatalError):
    """An alert that cannot be made into a capsule, and why."""

    def __init__(self, alert_id: str, problem: str, remedy: str) -> None:
        super().__init__(f"alert {alert_id} does not fit into a capsule: {problem}; {remedy}")


def export(
    lake: ReadOnlyLake,
    states: Sequence[Alert],
    rules: Rules,
    *,
    warm_up: int,
    progress: Callable[[int], None] = lambda positions: None,
) -> tuple[Capsule, bytes]:
    """Return the capsule of an alert and its bytes, proved: judged from these bytes it gives the states that landed.

    Args:
        lake: that is read.
        states: of the alert as they landed, in order.
        rules: that are in force: detector -> field -> value.
        warm_up: time before the alert in which the detectors learn, µs.
        progress: called with the positions that were judged, now and then.

    Raises:
        NoCapsuleError: it is of no detector of the stream, its rollups were deleted or give another alert, or it is too
            large.
    """
    first = states[0]
    names = [detector.name for detector in DETECTORS]
    if first.detector not in names or "app" not in first.series:
        remedy = f"only alerts of {', '.join(names)} are judged from rollups; `tailrace alerts postmortem` has the rest"
        raise NoCapsuleError(first.id, f"it is of the detector {first.detector}", remedy)
    cut = _cut(lake, states, rules, warm_up, progress)
    if (wrong := _differing(states, cut.alerts)) is not None:
        remedy = (
            "were the rules changed since, or has it more history? set them as they were, or give a longer --warm-up"
        )
        raise NoCapsuleError(
            first.id, f"the landed rollups give another state {wrong} than the one that was sent", remedy
        )
    capsule, data = _fitting(lake, states, rules, cut)
    _prove(capsule, data)
    return capsule, data


def judge_capsule(data: bytes, name: str, rules: Rules | None = None) -> tuple[Capsule, list[Alert]]:
    """Return a capsule and the alerts that it gives, by its own rules with ``rules`` over them.

    Raises:
        CapsuleError: it is none.
        SettingsError: a rule names a detector or a field that is not there.
    """
    capsule = unpacked(data, name)
    merged: dict[str, dict[str, Any]] = {detector: dict(own) for detector, own in capsule.manifest.rules.items()}
    for detector, changes in (rules or {}).items():
        merged.setdefault(detector, {}).update(changes)
    return capsule, capsule.judged(Judge(configure(merged)))


def compared(capsule: Capsule, alerts: Sequence[Alert]) -> int:
    """Return how many of the states that the capsule should give are among ``alerts``."""
    given = {(alert.id, alert.seq): alert for alert in alerts}
    expected = capsule.alerts[: capsule.manifest.states]
    return sum((a.id, a.seq) in given and same(a, given[a.id, a.seq]) for a in expected)


def _cut(
    lake: ReadOnlyLake, states: Sequence[Alert], rules: Rules, warm_up: int, progress: Callable[[int], None]
) -> Cut:
    """Judge the landed rollups of the app's partition up to the alert, or all of them where a part is not enough."""
    first, app = states[0], states[0].series["app"]
    start, until = _micros(first.window.start), _micros(states[-1].detected_at) + 2 * _SECOND
    days = [_day(start - warm_up), _day(until)]
    partitions = [row["_partition"] for row in lake.query(_PARTITIONS, [app, *days]).to_pylist()]
    best: Cut | None = None
    try:
        begins = {beginning(lake, start, start - warm_up, "alert"), 0}
    except SettingsError:
        remedy = "`tailrace alerts postmortem` has what is left of it"
        raise NoCapsuleError(
            first.id, "the ticks of its time are gone, and without them no window closes", remedy
        ) from None
    for begin in sorted(begins, reverse=True):
        found = backtest.ranges(lake.query, since=begin, until=until)
        for partition in partitions:
            mine = [stretch for stretch in found if stretch.partition == partition]
            judge = Judge(configure(rules))
            cut = find_cut(lake.query, mine, judge, states, start=start, progress=progress)
            if cut is not None and _differing(states, cut.alerts) is None:
                return cut
            best = best or cut
    if best is None:
        raise NoCapsuleError(
            first.id,
            "the landed rollups do not give it",
            "are the rules still those that raised it, and its rollups kept?",
        )
    return best


def _differing(states: Sequence[Alert], found: Mapping[int, Alert]) -> int | None:
    """Return the seq of the first state that landed and was not found so; None where all were."""
    return next((a.seq for a in states if a.seq not in found or not same(a, found[a.seq])), None)


def _fitting(lake: ReadOnlyLake, states: Sequence[Alert], rules: Rules, cut: Cut) -> tuple[Capsule, bytes]:
    """Return the capsule with all states and its bytes, or where that is too large, with the first state."""
    sizes = []
    for count in sorted({len(states), 1}, reverse=True):
        capsule = _filled(lake, states, rules, cut, count)
        data = packed(capsule)
        if len(data) <= MOST_BYTES:
            return capsule, data
        sizes.append(len(data))
    remedy = "judge the lake itself: `tailrace backtest --from ... --to ...`"
    raise NoCapsuleError(states[0].id, f"it takes {sizes[-1]:,} bytes, and {MOST_BYTES:,} are allowed", remedy)


def _filled(lake: ReadOnlyLake, states: Sequence[Alert], rules: Rules, cut: Cut, count: int) -> Capsule:
    first, app = states[0], states[0].series["app"]
    upto = cut.ends[states[count - 1].seq]
    ticks, rollups = backtest.tables(lake.query, backtest.OffsetRange(cut.partition, cut.epoch, cut.first, upto), app)
    rows = _calls(lake, states)
    manifest = Manifest(
        tailrace=version("tailrace"),
        alert_id=first.id,
        fingerprint=first.fingerprint,
        app=app,
        states=count,
        landed_states=len(states),
        partition=cut.partition,
        epoch=cut.epoch,
        first=cut.first,
        upto=upto,
        rules={name: dict(changes) for name, changes in rules.items()},
        calls=len(rows),
        calls_of=rows[0]["calls_of"] if rows else 0,
    )
    lines = "\n".join(json_line({k: v for k, v in row.items() if v is not None and k != "calls_of"}) for row in rows)
    alerts = tuple(without_texts(alert) for alert in states)
    return Capsule(manifest, alerts, cut.state, ticks, rollups, lines.encode())


def _calls(lake: ReadOnlyLake, states: Sequence[Alert]) -> list[dict[str, Any]]:
    """Return calls of the app in the window, without texts; of many a sample that depends on their ids alone."""
    starts = [t for a in states if (t := parsed(a.window.start))]
    ends = [t for a in states if (t := parsed(a.window.end))]
    if not starts or not ends:
        return []
    span = min(starts), max(ends)
    days = [moment.date() for moment in span]
    rows: list[dict[str, Any]] = lake.query(_CALLS, [states[0].series["app"], *span, *days, MOST_CALLS]).to_pylist()
    return rows


def _prove(capsule: Capsule, data: bytes) -> None:
    """Judge the bytes as another machine would."""
    read, alerts = judge_capsule(data, "that was made")
    count = compared(read, alerts)
    if count != capsule.manifest.states:
        remedy = "judge the lake itself: `tailrace backtest --from ... --to ...`"
        problem = f"by itself it gives {count} of its {capsule.manifest.states} states: other apps decide, too"
        raise NoCapsuleError(capsule.manifest.alert_id, problem, remedy)


def _micros(text: str) -> int:
    moment = parsed(text)
    return 0 if moment is None else round(moment.timestamp() * 1e6)


def _day(at: int) -> Any:
    return datetime.fromtimestamp(max(at, 0) / 1e6, UTC).date()
