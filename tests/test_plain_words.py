"""Comments, docstrings and names are plain technical English: no word of ``scripts/plain_words.py`` comes back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = '''
"""Nobody calls this any more."""

limit = 3
"""The letters of a dead letter stay."""


class Run:
    """Whoever holds the lock ends."""

    def told(self, dear_calls: int) -> int:
        self.unfit = dear_calls  # the "door" and ``beat`` are quoted; the heartbeat is technical
        return self.unfit  # the process hears SIGTERM
'''


@pytest.fixture(scope="module")
def plain_words() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_words", ROOT / "scripts" / "plain_words.py")
    assert spec
    assert spec.loader
    module = sys.modules["plain_words"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_comment_docstring_and_name_is_plain(plain_words):
    found = [str(finding) for finding in plain_words.findings(ROOT)]
    assert not found, "\n".join(found)


def test_riddle_words_are_found_in_comments_docstrings_and_names(plain_words):
    found = [(finding.line, finding.word) for finding in plain_words.findings_of(SOURCE, "run.py")]
    assert sorted(found) == [(2, "nobody"), (9, "whoever"), (11, "dear"), (11, "told"), (12, "unfit"), (13, "hears")]


@pytest.mark.parametrize("text", ["a dead letter", "the heartbeat of a stage", "``told`` is a column", "half of it"])
def test_technical_words_and_quoted_names_stay(plain_words, text):
    assert plain_words.in_text(text) == []


def test_every_allowed_word_is_still_there(plain_words):
    for (path, word), why in plain_words.ALLOWED.items():
        words = {finding.word for finding in plain_words.findings_of((ROOT / path).read_text(), path)}
        assert word in words, f"{path} has no {word!r} any more: remove it from ALLOWED"
        assert len(why) > 10
