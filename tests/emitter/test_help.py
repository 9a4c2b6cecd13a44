"""``help()`` names every field and its unit, and ``observe`` records what went in."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

import tailrace_emitter
from schemas.arrow import event_columns
from tailrace_emitter import event as ev
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.encode import Policy, encode

UNITS = {"ms": "milliseconds", "tokens": "tokens", "USD": "USD", "images": "images"}
SHORT = {"messages": "input", "output_text": "output", "system_text": "system"}
"""Names that ``help`` prefers to those of the lake."""
BY_THE_EMITTER = {"v", "id", "content_truncated", "content_chars"}


def test_help_of_call_lists_every_field_with_its_unit() -> None:
    text = tailrace_emitter.call.__doc__ or ""
    lines = re.findall(r"^        ([a-z_0-9, ]+): (.*(?:\n            .*)*)", text, re.MULTILINE)
    described_as = {name: described for names, described in lines for name in names.split(", ")}
    for column in event_columns(ev.Call):
        name = column.path[0] if len(column.path) == 1 else SHORT.get(column.name, column.name)
        if name in BY_THE_EMITTER:
            continue
        assert re.search(rf"\b{name}\b", text), name
        if column.unit and name != "max_tokens":
            assert UNITS[column.unit] in described_as[name], name
    assert "response_id" in (tailrace_emitter.feedback.__doc__ or "")


class Sent:
    """The events of an emitter, encoded, in place of a broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.emitter = Emitter("a", bootstrap_servers="127.0.0.1:9", sigterm=False)
        self.fields: list[dict[str, Any]] = []
        monkeypatch.setattr(self.emitter._sender, "put", lambda kind, fields, **_: self.fields.append(fields))

    def events(self, content: str = "full") -> "list[dict[str, Any]]":
        policy = Policy("a", content=content)
        made = (encode("call", "0199f3a4-0000-7000-8000-000000000001", 0, f, policy).value for f in self.fields)
        return [json.loads(value) for value in made]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


def turns(event: "dict[str, Any]") -> Any:
    return [turn["text"] for turn in event["content"]["input"]]


def test_observe_records_the_arguments_as_input_and_the_text_as_output(sent: Sent) -> None:
    @sent.emitter.observe(model="m")
    def one(text: str) -> str:
        return text.upper()

    @sent.emitter.observe(model="m")
    def many(question: str, *rest: int, top: int = 3, client: Any = None) -> str:
        return "x"

    @sent.emitter.observe(model="m")
    def chat(messages: Any) -> Iterator[str]:
        yield "a"
        yield "b"

    class Bot:
        @sent.emitter.observe(model="m")
        def ask(self, text: str) -> str:
            return "y"

    @sent.emitter.observe(model="m", input="given")
    def explicit(text: str) -> str:
        return "z"

    @sent.emitter.observe(model="m")
    def nothing() -> str:
        return "n"

    one("hi")
    many("why?", 1, 2, top=5, client=object())
    assert list(chat([{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}])) == ["a", "b"]
    Bot().ask("self is left out")
    explicit("ignored")
    nothing()
    events = sent.events()
    assert turns(events[0]) == ["hi"]
    assert events[0]["content"]["output"] == "HI"
    assert json.loads(turns(events[1])[0]) == {"question": "why?", "args": [1, 2], "top": 5, "client": "<object>"}
    assert (turns(events[2]), events[2]["content"]["system"], events[2]["content"]["output"]) == (["hello"], "s", "ab")
    assert turns(events[3]) == ["self is left out"]
    assert turns(events[4]) == ["given"]
    assert "input" not in events[5]["content"]
    assert all("extra" not in event for event in events)


def test_what_observe_records_follows_the_content_mode(sent: Sent) -> None:
    @sent.emitter.observe(model="m")
    def ask(text: str, mail: str) -> str:
        return mail

    ask("hi", "bob@example.org")
    assert "bob@example.org" not in json.dumps(sent.events("redacted"))
    assert "<EMAIL_1>" in turns(sent.events("redacted")[0])[0]
    assert "input" not in sent.events("none")[0]["content"]


def test_observe_records_the_arguments_of_coroutines(sent: Sent) -> None:
    @sent.emitter.observe(model="m")
    async def ask(text: str) -> str:
        return "ho"

    assert asyncio.run(ask(text="hi")) == "ho"
    assert turns(sent.events()[0]) == ["hi"]


def test_an_argument_that_is_named_like_a_secret_stays_out_of_the_input(sent: Sent) -> None:
    @sent.emitter.observe(model="m")
    def ask(question: str, password: str, options: dict[str, object], max_tokens: int = 5) -> str:
        return "answer"

    @sent.emitter.observe(model="m")
    def login(api_key: str) -> str:
        return "in"

    ask("why?", "canary", {"apiKey": "canary", "auth_token": "canary", "depth": 2}, max_tokens=9)
    login("canary")
    asked, logged_in = (event["content"]["input"][0]["text"] for event in sent.events())
    assert "canary" not in asked + logged_in
    assert json.loads(asked) == {
        "question": "why?",
        "password": "[secret]",
        "options": {"apiKey": "[secret]", "auth_token": "[secret]", "depth": 2},
        "max_tokens": 9,
    }
