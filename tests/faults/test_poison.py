"""Rows 33 to 37: every bad event of the corpus between two good ones, through the broker into the lake."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fault_harness.scene import Scene

from warehouse.storage.dead_bytes import unpad

CORPUS = Path(__file__).parents[1] / "corpus" / "events.jsonl"


def value(case: dict[str, Any]) -> bytes | None:
    if "base64" in case:
        return base64.b64decode(case["base64"])
    if "repeat" in case:
        before, unit, times, after = case["repeat"]
        return (before + unit * times + after).encode()
    return None if case["value"] is None else case["value"].encode()


@pytest.mark.row(33, 34, 35, 36, 37)
def test_row_33_to_37_no_bad_event_is_lost_or_harms_its_neighbours(scene: Scene) -> None:
    cases = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    bad = [case for case in cases if case.get("reason")]
    for case in bad:
        scene.traffic.good(1)
        scene.traffic.send(value(case), partition=0, bad=True)
        scene.traffic.good(1)
    scene.traffic.flush()
    scene.traffic.send(b'{"v":1,"type":"call","app":"' + b"x" * 10_000_000 + b'"}', bad=True)
    with pytest.raises(AssertionError, match="1 events were refused"):  # the broker's limit, before any of our code
        scene.traffic.flush()
    scene.traffic.sent.failed = 0
    land = scene.land_until_settled(TAILRACE_LAND__DEAD_RATIO_LIMIT="1")
    rows = scene.lake.rows("dead", "_offset, reason", "topic = 'llm.events' AND _partition = 0 ORDER BY _offset")
    found = [reason for _, reason in rows]
    assert found == [case["reason"] for case in bad]
    kept = dict(scene.lake.rows("dead_bytes", "_offset, bytes", "_partition = 0"))
    assert [unpad(kept[at]) for at, _ in rows] == [value(case) for case in bad]
    sums = "isfinite(sum(cost_usd::DOUBLE)), isfinite(sum(input_tokens::DOUBLE)), isfinite(sum(latency_ms))"
    assert scene.lake.rows("raw_calls", sums) == [(True, True, True)]
    scene.check()
    assert land.alive
