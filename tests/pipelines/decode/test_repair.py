import json

import pytest

from pipelines.decode import Accepted, verdict
from pipelines.decode.locate import dotted, locate, nodes, parts
from pipelines.decode.repair import Edit, repair

GOOD = {
    "v": 1,
    "type": "call",
    "id": "0199f3a4-0000-7000-8000-000000000001",
    "ts": "2026-11-21T07:00:00Z",
    "app": "shop",
    "model": "gpt-4o",
    "tokens": {"input": 5, "output": 2},
}


def event(**changes):
    return json.dumps({**GOOD, **changes}).encode()


SAFE = {
    "a byte order mark": b"\xef\xbb\xbf" + event(),
    "NUL bytes behind it": event() + b"\0\0",
    "an object inside a string": json.dumps(event().decode()).encode(),
    "a key twice, equal": event()[:-1] + b', "app": "shop"}',
    "digits as text": event(tokens={"input": "5", "output": 2}),
    "a whole number with a point": event(tokens={"input": 5.0, "output": 2}),
    "the version as text": event(v="1"),
    "no version": json.dumps({k: v for k, v in GOOD.items() if k != "v"}).encode(),
    "milliseconds as text": event(latency={"total_ms": "3.5"}),
    "epoch milliseconds as text": event(ts="1795244400000"),
    "a time in the compact form of ISO 8601": event(ts="20261121T070000+0000"),
    "a braced UUID": event(id="{0199f3a4-0000-7000-8000-000000000001}"),
    "a number for an app": event(app=7),
    "true as text, in a list": event(tools=[{"name": "a", "ok": True}, {"name": "b", "ok": "True"}]),
    "a type in capitals": event(type="Call"),
    "a status in capitals": event(status="OK"),
    "reserved keys": event(_debug=1, tokens={"input": 5, "_raw": 2}),
    "NaN": event(latency={"total_ms": float("nan")}),
    "a number beyond float": event()[:-1] + b', "latency": {"total_ms": 1e999}}',
    "several at once": event(v="1", app=7, _x=1, tokens={"input": "5"}),
}

GUESSES = {
    "nothing": b"",
    "words": b"hello",
    "cut off": event()[:-20],
    "a key twice, different": event()[:-1] + b', "app": "other"}',
    "a time without a zone": event(ts="2026-11-21 07:00:00"),
    "negative tokens": event(tokens={"input": -5}),
    "no app": json.dumps({k: v for k, v in GOOD.items() if k != "app"}).encode(),
    "a name too long": event(app="x" * 300),
    "an unknown type": event(type="span"),
    "a later version": event(v=2),
    "an array": b"[1]",
    "deep": event(extra={"a": json.loads("[" * 40 + "]" * 40)}),
    "half a token": event(tokens={"input": "5.5"}),
}


@pytest.mark.parametrize("name", SAFE)
def test_what_loses_nothing_is_mended_and_the_id_stays(name):
    assert not isinstance(verdict(SAFE[name]), Accepted)
    mended = repair(SAFE[name])
    assert isinstance(mended.verdict, Accepted)
    assert isinstance(verdict(mended.value), Accepted), "the verdict is that of the bytes handed out"
    assert str(mended.verdict.event.id) == GOOD["id"]
    assert mended.steps


@pytest.mark.parametrize("name", GUESSES)
def test_what_would_be_a_guess_stays_dead(name):
    mended = repair(GUESSES[name])
    assert not isinstance(mended.verdict, Accepted)
    assert mended.verdict == verdict(mended.value)


def test_bytes_that_are_not_utf8_are_replaced_and_the_rest_is_kept():
    mended = repair(event(feature="caf\u00e9").replace(b"caf\\u00e9", b"caf\xe9"))
    assert mended.verdict.event.feature == "caf\ufffd"


def test_a_good_event_comes_back_byte_for_byte():
    value = b'  {"ts": 1795244400000, ' + event()[1:].replace(b'"ts": "2026-11-21T07:00:00Z", ', b"")
    assert repair(value).value == value
    assert repair(value).steps == ()


