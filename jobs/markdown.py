"""Texts of strangers in Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@:-])")
_CONTROL = re.compile(
    r"[^\x20-\x7e\xa0-\u200a\u2010-\u2027\u2030-\ud7ff\uf900-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]+"
)
MOST_CHARS = 300


def one_line(text: str, most: int = MOST_CHARS) -> str:
    """Return ``text`` in one line, without control, direction and invisible characters, cut to ``most``."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def escape(text: str, most: int = MOST_CHARS) -> str:
    """Return ``text`` in one line, without what Markdown, a terminal or a chat would act on."""
    return _SPECIAL.sub(r"\\\1", one_line(text, most))


def code(text: str, most: int = MOST_CHARS) -> str:
    """Return ``text`` in one line as code; backticks in it, which would end it, become apostrophes."""
    return f"`{one_line(text, most).replace('`', chr(39)) or ' '}`"


def block(text: str, language: str = "") -> list[str]:
    """Return ``text`` as the lines of a fenced block that no line of it can end."""
    lines = ["" if not line else _CONTROL.sub(" ", line) for line in text.splitlines()]
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *lines, fence]
