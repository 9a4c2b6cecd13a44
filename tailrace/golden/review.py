"""Working through the cases of a golden set: one a screen, one key each. Pure; keys, texts and time are handed in."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailrace.cli.render.printable import printable_lines

Case = Mapping[str, Any]
KEYS = "a accept  e expected answer  u rubric  r reject  s skip  v whole texts  q quit"
_TEXTS = (
    *(("system", "system_text"), ("asked", "input_text"), ("answered", "output_text")),
    *(("people said", "comments"), ("expected", "expected"), ("rubric", "rubric")),
)
_FEWEST_LINES = 3


@dataclass(frozen=True)
class Terminal:
    """What a reviewer sees and presses."""

    key: Callable[[], str]
    """Waits for one key."""
    text: Callable[[str], str | None]
    """Asks for a text, given the current one; None where nothing was written."""
    show: Callable[[str], None]
    """Replaces the screen."""
    page: Callable[[str], None]
    """Shows a long text, page by page."""
    size: Callable[[], tuple[int, int]]
    """Columns and lines."""


def work_through(
    cases: Sequence[Case], terminal: Terminal, decide: Callable[[Case, str, str | None, str | None], None]
) -> Counter[str]:
    """Show each case and act on the keys until all are seen or the reviewer quits.

    Args:
        cases: rows of golden_cases, with ``comments``: what people wrote of the call.
        terminal: screen and keys.
        decide: called with a case, ``accepted`` or ``rejected``, and the expected answer and the rubric where they were
            written.

    Returns:
        How many were accepted, rejected and skipped.
    """
    done: Counter[str] = Counter()
    for number, given in enumerate(cases, start=1):
        case, rubric = dict(given), None
        terminal.show(screen(case, number, len(cases), *terminal.size()))
        for verdict, text in _decisions(case, terminal):
            if verdict == "quit":
                return done
            if verdict in ("again", "rubric"):
                if verdict == "rubric":
                    case["rubric"] = rubric = text
                terminal.show(screen(case, number, len(cases), *terminal.size()))
                continue
            if verdict != "skipped":
                decide(given, verdict, text, rubric if verdict == "accepted" else None)
            done[verdict] += 1
            break
    return done


def _decisions(case: Case, terminal: Terminal) -> Iterator[tuple[str, str | None]]:
    """Yield what each key means; keys that mean nothing are ignored. A rubric is sent with the verdict that follows."""
    while True:
        key = terminal.key()
        if key in ("q", "\x03", "\x04", "\x1b"):
            yield "quit", None
        elif key == "a":
            yield "accepted", None
        elif key == "r":
            yield "rejected", None
        elif key == "s":
            yield "skipped", None
        elif key == "v":
            terminal.page("\n".join(whole(case)))
            yield "again", None
        elif key == "u":
            written = terminal.text(case.get("rubric") or "")
            yield ("rubric", written) if written is not None else ("again", None)
        elif key == "e":
            expected = terminal.text(case["expected"] or case["output_text"] or "")
            yield ("accepted", expected) if expected is not None else ("again", None)


def screen(case: Case, number: int, total: int, columns: int, lines: int) -> str:
    """Return one case as it fits the screen: its head, the start of each text, the keys."""
    where = f"{case['app']}{'/' + case['feature'] if case['feature'] else ''}"
    head = [f"{number} of {total}  {where}  {', '.join(case['reasons'])}  {case['model']}", case["case_id"]]
    texts = [(name, _wrapped(case[field], columns)) for name, field in _TEXTS if case.get(field)]
    room = max(_FEWEST_LINES, (lines - len(head) - 4 - 2 * len(texts)) // max(1, len(texts)))
    body: list[str] = []
    for name, wrapped in texts:
        rest = len(wrapped) - room
        body += [
            "",
            f"{name}:",
            *(wrapped[:room] if rest <= 0 else [*wrapped[: room - 1], f"… {rest + 1} more lines: v"]),
        ]
    return "\n".join([*(_cut(line, columns) for line in head), *body, "", _cut(KEYS, columns)])


def whole(case: Case) -> Iterator[str]:
    """Yield the lines of a case with all its texts and the conversation."""
    yield printable_lines(f"{case['case_id']}  {', '.join(case['reasons'])}")
    for name, field in _TEXTS:
        if case.get(field):
            yield f"\n{name}:\n{printable_lines(case[field])}"
    for turn in case["messages"] or ():
        yield f"\n[{printable_lines(turn['role'] or 'user')}]\n{printable_lines(turn['text'] or '')}"


def _wrapped(text: str, columns: int) -> list[str]:
    return [line for each in printable_lines(text).splitlines() for line in textwrap.wrap(each, columns - 2) or [""]]


def _cut(line: str, columns: int) -> str:
    line = printable_lines(line).replace("\n", " ")
    return line if len(line) <= columns else line[: columns - 1] + "…"
