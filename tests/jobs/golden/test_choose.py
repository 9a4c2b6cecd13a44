"""What the next version holds: strata, near-duplicates, carry-over, reviews. Values in, values out."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.golden.cases import KINDS, case_id, chat_text, content_hash, draw, new_case, redactor, reviewed
from jobs.golden.choose import Before, Chosen, choose
from jobs.golden.settings import GoldenSettings
from jobs.golden.similar import sketch
from jobs.golden.strata import slots, take

SET = "production"
START = datetime(2026, 11, 18, 10, tzinfo=UTC)


def said(number: int) -> str:
    return " ".join(f"w{number}x{i}" for i in range(12))


def call(number: int, *reasons: str, **changes: Any) -> dict[str, Any]:
    text = changes.pop("text", said(number))
    return {
        "call_id": f"00000000-0000-4000-8000-{number:012d}",
        "call_epoch": 0,
        "call_partition": 0,
        "call_offset": number,
        "ts": START + timedelta(seconds=number),
        "app": "bot",
        "feature": "chat",
        "stratum_feature": changes.get("feature", "chat"),
        "model": "gpt-4o",
        "response_model": None,
        "prompt_name": None,
        "prompt_version": None,
        "system_text": "be kind",
        "messages": [{"role": "user", "text": text}],
        "input_text": text,
        "output_text": "no",
        "retrieval_docs": None,
        "variables": None,
        "reasons": list(reasons) or ["error"],
        "edited": None,
        **changes,
    }


def run(calls: Any, before: Before | None = None, *, version: int = 1, **changes: Any) -> Chosen:
    return choose(before or Before(), calls, GoldenSettings(**changes), set_name=SET, version=version)


def number(case: Any) -> int:
    return int(case["call_offset"])


def numbers(chosen: Chosen) -> list[int]:
    return sorted(map(number, chosen.cases))


def test_the_order_in_which_failures_come_changes_nothing():
    calls = [call(i, KINDS[i % 8], app=f"app{i % 3}", text=said(i // 2)) for i in range(120)]
    expected = run(calls, size=40)
    for seed in range(5):
        shuffled = calls[:]
        random.Random(seed).shuffle(shuffled)
        assert run(shuffled, size=40) == expected
        assert content_hash(reversed(run(shuffled, size=40).cases)) == content_hash(expected.cases)
    assert content_hash(run(calls, size=40, seed=2).cases) != content_hash(expected.cases)


def test_of_equal_failures_the_draw_decides_and_graver_ones_come_first():
    calls = [call(i) for i in range(50)]
    lots = sorted(range(50), key=lambda i: draw(1, call(i)["call_id"]))
    assert numbers(run(calls, size=10)) == sorted(lots[:10])
    worse = [*calls, call(77, "error", "low_score:tone"), call(78, "error", "refused")]
    assert {77, 78} < set(numbers(run(worse, size=10)))
    assert numbers(run(worse, size=1)) == [78]


def test_every_stratum_has_a_slot_and_the_rest_goes_by_numbers():
    many = [call(i, app="big") for i in range(90)]
    few = [call(100 + i, app="small") for i in range(10)]
    rare = [call(200, "drift", app="big"), call(201, "error", app="big", feature=None)]
    chosen = run([*many, *few, *rare], size=20)
    assert len(chosen.cases) == chosen.added == 20
    strata = Counter(case["stratum"] for case in chosen.cases)
    assert strata == {
        '["big", "chat", "error"]': 16,
        '["small", "chat", "error"]': 2,
        '["big", "chat", "drift"]': 1,
        '["big", null, "error"]': 1,
    }


@pytest.mark.parametrize(
    ("counts", "total", "given"),
    [
        ({"a": 5, "b": 1}, 10, {"a": 5, "b": 1}),
        ({"a": 5, "b": 1}, 6, {"a": 5, "b": 1}),
        ({"a": 5, "b": 1}, 3, {"a": 2, "b": 1}),
        ({"a": 5, "b": 5, "c": 5}, 4, {"a": 2, "b": 1, "c": 1}),
        ({"a": 1, "b": 2, "c": 3}, 2, {"a": 0, "b": 1, "c": 1}),
        ({"a": 1, "b": 2, "c": 3}, 0, {"a": 0, "b": 0, "c": 0}),
        ({"a": 1000, "b": 10, "c": 10}, 103, {"a": 99, "b": 2, "c": 2}),
        ({}, 5, {}),
    ],
)
def test_slots_go_by_largest_remainder(counts, total, given):
    assert slots(counts, total) == given


def test_slots_are_never_more_than_there_are_and_all_are_given():
    rng = random.Random(3)
    for _ in range(500):
        counts = {str(i): rng.randint(1, 30) for i in range(rng.randint(1, 9))}
        total = rng.randint(0, 150)
        given = slots(counts, total)
        assert sum(given.values()) == min(total, sum(counts.values()))
        assert all(0 <= given[name] <= counts[name] for name in counts)
        assert total < len(counts) or all(given.values())


def test_near_duplicates_are_one_case_the_gravest():
    text = "how do i move my standing order from the old account to the new one before friday"
    calls = [
        call(1, text=text),
        call(2, "thumbs_down", text=text.replace("friday", "monday")),
        call(3, text=text + "?"),
        call(4),
    ]
    chosen = run(calls)
    assert (numbers(chosen), chosen.near_duplicates) == ([2, 4], 2)
    assert numbers(run(calls, similarity=1.0)) == [2, 3, 4] or numbers(run(calls, similarity=1.0)) == [1, 2, 4]


def test_conversations_are_compared_not_their_last_word():
    ending = {"role": "user", "text": "yes"}
    calls = [
        call(i, text="yes", messages=[{"role": "system", "text": "be kind"}, {"role": "user", "text": said(i)}, ending])
        for i in range(3)
    ]
    assert len(run(calls).cases) == 3
    alike = [call(i, text="yes", messages=[{"role": "system", "text": said(i)}, ending]) for i in range(3)]
    assert len(run(alike).cases) == 1


def test_an_id_that_stands_twice_is_one_case_of_its_first_position():
    twice = [call(7, call_offset=9, model="late"), call(7), call(7, call_partition=1, call_offset=0)]
    (case,) = run(twice).cases
    assert (case["call_offset"], case["model"]) == (7, "gpt-4o")


VERDICTS = ("accepted", "rejected")


class Weeks:
    """Versions one after the other, a week apart, as the job makes them."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes
        self.version = 0
        self.cases: tuple[Any, ...] = ()
        self.reviews: dict[str, dict[str, Any]] = {}
        self.all: dict[str, Any] = {}

    def next(self, calls: Any, *, recent_versions: tuple[int, ...] = (), **changes: Any) -> Chosen:
        said = {word: [self.all[i] for i, r in self.reviews.items() if r["verdict"] == word] for word in VERDICTS}
        here = {case["case_id"] for case in self.cases}
        rejected = {case["case_id"]: sketch(chat_text(case)) for case in said["rejected"]}
        returning = [case for case in said["accepted"] if case["case_id"] not in here]
        before = Before(self.cases, recent_versions, self.reviews, returning, rejected)
        chosen = run(calls, before, version=self.version + 1, **{**self.changes, **changes})
        if content_hash(chosen.cases) != content_hash(self.cases):
            self.version += 1
            self.cases = chosen.cases
            self.all |= {case["case_id"]: case for case in chosen.cases}
        return chosen

    def say(self, offset: int, verdict: str, expected: str | None = None) -> None:
        self.reviews[id_of(offset)] = {"verdict": verdict, "expected": expected}


