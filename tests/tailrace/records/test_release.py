"""Marking a release: what a manifest may hold, and that a mark lands once whatever is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from fault_harness.zygote import run_command

from pipelines.kafka import Source
from pipelines.land.rows import land_rows
from schemas.errors import SettingsError
from schemas.records import Records
from schemas.topics import LOG
from tailrace import wiring
from tailrace.cli import release as command
from tailrace.files import FileRefusedError
from tailrace.home.layout import Home
from tailrace.records.manifest import read_manifest
from tailrace.records.release import mark_of
from tailrace.settings.model import KafkaSettings, Settings
from tests.jobs.data_quality import lake as made
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
MANIFEST = """
release: "2.4.1"
note: shorter answers
code: 3f2c9d1
prompts:
  answer: "18"
  rewrite: {file: rewrite.txt}
models: {answer: gpt-4o}
golden: default@12
"""


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "rewrite.txt").write_text("secret prompt")
    file = tmp_path / "release.yaml"
    file.write_text(MANIFEST)
    return file


def test_files_are_recorded_by_their_hash_and_not_their_content(manifest):
    read = read_manifest(manifest)
    digest = hashlib.sha256(b"secret prompt").hexdigest()
    assert (read.release, read.note) == ("2.4.1", "shorter answers")
    assert dict(read.parts) == {
        "code": "3f2c9d1",
        "prompts.answer": "18",
        "prompts.rewrite": f"sha256:{digest}",
        "models.answer": "gpt-4o",
        "golden": "default@12",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "holds no mapping"),
        ("prompt: {a: b}", "unknown part 'prompt'"),
        ("release: x", "names nothing that runs"),
        ("code: 1.10", "a number with a point"),
        ("code: ''", "code is ''"),
        ("code: true", "code is True"),
        ("prompts: {a: [b]}", "prompts.a is ['b']"),
        (f"prompts: {{a: {'x' * 257}}}", "prompts.a has 257 characters"),
        ("code: [", "is not YAML"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_place(tmp_path, text, problem):
    file = tmp_path / "release.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        read_manifest(file)
    assert problem in str(refusal.value)
    assert str(file) in str(refusal.value)


def test_a_file_that_is_missing_is_named(tmp_path):
    file = tmp_path / "release.yaml"
    file.write_text("code: {file: nowhere}")
    with pytest.raises(FileRefusedError, match="nowhere"):
        read_manifest(file)


def test_the_current_manifest_is_no_new_release_and_an_earlier_one_is(manifest):
    read = read_manifest(manifest)
    first = mark_of("bot", read, [], actor="ann", at=1)
    assert mark_of("bot", read, [], actor="bea", at=2).id == first.id
    assert mark_of("bot", read, [first], actor="ann", at=3) is first
    (manifest.parent / "rewrite.txt").write_text("another prompt")
    second = mark_of("bot", read_manifest(manifest), [first], actor="ann", at=4)
    back = mark_of("bot", read, [first, second], actor="ann", at=5)
    assert len({first.id, second.id, back.id}) == 3
    assert back.manifest_sha256 == first.manifest_sha256


@pytest.fixture
def here(tmp_path, broker, prefix, monkeypatch):
    config = LakeConfig(str(Home(tmp_path).catalog), str(Home(tmp_path).data_path))
    made.land(config, NOW, raw_calls=[made.call(1, NOW)])
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1)
    settings = Settings(home=tmp_path, kafka=kafka)
    wiring.make_topics(settings, broker.bootstrap)
    monkeypatch.setattr(command, "landed", lambda there: there())
    return SimpleNamespace(
        settings=settings, bootstrap_servers=broker.bootstrap, home=Home(tmp_path), config=config, as_json=False
    )


def land_log(here, start):
    """Land what is on llm.log from offset ``start`` on, as land does; return the offset behind it."""
    source = Source(wiring.kafka(here.settings), [LOG], batch_wait_s=0.2)
    source.assign({(LOG, 0): start})
    values = []
    while not values:
        values = [value for batch in source.poll() for value in batch.values]
    source.close()
    count, now = len(values), made.micros(NOW)
    place = [0] * count, list(range(start, start + count)), [now] * count, [None] * count
    records = Records(LOG, *place, values, [()] * count, {0: (start, start + count)})
    with Lake.open(here.config, now=lambda: now) as lake:
        lake.insert(land_rows(records, epoch=0, landed_at=now))
    return start + count


def test_a_mark_that_is_killed_after_it_was_sent_and_repeated_is_one_release(here, manifest, capsys):
    given = {
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": here.bootstrap_servers,
        "TAILRACE_KAFKA__PREFIX": here.settings.kafka.prefix,
        "TAILRACE_FAULT": "release.after_publish:kill",
    }
    words = ["release", "mark", "--app", "bot", "--manifest", str(manifest), "--home", str(here.home.path)]
    done = run_command(
        words,
        env={**os.environ, **given},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    context = SimpleNamespace(obj=here)
    command._mark(context, app="bot", manifest=manifest, by="ann", as_json=True)
    assert json.loads(capsys.readouterr().out)["new"] is True  # nothing has landed yet
    end = land_log(here, 0)
    assert end == 2
    command._list(context, app="bot", as_json=True)
    (only,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (only["release"], only["manifest"]["prompts.answer"]) == ("2.4.1", "18")
    command._mark(context, app="bot", manifest=manifest, by="ann")
    assert "is current already" in capsys.readouterr().out


def test_releases_are_listed_with_what_they_changed_and_the_last_known_good_one(here, manifest, capsys):
    context = SimpleNamespace(obj=here)
    command._mark(context, app="bot", manifest=manifest, at="2026-11-01T00:00:00Z")
    offset = land_log(here, 0)
    manifest.write_text(MANIFEST.replace("2.4.1", "2.4.2\\x1b[31m").replace('"18"', '"19"'))
    command._mark(context, app="bot", manifest=manifest)
    land_log(here, offset)
    capsys.readouterr()
    command._list(context, app="bot", limit=20)
    shown = capsys.readouterr().out
    assert "prompts.answer 18 → 19" in shown
    assert "2026-11-01 00:00:00 UTC  manifest" in shown
    assert shown.count("last known good") == 1
    assert "\x1b[31m" not in shown
    command._good(context, app="bot")
    assert "release 2.4.1 of bot" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        command._good(context, app="shop")
    assert end.value.code == 1


def test_a_release_of_the_future_is_refused(here, manifest):
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    with pytest.raises(SettingsError, match="--at"):
        command._mark(SimpleNamespace(obj=here), app="bot", manifest=manifest, at=later)
