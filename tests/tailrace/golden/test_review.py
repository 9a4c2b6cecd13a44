"""Working through cases: every key, and what a screen holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tailrace.golden.review import KEYS, Terminal, screen, whole, work_through


def case(number: int, **more: Any) -> dict[str, Any]:
    return {
        "case_id": f"case{number}",
        "app": "shop",
        "feature": "search",
        "model": "gpt-4o",
        "reasons": ["thumbs_down"],
        "system_text": None,
        "messages": [{"role": "user", "text": "why?"}],
        "input_text": "why?",
        "output_text": "no",
        "expected": None,
    } | more


class Reviewer:
    """Presses ``keys`` in turn, and writes ``texts``."""

    def __init__(self, keys: Iterable[str], texts: Iterable[str | None] = ()) -> None:
        self.keys, self.texts = iter(keys), iter(texts)
        self.screens: list[str] = []
        self.pages: list[str] = []
        self.decisions: list[tuple[str, ...]] = []
        self.terminal = Terminal(
            key=lambda: next(self.keys),
            text=lambda current: next(self.texts),
            show=self.screens.append,
            page=self.pages.append,
            size=lambda: (80, 24),
        )

    def work(self, *cases: dict[str, Any]) -> dict[str, int]:
        return work_through(cases, self.terminal, lambda c, *said: self.decisions.append((c["case_id"], *said)))


def test_each_key_does_what_the_screen_says():
    reviewer = Reviewer("arsex", ["because"])
    done = reviewer.work(*(case(n) for n in range(4)))
    assert reviewer.decisions == [
        ("case0", "accepted", None, None),
        ("case1", "rejected", None, None),
        ("case3", "accepted", "because", None),
    ]
    assert done == {"accepted": 2, "rejected": 1, "skipped": 1}
    assert [s.splitlines()[0].split("  ")[0] for s in reviewer.screens] == [f"{n} of 4" for n in (1, 2, 3, 4)]


def test_quitting_keeps_what_was_decided_and_an_empty_text_goes_back_to_the_case():
    reviewer = Reviewer(["a", "\x1b[A", "z", "e", "v", "q"], [None])
    assert reviewer.work(case(0), case(1), case(2)) == {"accepted": 1}
    assert [d[0] for d in reviewer.decisions] == ["case0"]
    assert len(reviewer.screens) == 4
    assert "[user]\nwhy?" in reviewer.pages[0]
    for key in ("q", "\x03", "\x04"):
        assert Reviewer([key]).work(case(0)) == {}


def test_a_rubric_is_shown_and_sent_with_the_verdict_that_follows():
    reviewer = Reviewer("uurueus", ["first", "names the city", "kept off", "ruled", "answer", None])
    reviewer.work(case(0), case(1), case(2))
    assert "rubric:\nnames the city" in reviewer.screens[2]
    assert reviewer.decisions == [("case0", "rejected", None, None), ("case1", "accepted", "ruled", "kept off")]
    assert Reviewer("ua", ["clear"]).work(case(0)) == {"accepted": 1}


def test_what_people_wrote_is_shown_without_control_characters():
    said = case(0, comments="thumbs -1: \x1b]0;x\x07wrong city\nand late")
    for text in (screen(said, 1, 1, 80, 40), "\n".join(whole(said))):
        assert "people said:" in text
        assert "wrong city\nand late" in text
        assert "\x1b" not in text
    assert "people said" not in screen(case(0, comments=""), 1, 1, 80, 40)


def test_a_screen_fits_the_terminal_and_shows_no_control_characters():
    long = case(1, input_text="word " * 5000, output_text="\x1b[31mred\nline two", app="a" * 200, expected="x\n" * 100)
    for columns, lines in ((80, 24), (40, 15), (200, 60)):
        shown = screen(long, 1, 2, columns, lines).splitlines()
        assert len(shown) <= max(lines, 20)
        assert max(map(len, shown)) <= columns
    text = screen(long, 1, 2, 80, 24)
    assert "\x1b" not in text
    assert "\x1b" not in "".join(whole(case(1, reasons=["guardrail:\x1b[31mred"])))
    assert "more lines: v" in text
    assert text.endswith(KEYS)
    assert len(KEYS) <= 80