def id_of(offset: int) -> str:
    return case_id(SET, call(offset)["call_id"])


def test_cases_stay_and_room_is_filled_before_any_leaves():
    weeks = Weeks(size=10)
    assert weeks.next([call(i) for i in range(6)]).added == 6
    second = weeks.next([call(100 + i) for i in range(4)])
    assert (second.added, second.kept, second.dropped, len(second.cases)) == (4, 6, 0, 10)


def test_a_full_set_gives_its_turnover_oldest_first():
    weeks = Weeks(size=10, turnover=0.3)
    weeks.next([call(i) for i in range(5)])
    weeks.next([call(100 + i) for i in range(5)])
    third = weeks.next([call(200 + i) for i in range(50)])
    assert (third.added, third.kept, third.dropped) == (3, 7, 3)
    assert [n for n in numbers(third) if n < 200] == [3, 4, 100, 101, 102, 103, 104]
    weeks.next([call(300 + i) for i in range(50)])
    assert [n for n in numbers(weeks.next([])) if n < 200] == [101, 102, 103, 104]


def test_without_turnover_a_full_set_stays_as_it_is():
    weeks = Weeks(size=5, turnover=0.0)
    weeks.next([call(i) for i in range(5)])
    assert weeks.next([call(100 + i) for i in range(5)]).dropped == 0
    assert weeks.version == 1


