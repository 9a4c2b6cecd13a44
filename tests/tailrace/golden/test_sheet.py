"""Open cases as a sheet: out and back unchanged, no formula in it, and a broken line sends nothing."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tailrace.golden.sheet import COLUMNS, Filled, SheetRefusedError, filled, sheet

CASES: dict[str, dict[str, Any]] = {
    f"c{i}": {
        **{"case_id": f"c{i}", "app": "shop", "feature": None, "reasons": ["edited", "error"]},
        **{"input_text": asked, "output_text": answered, "expected": wanted, "rubric": None, "comments": "@said"},
    }
    for i, (asked, answered, wanted) in enumerate(
        [
            ("=HYPERLINK(1)", 'a,"b"\nc', None),
            ("+1; why?", None, "'quoted"),
            ("été ☃", "x", "-7"),
        ]
    )
}


def edited(name: str, *changes: dict[str, str], delimiter: str = ",") -> str:
    """The sheet as a person hands it back."""
    content = sheet(list(CASES.values()), name).decode("utf-8-sig")
    if name.endswith(".jsonl"):
        rows = [json.loads(line) for line in content.splitlines()]
        return "".join(json.dumps({**r, **c}) + "\n" for r, c in zip(rows, changes, strict=True))
    rows = list(csv.DictReader(io.StringIO(content)))
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows({**r, **c} for r, c in zip(rows, changes, strict=True))
    return out.getvalue()


ANSWERS = (
    {"verdict": "accept", "expected": "Paris"},
    {"verdict": "REJECT", "note": "not ours"},
    {"verdict": "accepted"},
)


@pytest.mark.parametrize("name", ["open.csv", "open.jsonl"])
def test_a_sheet_goes_out_and_comes_back(name):
    assert filled(edited(name, *ANSWERS), name, CASES) == [
        Filled("c0", "accepted", "Paris", None),
        Filled("c1", "rejected", None, "not ours"),
        Filled("c2", "accepted", None, None),
    ]
    assert filled(edited(name, {}, {}, {"verdict": "skip"}), name, CASES) == []


@pytest.mark.parametrize("name", ["open.csv", "open.jsonl"])
def test_a_rubric_comes_back_and_what_people_said_goes_out(name):
    changes = ({"verdict": "accept", "rubric": "names the city"}, {"verdict": "reject", "rubric": "x"}, {})
    assert filled(edited(name, *changes), name, CASES) == [
        Filled("c0", "accepted", None, None, "names the city"),
        Filled("c1", "rejected", None, None, None),
    ]
    out = sheet(list(CASES.values()), name).decode("utf-8-sig")
    assert ("'@said" if name.endswith("csv") else '"comments":"@said"') in out.replace(": ", ":")


def test_an_answer_that_was_emptied_is_withdrawn():
    found = filled(edited("x.csv", {}, {}, {"verdict": "accept", "expected": ""}), "x.csv", CASES)
    assert found == [Filled("c2", "accepted", "", None)]


def test_a_sheet_with_semicolons_is_read():
    assert len(filled(edited("x.csv", *ANSWERS, delimiter=";"), "x.csv", CASES)) == 3


def test_no_cell_is_a_formula():
    rows = list(csv.DictReader(io.StringIO(sheet(list(CASES.values()), "x.csv").decode("utf-8-sig"))))
    assert not [cell for row in rows for cell in row.values() if cell and cell[0] in "=+-@"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "a,b\n1,2\n", "x.csv: it has no column case_id, verdict"),
        ("x.csv", "case_id,verdict\nc0,maybe\n", "line 2: 'maybe' is no verdict"),
        ("x.csv", "case_id,verdict\nc0,accept,more\n", "line 2: it has not as many cells"),
        ("x.csv", "case_id,verdict\nc0\n", "line 2: it has not as many cells"),
        ("x.csv", "case_id,verdict\nnone,accept\n", "line 2: 'none' is no open case"),
        ("x.csv", "case_id,verdict\nc0,accept\nc0,reject\n", "line 3: case c0 has a verdict already"),
        ("x.jsonl", '{"case_id": "c0", "verdict": "accept"}\n{broken\n', "x.jsonl, line 2: it is no JSON"),
        ("x.jsonl", "[1]\n", "line 1: it is no object"),
        ("x.jsonl", '{"case_id": "c0", "verdict": "accept", "expected": 7}\n', "line 1: expected is no text"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_sent(name, text, said):
    with pytest.raises(SheetRefusedError, match="no verdict was sent") as caught:
        filled(text, name, CASES)
    assert said in str(caught.value)
