"""A mark is named by what it says: the same one twice is one, and a way back is a release of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.releases import Release, by_time, contents, differences, in_words, manifest_sha256, release_id, shown

ENTRIES = st.dictionaries(
    st.sampled_from(["code", "prompts.a", "prompts.b", "models.a", "golden"]), st.text(max_size=4)
)


def mark(release="2", manifest=None, at=1, **changed):
    manifest = manifest or {"code": "abc"}
    fields = {"id": f"id-{release}", "manifest_sha256": manifest_sha256(manifest)}
    return Release(app="bot", release=release, manifest=manifest, at=at, **{**fields, **changed})


@given(ENTRIES)
def test_the_order_of_entries_changes_no_hash(entries):
    assert manifest_sha256(entries) == manifest_sha256(dict(reversed(entries.items())))


@given(ENTRIES, ENTRIES)
def test_differences_are_empty_exactly_where_hashes_are_equal(before, after):
    assert (differences(before, after) == []) == (manifest_sha256(before) == manifest_sha256(after))


def test_going_back_to_an_earlier_manifest_is_another_mark():
    first = release_id("bot", "hash-1", "")
    second = release_id("bot", "hash-2", first)
    assert release_id("bot", "hash-1", "") == first
    assert len({first, second, release_id("bot", "hash-1", second), release_id("shop", "hash-1", "")}) == 4


def test_a_mark_that_arrived_twice_is_the_earlier_one():
    assert by_time([mark("2", at=5), mark("1", at=3), mark("2", at=9)]) == [mark("1", at=3), mark("2", at=5)]


def test_a_release_in_words_names_what_changed():
    before = mark("1", {"code": "a" * 40, "prompts.answer": "17", "tools.search": f"sha256:{'1' * 64}"})
    after = mark("2", {"code": "b" * 40, "prompts.answer": "18", "models.answer": "gpt-5"}, note="shorter answers")
    assert in_words(after, before) == (
        "release 2: code aaaaaaaaaaaa → bbbbbbbbbbbb, prompts.answer 17 → 18, models.answer none → gpt-5, "
        "tools.search 111111111111 → none (shorter answers)"
    )
    assert in_words(after, None) == "release 2 (shorter answers)"
    assert contents(before.manifest, 2) == "code aaaaaaaaaaaa, prompts.answer 17 and 1 more"


def test_names_that_are_no_hash_are_shown_whole():
    assert shown("gpt-4o-2024-11-20-with-a-long-name") == "gpt-4o-2024-11-20-with-a-long-name"
    assert shown("md5:abc") == "md5:abc"