def test_values_are_never_turned_into_another_value():
    mended = repair(event(tokens={"input": "007", "output": "1e3"}, app=True))
    assert not isinstance(mended.verdict, Accepted), "true is no name of an app"
    tokens = json.loads(mended.value)["tokens"]
    assert tokens["input"] in (7, "007")
    assert tokens["output"] in (1000, "1e3")


def test_edits_set_rename_and_drop_by_path():
    bad = event(tokens={"prompt": 5, "input": -1}, application="shop")
    edits = [
        Edit("drop", "tokens.input"),
        Edit("rename", "tokens.prompt", "tokens.input"),
        Edit("rename", "application", "extra.application"),
        Edit("set", "cache.kind", "none"),
    ]
    mended = repair(bad, edits)
    assert isinstance(mended.verdict, Accepted)
    assert mended.verdict.event.tokens.input == 5
    assert mended.verdict.event.extra == {"application": "shop"}
    assert mended.verdict.event.cache.kind == "none"
    assert len(mended.steps) == 4


def test_an_edit_of_nothing_says_so_and_does_nothing():
    mended = repair(event(), [Edit("drop", "no.such[3].thing"), Edit("rename", "nor.this", "app")])
    assert json.loads(mended.value) == GOOD
    assert all("not there" in step for step in mended.steps)


def test_the_whole_corpus_is_repaired_or_left_dead_without_a_crash(corpus):
    for case in corpus:
        before = verdict(case.value)
        mended = repair(case.value)
        assert mended.verdict == (verdict(mended.value) if case.value is not None else before), case.name
        if isinstance(before, Accepted):
            assert mended.value == case.value, case.name
        else:
            place = locate(case.value, before)
            assert place is None or (place.line >= 1 and place.column >= 1), case.name


PLACES = [
    (event(tokens={"input": "5"}), "tokens.input", '"5"'),
    (event(tools=[{"ok": True}, {"ok": "yes"}]), "tools[1].ok", '"yes"'),
    (event(latency={"total_ms": float("nan")}), "latency.total_ms", "NaN"),
    (event(type="span"), "type", '"span"'),
    (event(v=2), "v", "2"),
    (event(_x=1), "_x", "1"),
    (event()[:-1] + b', "app": "b"}', "app", '"b"'),
    (event(content={"input": "hi"}), "content.input", '"hi"'),
    (event(tokens={"input": -1}), "tokens.input", "-1"),
]


@pytest.mark.parametrize(("value", "path", "found"), PLACES)
def test_the_place_is_named_by_path_line_and_column(value, path, found):
    place = locate(value, verdict(value))
    assert (place.path, place.found) == (path, found)
    assert value.decode().splitlines()[place.line - 1][place.column - 1 :].startswith(found)


def test_broken_json_and_broken_utf8_have_a_place_too():
    broken = b'{"v": 1,\n "type" "call"}'
    assert locate(broken, verdict(broken))[1:] == (2, 9, '"')
    bad = b'{"v": 1,\n "app": "\xff"}'
    assert locate(bad, verdict(bad))[1:] == (2, 10, "0xff")


def test_nodes_agree_with_the_parser_on_every_value():
    text = json.dumps({"a": [1, {"b": 'x,]:"{'}, []], "c": {}, "d.e": None, "f": [[True], -2.5e3]})

    def walk(value, path=()):
        yield path, value
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in inner:
            yield from walk(item, (*path, key))

    told = {n.path: n.text for n in nodes(text)}
    for path, value in walk(json.loads(text)):
        expected = "{" if isinstance(value, dict) else "[" if isinstance(value, list) else json.dumps(value)
        assert json.loads(told[path]) == value if told[path] not in "{[" else told[path] == expected
    assert len(told) == len(list(walk(json.loads(text))))
    assert parts(dotted(("a", 1, "b"))) == ("a", 1, "b")
