"""What changed before an alert: the newest three, in its last 24 hours, and the manifest to go back to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.alerts.changes import GOOD_AFTER, RECENT, Past, changes, enriched, known_good
from schemas.alerts import Change, Window, rfc3339
from schemas.releases import Release, manifest_sha256
from tests.tailrace.alerts import alert

DAY, MINUTE = 86_400_000_000, 60_000_000
START = 1_760_000_000_000_000


def release(name, at, **manifest):
    manifest = manifest or {"code": name}
    digest = manifest_sha256(manifest)
    return Release(id=name, app="bot", release=name, manifest=manifest, manifest_sha256=digest, at=at)


def incident(at=START, **changed):
    window = Window(rfc3339(at), rfc3339(at + MINUTE))
    return alert({"app": "bot"}, **{"window": window, "detected_at": rfc3339(at + MINUTE), **changed})


def note(name, at, emitted_at=None):
    fields = {"detector": "novelty", "rule": "new_model", "severity": "info", "id": name}
    return incident(at, title=f"app bot: {name}", detected_at=rfc3339(emitted_at or at + 5 * MINUTE), **fields)


def past(*, releases=(), alerts=()):
    found = Past()
    for each in releases:
        found.add_release(each)
    for each in alerts:
        found.add_alert(each)
    return found


def test_releases_and_notes_of_the_last_day_newest_first_and_the_last_known_good():
    """The golden text: what a person reads in every alert."""
    known = past(
        releases=[
            release("1", START - 9 * DAY, code="old"),
            release("2", START - 5 * DAY, code="abc", **{"prompts.answer": "17"}),
            release("3", START - 3 * MINUTE, code="abd", **{"prompts.answer": "18"}),
        ],
        alerts=[note("first calls with model o3", START - 60 * MINUTE), note("long ago", START - 2 * DAY)],
    )
    found = changes(known, incident())
    assert [(change.kind, change.text) for change in found] == [
        ("release", "release 3: code abc → abd, prompts.answer 17 → 18"),
        ("novelty", "first calls with model o3"),
        ("known_good", f"last known good: release 2, manifest {known.releases[1].manifest_sha256[:12]} "
         "(code abc, prompts.answer 17)"),
    ]  # fmt: skip
    assert found[0].at == rfc3339(START - 3 * MINUTE)


def test_at_most_three_are_named():
    releases = [release(str(n), START - (10 - n) * MINUTE) for n in range(6)]
    assert [c.text.split(":")[0] for c in changes(past(releases=releases), incident())] == [
        "release 5",
        "release 4",
        "release 3",
    ]


@pytest.mark.parametrize("at", [START - RECENT - MINUTE, START + 2 * MINUTE])
def test_what_is_older_than_a_day_or_younger_than_the_alert_is_not_its_cause(at):
    assert changes(past(releases=[release("1", at)]), incident()) == ()


def test_a_note_that_was_written_after_the_alert_shows_to_whoever_looks_later():
    known = past(alerts=[note("model o3", START - MINUTE, emitted_at=START + 10 * MINUTE)])
    assert changes(known, incident()) == ()
    assert [c.text for c in changes(known, incident(), all_known=True)] == ["model o3"]


def test_a_note_does_not_name_itself_and_an_end_is_left_as_it_is():
    known = past(alerts=[note("model o3", START)])
    assert changes(known, note("model o3", START)) == ()
    found = (Change("", "release", "release 1"),)
    assert enriched(incident(state="resolved"), found).changes == ()
    assert enriched(incident(changes=(Change("", "cost", "own"),)), found).changes[0].text == "own"


def test_a_manifest_is_known_good_where_it_ran_for_a_day_without_an_alert():
    marks = [release("1", START - 6 * DAY), release("2", START - 4 * DAY), release("3", START - DAY // 2)]
    assert known_good(marks, [], START) == marks[1]
    assert known_good(marks, [START - 3 * DAY], START) == marks[0]
    assert known_good(marks, [START - 3 * DAY, START - 5 * DAY], START) is None
    assert known_good(marks, [START], START) == marks[1]  # the alert itself is no reason against it
    assert known_good(marks[:2], [], START) == marks[1]  # it still runs
    assert known_good([], [], START) is None


def test_notes_are_no_reason_against_a_release_and_alerts_are_counted_once():
    known = past(alerts=[note("a", START), incident(), incident(), incident(START + 1, severity="info")])
    assert list(known.troubles) == [START]


def test_a_time_that_cannot_be_read_gives_no_change():
    assert changes(past(releases=[release("1", START)]), incident(window=Window("x", "y"))) == ()


@given(st.lists(st.integers(0, 20 * DAY), max_size=12), st.lists(st.integers(0, 20 * DAY), max_size=12))
def test_a_known_good_release_had_its_day(ages, troubles):
    marks = sorted((release(str(n), START - age) for n, age in enumerate(ages)), key=lambda mark: mark.at)
    began = [START - age for age in troubles]
    good = known_good(marks, began, START)
    if good is not None:
        end = next((mark.at for mark in marks if mark.at > good.at), START)
        assert end - good.at >= GOOD_AFTER
        assert not any(good.at <= at < end for at in began)