def test_accepted_cases_never_leave():
    weeks = Weeks(size=6, turnover=1.0)
    weeks.next([call(i) for i in range(6)])
    for offset in range(4):
        weeks.say(offset, "accepted")
    second = weeks.next([call(100 + i) for i in range(50)])
    assert (second.dropped, [n for n in numbers(second) if n < 100]) == (2, [0, 1, 2, 3])
    smaller = weeks.next([], size=2)
    assert numbers(smaller) == [0, 1, 2, 3], "the others left, whatever the turnover; these stay though they are more"


def test_rejected_cases_leave_and_stay_away_and_so_does_what_says_nearly_the_same():
    weeks = Weeks(size=10)
    weeks.next([call(i) for i in range(4)])
    weeks.say(2, "rejected")
    second = weeks.next([call(2), call(50, text=said(2) + " again"), call(51)])
    assert (numbers(second), second.dropped, second.added) == ([0, 1, 3, 51], 1, 1)
    assert numbers(weeks.next([call(2), call(52, text=said(2))])) == [0, 1, 3, 51]
    weeks.say(2, "accepted")
    assert numbers(weeks.next([call(2)])) == [0, 1, 2, 3, 51]


def test_a_reviewers_answer_takes_the_place_of_the_users_edit():
    weeks = Weeks()
    weeks.next([call(1, "edited", edited="from the user"), call(2)])
    assert [(c["expected"], c["expected_from"]) for c in sorted(weeks.cases, key=number)] == [
        ("from the user", "edit"),
        (None, None),
    ]
    weeks.say(1, "accepted", "write to jane@example.org")
    weeks.say(2, "accepted", "no")
    weeks.next([call(1, "edited", edited="a later edit")])
    assert [(c["expected"], c["expected_from"]) for c in sorted(weeks.cases, key=number)] == [
        ("write to <EMAIL_1>", "review"),
        ("no", "review"),
    ]


def test_what_is_said_later_of_a_call_is_added_to_its_case():
    weeks = Weeks()
    weeks.next([call(1, "truncated")])
    weeks.next([call(1, "truncated", "thumbs_down", "edited", edited="better")])
    (case,) = weeks.cases
    assert case["reasons"] == ["thumbs_down", "edited", "truncated"]
    assert case["stratum"] == '["bot", "chat", "truncated"]', "under what it was drawn"
    assert (case["expected"], case["added_in"], weeks.version) == ("better", 1, 2)


def test_what_fails_again_gives_no_room_and_neither_does_what_came_lately():
    weeks = Weeks(size=4, turnover=0.5)
    weeks.next([call(i) for i in range(4)])
    again = [call(0), call(60, text=said(1) + " again")]
    second = weeks.next([*again, *(call(100 + i) for i in range(9))])
    assert [n for n in numbers(second) if n < 100] == [0, 1], "0 itself, 1 in other words"
    third = weeks.next([call(200 + i) for i in range(9)], recent_versions=(2,))
    assert (third.dropped, weeks.version) == (0, 2)


