"""Bad and odd events with the verdict each must get, by hand. Writes events.jsonl beside this file.

    python tests/corpus/make.py

A line holds ``name``; the message as ``value`` (text), ``base64`` (bytes), ``repeat`` [before, unit, times, after] or
null (no value at all); then either ``reason`` (dead) or ``flags`` and ``columns`` (landed: lake column -> value).
"""

import base64
import json
from pathlib import Path
from typing import Any

ID = "0199f3a4-0000-7000-8000-0000000%05d"
TS = "2026-11-21T07:00:00Z"
CASES: list[dict[str, Any]] = []
_n = 0


def fresh():
    global _n
    _n += 1
    return ID % _n


def call(**fields):
    return {"v": 1, "type": "call", "id": fresh(), "ts": TS, "app": "corpus", "model": "gpt-4o"} | fields


def feedback(**fields):
    return {"v": 1, "type": "feedback", "id": fresh(), "ts": TS, "kind": "thumbs", "call_id": ID % 0} | fields


def evaluation(**fields):
    return {
        "v": 1,
        "type": "eval",
        "id": fresh(),
        "ts": TS,
        "name": "relevance",
        "score": 0.5,
        "call_id": ID % 0,
    } | fields


def without(event, *names):
    return {k: v for k, v in event.items() if k not in names}


def message(value):
    if isinstance(value, dict):
        value = json.dumps(value)
    if isinstance(value, str):
        return {"value": value}
    if isinstance(value, tuple):
        return {"repeat": list(value)}
    if value is None:
        return {"value": None}
    return {"base64": base64.b64encode(value).decode()}


def bad(name, reason, value):
    CASES.append({"name": name, **message(value), "reason": reason})


def odd(name, value, flags=(), **columns):
    CASES.append({"name": name, **message(value), "flags": list(flags), "columns": columns})


def raw(event, more):
    """The event's JSON with ``more`` put before the closing brace, as it stands."""
    return json.dumps(event)[:-1] + "," + more + "}"


def rawb(event, more):
    return json.dumps(event)[:-1].encode() + b"," + more + b"}"


# --- not JSON, not an object ------------------------------------------------------------------------------------
bad("no value: a tombstone", "not_json", None)
bad("empty value", "not_json", "")
bad("only blanks", "not_json", " \n\t ")
bad("only newlines", "not_json", "\n\n\n")
bad("words", "not_json", "hello")
bad("truncated object", "not_json", json.dumps(call())[:-1])
bad("truncated in a string", "not_json", json.dumps(call())[:40])
bad("truncated after a colon", "not_json", '{"v":')
bad("one brace", "not_json", "{")
bad("closing brace only", "not_json", "}")
bad("two objects", "not_json", json.dumps(call()) + json.dumps(call()))
bad("two objects on two lines", "not_json", json.dumps(call()) + "\n" + json.dumps(call()))
bad("an object and a word", "not_json", json.dumps(call()) + "x")
bad("trailing comma", "not_json", json.dumps(call())[:-1] + ",}")
bad("single quotes", "not_json", str(call()))
bad("a comment", "not_json", "/* x */" + json.dumps(call()))
bad("unquoted key", "not_json", raw(call(), "user:1"))
bad("leading zero", "not_json", raw(call(), '"tokens":{"input":01}'))
bad("plus sign", "not_json", raw(call(), '"tokens":{"input":+1}'))
bad("hexadecimal", "not_json", raw(call(), '"tokens":{"input":0x10}'))
bad("number ends in a dot", "not_json", raw(call(), '"latency":{"total_ms":1.}'))
bad("raw newline in a string", "not_json", raw(call(), '"user":"a\nb"'))
bad("raw tab in a string", "not_json", raw(call(), '"user":"a\tb"'))
bad("raw NUL in a string", "not_json", raw(call(), '"user":"a\0b"'))
bad("unknown escape", "not_json", raw(call(), r'"user":"\x41"'))
bad("short unicode escape", "not_json", raw(call(), r'"user":"\u00"'))
bad("byte order mark", "not_json", b"\xef\xbb\xbf" + json.dumps(call()).encode())
bad("python literals", "not_json", raw(call(), '"refused":True'))
bad("null", "not_object", "null")
bad("true", "not_object", "true")
bad("a number", "not_object", "42")
bad("a string", "not_object", '"hello"')
bad("an empty array", "not_object", "[]")
bad("an array with a good event", "not_object", json.dumps([call()]))
bad("NaN alone", "not_object", "NaN")

# --- size and depth ---------------------------------------------------------------------------------------------
bad("one byte over 1 MiB, not even JSON", "too_large", ("", "x", 1_048_577, ""))
bad("a good event padded over 1 MiB", "too_large", (json.dumps(call()), " ", 1_048_577, ""))
bad("10,000 objects deep", "too_deep", ("", '{"a":', 10_000, ""))
bad("10,000 arrays deep", "too_deep", ("", "[", 10_000, ""))
bad("10,000 deep and closed in extra", "too_deep", (json.dumps(call())[:-1] + ',"extra":{"a":', "[", 10_000, "1"))
bad("33 levels in extra", "too_deep", raw(call(), '"extra":' + '{"a":' * 32 + "1" + "}" * 32))
bad("33 levels in an unknown key", "too_deep", raw(call(), '"new":' + "[" * 32 + "]" * 32))
bad(
    "33 levels in prompt.variables",
    "too_deep",
    raw(call(), '"prompt":{"variables":' + '{"a":' * 31 + "1" + "}" * 31 + "}"),
)
odd("32 levels in extra", raw(call(), '"extra":' + '{"a":' * 31 + "1" + "}" * 31), extra='{"a":' * 31 + "1" + "}" * 31)
odd("braces in a text are not depth", call(content={"mode": "full", "output": "{[" * 500}), output_text="{[" * 500)
odd("exactly 1 MiB", ("{" + json.dumps(call())[1:-1] + "}", " ", 1_048_576 - len(json.dumps(call())), ""), app="corpus")

