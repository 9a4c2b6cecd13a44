"""Files of the home beside the lake lose somebody: reports by their calls or the id, caches by time, logs by the id."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, date, datetime

import pytest

from jobs.evals.judge.cache import CacheUnusableError, CachingEndpoint
from jobs.evals.judge.endpoint import Question, Reply
from tailrace.home.forget import reach
from tailrace.home.layout import Home
from tailrace.home.search import files_with

WHO = "o'neil@example.org"
CALL, OTHER = (f"0195f7e2-0000-7000-8000-00000000000{n}" for n in (1, 2))
FIRST = date(2026, 11, 18)
QUOTED = "the answer quotes a canary"


def micros(day):
    return int(datetime(2026, 11, day, 12, tzinfo=UTC).timestamp() * 1e6)


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


class Model:
    def ask(self, question):
        return Reply(question.messages[0]["content"] if question.sample else QUOTED, None)


def ask(path, day, question):
    cache = CachingEndpoint(Model(), path, identity="m", now=lambda: micros(day))
    cache.ask(question)
    cache.close()


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    quality = tmp_path / "reports" / "quality"
    write(quality / "1" / "report.html", f"<a>{CALL}</a>")
    write(quality / "1" / "report.json", "{}")
    write(quality / "2" / "report.html", f"<a>{OTHER}</a>")
    write(tmp_path / "reports" / "named.html", "<p>o&#39;neil@example.org</p>")
    write(tmp_path / "logs" / "notify.log", f'{{"user":"{WHO}","n":1}}\n')
    write(tmp_path / "logs" / "land.log", "{}\n")
    ask(tmp_path / "evals" / "judge.sqlite", 17, Question([{"role": "user", "content": "before"}], {}, 1))
    ask(tmp_path / "evals" / "judge.sqlite", 19, Question([{"role": "user", "content": "after"}], {}))
    for day in (17, 19):
        file = write(tmp_path / "gate" / "answers" / "ab" / f"{day}.json", "{}")
        os.utime(file, (micros(day) / 1e6,) * 2)
    return home


def among(ids):
    assert set(ids) == {CALL, OTHER}
    return FIRST, frozenset({CALL})


def test_what_names_them_goes_and_the_rest_stays(home):
    planned = reach(home, [WHO], among, remove=False)
    assert files_with(home.path, [WHO.encode(), CALL.encode(), QUOTED.encode()])
    log = (home.path / "logs" / "notify.log").open("ab")
    done = reach(home, [WHO], among, remove=True)
    assert done == planned
    assert (done.replies, done.answers) == (1, 1)
    log.write(b"one more\n")
    log.close()
    left = sorted(str(file.relative_to(home.path)) for file in home.path.rglob("*") if file.is_file())
    assert [name for name in left if not name.startswith("evals/")] == [
        *("gate/answers/ab/17.json", "logs/land.log", "logs/notify.log", "reports/quality/2/report.html"),
    ]
    assert (home.path / "logs" / "notify.log").read_text() == f'{{"user":"{"x" * len(WHO)}","n":1}}\none more\n'
    texts = [WHO, "o&#39;neil", CALL, QUOTED]
    assert files_with(home.path, [text.encode() for text in texts]) == [], "no byte of a file holds them"
    with sqlite3.connect(home.path / "evals" / "judge.sqlite") as db:
        assert db.execute("SELECT text FROM replies").fetchall() == [("before",)]


def test_of_nobodys_calls_only_what_names_the_id_goes(home):
    done = reach(home, [WHO], lambda ids: (None, frozenset()), remove=True)
    assert ([folder.name for folder in done.reports], done.replies, done.answers) == (["reports"], 0, 0)
    assert (home.path / "reports" / "quality" / "1" / "report.html").exists()


def test_a_short_id_is_a_word_elsewhere(home):
    write(home.path / "reports" / "quality" / "2" / "report.md", "ann and the announcement")
    done = reach(home, ["ann"], lambda ids: (None, frozenset()), remove=True)
    assert (done.reports, done.logs) == ([], [])


def test_a_home_without_any_of_it_and_a_cache_that_is_none(tmp_path):
    home = Home(tmp_path)
    assert reach(home, [WHO], lambda ids: (FIRST, frozenset()), remove=True).reports == []
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "evals" / "judge.sqlite", "no database, but long enough to be taken for one" * 9)
    with pytest.raises(CacheUnusableError, match="cannot use the judge's cache"):
        reach(home, [WHO], lambda ids: (FIRST, frozenset()), remove=True)
