"""The dry run of retention counts what maintain then drops, and changes nothing."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pytest

from jobs.maintain import MaintainSettings, maintain
from schemas.errors import SettingsError
from schemas.tables import TABLES
from tailrace import job_wiring
from tailrace.settings.model import Settings
from tests.jobs.data_quality.lake import WELL, call, land, micros, tick
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import RETAINED, old_days

KEPT = {"raw_calls": 3, "ticks": 1, "dead_bytes": 7}


@pytest.fixture
def config(tmp_path):
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    days = [WELL - timedelta(days=age) for age in range(6)]
    calls = [{**call(n, at), "_kafka_time": at} for n, at in enumerate(days)]
    schema = next(t for t in TABLES if t.name == "dead_bytes").schema
    land(config, WELL, raw_calls=calls, ticks=[{**tick(at), "_offset": n} for n, at in enumerate(days)])
    with Lake.open(config, now=lambda: micros(WELL), lander=False) as lake:
        row = {"topic": "llm.events", "_epoch": 0, "_partition": 0, "_offset": 9, "day": date(2026, 11, 1)}
        lake.insert({"dead_bytes": pa.Table.from_pylist([row], schema=schema)})
    return config


def test_it_counts_what_maintain_drops_then(config):
    planned = {each.table: each for each in old_days(config, KEPT, today=WELL.date())}
    assert set(planned) == set(RETAINED)
    calls = planned["raw_calls"]
    assert (calls.keeps_days, calls.days, calls.rows, calls.left) == (3, 2, 2, 4)
    assert (calls.before, calls.oldest) == (WELL.date() - timedelta(days=3), WELL.date() - timedelta(days=5))
    assert old_days(config, KEPT, today=WELL.date()) == list(planned.values())
    report = maintain(config, now=lambda: micros(WELL), settings=MaintainSettings(retention_days=KEPT, rest=0.0))
    assert report.rows_dropped == {table: planned[table].rows for table in KEPT}
    assert sum(each.rows for each in old_days(config, KEPT, today=WELL.date())) == 0


def test_what_has_no_retention_loses_nothing(config):
    (evals,) = [each for each in old_days(config, {}, today=WELL.date()) if each.table == "raw_calls"]
    assert (evals.keeps_days, evals.before, evals.rows, evals.left) == (None, None, 0, 6)


def test_a_retention_can_be_tried(tmp_path):
    settings = Settings(home=tmp_path)
    assert (
        job_wiring.maintain(job_wiring.with_retention(settings, ["raw_calls=400"])).retention_days["raw_calls"] == 400
    )
    for word in ("raw_calls", "raw_calls=x", "=3", "golden_cases=3", "raw_calls=0"):
        with pytest.raises(SettingsError):
            job_wiring.maintain(job_wiring.with_retention(settings, [word]))
