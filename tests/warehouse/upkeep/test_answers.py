"""A call that the app's client and the gateway both report counts once, on its owner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schemas.records import Move
from warehouse.upkeep import find_duplicates

EVENTS = "llm.events"
AT = datetime(2026, 11, 18, 12, tzinfo=UTC)
ANSWER = "chatcmpl-CeRQ3PYb5yNfuV6mzMZVtgVqfWa2u"
SEEN = {"response_id": ANSWER, "input_tokens": 1000, "output_tokens": 500, "cost_usd": Decimal("0.0075")}


@pytest.fixture
def land(lake: Any, rows: Any) -> Any:
    """Land calls of one partition each, given as (partition, fields); return their places."""

    def landed(*calls: tuple[int, dict[str, Any]]) -> None:
        for partition, fields in calls:
            offset = lake.ledger()[EVENTS, partition]
            table = rows.table("raw_calls", [rows.call(offset, partition, **fields)])
            lake.append({"raw_calls": table}, [Move(EVENTS, partition, offset, offset + 1)])

    return landed


def counted(lake: Any) -> list[tuple[Any, ...]]:
    sql = "SELECT _partition, _offset, user_id, cost_usd FROM calls ORDER BY ALL"
    return [tuple(row.values()) for row in lake.query(sql).to_pylist()]


APP = {**SEEN, "user_id": "alice", "tenant_id": "acme"}
GATEWAY = {**SEEN, "user_id": None, "tenant_id": None, "feature": None}


@pytest.mark.parametrize("calls", [((0, APP), (1, GATEWAY)), ((1, GATEWAY), (0, APP))])
def test_the_event_with_an_owner_counts_whichever_came_first(lake: Any, land: Any, calls: Any) -> None:
    land(*calls)
    assert find_duplicates(lake, at=AT).late == 1
    assert counted(lake) == [(0, 0, "alice", Decimal("0.007500000"))]
    assert find_duplicates(lake, at=AT).positions == 0


def test_a_recorder_that_comes_later_takes_the_place_of_one_without_owner(lake: Any, land: Any) -> None:
    land((1, GATEWAY))
    assert find_duplicates(lake, at=AT).late == 0
    land((0, APP))
    assert find_duplicates(lake, at=AT).late == 1
    land((1, GATEWAY))
    assert find_duplicates(lake, at=AT).late == 1
    assert counted(lake) == [(0, 0, "alice", Decimal("0.007500000"))]


@pytest.mark.parametrize(
    "other",
    [
        {"response_id": "chatcmpl-DeRQ3PYb5yNfuV6mzMZVtgVqfWa2u"},
        {"output_tokens": 501},
        {"answer_cache": "exact"},
        {"ts": datetime(2026, 11, 18, 12, tzinfo=UTC) + timedelta(hours=2)},
        {"input_tokens": None, "output_tokens": None},
    ],
    ids=["another answer", "other tokens", "an answer cache", "two hours later", "no tokens"],
)
def test_calls_that_are_not_surely_one_count_both(lake: Any, land: Any, rows: Any, other: dict[str, Any]) -> None:
    land((0, APP), (1, {**GATEWAY, **other}))
    assert find_duplicates(lake, at=AT).late == 0
    assert len(counted(lake)) == 2


def test_an_id_that_a_local_server_gives_to_every_answer_names_no_answer(lake: Any, land: Any) -> None:
    land((0, {**APP, "response_id": "chatcmpl-1"}), (1, {**GATEWAY, "response_id": "chatcmpl-1"}))
    assert find_duplicates(lake, at=AT).late == 0
    assert len(counted(lake)) == 2