def test_to_choose_again_from_the_same_failures_changes_nothing():
    rng = random.Random(11)
    for _ in range(60):
        size = rng.randint(1, 12)
        weeks = Weeks(size=size, turnover=rng.choice([0.0, 0.3, 0.5, 1.0]))
        upto = 0
        for _ in range(4):
            calls = []
            for _ in range(rng.randint(0, 15)):
                upto += 1
                text = said(rng.randrange(upto))  # now and then what was said before
                calls.append(call(upto, *rng.sample(KINDS[3:], rng.randint(1, 3)), app=rng.choice("ab"), text=text))
            calls += [call(number(c), "thumbs_down") for c in weeks.cases if rng.random() < 0.1]
            for case in weeks.cases:
                if rng.random() < 0.2:
                    weeks.say(number(case), rng.choice(["accepted", "rejected"]))
            shrunk = {"size": max(1, size - rng.randint(0, 3))}
            weeks.next(calls, **shrunk)
            version, first = weeks.version, weeks.cases
            chosen = weeks.next(calls, recent_versions=(version,), **shrunk)
            assert weeks.version == version, (first, chosen)


def test_an_edit_that_changes_nothing_is_no_failure_and_a_digest_no_answer():
    assert new_case(SET, call(1, "edited", edited="no"), version=1) is None
    kept = new_case(SET, call(1, "edited", "error", edited="no"), version=1)
    assert kept is not None
    assert (kept["reasons"], kept["expected"]) == (["error"], None)
    hashed = new_case(SET, call(1, "edited", edited="hmac:" + "0f" * 32), version=1)
    assert hashed is not None
    assert (hashed["reasons"], hashed["expected"], hashed["expected_from"]) == (["edited"], None, None)


def test_every_text_of_a_case_is_redacted_by_one_redactor():
    mail, other = "ann@example.org", "bob@example.org"
    doc = {"id": f"{other}.pdf", "rank": 1, "score": 0.5, "chunk": f"of {mail}", "text": mail, "cited": None}
    case = new_case(
        SET,
        call(
            1,
            "edited",
            system_text=f"you serve {mail}",
            messages=[{"role": "user", "text": f"i am {other}"}],
            input_text=f"i am {other}",
            output_text=f"hello {mail}",
            retrieval_docs=[doc, {"id": None, "rank": 2, "text": None}],
            edited=f"hello {other}",
            variables='{"to": "ann@example.org", "deep": {"list": ["bob@example.org", 3]}}',
        ),
        version=1,
    )
    assert case is not None
    assert mail not in str(case)
    assert other not in str(case)
    assert case["system_text"] == "you serve <EMAIL_1>"
    assert (case["input_text"], case["output_text"]) == ("i am <EMAIL_2>", "hello <EMAIL_1>")
    first, second = case["retrieval_docs"]
    assert (case["expected"], first["text"]) == ("hello <EMAIL_2>", "<EMAIL_1>")
    assert second == {"id": None, "rank": 2, "text": None}
    assert (first["id"], first["chunk"], first["rank"]) == ("<EMAIL_3>", "of <EMAIL_1>", 1)  # bob@example.org.pdf
    assert case["variables"] == '{"deep":{"list":["<EMAIL_2>",3]},"to":"<EMAIL_1>"}'


def test_who_is_found_later_is_not_taken_for_who_stands_there_already():
    """The app redacted what it saw; what it did not see is somebody else."""
    made = call(
        1,
        "edited",
        system_text="you serve <EMAIL_1>, <PHONE_2> and <EMAIL_x>",
        messages=[{"role": "user", "text": "i am bob@example.org"}],
        input_text="i am bob@example.org",
        output_text="hello <EMAIL_3>, your IBAN DE89 3704 0044 0532 0130 00",
        variables='{"to": "<EMAIL_4>"}',
        edited="hello <EMAIL_6>, call +1 (555) 123-4567",
    )
    case = new_case(SET, made, version=1)
    assert case is not None
    assert case["input_text"] == "i am <EMAIL_7>"
    assert case["output_text"] == "hello <EMAIL_3>, your IBAN <IBAN_1>"
    assert case["expected"] == "hello <EMAIL_6>, call <PHONE_3>"
    assert case["system_text"] == made["system_text"]
    assert case == new_case(SET, made, version=1)


