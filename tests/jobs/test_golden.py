"""The golden set on a real lake: what failed is found, written whole or not at all, and the same whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fault_harness.zygote import Code, run_command

from jobs.golden import LOWER_IS_BETTER, GoldenBusyError, GoldenSettings, refresh
from pipelines.decode.rules import clean_text
from schemas.errors import FatalError
from tests.jobs.golden.lake import (
    DAY,
    NOW,
    REPO,
    SMALL,
    Home,
    Tailrace,
    call,
    copied,
    failed,
    golden_of,
    now,
    review,
    said,
    uid,
    word,
)
from warehouse.errors import LakeMissingError
from warehouse.golden import versions
from warehouse.storage.connect import LakeConfig


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
        "settings": version["settings"],
        "owner": "test",
        "blanked": 0,
    }
    assert GoldenSettings(**json.loads(version["settings"]) | {"envs": (), "lower_is_better": LOWER_IS_BETTER}) == SMALL
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


GOLDEN = textwrap.dedent(
    """
    import sys
    sys.path[:0] = [{repo!r}]
    from tests.jobs.golden.lake import Home
    from warehouse.storage.connect import LakeConfig
    print(Home(LakeConfig(*sys.argv[1:3])).refresh(now=lambda: int(sys.argv[3])).to_json())
    """
).format(repo=str(REPO))


def in_a_process(config: LakeConfig, at: int = NOW, **environment: str) -> subprocess.CompletedProcess[str]:
    code = Code(GOLDEN, ("jobs.golden",))
    return run_command([config.catalog, config.data_path, str(at)], code=code, env={**os.environ, **environment})


@pytest.mark.representatives(1)
@pytest.mark.row(65)
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("before_write", marks=pytest.mark.faults),
        "before_commit",
        pytest.param("after_commit", marks=pytest.mark.faults),
        pytest.param("before_blank:kill:2", marks=pytest.mark.faults),
    ],
)
def test_killed_anywhere_the_set_is_the_old_one_or_the_new_one(home: Home, tmp_path: Path, point: str) -> None:
    home.land([failed(i, **moved(i, days=-1)) for i in range(30)])
    home.refresh(GoldenSettings(size=10))
    rejected = min(case["case_id"] for case in home.cases().values())
    home.refresh()
    old = home.hashes()
    later = NOW + 8 * 86_400_000_000
    more = [failed(100 + i, **moved(i, days=6)) for i in range(40)]
    home.land(more, log_records=[review(0, rejected, "rejected")])
    untouched = copied(Path(home.config.catalog).parent, tmp_path / "copy")
    new = untouched.refresh(now=lambda: later).content_hash
    assert untouched.hashes() == [*old, new]
    assert untouched.ask("SELECT added, kept, dropped FROM golden_versions WHERE version = 3") == [
        {"added": 7, "kept": 13, "dropped": 7}
    ]
    assert blanked(untouched) == [1, 1, 0]
    killed = in_a_process(home.config, later, TAILRACE_FAULT=f"golden.{point}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    committed = point not in ("before_write", "before_commit")
    assert home.hashes() == ([*old, new] if committed else old)
    assert blanked(home)[:2] == ([1, 0] if "blank" in point else [0, 0])
    ran = in_a_process(home.config, later)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["content_hash"] == new
    assert report["written"] != committed
    assert report["blanked"] == 1
    assert home.hashes() == [*old, new]
    every = "FROM golden_cases ORDER BY version, case_id"
    assert home.ask(every) == untouched.ask(every)
    kept = "SELECT * EXCLUDE (rejected_at) FROM golden_rejected"
    assert home.ask(kept) == untouched.ask(kept)
    assert len(home.ask(kept)) == 1, "whoever begins again does not write it twice"


def blanked(home: Home) -> list[int]:
    return [row["blanked"] for row in home.ask("SELECT blanked FROM golden_versions ORDER BY version")]


def moved(number: int, *, days: int) -> dict[str, Any]:
    """So many days on."""
    at = datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=UTC) + timedelta(days=days, seconds=number)
    return {"ts": at, "day": at.date(), "_kafka_time": at}


@pytest.mark.row(65)
def test_who_was_overtaken_writes_nothing_and_finds_nothing_left_to_do(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.land([failed(i) for i in range(30)])
    write, others = versions.write, iter([True, False])

    def overtaken(*args: Any, **kwargs: Any) -> bool:
        if next(others, False):
            assert home.refresh(owner="the other").written
        return write(*args, **kwargs)

    monkeypatch.setattr(versions, "write", overtaken)
    report = home.refresh()
    assert (report.written, report.version) == (False, 1)
    assert home.hashes() == [report.content_hash]
    assert home.ask("SELECT owner FROM golden_versions") == [{"owner": "the other"}]


@pytest.mark.extended
def test_who_is_overtaken_again_and_again_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.land([failed(i) for i in range(5)])
    monkeypatch.setattr(versions, "write", lambda *_args, **_kwargs: False)
    with pytest.raises(GoldenBusyError, match="production"):
        home.refresh()


@pytest.mark.extended
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
    words: tuple[str, ...]
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
        (("review", "0000", "--accept"), "no golden case 0000 in any version .*`tailrace golden show`"),
        ((*reviewing, "--accept"), "no Tailrace runs in .*: start one"),
        (
            ("export", "--format", "jsonl", "--out", str(tmp_path / "no" / "x")),
            "its folder does not exist; name one whose folder exists",
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
    done = run_command(["--home", str(Path(home.config.catalog).parent), *words], env=env)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr
