"""`tailrace forget`: counts without --yes, and records who and why without the id before anything goes."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from tailrace import audit
from tailrace.cli import forget
from tailrace.people import key_file
from tailrace_emitter.redact import pseudonym
from tests.jobs.data_quality.lake import WELL, call, land
from tests.jobs.golden.lake import Here
from warehouse.connect import LakeConfig
from warehouse.readonly import ReadOnlyLake

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
    assert len(users(here)) == 3


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
    report = here.settings.home / "reports" / "x.html"
    report.parent.mkdir()
    report.write_text(f"of {BOB}")
    assert str(report) in run(here, "--user", BOB, "--scan").stdout
    run(here, "--user", pseudonym(BOB, KEY), "--yes", "--why", "request 8")
    (what, first), (_, second) = records
    assert what == ("lake.forget", "lake")
    assert (first["why"], len(first["user"])) == ("request 7", 32)
    assert first["user"] == second["user"]
    assert BOB not in str(records)
    assert pseudonym(BOB, KEY) not in str(records)
