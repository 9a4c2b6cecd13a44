"""Who looks when, who comes back, and what is got rid of: on a real lake, from refresh to refresh."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from jobs.golden import GoldenSettings
from schemas.errors import FatalError
from schemas.tables import GOLDEN_CASES
from tailrace.golden.reviews import GoldenCaseGoneError, NoGoldenCaseError
from tests.jobs.golden.lake import DAY, NOW, SMALL, Home, failed, golden_of, now, review, said, uid, word
from warehouse.errors import LakeUnavailableError
from warehouse.golden import versions
from warehouse.golden.texts import blank
from warehouse.lake import Lake

DAY_US = 86_400_000_000
CANARY = "mrs canary of 12 birdcage lane"
NAMES = {
    *("set_name", "version", "case_id", "call_id", "call_epoch", "call_partition", "call_offset", "ts", "app"),
    *("feature", "model", "response_model", "prompt_name", "prompt_version", "reasons", "stratum", "added_in"),
    "expected_from",
}
"""What a rejected case keeps."""


def on(days: int) -> dict[str, Any]:
    """A call so many days after the first."""
    at = datetime(DAY.year, DAY.month, DAY.day, 9, tzinfo=UTC) + timedelta(days=days)
    return {"ts": at, "day": at.date(), "_kafka_time": at}


def moved(days: int) -> dict[str, Any]:
    """A word so many days after the first."""
    return {name: value for name, value in on(days).items() if name != "_kafka_time"}


def at(days: float) -> Any:
    return lambda: NOW + int(days * DAY_US)


def windows(home: Home) -> list[tuple[Any, Any]]:
    rows = home.ask("SELECT window_from, window_to FROM golden_versions ORDER BY version")
    return [((row["window_from"].date() - DAY).days, (row["window_to"].date() - DAY).days) for row in rows]


def test_what_failed_while_no_refresh_ran_is_found_by_the_next(home: Home) -> None:
    home.land([failed(1)])
    home.refresh(now=at(0))
    home.land([failed(10, **on(2)), failed(11, **on(9)), failed(12, **on(17))])
    home.refresh(now=at(18))
    assert sorted(home.cases()) == [1, 10, 11, 12]
    assert windows(home) == [(-7, 0), (0, 18)]


@pytest.mark.extended
def test_a_run_that_changed_nothing_is_remembered_too(home: Home) -> None:
    home.land([failed(1)])
    home.refresh(now=at(0))
    assert not home.refresh(now=at(7)).written
    home.land([failed(10, **on(15))])
    assert home.refresh(now=at(21), dry_run=True).changed
    assert home.refresh(now=at(21)).written
    assert windows(home) == [(-7, 0), (7, 21)], "a dry run is no look"
    assert home.ask("SELECT job, attempt FROM job_claims") == [{"job": "golden/production", "attempt": 3}]


def test_sets_are_looked_for_each_by_itself(home: Home) -> None:
    home.land([failed(1)])
    home.refresh(now=at(0))
    home.refresh(now=at(20), set_name="other")
    home.land([failed(10, **on(5))])
    home.refresh(now=at(20))
    assert sorted(home.cases()) == [1, 10]


@pytest.mark.extended
def test_run_again_after_a_gap_it_changes_nothing(home: Home) -> None:
    """The second look must not be at less: what failed again a while ago would give room then."""
    full = GoldenSettings(size=4, turnover=0.5)
    home.land([failed(i, **on(-1)) for i in range(4)])
    home.refresh(full, now=at(0))
    again = [failed(20 + i, text=said(i) + " again", **on(2)) for i in range(4)]
    home.land([*again, *(failed(100 + i, **on(14)) for i in range(5))])
    assert not home.refresh(full, now=at(14)).changed, "all four failed again, twelve days ago"
    assert not home.refresh(full, now=at(14.01)).changed
    assert home.refresh(full, now=at(21)).changed


_OURS = "FROM golden_cases WHERE set_name = 'production'"


def rejecting(home: Home, *offsets: int, verdict: str = "rejected", number: int = 0) -> None:
    ids = {case["call_offset"]: case["case_id"] for case in home.ask(_OURS)}
    rows = [review(number + i, ids[o], verdict, at=NOW + number + i) for i, o in enumerate(offsets)]
    home.land(log_records=rows)


def canary(offset: int) -> dict[str, Any]:
    text = f"{said(offset)} {CANARY}"
    docs = [{"id": f"{CANARY}.pdf", "rank": 1, "score": 0.5, "chunk": CANARY, "text": text, "cited": True}]
    return failed(
        offset,
        text=text,
        messages=[{"role": "user", "text": text}],
        system_text=text,
        output_text=text,
        prompt_variables=json.dumps({"who": CANARY}),
        retrieval_docs=docs,
    )


def test_the_texts_of_a_rejected_case_go_from_all_versions(home: Home) -> None:
    """From the rows, and from the files that the newest snapshot reads."""
    home.land([canary(1), failed(2)], raw_feedback=[word(1, kind="edit", edited=CANARY, call_id=uid(1))])
    home.refresh()
    home.land([failed(3)])
    home.refresh()
    home.refresh(set_name="other")
    rejecting(home, 1)
    report = home.refresh()
    assert (report.version, report.blanked, report.dropped) == (3, 1, 1)
    assert "the texts of 1 rejected cases are gone" in report.text()
    assert home.ask("SELECT version, blanked FROM golden_versions WHERE set_name = 'production' ORDER BY version") == [
        {"version": 1, "blanked": 1},
        {"version": 2, "blanked": 1},
        {"version": 3, "blanked": 0},
    ]
    home.hashes()
    left = home.ask("FROM golden_cases WHERE call_offset = 1 AND set_name = 'production'")
    assert len(left) == 2
    for case in left:
        assert {name for name, value in case.items() if value is not None} <= NAMES
    assert {column.name for column in GOLDEN_CASES.columns} - NAMES == {
        *("system_text", "messages", "input_text", "output_text", "retrieval_docs", "expected", "variables", "rubric")
    }
    assert CANARY not in said_in_files(home, "production")
    assert CANARY in said_in_files(home, "other"), "nobody rejected it there"
    assert CANARY not in str(home.ask("FROM golden_rejected"))
    again = home.refresh()
    assert (again.written, again.changed, again.blanked) == (False, False, 0)


def said_in_files(home: Home, set_name: str) -> str:
    with Lake.open(home.config, now=now, lander=False) as lake:
        rows = lake.query("SELECT data_file, delete_file FROM ducklake_list_files('lake', 'golden_cases')").to_pylist()
    assert not any(row["delete_file"] for row in rows), "a file with deletes never merges"
    files = [Path(row["data_file"]) for row in rows if f"set_name={set_name}" in row["data_file"]]
    return "".join(str(pq.read_table(file, partitioning=None).to_pylist()) for file in files)


@pytest.mark.extended
def test_a_case_that_is_in_no_newest_version_any_more_is_blanked_without_a_new_one(home: Home) -> None:
    one = GoldenSettings(size=1, turnover=1.0)
    home.land([failed(1, **on(-1))])
    home.refresh(one, now=at(0))
    home.land([failed(2, **on(9))])
    home.refresh(one, now=at(10))
    assert list(home.cases()) == [2]
    rejecting(home, 1)
    report = home.refresh(one, now=at(10.1))
    assert (report.written, report.version, report.blanked) == (False, 2, 1)
    assert home.ask("SELECT count(input_text) AS n FROM golden_cases WHERE call_offset = 1") == [{"n": 0}]
    assert home.refresh(one, now=at(10.2)).blanked == 0


@pytest.mark.extended
def test_what_says_nearly_the_same_as_a_rejected_case_stays_out_after_its_texts_are_gone(home: Home) -> None:
    home.land([failed(i) for i in range(3)])
    home.refresh()
    rejecting(home, 1)
    home.land([failed(50, text=said(1) + " again")])
    first = home.refresh()
    assert (first.near_duplicates, sorted(home.cases())) == (1, [0, 2])
    home.land([failed(51, text="well " + said(1)), failed(52)])
    one = GoldenSettings(size=20, keep_versions=1)
    second = home.refresh(one, now=at(4))
    assert (second.near_duplicates, sorted(home.cases())) == (2, [0, 2, 52])
    assert home.ask("SELECT count(*) AS n FROM golden_cases WHERE call_offset = 1") == [{"n": 0}]
    assert home.refresh(one, now=at(4)).near_duplicates == 2, "no version has it any more"


def test_old_versions_are_dropped_and_the_newest_stays(home: Home) -> None:
    few = GoldenSettings(size=20, keep_versions=3)
    for number in range(5):
        home.land([failed(number, **on(4 * number))])
        report = home.refresh(few, now=at(4 * number))
    assert (report.version, report.expired) == (5, 1)
    assert "1 old versions dropped" in report.text()
    kept = "SELECT DISTINCT version FROM {} ORDER BY version"
    for table in ("golden_versions", "golden_cases"):
        assert [row["version"] for row in home.ask(kept.format(table))] == [3, 4, 5]
    assert home.refresh(few, now=at(16)).expired == 0
    report = home.refresh(GoldenSettings(size=20, keep_versions=1), now=at(20))
    assert (report.written, report.version, report.expired) == (False, 5, 2)
    home.land([failed(9, **on(20))])
    assert home.refresh(few, now=at(21)).version == 6, "numbers go on"
    home.hashes()


@pytest.mark.extended
def test_versions_that_are_young_stay_so_that_the_turnover_holds(home: Home) -> None:
    """Cases of a version that was dropped would look old, and give way to others at once."""
    full = GoldenSettings(size=4, turnover=0.5, keep_versions=1)
    home.land([failed(i, **on(-1)) for i in range(4)])
    home.refresh(full, now=at(0))
    home.land([failed(10 + i, **on(7)) for i in range(9)])
    assert home.refresh(full, now=at(8)).dropped == 2
    accepted = next(offset for offset in home.cases() if offset < 10)
    rejecting(home, accepted, verdict="accepted")
    ids = {offset: case["case_id"] for offset, case in home.cases().items()}
    home.land(log_records=[review(40, ids[accepted], "accepted", "an answer", at=NOW + 8 * DAY_US)])
    report = home.refresh(full, now=at(8.1))
    assert (report.written, report.version, report.expired) == (True, 3, 0)
    assert [row["version"] for row in home.ask("SELECT version FROM golden_versions ORDER BY 1")] == [2, 3]
    home.land([failed(30 + i, **on(8)) for i in range(9)])
    assert home.refresh(full, now=at(8.2)).dropped == 0


@pytest.mark.extended
def test_an_accepted_case_comes_back_from_the_last_version_that_had_it(home: Home) -> None:
    two = GoldenSettings(size=2, turnover=1.0)
    home.land([failed(1, **on(-1)), failed(2, **on(-1))])
    home.refresh(two, now=at(0))
    home.land([failed(3, **on(9)), failed(4, **on(9))])
    home.refresh(two, now=at(10))
    assert sorted(home.cases()) == [3, 4]
    rejecting(home, 1, 3, verdict="accepted")
    report = home.refresh(two, now=at(10.1))
    assert (report.version, report.added, report.kept, report.dropped) == (3, 1, 1, 1)
    assert sorted(home.cases()) == [1, 3], "what is accepted stays, whatever else comes"
    assert home.cases()[1]["input_text"] == said(1)
    assert home.cases()[1]["added_in"] == 3
    assert not home.refresh(two, now=at(10.2)).changed
    home.hashes()


@pytest.mark.extended
def test_a_case_that_was_rejected_by_mistake_comes_back_while_its_texts_are_there(home: Home) -> None:
    home.land([failed(1, **on(-1)), failed(2, **on(-1))])
    home.refresh()
    rejecting(home, 1)
    rejecting(home, 1, verdict="accepted", number=10)
    assert not home.refresh().changed
    rejecting(home, 1, number=20)
    assert home.refresh().blanked == 1
    rejecting(home, 1, verdict="accepted", number=30)
    report = home.refresh(now=at(20))
    assert (report.changed, sorted(home.cases())) == (False, [2]), "there is nothing to bring back"
    home.land(raw_feedback=[word(1, kind="thumbs", score=-1.0, call_id=uid(1), **moved(20))])
    assert home.refresh(now=at(21)).added == 1, "its call failed again, and nobody rejects it any more"


@pytest.mark.extended
def test_a_blanked_case_cannot_be_accepted_and_the_command_says_why(home: Home) -> None:
    home.land([failed(1), failed(2)])
    home.refresh()
    ids = {offset: case["case_id"] for offset, case in home.cases().items()}
    rejecting(home, 1)
    tailrace = golden_of(home.config)
    with pytest.raises(FatalError, match="no Tailrace runs"):  # it would be sent
        tailrace("review", ids[1], "--accept")
    home.refresh()
    with pytest.raises(GoldenCaseGoneError, match=f"{ids[1]} cannot come back: a review rejected it, and"):
        tailrace("review", ids[1], "--accept")
    home.refresh(GoldenSettings(size=20, keep_versions=1), now=at(5))
    with pytest.raises(GoldenCaseGoneError):
        tailrace("review", ids[1], "--accept")
    with pytest.raises(NoGoldenCaseError):
        tailrace("review", ids[1], "--reject")


def test_the_commands_say_what_is_gone(home: Home, tmp_path: Path) -> None:
    home.land([failed(1), failed(2)])
    home.refresh()
    rejecting(home, 1)
    home.refresh()
    tailrace = golden_of(home.config)
    assert "its texts are gone: a review rejected it" in tailrace("show", "--version", "1")
    assert "gone" not in tailrace("show")
    assert tailrace("versions").splitlines()[0].endswith("without the texts of 1")
    assert [json.loads(line)["blanked"] for line in tailrace("versions", "--json").splitlines()] == [1, 0]
    out = tmp_path / "old.jsonl"
    tailrace("export", "--format", "jsonl", "--out", str(out), "--version", "1")
    assert [json.loads(line)["call_offset"] for line in out.read_text().splitlines()] == [2]


@pytest.mark.extended
def test_the_newest_review_is_shown_as_a_whole_and_an_answer_can_be_withdrawn(home: Home) -> None:
    home.land([failed(1)], raw_feedback=[word(1, kind="edit", edited="by the user", call_id=uid(1))])
    home.refresh()
    (case,) = home.cases().values()

    def say(number: int, verdict: str, expected: str | None = None, note: str | None = None) -> None:
        row = review(number, case["case_id"], verdict, expected, at=NOW + number)
        row["row"] = json.dumps({**json.loads(row["row"]), "note": note})
        home.land(log_records=[row])

    def shown() -> tuple[Any, ...]:
        home.refresh()
        (row,) = map(json.loads, golden_of(home.config)("show", "--json").splitlines())
        return row["review"], row["review_note"], row["expected"], row["expected_from"]

    assert shown() == (None, None, "by the user", "edit")
    say(0, "rejected", note="not ours")
    say(1, "accepted", "by ann")
    assert shown() == ("accepted", None, "by ann", "review")
    say(2, "accepted", note="fine")
    assert shown() == ("accepted", "fine", "by ann", "review")
    say(3, "accepted", "")
    assert shown() == ("accepted", None, "by the user", "edit")
    assert home.ask("SELECT expected, note FROM golden_verdicts") == [{"expected": "", "note": None}]
    say(4, "accepted", "by bob", note="as bob says")
    assert shown() == ("accepted", "as bob says", "by bob", "review")
    say(5, "rejected", note="not ours")
    assert home.ask("SELECT verdict, expected, note FROM golden_verdicts") == [
        {"verdict": "rejected", "expected": None, "note": "not ours"}
    ]
    seen = home.ask("SELECT verdict, expected, note, entry FROM golden_reviews ORDER BY logged_at DESC")
    assert [(row["verdict"], row["expected"], row["note"]) for row in seen][:2] == [
        ("rejected", None, "not ours"),
        ("accepted", None, None),
    ]
    assert "bob" not in str(seen)
    say(6, "accepted")
    assert home.ask("SELECT expected FROM golden_verdicts") == [{"expected": "by bob"}], "nothing is lost by a mistake"


@pytest.mark.extended
def test_a_case_that_is_accepted_while_a_refresh_runs_is_neither_blanked_nor_dropped(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what it read and what it writes: it chooses again."""
    two = GoldenSettings(size=2, turnover=1.0)
    home.land([failed(1, **on(-1)), failed(2, **on(-1))])
    home.refresh(two, now=at(0))
    rejecting(home, 1)
    home.land([failed(3, **on(9)), failed(4, **on(9))])
    write, looks = versions.write, iter([True])

    def accepted_first(*args: Any, **kwargs: Any) -> bool:
        if next(looks, False):
            rejecting(home, 1, 2, verdict="accepted", number=10)
            assert not write(*args, **kwargs)
            assert home.ask("SELECT attempt FROM job_claims") == [{"attempt": 1}]
            return False
        return write(*args, **kwargs)

    monkeypatch.setattr(versions, "write", accepted_first)
    report = home.refresh(two, now=at(10))
    assert (report.written, report.changed, report.blanked) == (False, False, 0)
    assert sorted(home.cases()) == [1, 2]
    assert home.ask("FROM golden_rejected") == []


