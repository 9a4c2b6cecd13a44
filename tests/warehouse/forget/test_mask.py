"""Mentions go out of texts and JSON, and nothing else changes."""

from __future__ import annotations

import json

from warehouse.forget.mask import Mask

CALL = "0195f7e2-0000-7000-8000-000000000001"


def test_an_id_is_replaced_as_a_word_only():
    assert Mask(["u-17"]).text("user u-17: 12x; u-171 and xu-17") == "user forgotten: 12x; u-171 and xu-17"


def test_a_short_id_is_replaced_where_it_must_be_the_id():
    mask = Mask(["7"])
    assert mask.text("user 7: 7 calls of 7") == "user forgotten: 7 calls of 7"
    assert mask.json('{"user":"7","calls":7}') == '{"user":"forgotten","calls":7}'


def test_an_excerpt_is_replaced_in_its_quotes_and_as_a_value():
    mask = Mask([], excerpts=["my name is", "my name is Bob"])
    assert mask.text("grew: e.g. “my name is Bob”") == "grew: e.g. “forgotten”"
    assert mask.text("my name is Bob") == "forgotten"
    assert mask.text("my name is unknown") == "my name is unknown"


def test_calls_leave_lists_and_are_replaced_in_texts():
    mask = Mask([], calls=[CALL])
    assert json.loads(mask.json(json.dumps({"ids": [CALL, "x"], "do": [f"tailrace call {CALL}"]}))) == {
        "ids": ["x"],
        "do": ["tailrace call forgotten"],
    }


def test_json_without_a_mention_keeps_its_very_bytes():
    text = '{ "a" : 1.50, "b": "\\u00e9" }'
    assert Mask(["u-17"]).json(text) == text


def test_what_is_no_json_is_masked_as_a_text():
    assert Mask(["u-17"]).json("u-17 {") == "forgotten {"


def test_needles_are_spelled_as_json_spells_them():
    assert Mask(['a"b']).needles == ['a"b', 'a\\"b']
