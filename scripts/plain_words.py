"""Find words in comments, docstrings and names that are no plain technical English: ``python scripts/plain_words.py``.

A reader of this code knows Kafka, DuckDB and Prometheus, and may not be a native speaker of English. Metaphors ("door",
"fate"), personification ("the job says", "the process hears") and literary forms ("anew", "whoever") cost such a reader
a second look. Words with a technical meaning stay: a dead letter, a heartbeat, an Alertmanager silence.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("emitter/tailrace_emitter", "schemas", "warehouse", "pipelines", "jobs", "tailrace")
"""What users and operators run."""
TEXT_WORDS = {
    "told|tells?|says?|said|speaks?|hears?|heard": "contains, states, reports, receives",
    "stands?|stood|standing|lies|lay": "is",
    "nobody(?:'s)?|somebody(?:'s)?|whoever": "no process, another process, the caller",
    "whatever|wherever|whichever|nowhere": "any, every, the first of, only in",
    "lest|anew|hence|thereof|seldom|outright|till": "so that not, again, so, rarely",
    "for ever|once more|so many|as good as|at heart|in the making|in hand|in mid": "without limit, again, a number of",
    "fates?|(?:came|comes|becomes?|became) of": "outcome, result",
    "dear|dearer|dearest": "expensive",
    "mends?|mended|mending|unfit": "repair, invalid",
    "harms?|harmed|gone|born": "corruption, deleted, started",
    "calm|calmer|settles?|settled|young|younger|youngest": "quiet, resolved, new",
    "doors?|desk|pulse|beats?|ceiling|halves": "name the thing",
    "shield|partings?": "name the thing",
    "spells?|spelled": "the form of",
    "lives|lived|dies|died": "runs, ends",
    "wants?|wanted|knew|knows|believes?|believed": "needs, has, accepts",
    "remembers?|remembered|forgets|forgot|forgotten": "stores, removes",
    "silent|silently": "idle, without an error",
    "lets? go|letting go|takes? in|look at once": "close, add",
    "(?:own|last) word|words? for it": "value",
    "ringing|rung|ripe|newcomers?": "in breach, due, new series",
    "taught|teach(?:es)?": "learned",
    "g[ai]ve way|gives way|flickers?|siblings?": "evicted, a short breach, related findings",
}
"""What a comment or docstring must not contain -> what to write instead."""

NAME_WORDS = {
    "told": "emitted", "tell": "emit", "say": "report", "said": "options", "says": "description", "hear": "receive",
    "heard": "received", "stand": "position", "stands": "current", "desk": "runner", "calm": "recovered",
    "settle": "resolve", "settled": "resolved", "unfit": "invalid", "mend": "repair", "mended": "repaired",
    "dear": "expensive", "dearest": "most_expensive", "whose": "owner", "born": "started", "buried": "dead",
    "believed": "plausible", "overslept": "suspended", "spoken": "texts",
    "harmed": "damaged", "pulse": "heartbeat", "anew": "again", "ringing": "breaches", "ripe": "eligible",
    "young": "warm_up", "decade": "ten_minutes", "decades": "ten_minutes", "sane": "plausible", "strays": "late",
}  # fmt: skip
"""What no name may contain, as one of its words -> what to write instead."""

ALLOWED = {
    (
        "jobs/evals/scorers/people.py",
        "said",
    ): "a scorer's version is a hash of its code: a new name is a new series",
    ("tailrace/broker/home.py", "born"): "a key of a file that other versions read",
    ("tailrace/cli/demo.py", "calm"): "the option ``--calm``",
    ("pipelines/backtest/cut.py", "wanted"): "the name of an argument",
    ("pipelines/drift/level.py", "settled"): "a key of the stored state",
    ("pipelines/detect/detectors/spike.py", "young"): "a setting of the detector",
    ("pipelines/detect/detectors/surge_state.py", "decade"): "a key of the stored state",
    ("pipelines/detect/detectors/surge_state.py", "decades"): "a key of the stored state",
}
"""(File, word) -> why it may stay."""

_CODE = re.compile(r"``[^`]*``|`[^`]*`|\"[^\"\n]*\"")
"""Code and quotations in a text: names that users have are written so."""
_TEXT = re.compile(rf"(?<![\w.-])(?:{'|'.join(TEXT_WORDS)})(?![\w(=-])", re.IGNORECASE)
_NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One word, and where it is."""

    path: str
    line: int
    word: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r} in {self.text!r}"


def in_text(text: str) -> list[str]:
    """Return the words of a comment or docstring that are not plain."""
    return [found.group().lower() for found in _TEXT.finditer(_CODE.sub(" ", text))]


def in_name(name: str) -> list[str]:
    """Return the words of a name that are not plain."""
    return [word for part in _NAME_PARTS.findall(name) if (word := part.lower()) in NAME_WORDS]


def findings_of(source: str, path: str) -> Iterator[Finding]:
    """Yield what is not plain in the ``source`` of one file."""
    for line, text in _texts(source):
        for word in in_text(text):
            yield Finding(path, line, word, " ".join(text.split())[:120])
    for line, name in _names(ast.parse(source)):
        for word in in_name(name):
            yield Finding(path, line, word, name)


def findings(root: Path) -> Iterator[Finding]:
    """Yield what is not plain in the files of ``FOLDERS``, allowed words left out."""
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*.py")):
            path = file.relative_to(root).as_posix()
            for word in in_name(file.stem):
                yield Finding(path, 0, word, file.stem)
            for found in findings_of(file.read_text(), path):
                if (path, found.word) not in ALLOWED:
                    yield found


def _texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every comment, docstring and docstring of an attribute."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        for child in getattr(node, "body", ()) if isinstance(getattr(node, "body", None), list) else ():
            if (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
            ):
                yield child.lineno, child.value.value


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of every function, class, argument, variable and attribute that is defined."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def main() -> int:
    """Print every finding; 1 where there is one."""
    found = list(findings(Path(__file__).resolve().parents[1]))
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