# --- duplicate keys ---------------------------------------------------------------------------------------------
bad("a key twice", "duplicate_key", raw(call(), '"app":"other"'))
bad("a key twice with one value", "duplicate_key", raw(call(), '"app":"corpus"'))
bad("id twice", "duplicate_key", raw(call(), f'"id":"{ID % 99999}"'))
bad("type twice", "duplicate_key", raw(call(), '"type":"call"'))
bad("a nested key twice", "duplicate_key", raw(call(), '"tokens":{"input":1,"input":2}'))
bad("a key twice in a list item", "duplicate_key", raw(call(), '"tools":[{"name":"a","name":"b"}]'))
bad("a key twice in extra", "duplicate_key", raw(call(), '"extra":{"a":1,"a":2}'))
bad("a key twice deep in extra", "duplicate_key", raw(call(), '"extra":{"a":[{"b":1,"b":1}]}'))
bad("an unknown key twice", "duplicate_key", raw(call(), '"new":1,"new":2'))
bad("a key twice, once escaped", "duplicate_key", raw(call(), r'"\u0061pp":"other"'))
bad("a key twice, with a blank before the colon", "duplicate_key", raw(call(), '"app" :"other"'))
bad("a key twice, hidden by an escaped colon", "duplicate_key", raw(call(), r'"user":"\u003a","app":"x"'))
bad("a key twice, hidden by an escaped colon in capitals", "duplicate_key", raw(call(), r'"user":"\u003A","app":"x"'))
bad(
    "a key twice, hidden by an escaped quote and colon",
    "duplicate_key",
    raw(call(ts="2026-11-21T07:00:00+0100"), r'"user":"\u0022:","app":"x"'),
)
bad(
    "a key twice, hidden by a zone without colon",
    "duplicate_key",
    raw(call(ts="2026-11-21T07:00:00+0100"), '"app":"x"'),
)
bad(
    "a key twice, hidden by blanks before colons",
    "duplicate_key",
    '{"v" :1,"type" :"call",' + raw(without(call(ts="2026-11-21T07:00:00+00:00"), "v", "type"), '"app":"x"')[1:],
)
bad("null twice", "duplicate_key", raw(call(), '"user":null,"user":null'))
odd(
    "a text that looks like a repeated key",
    call(user='","app":"x', content={"mode": "full", "output": '"app":"app":'}),
    user_id='","app":"x',
)

