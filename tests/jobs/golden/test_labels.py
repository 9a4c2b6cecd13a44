"""Data to train a model on: thumbs and edits of all traffic, redacted, and nothing that a golden set holds out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.golden.cases import case_id
from jobs.golden.labels import Form, Labels, labels
from jobs.golden.splits import held_out
from tests.jobs.golden.lake import Home, call, failed, golden_of, said, uid, word


def labelled(number: int, **changes: Any) -> dict[str, Any]:
    text = changes.pop("text", said(number))
    return {
        **{"call_id": uid(number), "system_text": "be kind", "messages": [{"role": "user", "text": text}]},
        **{"input_text": text, "output_text": f"answer {number}", "retrieval_docs": None, "variables": None},
        **{"thumb": None, "edited": None, **changes},
    }


def of(form: Form, *calls: dict[str, Any], cases: Any = ()) -> Labels:
    return labels(calls, cases, form)


def test_an_edit_is_a_pair_and_so_are_a_liked_and_a_disliked_answer_to_the_same_conversation() -> None:
    calls = [
        labelled(1, edited="better", thumb=-1.0),
        *(labelled(i, text="the same question", thumb=thumb) for i, thumb in ((2, 1.0), (3, -1.0), (4, -1.0))),
        labelled(5, thumb=1.0),
        labelled(6, edited="answer 6"),
    ]
    found = of(Form.PREFERENCES, *calls).lines
    assert [(line["chosen"][0]["content"], line["rejected"][0]["content"]) for line in found] == [
        ("better", "answer 1"),
        ("answer 2", "answer 3"),
    ]
    assert found[1]["prompt"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "the same question"},
    ]


def test_a_conversation_ends_with_what_was_written_or_liked_and_a_label_stands_alone() -> None:
    calls = [labelled(1, edited="better", thumb=-1.0), labelled(2, thumb=1.0), labelled(3, thumb=-1.0)]
    ends = [line["messages"][-1] for line in of(Form.CHAT, *calls).lines]
    assert ends == [{"role": "assistant", "content": text} for text in ("better", "answer 2")]
    assert [line["label"] for line in of(Form.THUMBS, *calls).lines] == [False, True, False]
    assert of(Form.THUMBS, labelled(4, thumb=1.0, output_text=None)).lines == ()


def test_a_held_out_case_and_what_asks_nearly_the_same_are_in_no_form() -> None:
    number = next(i for i in range(100) if held_out(case_id("production", uid(i))))
    asked = said(number)
    case = {"case_id": case_id("production", uid(number)), "call_id": uid(number), "messages": None}
    other = next(i for i in range(100) if not held_out(case_id("production", uid(i))))
    free = {**case, "case_id": case_id("production", uid(other)), "call_id": uid(other), "input_text": said(other)}
    calls = [
        labelled(number, edited="x"),
        labelled(500, text=asked + " please", edited="x"),
        labelled(other, edited="y"),
    ]
    for form in Form:
        found = of(form, *[{**c, "thumb": 1.0} for c in calls], cases=[{**case, "input_text": asked}, free])
        assert (found.calls, found.held_out) == (3, 2)
        assert "w" + str(number) + "x" not in json.dumps(found.lines)


def test_texts_name_nobody() -> None:
    mail = "ann@example.org"
    call_ = labelled(1, text=f"i am {mail}", output_text=f"hello {mail}", edited=f"hi {mail}", system_text=mail)
    for form in (Form.PREFERENCES, Form.CHAT):
        text = json.dumps(of(form, call_).lines)
        assert mail not in text
        assert "<EMAIL_1>" in text


@pytest.fixture
def traffic(home: Home) -> Home:
    calls = [
        call(0, response_id="r0"),
        call(1),
        call(2),
        call(3, env="staging"),
        call(4, content_mode="hashed"),
        failed(5),
        call(6, app="other"),
    ]
    words = [
        word(0, kind="edit", edited="first", call_id=uid(1)),
        word(1, kind="edit", edited="better", call_id=uid(1)),  # the last word counts
        word(2, kind="thumbs", score=-1.0, call_id=uid(2)),
        word(3, kind="thumbs", score=1.0, call_id=uid(2)),
        word(4, kind="thumbs", score=1.0, response_id="r0"),
        *(word(5 + i, kind="thumbs", score=1.0, call_id=uid(3 + i)) for i in range(2)),
        word(8, kind="rating", score=1.0, call_id=uid(5)),
        word(9, kind="thumbs", score=1.0, call_id=uid(6)),
    ]
    home.land(calls, raw_feedback=words)
    return home


def test_the_command_writes_the_labels_of_all_traffic(traffic: Home, tmp_path: Path) -> None:
    golden = golden_of(traffic.config)

    def run(*words: str) -> list[Any]:
        file = tmp_path / "out.jsonl"
        file.unlink(missing_ok=True)
        told = golden("labels", "--out", str(file), "--since", "2026-11-01", *words)
        assert file.stat().st_mode & 0o777 == 0o600
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert told.startswith(f"{len(lines)} lines of ")
        return lines

    assert [line["chosen"][0]["content"] for line in run()] == ["better"]
    liked = {line["completion"][0]["content"] for line in run("--format", "thumbs") if line["label"]}
    assert liked == {"answer 0", "answer 2", "answer 6"}
    assert len(run("--format", "chat", "--app", "bot")) == 3
    assert run("--format", "thumbs", "--app", "nobody") == []
