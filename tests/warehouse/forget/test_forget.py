"""The rows of one person leave, all others stay as they are, and no file holds the id when maintain has run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.records import Move
from schemas.tables import TABLES
from tests.jobs.data_quality.lake import (
    EVENTS,
    WELL,
    call,
    case,
    evaluation,
    feedback,
    micros,
    place,
    rollup,
    uid,
    version,
)
from warehouse.forget import Who, count, forget, scan
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import Pace, clean_old_files, expire_snapshots, merge
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[3]
BOB, PSEUDONYM, ACME = "bob-7f3a@example.org", "u_" + "b0b" * 10 + "b0", "acme-9c1d"
SECRET = "the-secret-of-bob"
WHO = Who(users=(BOB, PSEUDONYM))
TENANT = Who(tenants=(ACME,))
OWNERS = [(ACME, BOB), (ACME, "ann"), (None, PSEUDONYM), (None, "cy"), (None, None), ("other", BOB)]
GONE = {0, 2, 4, 5, 6, 8, 11}
"""Calls of Bob; the fifth is a gateway's report of the first."""
COPIED = (
    "golden_cases",
    "golden_rejected",
    "log_records",
    "alerts",
    "raw_calls",
    "raw_feedback",
    "raw_evals",
    "dead",
    "dead_bytes",
    "rollups",
    "embeddings",
    "cost_adjustments",
)


def at(number):
    return WELL + timedelta(days=number % 2, seconds=number)


def owned(number):
    tenant, user = OWNERS[number % len(OWNERS)]
    text = f"{SECRET} {number}" if number in GONE else f"other {number}"
    return call(number, at(number), tenant_id=tenant, user_id=user, output_text=text, session_id=f"s{number}")


def dead(number, data):
    position = place(number, WELL)
    row = {"topic": EVENTS, "reason": "type", "detail": "x", "head": data[:200].decode(errors="replace"), **position}
    del position["_landed_at"]
    return row, {"topic": EVENTS, "bytes": data, "key": b"k", **position}


def table(name, rows):
    import pyarrow as pa

    schema = next(t for t in TABLES if t.name == name).schema
    return pa.Table.from_pylist(rows, schema=schema)


