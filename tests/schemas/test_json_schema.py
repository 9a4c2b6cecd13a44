"""What is published equals what is declared, and means what decoding does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pipelines.decode import Reject, verdict
from schemas import json_schema

CORPUS = Path(__file__).parents[1] / "corpus" / "events.jsonl"
BEYOND_JSON_SCHEMA = ("duplicate_key", "too_large", "too_deep", "not_json", "bad_utf8")


def test_the_stored_files_are_what_the_structs_say():
    assert json_schema.stale() == [], "if the change is meant: python -m schemas.json_schema --write"


@pytest.mark.parametrize("name", json_schema.PUBLISHED)
def test_a_published_schema_is_valid_draft_2020_12_and_knows_every_field(name):
    schema = json.loads((json_schema.FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == json_schema.DIALECT
    struct = json_schema.PUBLISHED[name]
    declared = {"type", *struct.__struct_fields__}
    assert set(schema["$defs"][struct.__name__]["properties"]) == declared


def test_the_published_schemas_and_decoding_agree_on_the_corpus():
    validators = {
        name: Draft202012Validator(json_schema.json_schema(struct)) for name, struct in json_schema.PUBLISHED.items()
    }
    compared = 0
    for line in CORPUS.read_text().splitlines():
        case = json.loads(line)
        if not isinstance(case.get("value"), str) or case.get("reason") in BEYOND_JSON_SCHEMA:
            continue
        event = json.loads(case["value"], parse_int=lambda digits: int(digits[:400]))
        found = verdict(case["value"].encode())
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(kind, str) or kind not in validators:
            assert isinstance(found, Reject)
            continue
        if "reason" in case and case["reason"].startswith(
            ("not_finite", "type:id", "type:ts", "range:ts", "type:call_id")
        ):
            continue  # formats and infinities are annotations to JSON Schema
        if case["name"] in STRICTER_THAN_SCHEMA:
            continue
        assert (case["name"], validators[kind].is_valid(event)) == (case["name"], "reason" not in case)
        compared += 1
    assert compared > 150


STRICTER_THAN_SCHEMA = {
    "v is 1.0",  # JSON Schema has one number type: 1.0 is an integer there
    "tokens as a decimal",
    "tokens with an exponent",
    "feedback whose target is empty",
}


def test_a_field_that_changes_is_seen(tmp_path, monkeypatch):
    for name, text in json_schema.files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(json_schema, "FOLDER", tmp_path)
    assert json_schema.main([]) == 0
    (tmp_path / "call.schema.json").write_text("{}", encoding="utf-8")
    assert json_schema.main([]) == 1
    assert json_schema.main(["--write"]) == 0
    assert json_schema.stale() == []
