"""`tailrace forget`: counts without --yes, and records who and why without the id before anything goes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import typer
from typer.testing import CliRunner

from tailrace.cli import forget
from tailrace.home.people import key_file
from tailrace.home.search import files_with
from tailrace.records import audit
from tailrace_emitter.redact import pseudonym
from tests.jobs.data_quality.lake import WELL, call, land, micros, uid
from tests.jobs.golden.lake import Here
from warehouse.forget import scan
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import Pace, clean_old_files, expire_snapshots

BOB = "bob@example.org"
KEY = "the key of this home"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    home = tmp_path_factory.mktemp("forget") / "home"
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    users = [BOB, pseudonym(BOB, KEY), "ann"]
    land(config, WELL, raw_calls=[call(n, WELL, user_id=user) for n, user in enumerate(users)])
    found = Here(config)
    key_file(found.settings).write_text(KEY)
    found.config = config
    for name, text in (("reports/x.html", f"of call {uid(0)}"), ("logs/notify.log", f"of {BOB}")):
        file = home / name
        file.parent.mkdir()
        file.write_text(text)
    return found


def run(here, *words):
    app = typer.Typer()
    forget.add_to(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ("forget", *words), obj=here)


def users(here):
    with ReadOnlyLake.open(here.config) as lake:
        return lake.query("SELECT user_id FROM raw_calls ORDER BY 1")["user_id"].to_pylist()


def test_without_yes_rows_are_counted_under_the_id_and_its_pseudonym_and_stay(here):
    done = run(here, "--user", BOB)
    assert "raw_calls                 2 rows would go" in done.stdout
    assert "nothing was changed" in done.stdout
    assert "not reached: Kafka" in done.stdout
    assert "would go" in next(line for line in done.stdout.splitlines() if "report" in line)
    assert len(users(here)) == 3
    assert (here.settings.home / "reports" / "x.html").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nobody is named"),
        (("--user", BOB, "--yes"), "no reason is given"),
        (("--user", BOB, "--yes", "--why", f"{BOB} asked"), "it holds the id"),
    ],
)
def test_refused(here, words, says):
    assert says in str(run(here, *words).exception)
    assert len(users(here)) == 3


def test_nothing_goes_where_it_cannot_be_recorded(here):
    done = run(here, "--user", BOB, "--yes", "--why", "request 7")
    assert "no Tailrace runs" in str(done.exception)
    assert len(users(here)) == 3


def test_who_and_why_are_recorded_under_a_keyed_hash_that_is_the_same_for_both_forms(here, monkeypatch):
    records = []
    monkeypatch.setattr(Here, "bootstrap_servers", "127.0.0.1:1")
    monkeypatch.setattr(audit, "record", lambda _, *what, **facts: records.append((what, facts)))
    done = run(here, "--user", BOB, "--yes", "--why", "request 7", "--scan", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["done"], report["rows"]["raw_calls"], report["scan"]["live"]) == (True, 2, [])
    assert users(here) == ["ann"]
    assert report["home"] == {
        "reports": [str(here.settings.home / "reports")],
        "judge_replies": 0,
        "gate_answers": 0,
        "logs": [str(here.settings.home / "logs" / "notify.log")],
    }
    assert not (here.settings.home / "reports").exists()
    stays = here.settings.home / "mine.txt"
    stays.write_text(f"of {BOB}")
    assert str(stays) in run(here, "--user", BOB, "--scan").stdout
    run(here, "--user", pseudonym(BOB, KEY), "--yes", "--why", "request 8")
    (what, first), (_, second) = records
    assert what == ("lake.forget", "lake")
    assert (first["why"], len(first["user"])) == ("request 7", 32)
    assert first["user"] == second["user"]
    assert BOB not in str(records)
    assert pseudonym(BOB, KEY) not in str(records)


@pytest.mark.extended
def test_of_a_user_of_one_tenant_the_rows_of_others_with_the_same_id_are_no_failure(tmp_path, monkeypatch):
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    tenants = ["acme", "other"]
    land(config, WELL, raw_calls=[call(n, WELL, user_id=BOB, tenant_id=tenant) for n, tenant in enumerate(tenants)])
    here = Here(config)
    here.config = config
    monkeypatch.setattr(Here, "bootstrap_servers", "127.0.0.1:1")
    monkeypatch.setattr(audit, "record", lambda _, *what, **facts: None)
    log = tmp_path / "logs" / "notify.log"
    log.parent.mkdir()
    log.write_text(f"{BOB} of other, and of acme")
    done = run(here, "--user", BOB, "--tenant", "acme", "--yes", "--why", "request 9", "--scan", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["rows"]["raw_calls"], len(report["scan"]["live"])) == (1, 1)
    assert users(here) == [BOB]
    assert log.read_text() == f"{BOB} of other, and of acme"


def test_no_file_of_the_home_holds_them_when_maintain_has_run(tmp_path, monkeypatch):
    """Every byte of every file, and every value of every Parquet file; the catalog after a VACUUM."""
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    secret = "what only bob wrote"
    rows = [call(n, WELL, user_id=user, output_text=secret) for n, user in enumerate((BOB, "ann"))]
    land(config, WELL, raw_calls=[rows[0], {**rows[1], "output_text": "other"}])
    here = Here(config)
    monkeypatch.setattr(Here, "bootstrap_servers", "127.0.0.1:1")
    monkeypatch.setattr(audit, "record", lambda _, *what, **facts: None)
    report = tmp_path / "reports" / "quality" / "week" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text(f"<a>{uid(0)}</a><q>{secret}</q>")
    assert run(here, "--user", BOB, "--yes", "--why", "request 10").exit_code == 0
    with Lake.open(config, now=lambda: micros(WELL), lander=False) as lake:
        later = datetime.now(UTC) + timedelta(days=3)
        expire_snapshots(Pace(lake, rest=0.0), before=later)
        clean_old_files(Pace(lake, rest=0.0), before=later)
    with closing(sqlite3.connect(config.catalog)) as catalog:
        catalog.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        catalog.execute("VACUUM")
    texts = [BOB, secret, uid(0)]
    found = scan(config, texts)
    assert (found.files, found.live, found.ended) == (found.files, (), ())
    assert files_with(tmp_path, [text.encode() for text in texts]) == []
    assert files_with(tmp_path, [b"ann"]), "what stays is found"
