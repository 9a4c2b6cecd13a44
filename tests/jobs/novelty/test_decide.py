"""What is new, what is one change, and when nothing is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.novelty.decide import Settings, changes, is_due_for_note, new_values
from jobs.novelty.values import KINDS, Value

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=20)
DEFAULT = Settings()


def value(kind="model", text="m2", *, minutes=60, app="bot", **changed):
    first = NOW - timedelta(minutes=minutes)
    fields = {"within": None, "last": NOW, "calls": 100, "new_in_week": 1}
    times = {"app_first": LONG_AGO, "kind_first": LONG_AGO, "within_first": LONG_AGO}
    return Value(app=app, kind=kind, value=text, first=first, **{**fields, **times, **changed})


def test_a_value_of_an_app_that_is_older_than_a_day_is_new():
    (found,) = new_values([value()], DEFAULT)
    assert found.series == {"app": "bot", "model": "m2"}


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_first_day_of_an_app_nothing_is_new(kind):
    settings = Settings(kinds=tuple(KINDS))
    young = NOW - timedelta(hours=24)
    assert new_values([value(kind, app_first=young, kind_first=young, within_first=young)], settings) == []
    assert len(new_values([value(kind)], settings)) == 1


def test_an_emitter_that_begins_to_report_a_field_makes_no_note_and_the_first_tool_of_an_app_does():
    begun = NOW - timedelta(minutes=60)
    assert new_values([value("provider", kind_first=begun)], DEFAULT) == []
    assert len(new_values([value("tool", kind_first=begun)], DEFAULT)) == 1


def test_the_fingerprints_of_a_new_model_are_part_of_it_and_a_later_one_is_news():
    young = {"within": "m2", "within_first": NOW - timedelta(hours=2)}
    old = {"within": "m1", "within_first": LONG_AGO}
    found = new_values([value("fingerprint", "fp1", **young), value("fingerprint", "fp2", **old)], DEFAULT)
    assert [each.series for each in found] == [{"app": "bot", "model": "m1", "fingerprint": "fp2"}]


def test_a_kind_that_changes_all_the_time_is_not_noted():
    assert new_values([value("feature", new_in_week=21)], DEFAULT) == []
    assert len(new_values([value("feature", new_in_week=20)], DEFAULT)) == 1


def test_apps_and_kinds_that_are_left_out_are_left_out():
    assert new_values([value()], Settings(ignore=("bot",))) == []
    assert new_values([value()], Settings(kinds=("tool",))) == []


def test_values_that_began_together_are_one_change_and_the_first_one_names_it():
    values = [
        value("provider", "azure", minutes=59),
        value("response_model", "m2-2026", within="m2", minutes=60),
        value("model", "m2", minutes=60),
        value("tool", "search", minutes=40),
        value("model", "m3", minutes=60, app="shop"),
    ]
    found = changes(new_values(values, DEFAULT), DEFAULT)
    assert [[each.value for each in change.values] for change in found] == [
        ["m2", "m2-2026", "azure"],
        ["search"],
        ["m3"],
    ]


@pytest.mark.parametrize(
    ("calls", "minutes", "ripe"), [(20, 5, True), (20, 4, False), (19, 59, False), (3, 60, True), (2, 600, False)]
)
def test_it_is_told_with_calls_enough_or_after_an_hour(calls, minutes, ripe):
    (change,) = changes(new_values([value(calls=calls, minutes=minutes)], DEFAULT), DEFAULT)
    assert is_due_for_note(change, NOW, DEFAULT) is ripe


@given(st.lists(st.tuples(st.sampled_from(list(KINDS)), st.integers(0, 2000), st.sampled_from("ab")), max_size=30))
def test_every_new_value_is_in_one_change_of_its_app_whatever_their_order(drawn):
    values = [value(kind, f"v{n}", minutes=minutes, app=app) for n, (kind, minutes, app) in enumerate(drawn)]
    settings = Settings(kinds=tuple(KINDS))
    found = changes(new_values(values, settings), settings)
    assert found == changes(new_values(values[::-1], settings), settings)
    assert sorted(each.value for change in found for each in change.values) == sorted(v.value for v in values)
    for change in found:
        assert len({each.app for each in change.values}) == 1
        assert change.values[-1].first - change.first <= timedelta(minutes=settings.group_min)
