"""Ids that identify a person are recognised, and one person has one pseudonym whichever way an event takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.decode import DuplicateWindow, Redaction, decode, decode_metered
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from tailrace_emitter import pseudonym
from tailrace_emitter.config import home_key_of, user_mode_of
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.encode import Policy, encode
from tailrace_emitter.ids import new_id
from tailrace_emitter.people import People, looks_personal, looks_reachable

NOW = 1_763_640_366_123_456_000
PERSONAL = [
    "bob@example.org",
    "Bob <bob@example.org>",
    "bob@corp",
    "+49 151 23456789",
    "+4915123456789",
    "(415) 555-2671",
    "415-555-2671",
    "555-0123",
    "4155552671",
    "0151123456",
    "Ann Miller",
    "ann miller",
    "Miller, Ann",
    "J. R. Tolkien",
    "Jean-Luc Picard",
    "Conan O'Brien",
    "ann.miller",
    "José",
    "Ольга",
    "王小明",
    " Ann  Miller ",
    "Ann\tMiller",
    "Ann\u00a0Miller",
    "Ann\u200b Miller",
    "Ann Mu\u0308ller",
    "ann\uff20example.com",
    "+49\u202f151\u202f23456789",
    "0151\u00a0123456",
    "0151\u2013123456",
    "\u0660\u0661\u0665\u0661\u0661\u0662\u0663\u0664\u0665\u0666",
]
OTHER = [
    "u-17",
    "user_123",
    "alice",
    "12345678",
    "0199f3a4-0000-7000-8000-000000000001",
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "u-support-bot-284",
    "svc.v2",
    "batch.job.night",
    "acme:42",
    "17636403661230000",
    "a\u202eb",
    "",
    pseudonym("bob@example.org", "k"),
]


@pytest.mark.parametrize("text", PERSONAL)
def test_mail_addresses_phone_numbers_and_names_look_personal(text: str) -> None:
    assert looks_personal(text)
    assert People("k").user(text) == pseudonym(text, "k")


@pytest.mark.parametrize("text", OTHER)
def test_other_ids_stay_as_they_are(text: str) -> None:
    assert not looks_personal(text)
    assert People("k").user(text) == text


def test_of_sessions_and_tenants_only_mail_addresses_and_international_numbers_are_replaced() -> None:
    for text in ("bob@example.org", "whatsapp:+4915123456789"):
        assert looks_reachable(text)
        assert People("k").other(text) == pseudonym(text, "k")
    for text in ("Acme Corp", "chat 4711", "2026-11-29-0001"):
        assert People("k", every=True).other(text) == text


def test_with_a_key_that_was_set_every_user_is_replaced_and_no_pseudonym_twice() -> None:
    people = People("k", every=True)
    assert people.user("u-17") == pseudonym("u-17", "k")
    assert people.user(people.user("u-17")) == people.user("u-17")


def emitted(policy: Policy, **fields: Any) -> bytes:
    return encode("call", new_id(), NOW, {"model": "gpt-4o", **fields}, policy).value


def landed(values: "list[bytes]", people: "People | None") -> "list[dict[str, Any]]":
    count = len(values)
    records = Records(
        "llm.events", [0] * count, list(range(count)), [NOW // 1000] * count, [None] * count, values, [()] * count
    )
    books, rules = PriceBooks([default_book()]), Redaction(people=people)
    decoded = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0, rules=rules)
    metered = decode_metered(records, books, DuplicateWindow(), epoch=0, rules=rules)
    assert metered.table["user"].to_pylist() == decoded.calls["user_id"].to_pylist()
    assert metered.table["tenant"].to_pylist() == decoded.calls["tenant_id"].to_pylist()
    rows: list[dict[str, Any]] = decoded.calls.to_pylist() + decoded.feedback.to_pylist()
    return rows


@pytest.mark.parametrize("every", [False, True], ids=["home's key", "key that was set"])
def test_a_user_has_one_pseudonym_whichever_way_the_event_takes(every: bool) -> None:
    people = People("k", every=every)
    with_key = Policy("a", user_key="k") if every else Policy("a", home_key="k")
    for user in ("bob@example.org", "u-17"):
        ways = [
            emitted(with_key, user=user),
            emitted(Policy("a"), user=user),
            emitted(Policy("a"), user_id=user),
            json.dumps(
                {"v": 1, "type": "call", "id": new_id(), "ts": 0, "app": "a", "model": "m", "user_id": user}
            ).encode(),
            json.dumps(
                {"v": 1, "type": "feedback", "id": new_id(), "ts": 0, "kind": "copy", "call_id": new_id(), "user": user}
            ).encode(),
        ]
        assert {row["user_id"] for row in landed(ways, people)} == {people.user(user)}


def test_no_mail_address_lands_in_an_id_and_the_row_says_that_it_was_replaced() -> None:
    mail = "bob@example.org"
    values = [emitted(Policy("a"), user=mail, session_id=mail, tenant=mail), emitted(Policy("a"), user="u-17")]
    replaced, plain = landed(values, People("k"))
    assert {replaced[name] for name in ("user_id", "session_id", "tenant_id")} == {pseudonym(mail, "k")}
    assert replaced["_flags"] == ["pseudonymised"]
    assert plain["_flags"] is None
    assert plain["user_id"] == "u-17"


@pytest.mark.parametrize("user", ["Ann Müller", "u-17"])
@pytest.mark.parametrize("name", ["user", "user_id"])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_head_of_a_dead_event_shows_the_pseudonym_of_its_user(user: str, name: str, ascii_only: bool) -> None:
    people = People("k", every=True)
    value = json.dumps({"v": 1, "type": "call", name: user, "role": "user"}, ensure_ascii=ascii_only).encode()
    records = Records("llm.events", [0], [0], [NOW // 1000], [None], [value], [()])
    rules, books = Redaction(people=people), PriceBooks([default_book()])
    (head,) = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0, rules=rules).dead["head"].to_pylist()
    assert json.loads(head)[name] == people.user(user) != user
    assert user not in head


def test_no_key_is_in_the_text_of_what_holds_it() -> None:
    held = [Redaction(people=People("canary")), Policy("a", user_key="canary", home_key=b"canary")]
    assert "canary" not in repr(held)


def test_mode_plain_keeps_every_id() -> None:
    policy = Policy("a", user_key="k", home_key="h", user_mode="plain")
    assert landed([emitted(policy, user="bob@example.org")], None)[0]["user_id"] == "bob@example.org"


def test_the_emitter_finds_the_key_of_the_home_and_an_unknown_mode_replaces_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home_key_of({}) is home_key_of({"TAILRACE_HOME": str(tmp_path)}) is None
    (tmp_path / "user.key").write_text("k\n")
    assert home_key_of({"TAILRACE_HOME": str(tmp_path)}) == "k"
    assert [user_mode_of({"TAILRACE_USER_MODE": m}) for m in ("", "plain", "Plain", "pain")] == [
        "auto",
        "plain",
        "plain",
        "all",
    ]
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path))
    emitter = Emitter("a", bootstrap_servers="127.0.0.1:9", sigterm=False)
    emitter._prepare()
    assert emitter._policy.people == People("k")
    value = emitter._encode(
        "feedback", new_id(), NOW, {"call_id": new_id(), "thumbs": True, "user": "a@b.c"}, True
    ).value
    assert json.loads(value)["user"] == pseudonym("a@b.c", "k")
    emitter.close(0)


def test_the_home_key_makes_no_digest_of_content() -> None:
    digests = {
        json.loads(emitted(Policy("a", content="hashed", home_key=key), output="hi"))["content"]["output"]
        for key in (None, "k")
    }
    assert len(digests) == 1


def test_ids_of_people_in_extra_become_the_same_pseudonyms():
    people = People("k")
    extra = {
        "end_user": "bob@example.org",
        "uid": "u-812",
        "Session_ID": "chat of bob@example.org",
        "metadata": {"user_id": "bob@example.org", "plan": "bob@example.org"},
        "turns": [{"username": "Ann Miller"}, 3],
    }
    bob = pseudonym("bob@example.org", "k")
    assert people.extra(extra) == {
        "end_user": bob,
        "uid": "u-812",
        "Session_ID": pseudonym("chat of bob@example.org", "k"),
        "metadata": {"user_id": bob, "plan": "bob@example.org"},
        "turns": [{"username": pseudonym("Ann Miller", "k")}, 3],
    }
    harmless = {"uid": "u-812", "deep": {"a": [1, {"b": None}]}}
    assert people.extra(harmless) is harmless


@pytest.mark.parametrize("kind", ["call", "feedback", "eval"])
def test_a_user_beside_a_filled_field_does_not_land_in_clear(kind: str) -> None:
    """Whatever sent the event: the emitter is not asked here."""
    mail = "bob@example.org"
    event = {"v": 1, "type": kind, "id": new_id(), "ts": "2025-11-20T13:12:46Z", "app": "a", "user": "u-1"}
    event |= {"end_user": mail, "extra": {"uid": mail, "metadata": {"user_id": mail}}}
    event |= {"model": "m"} if kind == "call" else {"trace_id": "t", "name": "n", "kind": "copy", "score": 1.0}
    records = Records("llm.events", [0], [0], [NOW // 1000], [None], [json.dumps(event).encode()], [()])
    rules, books = Redaction(people=People("k")), PriceBooks([default_book()])
    decoded = decode(records, books, DuplicateWindow(), epoch=0, landed_at=0, rules=rules)
    (row,) = (
        decoded.calls if kind == "call" else decoded.feedback if kind == "feedback" else decoded.evals
    ).to_pylist()
    extra = json.loads(row["extra"])
    assert extra["uid"] == extra["end_user"] == extra["metadata"]["user_id"] == pseudonym(mail, "k")
    assert mail not in str(row)
    assert "pseudonymised" in row["_flags"]


def test_the_emitter_sends_no_user_in_extra_in_clear() -> None:
    value = emitted(Policy("a", home_key="k"), user="u-1", end_user="bob@example.org", extra={"uid": "bob@example.org"})
    assert b"bob@" not in value
    assert value.count(pseudonym("bob@example.org", "k").encode()) == 2
