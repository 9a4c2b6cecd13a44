"""Which rows of which table are deleted, in the order of deletion.

Rows that are found by their call are deleted before the call: after a kill the next run finds the rest by the remaining
calls.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.tables import (
    ALERTS,
    COST_ADJUSTMENTS,
    DEAD,
    DEAD_BYTES,
    EMBEDDINGS,
    GOLDEN_CASES,
    GOLDEN_REJECTED,
    GOLDEN_VERSIONS,
    LATE_DUPLICATES,
    LOG_RECORDS,
    RAW_CALLS,
    RAW_EVALS,
    RAW_FEEDBACK,
    ROLLUPS,
)
from schemas.topics import EVENTS
from warehouse.forget.who import Who

_OF_CALLS = "call_id::VARCHAR IN (SELECT id FROM gone_calls)"
_PLACE = "(_epoch, _partition, _offset)"
_PLACES = "topic, day, _epoch, _partition, _offset"
_SIDES = (COST_ADJUSTMENTS.name, LATE_DUPLICATES.name)
_OF_CASES = (
    "UPDATE golden_versions AS v SET cases = v.cases - g.cases, blanked = coalesce(v.blanked, 0) + g.cases FROM "
    "(SELECT set_name, version, count(*)::INTEGER AS cases FROM going GROUP BY ALL) AS g "
    "WHERE v.set_name = g.set_name AND v.version = g.version",
    "DELETE FROM golden_rejected WHERE (set_name, case_id) IN (SELECT (set_name, case_id) FROM going)",
    """DELETE FROM log_records WHERE "table" = 'golden_reviews'
    AND ("row"::JSON->>'case_id') IN (SELECT case_id FROM going)""",
)


@dataclass(frozen=True)
class Rule:
    """The rows of one table to delete, and the rows that are deleted with them in the same transaction."""

    table: str
    which: str
    """SQL over the table and what `Who.bind` registers."""
    topic: str = ""
    """SQL for the topic of a row, where rows of this table prove positions."""
    going: str = ""
    """SQL for the columns of the temporary table ``going``, which has the rows that go; empty: none is made."""
    with_them: tuple[str, ...] = ()
    """Statements that read ``going``."""
    sides: tuple[str, ...] = ()
    """Tables that these statements change."""

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables whose files may have deleted rows after it."""
        return (self.table, *self.sides)


def _event(table: str, which: str) -> Rule:
    """Return the rule of an event table: rows that name its rows by position are deleted too."""
    deleted = tuple(f"DELETE FROM {side} WHERE {_PLACE} IN (SELECT {_PLACE} FROM going)" for side in _SIDES)
    return Rule(table, which, f"'{EVENTS}'", f"'{EVENTS}' AS {_PLACES}", deleted, _SIDES)


def aged(old: str) -> tuple[Rule, ...]:
    """Return the rules for rows of an app that are old by their own day; ``old`` is SQL for that."""
    place = "(topic, _epoch, _partition, _offset)"
    of_bytes = f"({place} IN (SELECT {place} FROM dead WHERE {old}))"
    return (
        Rule(DEAD_BYTES.name, of_bytes),  # before the dead letters by which they are found
        Rule(DEAD.name, old, "topic", _PLACES),
        _event(RAW_FEEDBACK.name, old),
        _event(RAW_EVALS.name, old),
        Rule(EMBEDDINGS.name, old),
    )


def hanging() -> tuple[Rule, ...]:
    """Return the rules for ``gone_calls`` and what belongs to them, the calls last."""
    return (
        _event(RAW_FEEDBACK.name, f"({_OF_CALLS})"),
        _event(RAW_EVALS.name, f"({_OF_CALLS})"),
        Rule(EMBEDDINGS.name, f"({_OF_CALLS})"),
        _calls(),
    )


def _calls() -> Rule:
    return _event(RAW_CALLS.name, f"({_PLACE} IN (SELECT {_PLACE} FROM gone_calls))")


def alone(who: Who) -> tuple[Rule, ...]:
    """Return the rules that need no call: rows that name the id themselves."""
    dead = who.named("concat(head, ' ', detail)")
    place = "(topic, _epoch, _partition, _offset)"
    by_bytes = f"{who.named_in_bytes('bytes')} OR {who.named_in_bytes('key')}"
    of_bytes = f"{place} IN (SELECT {place} FROM dead_bytes WHERE {by_bytes})"
    return (
        Rule(DEAD.name, f"({dead} OR {of_bytes})", "topic", _PLACES),  # before the bytes by which they are found
        Rule(DEAD_BYTES.name, f"({by_bytes})"),
        Rule(ROLLUPS.name, who.series),
        Rule(ALERTS.name, who.series),
    )


def of_calls(who: Who) -> tuple[Rule, ...]:
    """Return the rules for ``gone_calls``, the calls last."""
    own = "" if who.tenants else " OR user_id IN (FROM who_users)"
    cases = (GOLDEN_VERSIONS.name, GOLDEN_REJECTED.name, LOG_RECORDS.name)
    return (
        _event(RAW_FEEDBACK.name, f"({_OF_CALLS}{own})"),
        _event(RAW_EVALS.name, f"({_OF_CALLS})"),
        Rule(EMBEDDINGS.name, f"({_OF_CALLS})"),
        Rule(GOLDEN_CASES.name, f"({_OF_CALLS})", "", "set_name, version, case_id", _OF_CASES, cases),
        _calls(),
    )