def test_a_reviewers_answer_is_numbered_on_from_the_case_and_every_week_alike():
    weeks = Weeks()
    weeks.next([call(1, text="i am ann@example.org", output_text="<EMAIL_2>")])
    (case,) = weeks.cases
    assert case["input_text"] == "i am <EMAIL_3>"
    weeks.say(1, "accepted", "write to carl@example.org, not to <EMAIL_3>")
    for _ in range(3):
        weeks.next([call(1, text="i am ann@example.org", output_text="<EMAIL_2>")])
        assert weeks.cases[0]["expected"] == "write to <EMAIL_4>, not to <EMAIL_3>"
    assert weeks.version == 2
    text = redactor(case, case["expected"], "dora@example.org and <EMAIL_7>", "note")
    assert text("dora@example.org and <EMAIL_7>") == "<EMAIL_8> and <EMAIL_7>"
    assert (text("dora@example.org"), text(None), text("")) == ("<EMAIL_8>", None, "")


def test_an_edit_that_comes_later_comes_with_the_texts_it_was_numbered_with():
    told = {"text": "i am ann@example.org", "output_text": "no"}
    weeks = Weeks()
    weeks.next([call(1, "error", **told)])
    assert weeks.cases[0]["input_text"] == "i am <EMAIL_1>"
    weeks.next([call(1, "error", "edited", edited="ask <EMAIL_1>", **told)])
    (case,) = weeks.cases
    assert (case["input_text"], case["expected"]) == ("i am <EMAIL_2>", "ask <EMAIL_1>")


def test_an_answer_that_was_withdrawn_goes_and_a_users_edit_comes_again():
    weeks = Weeks()
    edited = [call(1, "edited", edited="from the user"), call(2)]
    weeks.next(edited)
    for offset in (1, 2):
        weeks.say(offset, "accepted", "from a reviewer")
    weeks.next(edited)
    assert {case["expected_from"] for case in weeks.cases} == {"review"}
    for offset in (1, 2):
        weeks.say(offset, "accepted", " ")
    weeks.next(edited)
    told = [("from the user", "edit"), (None, None)]
    assert [(c["expected"], c["expected_from"]) for c in sorted(weeks.cases, key=number)] == told
    weeks.next([])
    assert weeks.version == 3
    assert reviewed(weeks.cases[0], {"verdict": "accepted", "expected": None}) is weeks.cases[0]


def test_what_was_accepted_after_it_had_left_comes_back_and_gives_room_to_nobody():
    weeks = Weeks(size=2, turnover=1.0)
    weeks.next([call(1), call(2)])
    weeks.next([call(3), call(4)])
    assert numbers_of(weeks) == [3, 4]
    weeks.say(1, "accepted", "an answer")
    back = weeks.next([call(5), call(6), call(7)])
    assert (back.added, back.kept, back.dropped, len(back.cases)) == (2, 0, 2, 2)
    assert 1 in numbers_of(weeks)
    assert [(c["added_in"], c["expected"]) for c in weeks.cases if number(c) == 1] == [(3, "an answer")]
    weeks.next([call(8)], recent_versions=(3,))
    assert weeks.version == 3
    assert 1 in numbers(weeks.next([call(9), call(10)]))


def numbers_of(weeks: Weeks) -> list[int]:
    return sorted(map(number, weeks.cases))


def test_a_stratum_is_an_app_a_feature_or_the_rest_of_them_and_a_kind_of_reason():
    made = [
        call(1, "low_score:tone", feature="id-1", stratum_feature="*"),
        call(2, "low_score:order-2", feature="id-2", stratum_feature="*"),
        call(3, "low_score:tone"),
    ]
    strata = {number(case): case["stratum"] for case in run(made).cases}
    assert strata == {n: f'["bot", "{f}", "low_score"]' for n, f in ((1, "*"), (2, "*"), (3, "chat"))}


def test_the_hash_is_of_the_content_alone():
    one, two = run([call(1)]).cases[0], run([call(2)]).cases[0]
    assert content_hash([one, two]) == content_hash([two, one])
    assert content_hash([one]) == content_hash([{**one, "added_in": 9, "version": 3, "set_name": "x"}])
    assert content_hash([one]) != content_hash([{**one, "expected": "x"}])
    assert content_hash([]) != content_hash([one])


def test_take_keeps_the_order_inside_a_stratum():
    cases = [{"stratum": "a", "n": 1}, {"stratum": "b", "n": 2}, {"stratum": "a", "n": 3}]
    assert [c["n"] for c in take(cases, 2)] == [1, 2]
