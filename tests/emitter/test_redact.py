"""What is private does not leave, what is not is untouched, and no text makes that slow."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace_emitter import patterns
from tailrace_emitter.redact import MODES, Redactor, apply, find, pseudonym, redact_event

PRIVATE = [
    ("bob.smith+x@mail.example.org", "EMAIL"),
    ("+1 (555) 123-4567", "PHONE"),
    ("+49 30 901820-12", "PHONE"),
    ("555-123-4567", "PHONE"),
    ("020 7946 0958", "PHONE"),
    ("4111 1111 1111 1111", "CARD"),
    ("5500-0000-0000-0004", "CARD"),
    ("378282246310005", "CARD"),
    ("DE89 3704 0044 0532 0130 00", "IBAN"),
    ("GB82WEST12345698765432", "IBAN"),
    ("123-45-6789", "SSN"),
    ("192.168.10.254", "IP"),
    ("sk-proj-abcdefghij0123456789", "KEY"),
    ("AKIAIOSFODNN7EXAMPLE", "KEY"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "KEY"),
    ("xoxb-123456789012-abcdefghij", "KEY"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "JWT"),
]
HARMLESS = [
    "In 2024-01-15 10:30:00 it took 1763640366 ms for 1,000,000 rows, 3.14159265358979 each.",
    "Version 1.2.3 of task-force risk-management, 192.168.1.300 is no address.",
    "order 12345678901234, 4111 1111 1111 1112 fails Luhn? it has the wrong check digit",
    "the bearer of bad news @ home, user@localhost, a@b, @handle",
    "1 2 3 4 5 6 7 8 9 and 0.00000012345",
    "DE89 3704 0044 0532 0130 01 has wrong check digits",
]


@pytest.mark.parametrize(("value", "kind"), PRIVATE)
def test_private_values_become_typed_placeholders(value: str, kind: str) -> None:
    assert Redactor().text(f"see {value}, then go on") == f"see <{kind}_1>, then go on"
    assert Redactor().text(f"({value})").replace("(", "").replace(")", "") == f"<{kind}_1>"
    assert Redactor().text(value) == f"<{kind}_1>"


def test_numbers_that_are_taken_are_not_given_again() -> None:
    redactor = Redactor({"EMAIL": 3})
    assert redactor.text("ann@example.org and bob@example.org") == "<EMAIL_4> and <EMAIL_5>"
    assert redactor.text("+1 (555) 123-4567 or ann@example.org") == "<PHONE_1> or <EMAIL_4>"


@pytest.mark.parametrize("text", HARMLESS[:2] + HARMLESS[3:5])
def test_harmless_text_is_the_very_same_object(text: str) -> None:
    assert Redactor().text(text) is text


def test_numbers_that_fail_their_check_digit_are_no_card_and_no_iban() -> None:
    kinds = {kind for text in (HARMLESS[2], HARMLESS[5]) for _, _, kind in find(text)}
    assert "CARD" not in kinds
    assert "IBAN" not in kinds


def test_one_value_has_one_placeholder_however_it_is_written() -> None:
    redactor = Redactor()
    assert (
        redactor.text("Bob@Example.org or bob@example.org or al@example.org") == "<EMAIL_1> or <EMAIL_1> or <EMAIL_2>"
    )
    assert redactor.text("4111111111111111 = 4111-1111-1111-1111") == "<CARD_1> = <CARD_1>"


@given(st.text(max_size=300))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = Redactor().text(text)
    assert Redactor().text(once) == once


@given(
    st.lists(
        st.one_of(st.sampled_from([v for v, _ in PRIVATE]), st.text("abc ,.;:()\n\t\"'<>äß漢", max_size=12)), max_size=8
    )
)
def test_no_private_value_survives_between_any_words(pieces: list[str]) -> None:
    text = " | ".join(pieces)
    redacted = Redactor().text(text)
    for value, _ in PRIVATE:
        assert value not in redacted
    assert find(redacted) == []


@given(st.text(st.sampled_from("0123456789 -.()/+@aAsk_eyJ:="), max_size=400))
@settings(max_examples=300)
def test_spans_are_in_order_inside_the_text_and_apart(text: str) -> None:
    end = 0
    for start, stop, _ in find(text):
        assert end <= start < stop <= len(text)
        end = stop


EVIL = [
    "@",
    "a@",
    "1",
    "1 ",
    "AA11",
    "sk-",
    "eyJ",
    "-----BEGIN ",
    "0 0",
    "a.a@a.",
    "(0",
    "+1",
    "1.1",
    "AA11 A1 ",
    "earer ",
    "2 3-",
    *(f"{before}{literal}" for literal, _, _ in patterns._SECRETS for before in "-. "),
]


@pytest.mark.parametrize("piece", EVIL)
def test_cost_grows_with_length_and_not_with_its_square(piece: str) -> None:
    def cost(n: int) -> float:
        text, took = piece * (n // len(piece)), []
        for _ in range(3):
            begun = time.process_time()
            Redactor().text(text)
            took.append(time.process_time() - begun)
        return min(took)  # a neighbour on the same core makes a run dearer, never cheaper

    # CPU time of eight times the text; a quadratic pattern would take sixty-four times as long
    assert cost(160_000) < 24 * max(cost(20_000), 0.005)


def event() -> dict[str, Any]:
    canary = "canary bob@example.org"
    return {
        "v": 1,
        "type": "call",
        "id": "01a1fd70-2201-7679-92b8-f08650ac70d6",
        "ts": 1_763_640_366_000,
        "app": "a",
        "model": "m",
        "tokens": {"input": 3},
        "error": {"type": "E", "message": canary},
        "content": {"system": canary, "input": [{"role": "user", "text": canary}], "output": canary, "chars": 66},
        "tools": [{"name": "t", "args": canary}],
        "retrieval": {"query": canary, "docs": [{"id": "d", "text": canary}]},
        "prompt": {"name": "p", "variables": {"who": canary, "deep": [{"er": canary}]}},
    }


def test_every_mode_reaches_every_field_that_follows_it() -> None:
    assert str(apply(event(), "full")).count("bob@example.org") == 9
    redacted = str(apply(event(), "redacted"))
    assert redacted.count("<EMAIL_1>") == 9
    assert "bob@" not in redacted
    for mode in ("hashed", "none"):
        assert "canary" not in str(apply(event(), mode))
    assert apply(event(), "none")["tokens"] == {"input": 3}
    assert apply(event(), "none")["tools"] == [{"name": "t"}]


def test_an_event_is_copied_and_comes_back_as_what_it_was() -> None:
    import msgspec

    from tailrace_emitter.event import Call, Content

    struct = msgspec.convert(event(), Call)
    redacted = redact_event(struct)
    assert isinstance(redacted, Call)
    assert isinstance(redacted.content, Content)
    assert redacted.content.output == "canary <EMAIL_1>"
    assert isinstance(struct.content, Content)
    assert struct.content.output == "canary bob@example.org"
    with pytest.raises(ValueError, match="content mode"):
        redact_event(event(), "loud")
    assert MODES == ("full", "redacted", "hashed", "none")


def test_hashes_are_equal_for_equal_texts_and_keyed_where_there_is_a_key() -> None:
    one, two = apply(event(), "hashed", key="k"), apply(event(), "hashed", key="k2")
    assert one["content"]["output"] == one["content"]["system"]
    assert one["content"]["output"] != two["content"]["output"]


def test_pseudonyms_are_stable_and_keyed() -> None:
    assert pseudonym("alice@example.org", "k") == pseudonym("alice@example.org", b"k")
    assert pseudonym("alice@example.org", "k") != pseudonym("alice@example.org", "other")
    assert pseudonym("alice@example.org", "k").startswith("u_")
    assert len(pseudonym("x", "k")) == 34