def filled(lake):
    """12 calls in four files, what belongs to them, three dead letters: positions 0 to 32 of llm.events."""
    for topic, partition in ((EVENTS, 0), ("llm.rollups", 3), ("llm.embeddings", 0), ("llm.alerts", 0), ("llm.log", 0)):
        lake.ensure_partitions(topic, topic, {partition: 0})
    for first in range(0, 12, 3):
        rows = [owned(n) for n in range(first, first + 3)]
        lake.append({"raw_calls": table("raw_calls", rows)}, [Move(EVENTS, 0, first, first + 3)])
    here = {"_partition": 0}
    marks = [feedback(n, at(n), call_id=uid(n), comment=owned(n - 12)["output_text"], **here) for n in range(12, 17)]
    marks = [{**row, "_offset": n + 12, "call_id": uid(n)} for n, row in enumerate(marks)]
    marks.append({**feedback(17, WELL, call_id=uid(99), user_id=PSEUDONYM, comment=SECRET), **here})
    judged = [
        {**evaluation(n + 18, at(n), call_id=uid(n), explanation=owned(n)["output_text"]), **here} for n in range(6)
    ]
    letters = [
        dead(24, json.dumps({"user": BOB, "text": SECRET}).encode()),
        dead(25, json.dumps({"user": "ann", "tenant": ACME}).encode()),
        dead(26, json.dumps({"user": "bob"}).encode() + b"\xff"),
    ]
    series = [
        {"app": "bot"},
        {"app": "bot", "user": BOB},
        {"app": "bot", "user": "ann"},
        {"app": "bot", "tenant": ACME},
    ]
    counted = [
        rollup(n, WELL, dims=",".join(pairs), series=json.dumps(pairs), source_from=0, source_to=12)
        for n, pairs in enumerate(series)
    ]
    counted[0]["exemplars"] = [{"measure": "cost", "value": 1, "call_id": uid(n)} for n in (0, 1)]
    vectors = [
        {
            "call_id": uid(n),
            "app": "bot",
            "side": "input",
            "ts": WELL,
            "text": owned(n)["output_text"],
            **place(n, WELL),
        }
        for n in range(4)
    ]
    costs = [
        {"id": uid(n), "day": at(n).date(), "_epoch": 0, "_partition": 0, "_offset": n, "cost_usd": 2, "delta_usd": 1}
        | {"price_version": "v", "reason": "x", "adjusted_at": WELL, "cost_status": "computed"}
        for n in range(3)
    ]
    late = {"id": uid(4), "day": at(4).date(), "_epoch": 0, "_partition": 0, "_offset": 4, "near": False}
    late |= {"kept_epoch": 0, "kept_partition": 0, "kept_offset": 0, "conflict": False, "found_at": WELL}
    cases = [case(n, version=v, input_text=owned(n)["output_text"]) for n in range(4) for v in (1, 2)]
    reviews = [
        {"table": "golden_reviews", "at": WELL, "row": json.dumps({"case_id": f"c{n}", "expected": f"x{n}"})}
        | {**place(n, WELL)}
        for n in range(2)
    ]
    shown = {"seq": 0, "detected_at": WELL, "alert": "{}", "call_ids": []}
    alerts = [
        {**shown, "id": f"a{n}", "series": json.dumps(pairs), "title": str(pairs), **place(n, WELL)}
        for n, pairs in enumerate(series)
    ]
    told = {
        "cause": [
            {"dimension": "user", "value": BOB, "share": 0.5, "text": f"user {BOB}: 50 % of it"},
            {"dimension": "topic", "value": f"{SECRET} 0", "share": 0.5, "text": f"e.g. “{SECRET} 0”"},
        ],
        "evidence": {"call_ids": [uid(0), uid(1)]},
        "runbook": [f"tailrace call {uid(0)}"],
        "series": {"app": "bot"},
        "observed": 0.1,
    }
    alerts[0] |= {"alert": json.dumps(told), "call_ids": [uid(0), uid(1)], "sql": f"FROM c WHERE user_id = '{BOB}'"}
    silence = {"action": "alert.silence", "silence": {"matchers": {"user": BOB}}}
    reviews.append({"table": "audit", "at": WELL, "row": json.dumps(silence), **place(2, WELL)})
    rows = {
        "golden_cases": cases,
        "golden_versions": [version(1, 4), version(2, 4)],
        "golden_rejected": [{"set_name": "default", "case_id": f"c{n}", "sketch": "1"} for n in (0, 1)],
        "log_records": reviews,
        "alerts": alerts,
        "raw_feedback": marks,
        "raw_evals": judged,
        "dead": [row for row, _ in letters],
        "dead_bytes": [row for _, row in letters],
        "rollups": counted,
        "embeddings": vectors,
        "cost_adjustments": costs,
        "late_duplicates": [late],
    }
    moves = [Move(EVENTS, 0, 12, 27), Move("llm.rollups", 3, 0, 4), Move("llm.embeddings", 0, 0, 4)]
    moves += [Move("llm.alerts", 0, 0, 4), Move("llm.log", 0, 0, 3)]
    lake.append({name: table(name, found) for name, found in rows.items()}, moves)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("forget") / "home"
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: micros(WELL)) as lake:
        filled(lake)
    assert verify(config).ok, verify(config).problems
    return home


@pytest.fixture
def config(made, tmp_path):
    shutil.copytree(made, tmp_path / "home")
    return LakeConfig(str(tmp_path / "home" / "catalog.sqlite"), str(tmp_path / "home" / "data"))


@pytest.fixture
def lake(config):
    with opened(config) as lake:
        yield lake


def opened(config):
    return Lake.open(config, now=lambda: micros(WELL), lander=False)


def rows(lake):
    return {name: lake.query(f"SELECT * FROM {name} ORDER BY ALL").to_pylist() for name in COPIED}


def erase(lake, who):
    return forget(Pace(lake, rest=0.0, size=2), who, at=WELL)


def maintained(lake):
    later = datetime.now(UTC) + timedelta(days=3)
    for name in COPIED:
        merge(Pace(lake, rest=0.0), name)
    expire_snapshots(Pace(lake, rest=0.0), before=later)
    clean_old_files(Pace(lake, rest=0.0), before=later)


def is_bobs(row):
    return SECRET in str(row) or BOB in str(row) or PSEUDONYM in str(row)


