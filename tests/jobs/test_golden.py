"""The golden set on a real lake: what failed is found, written whole or not at all, and the same whoever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.golden import GoldenBusyError, GoldenReport, GoldenSettings, content_hash, refresh
from jobs.golden import job as golden_job
from jobs.golden.cases import KINDS, case_id, draw
from pipelines.decode.rules import clean_text
from schemas.errors import FatalError
from schemas.records import Move
from schemas.tables import TABLES
from tailrace.cli.context import NotRunningError
from tailrace.cli.golden import golden as golden_commands
from tailrace.settings import LakeSettings, Settings
from warehouse import failures as found
from warehouse import golden
from warehouse.connect import LakeConfig
from warehouse.errors import LakeMissingError
from warehouse.failures import Window, failures
from warehouse.lake import Lake
from warehouse.readonly import ReadOnlyLake

REPO = Path(__file__).parents[2]
NOW = 1_795_000_000_000_000  # 2026-11-18 11:06, µs UTC
DAY = date(2026, 11, 18)
WEEK_US = 7 * 86_400_000_000
EVENTS = "llm.events"
SMALL = GoldenSettings(size=20)


def now() -> int:
    return NOW


def uid(number: int, kind: int = 0) -> str:
    return f"00000000-0000-4000-8000-{kind:04d}{number:08d}"


def said(number: int) -> str:
    return " ".join(f"w{number}x{i}" for i in range(12))


def call(offset: int, **changes: Any) -> dict[str, Any]:
    at = datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=UTC) + timedelta(seconds=offset)
    text = changes.pop("text", said(offset))
    return {
        "v": 1,
        "id": uid(offset),
        "ts": at,
        "app": "bot",
        "feature": "chat",
        "model": "gpt-4o",
        "status": "ok",
        "content_mode": "redacted",
        "messages": [{"role": "user", "text": text}],
        "input_text": text,
        "output_text": f"answer {offset}",
        "_epoch": 0,
        "_partition": 0,
        "_offset": offset,
        "_kafka_time": at,
        "_landed_at": at,
        "_dup": False,
        "day": at.date(),
        **changes,
    }


def failed(offset: int, **changes: Any) -> dict[str, Any]:
    return call(offset, status="error", **changes)


def word(number: int, **changes: Any) -> dict[str, Any]:
    """Feedback or an eval, at its own place in the log."""
    at = datetime(DAY.year, DAY.month, DAY.day, 10, 30, tzinfo=UTC) + timedelta(seconds=number)
    place = {"_epoch": 0, "_partition": 1, "_offset": number, "_kafka_time": at, "_landed_at": at, "_dup": False}
    return {"v": 1, "id": uid(number, 1), "ts": at, "app": "bot", "day": at.date(), **place, **changes}


def review(number: int, case: str, verdict: str, expected: str | None = None, *, at: int = NOW) -> dict[str, Any]:
    row = {"id": f"r{number}", "actor": "ann", "case_id": case, "verdict": verdict, "expected": expected, "note": None}
    when = datetime.fromtimestamp(at / 1e6, UTC)
    return {"table": "golden_reviews", "at": when, "row": json.dumps(row), "_partition": 0, "_offset": number}


class Here:
    """What a command gets: settings of this lake, and no Kafka."""

    def __init__(self, config: LakeConfig) -> None:
        lake = LakeSettings(catalog=config.catalog, data_path=config.data_path)
        self.settings = Settings(home=Path(config.catalog).parent, lake=lake)

    @property
    def bootstrap_servers(self) -> str:
        raise NotRunningError(self.settings.home)


Tailrace = Callable[..., str]


class Home:
    """A lake to land into, refresh and ask."""

    def __init__(self, config: LakeConfig) -> None:
        self.config = config

    def land(self, calls: Sequence[Mapping[str, Any]] = (), **others: Sequence[Mapping[str, Any]]) -> None:
        schemas = {table.name: table.schema for table in TABLES}
        rows = {"raw_calls": calls, **others}
        batches = {name: pa.Table.from_pylist(list(r), schema=schemas[name]) for name, r in rows.items() if r}
        with Lake.open(self.config, now=now) as lake:
            lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
            start = lake.ledger()[EVENTS, 0]
            lake.append(batches, [Move(EVENTS, 0, start, start + len(calls))])

    def refresh(self, settings: GoldenSettings = SMALL, **changes: Any) -> GoldenReport:
        return refresh(self.config, **{"now": now, "settings": settings, "owner": "test", **changes})

    def ask(self, sql: str, *params: object) -> list[dict[str, Any]]:
        with ReadOnlyLake.open(self.config) as lake:
            return list(lake.query(sql, params).to_pylist())

    def cases(self) -> dict[int, dict[str, Any]]:
        return {row["call_offset"]: row for row in self.ask("FROM golden")}

    def hashes(self, set_name: str = "production") -> list[str]:
        """Of every version, recomputed from its cases; each is what golden_versions says."""
        versions = self.ask("FROM golden_versions WHERE set_name = $1 ORDER BY version", set_name)
        stored = self.ask("SELECT DISTINCT version FROM golden_cases WHERE set_name = $1 ORDER BY 1", set_name)
        assert [row["version"] for row in stored] == [v["version"] for v in versions if v["cases"]]
        for version in versions:
            cases = self.ask("FROM golden_cases WHERE set_name = $1 AND version = $2", set_name, version["version"])
            assert len(cases) == version["cases"] == version["added"] + version["kept"]
            assert len({case["case_id"] for case in cases}) == len(cases)
            assert content_hash(cases) == version["content_hash"]
        return [version["content_hash"] for version in versions]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fresh") / "home"
    Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=now).close()
    return home


@pytest.fixture
def home(fresh: Path, tmp_path: Path) -> Home:
    return copied(fresh, tmp_path / "home")


def copied(source: Path, target: Path) -> Home:
    shutil.copytree(source, target)
    return Home(LakeConfig(str(target / "catalog.sqlite"), str(target / "data")))


def test_every_kind_of_failure_is_found_and_nothing_else_is(home: Home) -> None:
    old = datetime(2026, 11, 1, tzinfo=UTC)
    calls = [
        call(0),
        call(1, guardrail_triggered=True),
        call(2, guardrail_triggered=True, status="blocked", blocked_by="pii"),
        call(3, status="error", error_type="timeout"),
        call(4, refused=True),
        *(call(5 + i, finish_reason=word) for i, word in enumerate(("length", "max_tokens", "MAX_TOKENS"))),
        call(8, finish_reason="stop", guardrail_triggered=False, refused=False, status=None),
        # judged by others: by id, by response, as the last call of a trace, by all of them
        call(10),
        call(11, response_id="resp-11"),
        call(12, trace_id="t-12"),
        call(13, trace_id="t-12"),
        call(14, response_id="resp-14", trace_id="t-14"),
        call(15),
        call(16, ts=old, day=old.date()),  # the word on it is of this week
        call(17),
        # no failures of ours: twice, empty, hashed, vectors, long ago
        failed(20, _dup=True),
        failed(21),
        failed(22, text=" "),
        failed(23, input_text=None, messages=None),
        failed(24, content_mode="hashed"),
        failed(25, op="embeddings"),
        failed(26, ts=old, day=old.date()),
        failed(27, ts=datetime.fromtimestamp(NOW / 1e6, UTC)),
        call(28),
        call(29),
    ]
    feedback = [
        word(0, kind="thumbs", score=-1.0, call_id=uid(10)),
        word(1, kind="rating", score=0.25, response_id="resp-11"),
        word(2, kind="thumbs", score=-1.0, trace_id="t-12"),
        word(3, kind="edit", edited="first try", call_id=uid(10)),
        word(4, kind="edit", edited="better", call_id=uid(10)),
        word(5, kind="thumbs", score=-1.0, call_id=uid(999), response_id="resp-14", trace_id="t-12"),
        word(6, kind="thumbs", score=-1.0, call_id=uid(16)),
        word(7, kind="thumbs", score=1.0, call_id=uid(28)),
        word(8, kind="rating", score=0.5, call_id=uid(28)),
        word(9, kind="comment", comment="bad", call_id=uid(28)),
        word(10, kind="thumbs", score=-1.0, call_id=uid(28), ts=old, day=old.date()),
        word(11, kind="thumbs", score=-1.0, call_id=uid(28), _dup=True),
        word(12, kind="thumbs", score=-1.0, session_id="s"),
    ]
    evals = [
        word(20, name="groundedness", score=0.4, call_id=uid(15)),
        word(21, name="tone: kind", label="FALSE", score=0.9, call_id=uid(15)),
        word(22, name="tone", score=0.5, label="pass", call_id=uid(28)),
        word(23, name="tone", score=0.1, dataset="production", call_id=uid(28)),
        word(24, name="tone", error="the judge failed", call_id=uid(28)),
    ]
    at = datetime.fromtimestamp(NOW / 1e6 - 60, UTC)
    alerts = [
        {"id": "a", "seq": 0, "detector": "drift", "detected_at": at, "call_ids": [uid(17), "no id", uid(998)]},
        {"id": "b", "seq": 0, "detector": "spike", "detected_at": at, "call_ids": [uid(29)]},
        {"id": "c", "seq": 0, "detector": "drift", "detected_at": old, "call_ids": [uid(29)]},
    ]
    late = [{"id": uid(21), "day": DAY, "_epoch": 0, "_partition": 0, "_offset": 21, "found_at": at}]
    home.land(calls, raw_feedback=feedback, raw_evals=evals, alerts=alerts, late_duplicates=late)
    report = home.refresh()
    expected = {
        1: ["guardrail"],
        2: ["guardrail", "blocked"],
        3: ["error"],
        4: ["refused"],
        5: ["truncated"],
        6: ["truncated"],
        7: ["truncated"],
        10: ["thumbs_down", "edited"],
        11: ["low_rating"],
        13: ["thumbs_down"],
        14: ["thumbs_down"],
        15: ["low_score:groundedness", "low_score:tone: kind"],
        16: ["thumbs_down"],
        17: ["drift"],
    }
    cases = home.cases()
    assert {offset: case["reasons"] for offset, case in cases.items()} == expected
    assert (report.candidates, report.cases, report.added, report.near_duplicates) == (14, 14, 14, 0)
    assert (cases[10]["expected"], cases[10]["expected_from"]) == ("better", "edit")
    assert {case["expected"] for offset, case in cases.items() if offset != 10} == {None}
    one = cases[3]
    assert one["case_id"] == case_id("production", uid(3))
    assert (one["call_id"], one["call_epoch"], one["call_partition"]) == (uid(3), 0, 0)
    assert one["ts"] == call(3)["ts"]
    assert one["messages"] == [{"role": "user", "text": said(3)}]
    assert one["stratum"] == '["bot", "chat", "error"]'


def test_a_version_says_how_it_was_made_and_where_nothing_changed_there_is_none(home: Home) -> None:
    home.land([failed(i, text=said(i // 2)) for i in range(10)])
    dry = home.refresh(dry_run=True)
    assert (dry.written, dry.changed, dry.version, dry.cases) == (False, True, None, 5)
    assert home.hashes() == []
    first = home.refresh()
    assert (first.ok, first.done, first.written, first.version) == (True, True, True, 1)
    assert first.content_hash == dry.content_hash == home.hashes()[0]
    (version,) = home.ask("FROM golden_versions")
    assert version == {
        "set_name": "production",
        "version": 1,
        "parent": None,
        "content_hash": first.content_hash,
        "created_at": datetime.fromtimestamp(NOW / 1e6, UTC),
        "window_from": datetime(2026, 11, 11, tzinfo=UTC),
        "window_to": datetime.fromtimestamp(NOW / 1e6, UTC),
        "cases": 5,
        "added": 5,
        "kept": 0,
        "dropped": 0,
        "candidates": 10,
        "near_duplicates": 5,
        "settings": '{"days":7,"size":20,"turnover":0.3,"similarity":0.8,"seed":1}',
        "owner": "test",
    }
    again = home.refresh(now=lambda: NOW + 3_600_000_000, owner="another")
    assert (again.written, again.changed, again.version) == (False, False, 1)
    assert again.content_hash == first.content_hash
    assert "nothing changed, version 1 stays" in again.text()
    home.land([failed(20)])
    second = home.refresh(now=lambda: NOW + 7_200_000_000)
    assert (second.version, second.added, second.kept) == (2, 1, 5)
    assert [c["added_in"] for _, c in sorted(home.cases().items())][-1] == 2
    assert len(home.hashes()) == 2
    other = home.refresh(set_name="other")
    assert (other.version, home.hashes("other")) == (1, [other.content_hash])
    assert json.loads(other.to_json())["set_name"] == "other"


def test_an_empty_lake_makes_no_version_and_a_missing_one_no_lake(home: Home, tmp_path: Path) -> None:
    report = home.refresh()
    assert (report.version, report.written, report.cases) == (None, False, 0)
    nowhere = LakeConfig(str(tmp_path / "no.sqlite"), str(tmp_path / "no"))
    with pytest.raises(LakeMissingError):
        refresh(nowhere, now=now)
    assert not (tmp_path / "no.sqlite").exists()


def test_a_stopped_run_writes_nothing(home: Home) -> None:
    home.land([failed(i) for i in range(5)])
    for looks in (iter([True]), iter([False, True])):
        report = home.refresh(stop=looks.__next__)
        assert (report.done, report.written) == (False, False)
        assert "stopped early" in report.text()
    assert home.hashes() == []
    assert home.refresh().added == 5


def test_sql_and_python_draw_alike_and_the_cut_leaves_every_stratum_its_gravest(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [failed(i, app=f"app{i % 2}", refused=i % 10 == 0 or None) for i in range(200)]
    home.land([*calls, call(300, refused=True, app="rare")])
    window = Window(NOW - WEEK_US, NOW)

    def cut(most: int, most_bytes: int = found.MOST_BYTES) -> list[int]:
        with Lake.open(home.config, now=now, lander=False) as lake:
            got = failures(lake.connection, window, kinds=KINDS, seed=7, most=most, most_bytes=most_bytes)
        assert got.found == 201
        return [row["call_offset"] for row in got.calls]

    grave = {app: sorted((i for i in range(200) if i % 2 == app and i % 10 == 0), key=lot) for app in (0, 1)}
    plain = sorted((i for i in range(200) if i % 2 == 1), key=lot)
    assert grave[1] == []
    assert set(cut(3)) == {grave[0][0], plain[0], 300}
    assert cut(9)[3:] == sorted(grave[0][1:4] + plain[1:4], key=lambda i: (rank(i, grave[0], plain), i % 2))
    assert cut(1000)[:9] == cut(9)
    monkeypatch.setattr(found, "PER_STRATUM", 5)
    assert len(cut(1000)) == 11
    assert cut(1000, most_bytes=1) == cut(1), "one is read whatever it weighs"
    assert cut(1000, most_bytes=1000) == cut(1000)[: len(cut(1000, most_bytes=1000))]
    assert 1 < len(cut(1000, most_bytes=1000)) < 11


def lot(offset: int) -> str:
    return draw(7, uid(offset))


def rank(offset: int, *strata: list[int]) -> int:
    return next(stratum.index(offset) for stratum in strata if offset in stratum)


GOLDEN = textwrap.dedent(
    """
    import sys
    sys.path[:0] = [{repo!r}, {here!r}]
    import test_golden as t
    from warehouse.connect import LakeConfig
    print(t.Home(LakeConfig(*sys.argv[1:3])).refresh(now=lambda: int(sys.argv[3])).to_json())
    """
).format(repo=str(REPO), here=str(Path(__file__).parent))


def in_a_process(config: LakeConfig, at: int = NOW, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", GOLDEN, config.catalog, config.data_path, str(at)]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.row(65)
@pytest.mark.parametrize("point", ["before_write", "before_commit", "after_commit"])
def test_killed_anywhere_the_set_is_the_old_one_or_the_new_one(home: Home, tmp_path: Path, point: str) -> None:
    home.land([failed(i) for i in range(30)])
    old = home.refresh().content_hash
    later = NOW + 8 * 86_400_000_000
    more = [failed(100 + i, **moved(i)) for i in range(40)]
    home.land(more, log_records=[review(0, min(case["case_id"] for case in home.cases().values()), "rejected")])
    untouched = copied(Path(home.config.catalog).parent, tmp_path / "copy")
    new = untouched.refresh(now=lambda: later).content_hash
    assert untouched.hashes() == [old, new]
    assert untouched.ask("SELECT added, kept, dropped FROM golden_versions WHERE version = 2") == [
        {"added": 7, "kept": 13, "dropped": 7}
    ]
    killed = in_a_process(home.config, later, TAILRACE_FAULT=f"golden.{point}:kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert home.hashes() == ([old, new] if point == "after_commit" else [old])
    ran = in_a_process(home.config, later)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["content_hash"] == new
    assert report["written"] == (point != "after_commit")
    assert home.hashes() == [old, new]
    assert home.ask("FROM golden") == untouched.ask("FROM golden")


def moved(number: int) -> dict[str, Any]:
    """A week on."""
    at = datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=UTC) + timedelta(days=6, seconds=number)
    return {"ts": at, "day": at.date(), "_kafka_time": at}


@pytest.mark.row(65)
def test_who_was_overtaken_writes_nothing_and_finds_nothing_left_to_do(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.land([failed(i) for i in range(30)])
    write, others = golden.write, iter([True, False])

    def overtaken(*args: Any, **kwargs: Any) -> bool:
        if next(others, False):
            assert home.refresh(owner="the other").written
        return write(*args, **kwargs)

    monkeypatch.setattr(golden_job.golden, "write", overtaken)
    report = home.refresh()
    assert (report.written, report.version) == (False, 1)
    assert home.hashes() == [report.content_hash]
    assert home.ask("SELECT owner FROM golden_versions") == [{"owner": "the other"}]


def test_who_is_overtaken_again_and_again_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.land([failed(i) for i in range(5)])
    monkeypatch.setattr(golden_job.golden, "write", lambda *_args, **_kwargs: False)
    with pytest.raises(GoldenBusyError, match="production"):
        home.refresh()


@pytest.mark.row(65)
def test_several_at_once_write_one_version(home: Home) -> None:
    home.land([failed(i) for i in range(30)])
    command = [sys.executable, "-c", GOLDEN, home.config.catalog, home.config.data_path, str(NOW)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    reports = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in running]
    assert sum(report["written"] for report in reports) == 1
    assert {report["version"] for report in reports} == {1}
    assert home.hashes() == [reports[0]["content_hash"]]


def test_the_same_lake_gives_the_same_set_in_whatever_order_it_landed(home: Home, fresh: Path, tmp_path: Path) -> None:
    rows = [failed(i, app=f"app{i % 3}", text=said(i // 2), refused=i % 4 == 0) for i in range(80)]
    home.land(rows)
    other = copied(fresh, tmp_path / "other")
    for start in range(60, -1, -20):
        other.land(list(reversed(rows[start : start + 20])))
    assert home.refresh().content_hash == other.refresh(owner="x").content_hash
    assert home.ask("FROM golden ORDER BY case_id") == other.ask("FROM golden ORDER BY case_id")


def test_reviews_are_read_from_the_log_and_the_newest_word_counts(home: Home) -> None:
    home.land([failed(i) for i in range(6)])
    home.refresh(GoldenSettings(size=6))
    ids = {offset: case["case_id"] for offset, case in home.cases().items()}
    log = [
        review(0, ids[0], "rejected", at=NOW - 3),
        review(1, ids[0], "accepted", "mail ann@example.org", at=NOW - 2),
        review(2, ids[1], "accepted", at=NOW - 2),
        review(3, ids[1], "rejected", at=NOW - 1),
        review(4, ids[2], "accepted", "an answer", at=NOW - 2),
        review(5, ids[2], "accepted", at=NOW - 1),
        review(5, ids[2], "accepted", at=NOW - 1),
        {"table": "golden_reviews", "at": datetime.fromtimestamp(0, UTC), "row": "{}", "_partition": 0, "_offset": 9},
    ]
    home.land([failed(50, text=said(1) + " again")], log_records=log)
    report = home.refresh(GoldenSettings(size=6))
    cases = home.cases()
    assert sorted(cases) == [0, 2, 3, 4, 5]
    assert (report.dropped, report.near_duplicates) == (1, 1)
    assert (cases[0]["expected"], cases[0]["expected_from"]) == ("mail <EMAIL_1>", "review")
    assert cases[2]["expected"] == "an answer"
    assert home.ask("SELECT count(*) AS n FROM golden_reviews WHERE case_id = $1", ids[2]) == [{"n": 2}]
    smaller = home.refresh(GoldenSettings(size=1))
    assert sorted(home.cases()) == [0, 2]
    assert smaller.dropped == 3
    assert len(home.hashes()) == 3


SECRETS = ("canary.person@example-mail.org", "4111111111111111", "sk-proj-canaryAbCdEfGhIjKlMnOpQrStUvWxYz0123456789")


def test_what_a_full_call_says_is_redacted_in_its_case(home: Home) -> None:
    told = f"I am {SECRETS[0]}, my card is {SECRETS[1]} and my key {SECRETS[2]}."
    row = failed(
        1,
        content_mode="full",
        text=f"{said(1)} {told}",
        system_text=told,
        output_text=told,
        prompt_variables=json.dumps({"name": told, "deep": {"list": [told]}}),
        retrieval_docs=[{"id": "d", "rank": 1, "score": 0.5, "text": told}],
    )
    home.land([row], raw_feedback=[word(1, kind="edit", edited=f"no, {told}", call_id=uid(1))])
    home.refresh()
    (case,) = home.cases().values()
    assert "<EMAIL_1>" in case["input_text"]
    assert case["expected"] == "no, I am <EMAIL_1>, my card is <CARD_1> and my key <KEY_1>."
    files = list(Path(home.config.data_path).rglob("golden_*/**/*.parquet"))
    assert len(files) == 2
    for file in files:
        seen = file.read_bytes() + str(pq.read_table(file).to_pylist()).encode()
        for secret in SECRETS:
            assert secret.encode() not in seen, file


@pytest.fixture(scope="module")
def hostile() -> tuple[str, ...]:
    from tests.tailrace.test_hostile import HOSTILE

    return HOSTILE


def golden_of(config: LakeConfig) -> Tailrace:
    """Return what runs a sub-command of ``golden``: it gives what was printed, and raises what was raised."""

    def run(*words: str) -> str:
        done = CliRunner().invoke(golden_commands, words, obj=Here(config))
        if done.exception:
            raise done.exception
        return done.stdout

    return run


def test_hostile_texts_survive_as_texts(home: Home, hostile: tuple[str, ...]) -> None:
    texts = [clean_text(text) for text in hostile]  # as land does
    calls = [
        failed(
            i,
            text=f"{said(i)} {text}",
            output_text=text,
            app=text,
            feature=text,
            prompt_name=text,
            finish_reason=text,
            system_text=text,
            prompt_variables=json.dumps({text: text}),
            retrieval_docs=[{"id": text, "text": text}],
        )
        for i, text in enumerate(texts)
    ]
    evals = [word(i, name=text or "x", score=0.0, call_id=uid(i)) for i, text in enumerate(texts)]
    home.land(calls, raw_evals=evals)
    settings = GoldenSettings(size=100)
    report = home.refresh(settings)
    assert (report.cases, report.near_duplicates) == (len(texts), 0)
    for offset, case in home.cases().items():
        text = texts[offset]
        assert case["input_text"] == f"{said(offset)} {text}"
        assert (case["output_text"], case["app"], case["feature"], case["prompt_name"]) == (text,) * 4
        assert case["retrieval_docs"][0]["text"] == text
        assert json.loads(case["variables"]) == {text: text}
        assert json.loads(case["stratum"]) == [text, text, "error"]
        assert case["reasons"] == ["error", f"low_score:{text}"]
    assert home.hashes() == [report.content_hash]
    assert not home.refresh(settings).written
    assert home.ask("SELECT count(*) AS n FROM raw_calls") == [{"n": len(texts)}]
    seen = golden_of(home.config)("show")
    assert seen.count("not reviewed") == len(texts)
    assert not any(control in seen for control in "\x1b\x00\x07\u202e\u200b\ufeff\r\x9b\x9d\x7f\u2066\u2028")


@pytest.fixture
def command(home: Home) -> Tailrace:
    """``golden_of`` a lake with one failure."""
    home.land([call(1, ts=_now(), day=_now().date(), refused=True, text="\x1b[31mred {{7*7}} " + said(1))])
    return golden_of(home.config)


def _now() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=5)


def test_the_commands_show_what_there_is(home: Home, command: Tailrace) -> None:
    dry = json.loads(command("refresh", "--dry-run", "--json").splitlines()[-1])  # the log is not configured here
    assert (dry["changed"], dry["written"]) == (True, False)
    assert "golden set production: version 1: 1 cases, 1 new" in command("refresh", "--days", "3", "--size", "5")
    (version,) = map(json.loads, command("versions", "--json").splitlines())
    assert json.loads(version["settings"])["size"] == 5
    assert command("versions").startswith("production 1  1 cases: 1 new, 0 kept, 0 dropped  of 1 failures from ")
    (case,) = map(json.loads, command("show", "--json").splitlines())
    assert (case["reasons"], case["review"], case["input_text"][:6]) == (["refused"], None, "\x1b[31mr")
    assert command("show", "--json").isascii()
    shown = command("show", "--version", "1")
    assert f"{case['case_id']}  bot/chat  refused  not reviewed" in shown
    assert "answered  answer 1" in shown
    assert "\x1b[31mred" not in shown


def test_bad_input_is_told_with_its_place_and_a_remedy(home: Home, command: Tailrace, tmp_path: Path) -> None:
    for words in (("show",), ("export", "--format", "jsonl", "--out", str(tmp_path / "no"))):
        with pytest.raises(
            FatalError, match=r"golden set production has no version in lake .*`tailrace golden refresh`"
        ):
            command(*words)
    command("refresh")
    ((_, case),) = home.cases().items()
    reviewing = ("review", case["case_id"])
    for words, told in (
        (("show", "--version", "9"), "has no version 9 in lake"),
        (("show", "--set", "No/../set"), "--set: 'No/../set' is no name of a golden set; use up to 64"),
        (("refresh", "--set", "\x1b[31m"), "--set: "),
        (reviewing, "neither --accept nor --reject was given; give one"),
        ((*reviewing, "--accept", "--reject"), "both --accept and --reject were given; give one"),
        ((*reviewing, "--reject", "--expected", "x"), "--expected: a rejected case leaves the set; leave it out"),
        ((*reviewing, "--accept", "--expected", " "), "--expected: it is empty; leave it out"),
        (("review", "0000", "--accept"), "no golden case 0000 in any version .*`tailrace golden show`"),
        ((*reviewing, "--accept"), "no Tailrace runs in .*: start one"),
        (
            ("export", "--format", "jsonl", "--out", str(tmp_path / "no" / "x")),
            "No such file or directory; name a file",
        ),
        (("export", "--format", "jsonl", "--out", str(tmp_path)), "exists; name a new file"),
    ):
        with pytest.raises(FatalError, match=told):
            command(*words)
    for wrong in (("refresh", "--size", "0"), ("export", "--format", "xml", "--out", "x"), ("show", "--version", "0")):
        with pytest.raises(SystemExit, match="2"):
            command(*wrong)


def test_exports_are_new_files_of_their_owner(home: Home, command: Tailrace, tmp_path: Path) -> None:
    command("refresh")
    made = {target: tmp_path / target for target in ("jsonl", "parquet", "promptfoo", "openai")}
    for target, file in made.items():
        words = ("export", "--format", target, "--out", str(file))
        assert "1 cases of golden set production, version 1" in command(*words)
        assert file.stat().st_mode & 0o777 == 0o600
        before = file.read_bytes()
        with pytest.raises(FatalError, match="exists; name a new file"):
            command(*words)
        assert file.read_bytes() == before
    (case,) = home.ask("FROM golden")
    assert pq.read_table(made["parquet"]).to_pylist() == [case]
    lines = {name: made[name].read_text() for name in ("jsonl", "promptfoo", "openai")}
    assert all(text.isascii() for text in lines.values())
    assert json.loads(lines["jsonl"])["case_id"] == case["case_id"]
    assert json.loads(lines["openai"])["input"] == [{"role": "user", "content": case["input_text"]}]
    test = json.loads(lines["promptfoo"])
    assert test["vars"]["input"].replace("\u2060", "") == case["input_text"]
    assert "{{" not in test["vars"]["input"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("job", "run", "golden", "--json"), 0, '"set_name":"production"'),
        (("golden", "show"), 2, "tailrace: golden set production has no version"),
    ],
)
def test_the_process_ends_with_the_code_that_it_means(home: Home, words: tuple[str, ...], code: int, said: str) -> None:
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")},
        "TAILRACE_LAKE__CATALOG": home.config.catalog,
        "TAILRACE_LAKE__DATA_PATH": home.config.data_path,
    }
    command = [sys.executable, "-m", "tailrace", "--home", str(Path(home.config.catalog).parent), *words]
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr
