"""What the gate asks of a real lake: cases, what is stale, open alerts, and how judges agree with people."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.tables import ALERTS, LOG_RECORDS, RAW_EVALS, RAW_FEEDBACK
from tailrace.gate import lake as gate_lake
from tailrace.golden.reviews import NoGoldenSetError
from tailrace.settings.model import LakeSettings, Settings
from tests.jobs.golden.lake import NOW, Home, copied, failed, now, review, uid, word
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("gate") / "home"
    Lake.open(LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data")), now=now).close()
    made = copied(folder, folder.parent / "copy")
    made.land([failed(i) for i in range(60)])
    made.refresh()
    return made


def settings(home: Home) -> Settings:
    lake = LakeSettings(catalog=home.config.catalog, data_path=home.config.data_path)
    return Settings(home=Path(home.config.catalog).parent, lake=lake)


def land(home: Home, table: Any, rows: list[dict[str, Any]]) -> None:
    with Lake.open(home.config, now=now) as lake:
        lake.append({table.name: pa.Table.from_pylist(rows, table.schema)}, [])


def test_a_version_is_read_with_its_reviews_and_is_stale_after_three_weeks_without_one(home):
    ids = [case["case_id"] for case in home.ask("FROM golden ORDER BY case_id")]
    land(home, LOG_RECORDS, [review(1, ids[0], "accepted", "right"), review(2, ids[1], "rejected")])
    found = gate_lake.golden(settings(home), None, 1, stale_days=21, at=NOW + 20 * DAY_US)
    assert (found.name, found.warnings) == ("production@1", ())
    assert [case.case_id for case in found.cases] == [i for i in ids if i != ids[1]]
    assert (found.cases[0].reference, found.cases[0].shadow, found.cases[1].shadow) == ("right", False, True)
    late = gate_lake.golden(settings(home), "production", 1, stale_days=21, at=NOW + 22 * DAY_US)
    assert late.warnings == (
        f"golden set production is stale: {len(ids) - 2} cases wait for a review, the oldest for 22 days; "
        "`tailrace golden review` shows them",
    )
    with ReadOnlyLake.open(home.config) as lake:
        waits = f"a review of {len(ids) - 2} cases of golden set production by the owner of bot, "
        waits += "the oldest waits for "
        assert gate_lake.waiting(lake, at=NOW + 6 * DAY_US) == [f"{waits}6 days: `tailrace golden review`"]
        assert gate_lake.waiting(lake, at=NOW + 22 * DAY_US) == [
            f"{waits}22 days, so the set is stale: `tailrace golden review`"
        ]
    with pytest.raises(NoGoldenSetError):
        gate_lake.golden(settings(home), None, 2, stale_days=21, at=NOW)


def test_open_critical_alerts_of_quality_are_found_and_without_a_lake_nothing_is(home, tmp_path):
    def alert(number: int, seq: int, **changes: Any) -> dict[str, Any]:
        row = {"id": f"a{number}", "seq": seq, "detector": "quality", "severity": "critical", "state": "open"}
        at = datetime.fromtimestamp(NOW / 1e6, UTC)
        place = {"_epoch": 0, "_partition": 0, "_offset": number * 10 + seq, "_kafka_time": at, "_landed_at": at}
        return {**row, "title": "fell", "detected_at": at, **place, **changes}

    rows = [
        alert(1, 1),
        alert(2, 1),
        alert(2, 2, state="resolved"),
        alert(3, 1, severity="warning"),
        alert(4, 1, detector="cost_spike"),
    ]
    land(home, ALERTS, rows)
    assert [each.id for each in gate_lake.open_alerts(settings(home)) or ()] == ["a1"]
    nowhere = Settings(home=tmp_path)
    assert gate_lake.open_alerts(nowhere) is None
    assert gate_lake.agreement(nowhere) == {}


def test_a_judge_agrees_with_people_over_calls_that_both_judged(home):
    def judged(number: int, call: int, score: float, **changes: Any) -> dict[str, Any]:
        facts = {"name": "judge.helpful", "call_id": uid(call), "score": score, "evaluator_kind": "llm"}
        return word(number, **{**facts, "evaluator_version": "v2", **changes})

    evals = [judged(i, i, 0.9 if i % 2 else 0.1) for i in range(50)]
    evals += [judged(100 + i, i, 0.5, evaluator_version="v1", ts=datetime(2026, 11, 1, tzinfo=UTC)) for i in range(50)]
    evals += [judged(200 + i, i, float(i % 2), name="label", evaluator_kind="human") for i in range(30)]
    land(home, RAW_EVALS, evals)
    thumbs = [
        word(300 + i, kind="thumbs", call_id=uid(30 + i), score=1.0 if (30 + i) % 2 or i < 2 else -1.0)
        for i in range(20)
    ]
    land(home, RAW_FEEDBACK, thumbs)
    found = gate_lake.agreement(settings(home))
    assert set(found) == {"judge.helpful"}
    assert found["judge.helpful"].labels == 50
    assert found["judge.helpful"].kappa == pytest.approx(0.96, abs=0.01)  # one of 50 differs
    assert json.dumps(found["judge.helpful"].labels)