def test_a_user_goes_under_every_form_of_the_id_and_every_other_row_stays_as_it_was(lake, config):
    before = rows(lake)
    planned = count(config, WHO)
    done = erase(lake, WHO)
    assert done.done
    assert (done.rows, done.masked) == (planned.rows, planned.masked)
    assert planned.masked == {"alerts": 1, "log_records": 1, "rollups": 1}
    assert planned.rows == {
        **{
            "raw_calls": 7,
            "raw_feedback": 4,
            "raw_evals": 4,
            "dead": 1,
            "dead_bytes": 1,
            "rollups": 1,
            "embeddings": 2,
        },
        **{"alerts": 1, "golden_cases": 4},
    }
    after = rows(lake)
    assert not any(is_bobs(row) for found in after.values() for row in found)
    for name in COPIED:
        if name not in ("cost_adjustments", "golden_rejected", "log_records", "alerts", "rollups"):
            assert after[name] == [row for row in before[name] if not is_bobs(row)], name
    assert [row["_offset"] for row in after["cost_adjustments"]] == [1]
    assert [row["case_id"] for row in after["golden_rejected"]] == ["c1"]
    assert [(row["_offset"], row["row"]) for row in after["log_records"]] == [
        (2, '{"action":"alert.silence","silence":{"matchers":{"user":"forgotten"}}}'),
        (1, before["log_records"][2]["row"]),
    ]
    kept = [row for row in before["rollups"] if not is_bobs(row)]
    (whole,) = [row for row in kept if row["exemplars"]]
    whole["exemplars"] = whole["exemplars"][1:]
    assert after["rollups"] == kept
    masked, *others = after["alerts"]
    assert others == [row for row in before["alerts"][1:] if not is_bobs(row)]
    assert masked["call_ids"] == [uid(1)]
    told = json.loads(masked["alert"])
    assert [each["text"] for each in told["cause"]] == ["user forgotten: 50 % of it", "e.g. “forgotten”"]
    assert (told["evidence"], told["runbook"]) == ({"call_ids": [uid(1)]}, ["tailrace call forgotten"])
    assert (told["series"], told["observed"]) == ({"app": "bot"}, 0.1)
    versions = lake.query("SELECT cases, blanked FROM golden_versions").to_pylist()
    assert versions == [{"cases": 2, "blanked": 2}] * 2
    report = verify(config)
    assert report.ok, report.problems
    assert (report.partitions[0].retired, report.partitions[0].landed + report.partitions[0].dead) == (16, 11)
    assert report.late_duplicates == 0


def test_a_tenant_goes_and_its_users_elsewhere_stay(lake, config):
    planned = count(config, TENANT).rows
    assert erase(lake, TENANT).rows == planned
    assert (planned["raw_calls"], planned["rollups"], planned["dead"]) == (5, 1, 1)
    left = lake.query("SELECT user_id, tenant_id FROM raw_calls").to_pylist()
    assert {"user_id": BOB, "tenant_id": "other"} in left
    assert ACME not in str(rows(lake))
    assert verify(config).ok


@pytest.mark.extended
def test_a_user_of_a_tenant(lake, config):
    erase(lake, Who(tenants=(ACME,), users=(BOB, PSEUDONYM)))
    left = lake.query("SELECT DISTINCT tenant_id, user_id FROM raw_calls ORDER BY ALL").to_pylist()
    assert {(row["tenant_id"], row["user_id"]) for row in left} == set(OWNERS) - {(ACME, BOB)}
    assert verify(config).ok


def test_no_file_holds_the_id_or_the_texts_when_maintain_has_run(lake, config):
    """Scanned as bytes, and as values of every column: compressed pages hide texts from the first."""
    texts = [BOB, PSEUDONYM, SECRET, uid(0)]
    assert len(scan(config, texts).live) > 4
    erase(lake, WHO)
    found = scan(config, texts)
    assert not found.live
    assert found.ended, "the files of older snapshots wait for maintain"
    maintained(lake)
    assert scan(config, texts) == replace(scan(config, texts), live=(), ended=())
    lake.close()
    for file in Path(config.data_path).rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not [text for text in texts if text.encode() in data], file
    assert verify(config).ok


