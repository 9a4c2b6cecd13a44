"""What people wrote of a call, beside its open case; and the way of a rubric through the lake."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from jobs.gate.golden_file import from_lines
from jobs.golden.cases import content_hash
from schemas.tables import LOG_RECORDS
from tailrace.gate.lake import golden as golden_of_lake
from tailrace.golden.open_cases import OPEN, with_comments
from tests.jobs.golden.lake import Here, Home, call, failed, golden_of, now, review, uid, word
from warehouse.lake import Lake


def reviewed(home: Home, *rows: dict[str, object]) -> None:
    with Lake.open(home.config, now=now) as lake:
        lake.append({"log_records": pa.Table.from_pylist(list(rows), LOG_RECORDS.schema)}, [])


def ruled(number: int, case: str, rubric: str | None, verdict: str = "accepted") -> dict[str, object]:
    row = review(number, case, verdict)
    return {**row, "row": json.dumps({**json.loads(row["row"]), "rubric": rubric})}


def test_comments_are_found_by_call_response_and_trace_and_are_redacted(home: Home) -> None:
    home.land(
        [failed(0), call(1, response_id="r1"), call(2, trace_id="t2", status="error"), failed(3)],
        raw_feedback=[
            word(0, call_id=uid(0), kind="thumbs", score=-1.0, comment="write to joe@example.com"),
            word(1, call_id=uid(0), kind="comment", comment="\x1b[31mwrong city"),
            word(2, response_id="r1", kind="comment", comment="too long"),
            word(3, trace_id="t2", kind="rating", score=0.2, comment="slow"),
            word(4, call_id=uid(3), kind="comment", comment=" "),
        ],
    )
    home.refresh()
    with Lake.open(home.config, now=now, lander=False) as lake:
        found = with_comments(lake.query(OPEN, ["production", 1]))
    assert {case["call_offset"]: case["comments"] for case in found} == {
        0: "thumbs -1.0: write to <EMAIL_1>\n\ufffd[31mwrong city",
        1: "too long",
        2: "rating 0.2: slow",
        3: "",
    }


def test_a_rubric_goes_from_a_review_into_the_next_version_the_exports_and_the_gate(home: Home, tmp_path: Path) -> None:
    home.land([failed(i) for i in range(3)])
    home.refresh()
    before = home.hashes()
    ids = [case["case_id"] for case in home.ask("FROM golden ORDER BY case_id")]
    reviewed(home, ruled(0, ids[0], "names the city"), ruled(1, ids[1], "x"))
    golden_of(home.config)("export", "--format", "jsonl", "--out", str(tmp_path / "a.jsonl"))
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert {case.case_id: case.rubric for case in from_lines(lines, "a.jsonl").cases} == {
        ids[0]: "names the city",
        ids[1]: "x",
        ids[2]: None,
    }
    of_lake = golden_of_lake(Here(home.config).settings, None, 1, stale_days=21, at=now())
    assert [case.rubric for case in of_lake.cases] == ["names the city", "x", None]
    assert home.refresh().version == 2
    assert len(set(home.hashes())) == 2
    assert home.hashes()[:1] == before
    reviewed(home, ruled(2, ids[0], ""), ruled(3, ids[1], None, "rejected"))
    home.refresh()
    assert [case["rubric"] for case in home.ask("FROM golden ORDER BY case_id")] == [None, None]
    everywhere = home.ask("SELECT DISTINCT rubric FROM golden_cases WHERE case_id = $1", ids[1])
    assert everywhere == [{"rubric": None}], "a rejected case keeps no text in any version"
    assert home.ask("SELECT DISTINCT rubric FROM golden_reviews WHERE case_id = $1", ids[1]) == [{"rubric": None}]


def test_versions_of_before_there_were_rubrics_keep_their_hash(home: Home) -> None:
    home.land([failed(0)])
    home.refresh()
    (case,) = home.ask("FROM golden")
    old = {name: value for name, value in case.items() if name != "rubric"}
    assert content_hash([old]) == content_hash([case])
    assert content_hash([{**case, "rubric": "r"}]) != content_hash([case])
    row = {"case_id": "c", "input_text": "q"}
    hashed = from_lines([json.dumps(row)], "f").content_hash
    assert hashed == "f474add9d9608dae83261f37ba1e3e50ff2bf692030b5e666c988d7568b21699"
    assert from_lines([json.dumps({**row, "rubric": "r"})], "f").content_hash != hashed