# --- UTF-8 and characters ---------------------------------------------------------------------------------------
bad("an invalid byte in a text", "bad_utf8", rawb(call(), b'"user":"\xff"'))
bad("an invalid byte in a key", "bad_utf8", rawb(call(), b'"\xff":1'))
bad("an invalid byte in extra", "bad_utf8", rawb(call(), b'"extra":{"a":"\x80"}'))
bad("overlong NUL", "bad_utf8", rawb(call(), b'"user":"\xc0\x80"'))
bad("overlong slash", "bad_utf8", rawb(call(), b'"user":"\xe0\x80\xaf"'))
bad("a surrogate in UTF-8", "bad_utf8", rawb(call(), b'"user":"\xed\xa0\x80"'))
bad("beyond Unicode", "bad_utf8", rawb(call(), b'"user":"\xf4\x90\x80\x80"'))
bad("cut inside a character", "bad_utf8", rawb(call(), '"user":"é"'.encode()[:-2] + b'"'))
bad("UTF-16", "bad_utf8", json.dumps(call()).encode("utf-16"))
bad("Latin-1", "bad_utf8", rawb(call(), '"user":"é"'.encode("latin-1")))
bad("gzip", "bad_utf8", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")
bad("Avro's magic byte and a schema id", "not_json", b"\x00\x00\x00\x00\x01" + json.dumps(call()).encode())
odd("lone high surrogate", raw(call(), r'"user":"a\ud800b"'), ["replaced_utf8"], user_id="a\ufffdb")
odd("lone low surrogate", raw(call(), r'"user":"a\udc00b"'), ["replaced_utf8"], user_id="a\ufffdb")
odd("surrogates in the wrong order", raw(call(), r'"user":"\udc00\ud800"'), ["replaced_utf8"], user_id="\ufffd\ufffd")
odd("a surrogate pair is a character", raw(call(), r'"user":"\ud83d\ude00"'), user_id="\U0001f600")
odd("NUL", raw(call(), r'"user":"a\u0000b"'), ["replaced_utf8"], user_id="a\ufffdb")
odd("bell, backspace, form feed", raw(call(), r'"user":"\u0007\b\f"'), ["replaced_utf8"], user_id="\ufffd\ufffd\ufffd")
odd("escape sequence of a terminal", raw(call(), r'"user":"\u001b[31mred"'), ["replaced_utf8"], user_id="\ufffd[31mred")
odd("DEL and C1", call(user="a\x7fb\x9bc"), ["replaced_utf8"], user_id="a\ufffdb\ufffdc")
odd("raw DEL and C1", rawb(call(), b'"user":"a\x7fb\xc2\x9bc"'), ["replaced_utf8"], user_id="a\ufffdb\ufffdc")
odd("NUL in extra's key", raw(call(), r'"extra":{"a\u0000":1}'), ["replaced_utf8"], extra='{"a\ufffd":1}')
odd(
    "NUL in a guardrail",
    raw(call(), r'"guardrails":[{"name":"x\u0000","action":"block"}]'),
    ["replaced_utf8"],
    blocked_by="x\ufffd",
)
odd(
    "tab, newline and carriage return stay",
    call(content={"mode": "full", "output": "a\tb\nc\r\nd"}),
    output_text="a\tb\nc\r\nd",
)
odd("a backslash and the letters u0000", call(user="\\u0000 \\b C:\\bin"), user_id="\\u0000 \\b C:\\bin")
odd("right-to-left override", call(user="a\u202eb"), user_id="a\u202eb")
odd("zero width and joiners", call(user="a\u200b\u200d\ufeffb"), user_id="a\u200b\u200d\ufeffb")
odd("emoji of a family", call(user="👨‍👩‍👧‍👦"), user_id="👨‍👩‍👧‍👦")
odd("combining marks are not composed", call(user="e\u0301"), user_id="e\u0301")
odd(
    "line separators of Unicode", call(user="a\u2028b\u2029c\x0bd"), ["replaced_utf8"], user_id="a\u2028b\u2029c\ufffdd"
)
odd("noncharacter", call(user="a\uffffb"), user_id="a\uffffb")
odd("no-break space and section sign", rawb(call(), '"user":"§\u00a0é"'.encode()), user_id="§\u00a0é")
odd("256 characters that are 1,024 bytes", call(user="😀" * 256), user_id="😀" * 256)
bad("257 characters", "range:user", call(user="😀" * 257))

# --- required fields, types ------------------------------------------------------------------------------------
for field in ("v", "type", "id", "ts", "app", "model"):
    bad(f"call without {field}", f"missing:{field}", without(call(), field))
bad("an empty object", "missing:type", "{}")
bad("feedback without kind", "missing:kind", without(feedback(), "kind"))
bad("eval without name", "missing:name", without(evaluation(), "name"))
bad("feedback without a target", "missing:call_id", without(feedback(), "call_id"))
bad("feedback whose target is null", "missing:call_id", feedback(call_id=None))
bad("feedback whose target is empty", "missing:call_id", feedback(call_id=None, response_id=""))
bad("eval without a target", "missing:call_id", without(evaluation(), "call_id"))
bad("eval whose session is no target", "missing:call_id", without(evaluation(session_id="s"), "call_id"))
bad("eval without a result", "missing:score", without(evaluation(), "score"))
bad("eval with a null result", "missing:score", evaluation(score=None, label=None))
for field in ("id", "ts", "app", "model"):
    bad(f"{field} is null", f"type:{field}", call(**{field: None}))
bad("v is null", "type:v", call(v=None))
bad("v is text", "type:v", call(v="1"))
bad("v is 1.0", "type:v", call(v=1.0))
bad("v is true", "type:v", call(v=True))
bad("v is 2", "unsupported_version", call(v=2))
bad("v is 0", "unsupported_version", call(v=0))
bad("v is -1", "unsupported_version", call(v=-1))
bad("v is 2 and all the rest is new", "unsupported_version", {"v": 2, "type": "call", "what": [1]})
bad("type is unknown", "unknown_type", call(type="span"))
bad("type has another case", "unknown_type", call(type="Call"))
bad("type is empty", "unknown_type", call(type=""))
bad("type is a number", "unknown_type", call(type=1))
bad("type is null", "unknown_type", call(type=None))
bad("type is a list", "unknown_type", call(type=["call"]))
bad("type and key NUL", "unknown_type", raw(without(call(), "type"), r'"type":"call\u0000"'))
bad("id is no UUID", "type:id", call(id="abc"))
bad("id is empty", "type:id", call(id=""))
bad("id is a number", "type:id", call(id=7))
bad("id is one digit short", "type:id", call(id="0199f3a4-0000-7000-8000-00000000000"))
bad("id in braces", "type:id", call(id="{0199f3a4-0000-7000-8000-000000000001}"))
odd("id in capitals", call(id="0199F3A4-0000-7000-8000-0000000ABCDE"), id="0199f3a4-0000-7000-8000-0000000abcde")
odd("id without dashes", call(id="0199f3a4000070008000000000" + "0abcdf"), id="0199f3a4-0000-7000-8000-0000000abcdf")
odd("id of version 4", call(id="c0a8f1de-3f44-4b1b-9d5e-2c6b7b7d4a10"), id="c0a8f1de-3f44-4b1b-9d5e-2c6b7b7d4a10")
odd("id all zeros", call(id="00000000-0000-0000-0000-000000000000"), id="00000000-0000-0000-0000-000000000000")
bad("app is empty", "range:app", call(app=""))
bad("app is too long", "range:app", call(app="a" * 257))
bad("app is a number", "type:app", call(app=5))
bad("app is a list", "type:app", call(app=["a"]))
bad("model is empty", "range:model", call(model=""))
bad("user is a number", "type:user", call(user=12345))
bad("session_id is empty", "range:session_id", call(session_id=""))
bad("trace_id is too long", "range:trace_id", call(trace_id="a" * 129))
bad("status is unknown", "range:status", call(status="failed"))
bad("status is a number", "type:status", call(status=200))
bad("error is text", "type:error", call(error="boom"))
bad("error.code is a number", "type:error.code", call(error={"code": 429}))
bad("stream is text", "type:stream", call(stream="true"))
bad("refused is a number", "type:refused", call(refused=0))
bad("retries is a fraction", "type:retries", call(retries=0.5))
bad("retries beyond 16 bits", "range:retries", call(retries=32768))
bad("attempt is negative", "range:attempt", call(attempt=-1))
bad("latency is a number", "type:latency", call(latency=812))
bad("latency is text", "type:latency.total_ms", call(latency={"total_ms": "812"}))
bad("latency is a boolean", "type:latency.total_ms", call(latency={"total_ms": True}))
bad("tokens is a list", "type:tokens", call(tokens=[1, 2]))
bad("tokens in a string", "type:tokens.input", call(tokens={"input": "420"}))
bad("tokens as a decimal", "type:tokens.input", call(tokens={"input": 420.0}))
bad("tokens with an exponent", "type:tokens.output", raw(call(), '"tokens":{"output":1e2}'))
bad("tokens is true", "type:tokens.output", call(tokens={"output": True}))
bad("cost in a string", "type:cost_reported", call(cost_reported="0.01"))
bad("cache is text", "type:cache", call(cache="exact"))
bad("cache.kind unknown", "range:cache.kind", call(cache={"kind": "redis"}))
bad("prompt.version is a number", "type:prompt.version", call(prompt={"version": 17}))
bad("prompt.variables is a list", "type:prompt.variables", call(prompt={"variables": [1]}))
bad("params.max_tokens is text", "type:params.max_tokens", call(params={"max_tokens": "1000"}))
bad("seed beyond 64 bits", "range:params.seed", call(params={"seed": 2**63}))
bad("content is text", "type:content", call(content="hi"))
bad("content.mode unknown", "range:content.mode", call(content={"mode": "partial"}))
bad("content.input is text", "type:content.input", call(content={"input": "hi"}))
bad("a message is text", "type:content.input", call(content={"input": ["hi"]}))
bad(
    "a message's text is a list of parts",
    "type:content.input.text",
    call(content={"input": [{"role": "user", "text": [{"type": "text"}]}]}),
)
bad("tools is an object", "type:tools", call(tools={"name": "x"}))
bad("a null in tools", "type:tools", call(tools=[None]))
bad("tools.args is an object", "type:tools.args", call(tools=[{"args": {"a": 1}}]))
bad("retrieval is a list", "type:retrieval", call(retrieval=[]))
bad("top_k beyond 32 bits", "range:retrieval.top_k", call(retrieval={"top_k": 2**31}))
bad("rank is negative", "range:retrieval.docs.rank", call(retrieval={"docs": [{"rank": -1}]}))
bad("score in a string", "type:retrieval.docs.score", call(retrieval={"docs": [{"id": "a"}, {"score": "0.9"}]}))
bad("guardrail's action unknown", "range:guardrails.action", call(guardrails=[{"name": "pii", "action": "deny"}]))
bad("21 tags", "range:tags", call(tags=["t"] * 21))
bad("a tag of 65 characters", "range:tags", call(tags=["t" * 65]))
bad("a null tag", "type:tags", call(tags=[None]))
bad("extra is text", "type:extra", call(extra="x"))
bad("extra is a list", "type:extra", call(extra=[1]))
bad("extra is text beside an unknown key", "type:extra", call(extra="x", new=1))
bad("feedback kind unknown", "range:kind", feedback(kind="star"))
bad("feedback call_id is no UUID", "type:call_id", feedback(call_id="chatcmpl-1"))
bad("feedback score is text", "type:score", feedback(score="up"))
bad("eval score is a boolean", "type:score", evaluation(score=True))
bad("eval evaluator.kind unknown", "range:evaluator.kind", evaluation(evaluator={"kind": "robot"}))

# --- numbers ----------------------------------------------------------------------------------------------------
bad("NaN", "not_finite:latency.total_ms", raw(call(), '"latency":{"total_ms":NaN}'))
bad("Infinity", "not_finite:latency.ttft_ms", raw(call(), '"latency":{"ttft_ms":Infinity}'))
bad("-Infinity", "not_finite:params.temperature", raw(call(), '"params":{"temperature":-Infinity}'))
bad("1e309", "not_finite:latency.total_ms", raw(call(), '"latency":{"total_ms":1e309}'))
bad("-1e309", "not_finite:cost_reported", raw(call(), '"cost_reported":-1e309'))
bad("1e309 in extra", "not_finite:extra", raw(call(), '"extra":{"a":[1e309]}'))
bad("NaN in an unknown key", "not_finite:extra", raw(call(), '"new":NaN'))
bad("NaN in a score", "not_finite:retrieval.docs.score", raw(call(), '"retrieval":{"docs":[{"score":NaN}]}'))
bad("NaN in an eval", "not_finite:score", raw(without(evaluation(), "score"), '"score":NaN'))
bad("an integer of 5,000 digits", "not_finite:tokens.input", raw(call(), '"tokens":{"input":' + "9" * 5000 + "}"))
bad("nan in lower case", "not_json", raw(call(), '"latency":{"total_ms":nan}'))
bad("negative tokens", "range:tokens.input", call(tokens={"input": -1}))
bad("negative output", "range:tokens.output", call(tokens={"output": -5}))
bad("tokens of 2^53", "range:tokens.input", call(tokens={"input": 2**53}))
bad("tokens of 2^63", "range:tokens.input", call(tokens={"input": 2**63}))
bad("tokens of 2^64", "range:tokens.cache_read", call(tokens={"cache_read": 2**64}))
bad("tokens of 40 digits", "range:tokens.input", call(tokens={"input": 10**40}))
bad("negative latency", "range:latency.total_ms", call(latency={"total_ms": -0.1}))
bad("latency of 1e300", "range:latency.total_ms", raw(call(), '"latency":{"total_ms":1e300}'))
bad("negative cost", "range:cost_reported", call(cost_reported=-0.01))
bad("cost of a billion", "range:cost_reported", call(cost_reported=1e9))
odd(
    "tokens of 2^53 - 1: no price is believed",
    call(tokens={"input": 2**53 - 1}),
    input_tokens=2**53 - 1,
    cost_usd=None,
    cost_status="unpriced",
)
odd("minus zero tokens", raw(call(), '"tokens":{"input":-0,"output":1}'), input_tokens=0, cost_usd="0.000010000")
odd("minus zero latency", raw(call(), '"latency":{"total_ms":-0.0}'), latency_ms=0.0)
odd("smallest float", raw(call(), '"latency":{"total_ms":5e-324}'), latency_ms=5e-324)
odd("underflow to zero", raw(call(), '"latency":{"total_ms":1e-400}'), latency_ms=0.0)
odd("integer where a float is meant", call(latency={"total_ms": 812}), latency_ms=812.0)
odd(
    "cost with an exponent",
    raw(call(model="mystery"), '"cost_reported":1.5E-3'),
    cost_reported_usd="0.001500000",
    cost_usd="0.001500000",
    cost_status="reported",
)
odd(
    "a large integer in extra",
    raw(call(), '"extra":{"a":123456789012345678901234567890}'),
    extra='{"a":123456789012345678901234567890}',
)
odd("seed of 64 bits", call(params={"seed": -(2**63)}), seed=-(2**63))
odd("zero tokens", call(tokens={"input": 0, "output": 0}), cost_usd="0.000000000", cost_status="computed")
odd(
    "cache above input",
    call(tokens={"input": 10, "output": 1, "cache_read": 20}),
    ["token_mismatch"],
    input_cost_usd="0.000000000",
    cache_read_cost_usd="0.000025000",
)
odd(
    "reasoning above output",
    call(tokens={"input": 1, "output": 5, "reasoning": 6}),
    ["token_mismatch"],
    output_cost_usd="0.000050000",
)
odd(
    "one hour's cache above the cache",
    call(tokens={"input": 9, "output": 1, "cache_write": 2, "cache_write_1h": 3}),
    ["token_mismatch"],
    cache_write_1h_tokens=3,
)

# --- time -------------------------------------------------------------------------------------------------------
bad("ts without zone", "type:ts", call(ts="2026-11-21T07:00:00"))
bad("ts is a date", "type:ts", call(ts="2026-11-21"))
bad("ts in words", "type:ts", call(ts="yesterday"))
bad("ts is empty", "type:ts", call(ts=""))
bad("ts as a decimal", "type:ts", call(ts=1795244400000.0))
bad("ts in a string of milliseconds", "type:ts", call(ts="1795244400000"))
bad("ts is a boolean", "type:ts", call(ts=True))
bad("ts on 30 February", "type:ts", call(ts="2026-02-30T00:00:00Z"))
bad("ts at 25 o'clock", "type:ts", call(ts="2026-11-21T25:00:00Z"))
bad("ts in a leap second", "type:ts", call(ts="2016-12-31T23:59:60Z"))
bad("ts in nanoseconds", "range:ts", call(ts=1795244400000000000))
bad("ts before year 1 once in UTC", "range:ts", call(ts="0001-01-01T00:00:00+14:00"))
bad("ts after year 9999 once in UTC", "range:ts", call(ts="9999-12-31T23:59:59-10:00"))
odd("ts in milliseconds", call(ts=1795244400123), ts="2026-11-21T07:00:00.123000+00:00", day="2026-11-21")
odd("ts with an offset", call(ts="2026-11-21T08:30:00+01:30"), ts="2026-11-21T07:00:00+00:00")
odd("ts with +00:00", call(ts="2026-11-21T07:00:00.5+00:00"), ts="2026-11-21T07:00:00.500000+00:00")
odd("ts with a blank", call(ts="2026-11-21 07:00:00Z"), ts="2026-11-21T07:00:00+00:00")
odd("ts with nanoseconds is rounded", call(ts="2026-11-21T07:00:00.123456789Z"), ts="2026-11-21T07:00:00.123457+00:00")
odd("ts in 1970", call(ts=0), ["clock_skew", "clamped"], ts="1970-01-01T00:00:00+00:00", day="2026-11-21")
odd(
    "ts in year 1",
    call(ts="0001-01-01T00:00:00Z"),
    ["clock_skew", "clamped"],
    ts="0001-01-01T00:00:00+00:00",
    day="2026-11-21",
)
odd(
    "ts in 9999",
    call(ts="9999-12-31T23:59:59Z"),
    ["clock_skew", "clamped"],
    ts="9999-12-31T23:59:59+00:00",
    day="2026-11-21",
)
odd("ts before 1970", call(ts=-1000), ["clock_skew", "clamped"], ts="1969-12-31T23:59:59+00:00", day="2026-11-21")
odd(
    "ts in seconds taken for milliseconds",
    call(ts=1795244400),
    ["clock_skew", "clamped"],
    ts="1970-01-21T18:40:44.400000+00:00",
    day="2026-11-21",
)
odd("a day and a half late", call(ts="2026-11-19T19:00:00Z"), day="2026-11-19")
odd("seven days late to the microsecond", call(ts="2026-11-14T07:00:00Z"), day="2026-11-14")
odd(
    "a microsecond more than seven days late",
    call(ts="2026-11-14T06:59:59.999999Z"),
    ["clock_skew", "clamped"],
    day="2026-11-21",
)
odd("tomorrow", call(ts="2026-11-22T07:00:00Z"), day="2026-11-22")
odd(
    "a microsecond beyond tomorrow",
    call(ts="2026-11-22T07:00:00.000001Z"),
    ["clock_skew", "clamped"],
    day="2026-11-21",
)

# --- unknown keys, extra ----------------------------------------------------------------------------------------
bad("a reserved key", "reserved_key", call(_offset=7))
bad("a reserved key nobody uses", "reserved_key", call(_x=1))
bad("only an underscore", "reserved_key", call(**{"_": 1}))
bad("a reserved key inside tokens", "reserved_key", call(tokens={"_input": 1}))
bad("a reserved key in a list item", "reserved_key", call(tools=[{"_name": "x"}]))
bad("a reserved key spelled by an escape", "reserved_key", raw(call(), r'"\u005fdup":true'))
bad("__proto__", "reserved_key", call(__proto__={"a": 1}))
odd("an underscore in extra is data", call(extra={"_a": 1, "__proto__": 2}), extra='{"_a":1,"__proto__":2}')
odd("an unknown key", call(new_field=3), extra='{"new_field":3}')
odd("an unknown key with a null", call(new_field=None), extra='{"new_field":null}')
odd("an unknown key beside extra", call(new_field=3, extra={"a": 1}), extra='{"a":1,"new_field":3}')
odd("an unknown key named as one in extra", call(a=2, extra={"a": 1}), extra='{"a":1,"a~":2}')
odd(
    "an unknown nested key",
    call(tokens={"input": 5, "output": 1, "video": 9}),
    input_tokens=5,
    extra='{"tokens.video":9}',
)
odd("an unknown key in a list item", call(tools=[{"name": "a"}, {"name": "b", "cost": 1}]), extra='{"tools.1.cost":1}')
odd("an unknown key with an empty name", raw(call(), '"":1'), extra='{"":1}')
odd("an unknown key beside a null extra", call(new_field=3, extra=None), extra='{"new_field":3}')
odd("a key of another event type", call(kind="thumbs"), extra='{"kind":"thumbs"}')
odd(
    "a key in capitals is another key",
    call(USER="u"),
    ["unknown_field:USER"],
    extra='{"USER":"u"}',
    user_id=None,
)
odd("unknown objects stay whole", call(new={"a": [1, {"b": None}]}), extra='{"new":{"a":[1,{"b":null}]}}')
odd(
    "65 keys in extra",
    call(extra={f"k{i:02d}": i for i in range(65)}),
    ["extra_cut"],
    extra=json.dumps({f"k{i:02d}": i for i in range(64)}, separators=(",", ":")),
)
odd(
    "64 keys in extra",
    call(extra={f"k{i:02d}": i for i in range(64)}),
    extra=json.dumps({f"k{i:02d}": i for i in range(64)}, separators=(",", ":")),
)
odd(
    "10,000 unknown keys",
    call(**{f"k{i:05d}": 0 for i in range(10_000)}),
    ["extra_cut"],
    extra=json.dumps({f"k{i:05d}": 0 for i in range(64)}, separators=(",", ":")),
)
odd("extra over 8 KiB", call(extra={"big": "x" * 9000, "small": 1}), ["extra_cut"], extra='{"small":1}')
odd("an unknown key over 8 KiB", call(new="x" * 9000), ["extra_cut"], extra="{}")
odd(
    "OpenTelemetry's names on the top level",
    call(**{"gen_ai.request.model": "gpt-4o"}),
    ["unknown_field:gen_ai.request.model"],
    extra='{"gen_ai.request.model":"gpt-4o"}',
)
odd("an unknown key in feedback", feedback(stars=5), extra='{"stars":5}')
odd(
    "an unknown key in eval.evaluator",
    evaluation(evaluator={"kind": "llm", "seed": 1}),
    evaluator_kind="llm",
    extra='{"evaluator.seed":1}',
)

# --- hostile text stays text ------------------------------------------------------------------------------------
for name, text in {
    "SQL": "'; DROP TABLE raw_calls; --",
    "path": "../../etc/passwd",
    "encoded path": "%2e%2e%2fetc",
    "template": "{{7*7}}",
    "script": "<script>alert(1)</script>",
    "Slack": "<!channel> <@U1>",
    "spreadsheet": '=HYPERLINK("http://e","x")',
    "JSON pointer": "$.tokens.input",
    "format": "%s%n{0}",
    "the word NULL": "NULL",
    "the word null": "null",
    "a quote": "'\"`\\",
}.items():
    odd(f"hostile name: {name}", call(feature=text, tenant=text), feature=text, tenant_id=text)

# --- odd but good -----------------------------------------------------------------------------------------------
odd(
    "smallest useful event",
    {
        "v": 1,
        "type": "call",
        "id": fresh(),
        "ts": TS,
        "app": "corpus",
        "model": "gpt-4o",
        "latency": {"total_ms": 812.4},
        "tokens": {"input": 420, "output": 97},
    },
    cost_usd="0.002020000",
    cost_status="computed",
)
odd("pretty-printed", json.dumps(call(user="u"), indent=4), user_id="u")
odd("pretty-printed with CRLF", json.dumps(call(user="u"), indent=2).replace("\n", "\r\n"), user_id="u")
odd("blanks around", " \n\t" + json.dumps(call(user="u")) + "\r\n ", user_id="u")
odd("blanks before colons", json.dumps(call(user="u"), separators=(",", " : ")), user_id="u")
odd("keys in reverse", dict(reversed(call(user="u").items())), user_id="u")
odd(
    "everything null",
    call(**dict.fromkeys(("provider", "tokens", "content", "tools", "tags", "extra", "prompt", "latency"))),
    input_tokens=None,
    tags=None,
    cost_status="unpriced",
)
odd(
    "empty structs",
    call(tokens={}, content={}, retrieval={}, prompt={}, error={}),
    input_tokens=None,
    retrieval_docs=None,
)
odd(
    "empty lists are NULL",
    call(tools=[], guardrails=[], tags=[], content={"mode": "full", "input": []}),
    tools=None,
    guardrails=None,
    tags=None,
    messages=None,
    guardrail_triggered=None,
)
odd("an empty retrieval is a finding", call(retrieval={"docs": []}), retrieval_docs=[])
odd("escaped slashes", raw(call(), r'"user":"a\/b"'), user_id="a/b")
odd("Go's HTML escapes", raw(call(), r'"user":"\u003cb\u003e \u0026"'), user_id="<b> &")
odd("an escaped colon alone", raw(call(), r'"user":"a\u003ab"'), user_id="a:b")
odd("ASCII-escaped German", raw(call(), r'"user":"J\u00fcrgen"'), user_id="Jürgen")
odd(
    "the last user turn",
    call(
        content={
            "mode": "full",
            "input": [
                {"role": "user", "text": "one"},
                {"role": "assistant", "text": "two"},
                {"role": "user", "text": "three"},
                {"role": "tool", "text": "four"},
            ],
        }
    ),
    input_text="three",
)
odd("no user turn", call(content={"mode": "full", "input": [{"role": "system", "text": "one"}]}), input_text=None)
odd(
    "a guardrail that passed",
    call(guardrails=[{"name": "pii", "action": "pass"}]),
    guardrail_triggered=False,
    blocked_by=None,
)
odd(
    "a guardrail that flagged, one that blocked",
    call(
        guardrails=[{"name": "a", "action": "flag"}, {"name": "b", "action": "block"}, {"name": "c", "action": "block"}]
    ),
    guardrail_triggered=True,
    blocked_by="b",
)
odd("a guardrail without an action", call(guardrails=[{"name": "a"}]), guardrail_triggered=False)
odd(
    "a long error message is cut",
    call(status="error", error={"type": "E", "message": "x" * 600}),
    ["clamped"],
    error_message="x" * 500,
    cost_status="free",
)
odd(
    "unmarked content is redacted",
    call(content={"input": [{"role": "user", "text": "mail bob@example.org"}], "output": "to bob@example.org"}),
    ["redacted_at_ingest"],
    input_text="mail <EMAIL_1>",
    output_text="to <EMAIL_1>",
    content_mode="redacted",
)
odd(
    "content under mode none is redacted",
    call(content={"mode": "none", "output": "to bob@example.org"}),
    ["redacted_at_ingest"],
    output_text="to <EMAIL_1>",
    content_mode="redacted",
)
odd(
    "unmarked content with nothing in it",
    call(content={"output": "hello"}),
    output_text="hello",
    content_mode="redacted",
)
odd(
    "full content stays",
    call(content={"mode": "full", "output": "to bob@example.org"}),
    output_text="to bob@example.org",
)
odd("marked content stays", call(content={"mode": "redacted", "output": "<EMAIL_1>"}), output_text="<EMAIL_1>")
odd(
    "unmarked retrieval query is redacted",
    call(retrieval={"query": "bob@example.org"}),
    ["redacted_at_ingest"],
    retrieval_query="<EMAIL_1>",
)
odd(
    "unmarked tool arguments are redacted",
    call(tools=[{"name": "mail", "args": '{"to":"bob@example.org"}'}]),
    ["redacted_at_ingest"],
)
odd(
    "a comment is redacted",
    feedback(kind="comment", comment="call bob@example.org"),
    ["redacted_at_ingest"],
    comment="call <EMAIL_1>",
)
odd(
    "an explanation is redacted",
    evaluation(explanation="of bob@example.org"),
    ["redacted_at_ingest"],
    explanation="of <EMAIL_1>",
)
odd(
    "unknown model", call(model="mystery-9000", tokens={"input": 1, "output": 1}), cost_usd=None, cost_status="unpriced"
)
odd(
    "an answer from the app's cache",
    call(cache={"kind": "exact"}, tokens={"input": 9, "output": 9}),
    cost_usd="0.000000000",
    cost_status="free",
    answer_cache="exact",
)
odd("a failed call without usage", call(status="error"), cost_usd="0.000000000", cost_status="free")
odd(
    "a failed call with usage",
    call(status="error", tokens={"input": 400, "output": 0}),
    cost_usd="0.001000000",
    cost_status="computed",
)
odd("feedback by trace", without(feedback(trace_id="t"), "call_id"), trace_id="t", call_id=None)
odd("feedback by session", without(feedback(session_id="s"), "call_id"), session_id="s")
odd("feedback thumbs down", feedback(score=-1), score=-1.0)
odd("eval with a label only", without(evaluation(label="good"), "score"), label="good", score=None)
odd("eval whose judge failed", without(evaluation(error="timeout"), "score"), error="timeout")
odd("eval with score zero", evaluation(score=0), score=0.0)

# --- fields under another name ------------------------------------------------------------------------------------
odd(
    "the lake's flat names",
    call(input_tokens=420, output_tokens=97, cache_read_tokens=10, latency_ms=812.4, ttft_ms=120, user_id="u1")
    | {"tenant_id": "t1", "error_type": "E", "prompt_name": "p", "temperature": 0.2},
    input_tokens=420,
    output_tokens=97,
    cache_read_tokens=10,
    latency_ms=812.4,
    ttft_ms=120.0,
    user_id="u1",
    tenant_id="t1",
    error_type="E",
    prompt_name="p",
    temperature=0.2,
    extra=None,
    cost_usd="0.002007500",
)
odd("a field's path as one key", call(**{"tokens.input": 8, "content.output": "ho"}), input_tokens=8, output_text="ho")
odd(
    "messages of a chat API at the top",
    call(
        messages=[{"role": "system", "content": "kind"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    ),
    system_text="kind",
    input_text="hi",
    messages=[{"role": "user", "text": "hi"}],
)
odd("content.messages", call(content={"messages": [{"role": "user", "content": "hi"}]}), input_text="hi", extra=None)
odd("turns with content", call(content={"input": [{"role": "user", "content": "hi"}]}), input_text="hi", extra=None)
odd("input and output as texts at the top", call(input="hi", output="ho"), input_text="hi", output_text="ho")
odd("an input that is no conversation", call(input={"q": 1}), ["unknown_field:input"], extra='{"input":{"q":1}}')
odd("user_id in feedback", feedback(user_id="u1"), user_id="u1")
odd("evaluator_kind in an eval", evaluation(evaluator_kind="llm"), evaluator_kind="llm")
odd("an alias with a null", call(input_tokens=None), input_tokens=None, extra=None)
odd(
    "the field wins over its alias",
    call(tokens={"input": 5}, input_tokens=8),
    ["unknown_field:input_tokens"],
    input_tokens=5,
    extra='{"input_tokens":8}',
)
odd(
    "an alias whose value does not fit stays in extra and takes no other along",
    call(input_tokens="8", output_tokens=3, images=["a.png"], latency_ms=-1),
    ["unknown_field:input_tokens", "unknown_field:images", "unknown_field:latency_ms"],
    input_tokens=None,
    output_tokens=3,
    extra='{"input_tokens":"8","images":["a.png"],"latency_ms":-1}',
)
odd(
    "seven aliases whose values do not fit",
    call(
        **dict.fromkeys(("input_tokens", "output_tokens", "latency_ms", "ttft_ms", "seed", "top_p", "max_tokens"), "x")
    ),
    ["unknown_field:input_tokens", "unknown_field:output_tokens", "unknown_field:latency_ms", "unknown_field:ttft_ms"],
    input_tokens=None,
)
odd("a typing error", call(input_token=8), ["unknown_field:input_token"], extra='{"input_token":8}', input_tokens=None)
odd("a typing error in tokens", call(tokens={"inptu": 8}), ["unknown_field:tokens.inptu"], extra='{"tokens.inptu":8}')
odd(
    "names of OpenAI, LiteLLM, Langfuse, OpenInference",
    call(**{"prompt_tokens": 1, "response_cost": 2, "sessionId": "s", "llm.token_count.prompt": 3}),
    [f"unknown_field:{n}" for n in ("prompt_tokens", "response_cost", "sessionId", "llm.token_count.prompt")],
    input_tokens=None,
)
odd(
    "nine typing errors, four flags",
    call(**{f"input_token{c}": 1 for c in "abcdefghi"}),
    [f"unknown_field:input_token{c}" for c in "abcd"],
)
odd("a hostile name", call(**{"input tokens\u202e'": 1}), ["unknown_field:input?tokens??"], input_tokens=None)
odd("Langfuse's names in feedback", feedback(value=1), ["unknown_field:value"], extra='{"value":1}', score=None)
odd(
    "what an emitter names",
    call(extra={"tailrace_unknown_fields": ["input_token", "mine", 5], "input_token": 8}),
    ["unknown_field:input_token"],
    extra='{"input_token":8}',
)
odd("what an emitter names, alone", call(extra={"tailrace_unknown_fields": "x"}), extra=None)

if __name__ == "__main__":
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
    target = Path(__file__).with_name("events.jsonl")
    target.write_text("".join(json.dumps(case) + "\n" for case in CASES))
    print(len(CASES), "cases,", sum("reason" in c for c in CASES), "of them dead,", target.stat().st_size, "bytes")
