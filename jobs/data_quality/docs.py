"""Data Docs as files that load nothing and run nothing.

The pages of Great Expectations load scripts and styles from six hosts, and print values unescaped (1.24: a model named
``<script>...`` runs in the page). Here every script and outside reference is taken out, a policy forbids the rest, and
one small style sheet replaces the remote ones. The first page is ours, because the page of Great Expectations is empty
without scripts.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment

from jobs.data_quality.suite import Outcome, Window

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
_TAKEN_OUT = (
    re.compile(r"<(script|style|footer|iframe|object|svg)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL),
    re.compile(r"<(?:script|link|base|meta|iframe|object|embed|img)\b[^>]*>", re.IGNORECASE),
    re.compile(r"""\son[a-z]+\s*=\s*("[^"]*"|'[^']*')""", re.IGNORECASE),
)
_HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)


def finish(site: Path, outcomes: Sequence[Outcome], problems: Sequence[str], window: Window, *, judged_at: int) -> None:
    """Write the first page, and rewrite every other one so that it loads and runs nothing."""
    style = (files("jobs.data_quality") / "docs.css").read_text("utf-8")
    index = first_page(outcomes, problems, window, _pages(site), judged_at=judged_at)
    (site / "index.html").write_text(index, "utf-8")
    for page in site.rglob("*.html"):
        page.write_text(enclosed(page.read_text("utf-8"), style), "utf-8")
    shutil.rmtree(site / "static", ignore_errors=True)  # 4 MB that no page uses any more


def first_page(
    outcomes: Sequence[Outcome],
    problems: Sequence[str],
    window: Window,
    pages: Mapping[str, Sequence[tuple[str, str]]],
    *,
    judged_at: int,
) -> str:
    """Return the first page: what failed with its SQL, then every expectation.

    Args:
        outcomes: of the run.
        problems: what could not be judged.
        window: what was judged.
        pages: suite -> title and link of its pages.
        judged_at: µs UTC.
    """
    environment = Environment(autoescape=True, trim_blocks=True)
    page = environment.from_string((files("jobs.data_quality") / "index.html.j2").read_text("utf-8"))
    states = [each.state for each in outcomes]
    return page.render(
        hour=f"{_moment(window.since)} to {_moment(window.until)[11:]}",
        judged_at=_moment(judged_at),
        outcomes=outcomes,
        failed=[each for each in outcomes if each.state == "failed"],
        passed=states.count("passed"),
        unknown=states.count("unknown"),
        problems=problems,
        pages={each.suite: pages.get(each.suite, ()) for each in outcomes},
        number=lambda value: f"{value:,.6g}" if isinstance(value, float) else f"{value:,}",
    )


def enclosed(html: str, style: str) -> str:
    """Return a page without scripts, handlers and outside references, under a policy that allows none."""
    for pattern in _TAKEN_OUT:
        html = pattern.sub("", html)
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="referrer" content="no-referrer"><style>{style}</style>'
    )
    return _HEAD.sub(lambda found: found.group() + head, html, count=1) if _HEAD.search(html) else head + html


def replace(site: Path, target: Path) -> None:
    """Put ``site`` in the place of ``target``; a reader sees one or the other."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    site.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _pages(site: Path) -> dict[str, list[tuple[str, str]]]:
    """Return suite -> pages of Great Expectations: ``lake-SUITE.html`` and ``lake-SUITE.measures.html``."""
    found: dict[str, list[tuple[str, str]]] = {}
    for page in sorted((site / "validations").rglob("lake-*.html")):
        name = page.stem.removeprefix("lake-")
        suite, kind = (name.removesuffix(".measures"), "measures") if name.endswith(".measures") else (name, "rows")
        found.setdefault(suite, []).append((kind, quote(page.relative_to(site).as_posix())))
    return found


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