def test_the_catalogs_statistics_forget_too(lake):
    erase(lake, WHO)
    maintained(lake)
    for kind in ("table", "file"):
        name = f"__ducklake_metadata_lake.ducklake_{kind}_column_stats"
        found = lake.query(f"SELECT min_value, max_value FROM {name}").to_pylist()
        assert not [row for row in found if is_bobs(row)], kind


def test_nobody_is_not_everybody():
    for nobody in ({}, {"users": ("",)}, {"users": ("x",), "tenants": ("",)}):
        with pytest.raises(ValueError, match="nobody"):
            Who(**nobody)
    with pytest.raises(ValueError, match="surrogates"):
        Who(users=("\udcff",))


def test_a_hostile_name_is_a_name(lake, config):
    hostile = Who(users=("' OR '1'='1", '"', "%"))
    assert set(count(config, hostile).rows.values()) == {0}
    before = rows(lake)
    assert sum(erase(lake, hostile).rows.values()) == 0
    assert rows(lake) == before


WORKER = """
import sys
from tests.warehouse.forget.test_forget import WHO, erase, opened
from warehouse.storage.connect import LakeConfig
with opened(LakeConfig(sys.argv[1], sys.argv[2])) as lake:
    erase(lake, WHO)
"""


def killed(config, fault):
    program = [sys.executable, "-c", WORKER, config.catalog, config.data_path]
    done = subprocess.run(program, cwd=REPO, env={**os.environ, "TAILRACE_FAULT": fault}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "fault",
    [
        "before_commit:kill:5",
        pytest.param("after_delete:kill:4", marks=pytest.mark.faults),
        pytest.param("after_exemplars:kill:1", marks=pytest.mark.faults),
        pytest.param("after_mask:kill:1", marks=pytest.mark.faults),
    ],
)
def test_killed_at_each_step_the_next_run_ends_where_one_would_have(config, fault):
    killed(config, f"forget.{fault}")
    report = verify(config)
    assert report.ok, report.problems
    with opened(config) as lake:
        assert erase(lake, WHO).done
        after = rows(lake)
        deletes = "SELECT count(*) AS n FROM __ducklake_metadata_lake.ducklake_delete_file WHERE end_snapshot IS NULL"
        assert lake.query(deletes)["n"][0].as_py() == 0
    assert not any(is_bobs(row) for found in after.values() for row in found)
    assert len(after["raw_calls"]) == 5
    assert (len(after["raw_feedback"]), len(after["raw_evals"]), len(after["embeddings"])) == (2, 2, 2)
    report = verify(config)
    assert report.ok, report.problems
    assert report.partitions[0].retired == 16
    assert not scan(config, [BOB, PSEUDONYM, SECRET, uid(0)]).live


def test_land_lands_everything_meanwhile(config):
    with Lake.open(config, now=lambda: micros(WELL)) as lander:
        at_offset = lander.ledger()[EVENTS, 0]
        program = [sys.executable, "-c", WORKER, config.catalog, config.data_path]
        with subprocess.Popen(program, cwd=REPO) as worker:
            while worker.poll() is None:
                row = call(at_offset, WELL, user_id="dan")
                lander.append({"raw_calls": table("raw_calls", [row])}, [Move(EVENTS, 0, at_offset, at_offset + 1)])
                at_offset += 1
            assert worker.returncode == 0
        left = lander.query("SELECT count(*) FILTER (user_id = 'dan') AS dan, count(*) AS n FROM raw_calls").to_pylist()
    assert at_offset > 30
    assert left == [{"dan": at_offset - 27, "n": at_offset - 27 + 5}]
    report = verify(config)
    assert report.ok, report.problems


@pytest.mark.extended
def test_on_a_postgresql_catalog(postgres, tmp_path):
    catalog = f"postgres:host=127.0.0.1 port={postgres.port} {postgres.database('forget')}"
    config = LakeConfig(catalog, str(tmp_path / "data"))
    with Lake.open(config, now=lambda: micros(WELL)) as lake:
        filled(lake)
    planned = count(config, WHO)
    with opened(config) as lake:
        done = erase(lake, WHO)
        assert (done.rows, done.masked, done.done) == (planned.rows, planned.masked, True)
        maintained(lake)
    found = scan(config, [BOB, PSEUDONYM, SECRET, uid(0)])
    assert (found.live, found.ended) == ((), ())
    report = verify(config)
    assert report.ok, report.problems
    assert report.partitions[0].retired == 16
