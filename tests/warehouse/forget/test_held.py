"""What the lake holds of a tenant or a user is counted in every table, and only theirs."""

from __future__ import annotations

import json

import pytest

from tests.jobs.data_quality.lake import WELL, call, case, evaluation, feedback, land, place, rollup, uid, version
from warehouse.forget import Who, held
from warehouse.storage.connect import LakeConfig

HOSTILE = "a' OR '1'='1"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    owners = [("acme", "u1"), ("acme", "u2"), ("other", "u1"), (HOSTILE, None), (None, None)]
    series = [json.dumps({"app": "bot", "tenant": tenant}) for tenant in ("acme", "other")]
    alert = {"id": "x", "seq": 0, "detected_at": WELL, "alert": "{}", "series": '{"app":"bot"}'}
    embedding = {"call_id": uid(1), "app": "bot", "side": "input", "ts": WELL, **place(0, WELL, 5)}
    land(
        config,
        WELL,
        raw_calls=[call(n, WELL, tenant_id=tenant, user_id=user) for n, (tenant, user) in enumerate(owners)],
        raw_feedback=[feedback(n, WELL, call_id=uid(n)) for n in range(3)],
        raw_evals=[evaluation(n, WELL, call_id=uid(n)) for n in range(2)],
        embeddings=[embedding],
        golden_cases=[case(n) for n in range(3)],
        golden_versions=[version(1, 3)],
        rollups=[rollup(n, WELL, dims="app,tenant", series=text) for n, text in enumerate(series)],
        alerts=[
            {**alert, "call_ids": [uid(0)], **place(0, WELL, 6)},
            {**alert, "call_ids": [uid(2)], **place(1, WELL, 6)},
        ],
    )
    return config


def rows(lake, **who):
    tables, _ = held(lake, Who(**{name: (each,) for name, each in who.items()}))
    return {each.table: each.rows for each in tables if each.rows}


def test_of_a_tenant(lake):
    assert rows(lake, tenants="acme") == {
        **{"raw_calls": 2, "raw_feedback": 2, "raw_evals": 2, "embeddings": 1, "golden_cases": 2},
        **{"rollups": 1},
    }
    tables, mentioned = held(lake, Who(tenants=("acme",)))
    assert mentioned == {"alerts": 1, "log_records": 0, "rollups": 0}
    (calls,) = [each for each in tables if each.table == "raw_calls"]
    assert (calls.first, calls.last) == (WELL.date(), WELL.date())


def test_of_a_user_and_of_a_user_of_a_tenant(lake):
    assert rows(lake, users="u1")["raw_calls"] == 2
    assert rows(lake, users="u1", tenants="other")["raw_calls"] == 1


def test_a_hostile_name_is_a_name(lake):
    assert rows(lake, tenants=HOSTILE) == {"raw_calls": 1}


def test_of_nobody_there_is_nothing(lake):
    assert rows(lake, tenants="nobody") == {}
