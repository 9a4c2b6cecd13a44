"""The page of the report: what a reader finds on it, and that no text of a stranger becomes markup."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser

import numpy as np
import pytest

from jobs.evals import charts
from jobs.evals.operations import compare
from jobs.evals.page import to_html
from jobs.evals.summary import Period, summarise

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"
WEEK = Period(date(2026, 11, 23), date(2026, 11, 29), "evals-1")
BEFORE = Period(date(2026, 11, 16), date(2026, 11, 22), "evals-0")


def rows(seed: int, drop: float = 0.0, apps=("support", "search")) -> list[dict]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(1200):
        app = apps[i % len(apps)]
        score = float(rng.random() < 0.9 - (drop if app == apps[-1] else 0))
        made.append(
            {
                **{"name": "judge.grounded", "version": "v1", "call_id": f"call-{i}", "app": app, "feature": "answer"},
                **{"model": "m", "prompt_name": None, "prompt_version": None, "variant": None, "team": f"team {app}"},
                **{"stratum": app, "probability": 0.2, "stratum_calls": 3000, "stratum_with_text": 3000},
                **{"stratum_sampled": 600, "score": score, "error": None, "label": None, "explanation": "not found"},
            }
        )
    return made


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_a_drop_is_a_decision_with_owner_number_interval_and_link():
    found = summarise(rows(1, drop=0.2), rows(2), period=WEEK, baseline=BEFORE)
    page = read(to_html(found))
    assert "Quality of 23–29 November 2026" in page.text
    assert "Compared with 16–22 November 2026." in page.text
    assert re.search(r"judge.grounded fell for .*search", page.text)
    assert "Owner: team search" in page.text
    links = [value for name, value in page.attributes if name == "href"]
    ids = {value for name, value in page.attributes if name == "id"}
    assert links
    assert {link.removeprefix("#") for link in links} <= ids


def test_the_first_week_draws_no_changes():
    page = read(to_html(summarise(rows(1), None, period=WEEK)))
    assert "No baseline yet." in page.text
    assert "Largest changes" not in page.text
    assert "▼" not in page.text


def test_what_did_not_change_is_one_line():
    page = read(to_html(summarise(rows(1), rows(1), period=WEEK, baseline=BEFORE)))
    assert "Nothing needs a decision." in page.text
    assert re.search(r"(\d+) of \1 comparisons show no significant change", page.text)


def test_texts_of_strangers_are_text():
    made = [row | {"app": EVIL, "explanation": EVIL, "team": EVIL} for row in rows(1, drop=0.3)]
    before = [row | {"app": EVIL} for row in rows(2)]
    found = summarise(made, before, period=WEEK, baseline=BEFORE, missing=(EVIL,))
    texts = {
        c.call_id: {"input_text": EVIL, "output_text": EVIL, "retrieval_docs": [{"text": EVIL}]} for c in found.worst
    }
    html = to_html(found, texts, compare([by_app(EVIL)], []), success_scorer=EVIL)
    page = read(html)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(EVIL) > 10
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")  # nothing is fetched


NUMBERS = {
    "calls": 1000,
    "failed": 5,
    "latency_p95_ms": 812.0,
    "ttft_p95_ms": None,
    "cost_usd": Decimal(3),
    "unpriced": 0,
}


def by_app(app, **changes):
    return {"dimension": "app", "app": app, **NUMBERS, **changes}


def test_cost_of_a_good_answer_and_what_is_not_known():
    found = compare(
        [by_app("a"), by_app("b", unpriced=1)],
        [by_app("a", calls=500)],
        {("app", "a"): 0.75, ("app", "b"): 0.5},
    )
    assert found[0].now.cost_per_call == Decimal("0.003")
    assert found[0].now.cost_per_success(0.75) == Decimal("0.004")
    assert (found[1].now.cost_per_call, found[1].before) == (None, None)
    page = read(to_html(summarise(rows(1), None, period=WEEK), operations=found, success_scorer="judge.grounded"))
    for text in ("3.00 USD", "4.00 USD", "0.5 %", "812 ms", "not reported", "unknown", "6.00 USD"):
        assert text in page.text


@pytest.mark.parametrize("scored", [rows(1), []])
def test_a_report_without_scores_is_a_page_too(scored):
    html = to_html(summarise(scored, None, period=WEEK))
    assert html.startswith("<!doctype html>")
    assert ("<svg" in html) == bool(scored)


def test_the_picture_is_a_png_and_none_where_there_is_nothing():
    assert charts.scores_png(summarise(rows(1), None, period=WEEK)).startswith(b"\x89PNG")
    assert charts.scores_png(summarise([], None, period=WEEK)) == b""
