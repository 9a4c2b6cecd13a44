"""Pages of data quality run nothing and load nothing, whatever stands in names and values."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from jobs.data_quality.docs import enclosed, first_page
from tests.jobs.data_quality.lake import WELL_HOUR
from tests.jobs.data_quality.test_alerts import FAILED

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_a_hostile_name_is_text_on_the_first_page():
    outcome = replace(FAILED, scopes=(HOSTILE,), sql=f"SELECT '{HOSTILE}'", detail=HOSTILE)
    page = first_page([outcome], [HOSTILE], WELL_HOUR, {"calls": [("rows", "a.html")]}, judged_at=WELL_HOUR.now)
    assert "<script" not in page
    assert "<img" not in page
    assert "1 of 1 expectations failed" in page
    assert "Found: 30 rows" in page


@pytest.mark.parametrize(
    "part",
    [
        HOSTILE,
        "<script>\nalert(1)</script >",
        '<script src="https://cdn.example/x.js">',
        '<link rel="stylesheet" href="https://cdn.example/x.css">',
        '<a onclick="alert(1)" href="#x">x</a>',
        "<iframe src='//x'></iframe>",
        '<base href="https://x.example/">',
        '<style>@import "https://x.example/x.css"</style>',
        '<meta http-equiv="refresh" content="0;url=https://x.example">',
    ],
)
def test_a_page_of_great_expectations_loses_what_runs_or_loads(part):
    page = enclosed(f"<html><head><title>x</title></head><body>{part}</body></html>", "p{}")
    body = page[page.index("</title>") :]
    assert not re.search(r"<script|<img|<link|<iframe|<base|<meta|<style|onclick|onerror|https?:", body)
    assert page.count("Content-Security-Policy") == 1
    assert "default-src 'none'" in page
