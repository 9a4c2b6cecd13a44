"""What notify knows of changes: out of the topics that it reads, in whatever order and however often."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from pipelines.notify.changed import ChangeBook
from schemas.alerts import LogRecord
from schemas.releases import Release
from tests.pipelines.alerts.test_changes import MINUTE, START, incident, note, release


def record(mark: Release, **changed: object) -> bytes:
    row = msgspec.to_builtins(mark)
    del row["at"]
    return msgspec.json.encode(LogRecord(table="releases", at=mark.at, row={**row, **changed}))


def test_a_message_names_releases_and_notes_of_its_app() -> None:
    book = ChangeBook()
    mark = record(release("2.4.1", START - MINUTE))
    assert book.apply(mark)
    assert book.apply(mark)
    book.admit(note("first calls with model o3", START - 30 * MINUTE))
    book.admit(incident())
    named = book.named(incident())
    assert [change.text for change in named.changes] == ["release 2.4.1", "first calls with model o3"]
    for series in ({"app": "shop"}, {"team": "a"}):
        assert book.named(replace(incident(), series=series)).changes == ()


def test_the_same_records_in_another_order_give_the_same_message() -> None:
    marks = [record(release(str(n), START - n * MINUTE)) for n in range(1, 5)]
    books = ChangeBook(), ChangeBook()
    for mark, other in zip(marks, reversed(marks), strict=True):
        books[0].apply(mark)
        books[1].apply(other)
    assert books[0].named(incident()).to_json() == books[1].named(incident()).to_json()


def test_what_is_no_release_is_passed_over() -> None:
    book = ChangeBook()
    audit = msgspec.json.encode(LogRecord(table="audit", at=1, row={"a": "releases"}))
    for value in (
        b"",
        b"\xff",
        b'{"releases"',
        audit,
        record(release("1", START), manifest=3),
        record(release("1", START), app=[]),
    ):
        assert not book.apply(value)
    assert book.named(incident()) == incident()