@pytest.mark.extended
def test_a_case_that_is_accepted_while_its_texts_go_keeps_those_that_are_left(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        home.land([failed(number)])
        home.refresh()
    rejecting(home, 0)
    looks = iter([True])

    def accepted_then(*args: Any) -> None:
        blank(*args)
        if next(looks, False):
            monkeypatch.setattr(versions, "_VERDICTS", "SELECT unnest($1::VARCHAR[]) AS case_id, 'accepted' AS verdict")

    monkeypatch.setattr(versions, "blank", accepted_then)
    home.refresh()
    assert home.ask("SELECT version FROM golden_cases WHERE call_offset = 0 AND input_text IS NOT NULL ORDER BY 1") == [
        {"version": 2},
        {"version": 3},
    ]


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "error",
    [
        duckdb.OutOfMemoryException("Out of Memory Error: failed to offload data block"),
        duckdb.IOException("IO Error: Cannot open file"),
        duckdb.ConnectionException("Connection Error: connection closed"),
        duckdb.InternalException("INTERNAL Error: invalidated"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_lake_that_does_not_answer_is_told_as_such(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    home.land([failed(1)])

    def fails(*_args: Any, **_kwargs: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(versions, "failures", fails)
        with pytest.raises(LakeUnavailableError, match=r"cannot read lake .*catalog\.sqlite"):
            home.refresh()
    assert home.refresh().added == 1


def test_a_file_that_is_gone_is_told_as_such(home: Home) -> None:
    home.land([failed(1)])
    for file in Path(home.config.data_path).rglob("raw_calls/**/*.parquet"):
        file.unlink()
    with pytest.raises(LakeUnavailableError, match="cannot read lake"):
        home.refresh()


def test_a_question_that_does_not_fit_is_told_as_such(home: Home) -> None:
    home.land([failed(i, text=said(i) * 200) for i in range(2_000)])
    with pytest.raises(LakeUnavailableError, match="Out of Memory"):
        home.refresh(memory_limit="12MiB")
    assert home.refresh(SMALL).added == 20
