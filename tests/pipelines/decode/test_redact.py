"""What no emitter marked is redacted before it lands, in columns, in dead and in samples."""

from __future__ import annotations

import json

from pipelines.decode import DuplicateWindow, Redaction, decode, decode_metered

CANARY = "canary.person@example.org"


def texts(mode=None):
    content = {"system": f"s {CANARY}", "input": [{"role": "user", "text": f"i {CANARY}"}], "output": f"o {CANARY}"}
    return {
        "content": content | ({"mode": mode} if mode else {}),
        "retrieval": {"query": f"q {CANARY}", "docs": [{"id": "1", "text": f"d {CANARY}"}]},
        "tools": [{"name": "t", "args": f"a {CANARY}"}],
        "error": {"type": "E", "message": f"m {CANARY}"},
        "prompt": {"name": "p", "variables": {"who": CANARY}},
        "extra": {"note": [CANARY]},
    }


def landed(records, books, rules=None):
    return decode(records, books, DuplicateWindow(), epoch=0, landed_at=0, rules=rules)


def test_no_text_field_of_an_unmarked_call_lands_with_personal_data(books, batch, call):
    for mode in (None, "none"):
        decoded = landed(batch([call(**texts(mode))]), books)
        row = decoded.calls.to_pylist()[0]
        assert CANARY not in json.dumps(row, default=str)
        assert row["content_mode"] == "redacted"
        assert row["_flags"] == ["redacted_at_ingest"]
        assert (row["input_text"], row["output_text"], row["retrieval_query"]) == (
            "i <EMAIL_1>",
            "o <EMAIL_1>",
            "q <EMAIL_1>",
        )


def test_a_marker_is_trusted_unless_the_rules_say_everywhere(books, batch, call):
    records = batch([call(**texts("full")), call(**texts("redacted")), call(**texts("hashed"))])
    assert landed(records, books).calls["output_text"].to_pylist() == [f"o {CANARY}"] * 3
    twice = landed(records, books, Redaction(everywhere=True)).calls["output_text"].to_pylist()
    assert twice == [f"o {CANARY}", "o <EMAIL_1>", f"o {CANARY}"]


def test_an_unknown_key_of_an_unmarked_call_is_redacted_too(books, batch, call):
    row = landed(batch([call(contact=CANARY)]), books).calls.to_pylist()[0]
    assert row["extra"] == '{"contact":"<EMAIL_1>"}'


def test_the_head_of_a_dead_event_is_redacted_and_its_bytes_are_kept(books, batch, call):
    value = call(status="nonsense", user=CANARY, **texts("full"))
    decoded = landed(batch([value]), books)
    assert CANARY not in json.dumps(decoded.dead.to_pylist(), default=str)
    assert decoded.dead_bytes["bytes"].to_pylist() == [value]
    assert decoded.dead["app"].to_pylist() == ["bot"]


def test_an_address_cut_by_the_end_of_the_head_does_not_leave_its_first_half(books, batch):
    value = b"x" * 190 + b" " + CANARY.encode()
    head = landed(batch([value]), books).dead["head"].to_pylist()[0]
    assert "canary" not in head


def test_meter_gets_texts_of_asked_rows_only_and_redacted(books, batch, call):
    metered = decode_metered(
        batch([call(), call(**texts()), b"{", call(**texts("full"))]), books, DuplicateWindow(), epoch=0
    )
    assert CANARY not in json.dumps(metered.table.to_pylist(), default=str)
    got = metered.texts([2, 1]).to_pylist()
    assert [r["row"] for r in got] == [2, 1]
    assert [r["output_text"] for r in got] == [f"o {CANARY}", "o <EMAIL_1>"]
    assert [r["retrieval_query"] for r in got] == [f"q {CANARY}", "q <EMAIL_1>"]
    assert metered.texts([]).num_rows == 0
