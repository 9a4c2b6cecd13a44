"""What each kind of page promises: a diagram a concept, a page of one or two screens, titles that differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CONCEPTS = sorted(page for page in (DOCS / "concepts").glob("*.md") if page.name != "index.md")
GENERATED = {"scaling.md", "faults.md"}
LONG = {"security.md"}
"""Pages of tables that are looked things up in."""
KEYWORDS = {"style", "end", "class", "click", "default", "call", "href", "linkStyle", "classDef", "graph", "direction"}
"""No name of a box in a Mermaid diagram."""
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", CONCEPTS, ids=lambda page: page.stem)
def test_a_concept_has_one_diagram(page: Path) -> None:
    (diagram,) = DIAGRAM.findall(page.read_text(encoding="utf-8"))
    assert diagram.split()[0] in ("flowchart", "sequenceDiagram")
    named = set(re.findall(r"(?:^|-->|\|)\s*([A-Za-z_]+)\b", re.sub(r'"[^"]*"', "", diagram), re.MULTILINE))
    assert not named & KEYWORDS, "Mermaid reads a box of this name as a statement, and draws nothing"
    assert ";" not in diagram  # Mermaid takes it for the end of a statement, and draws nothing


def test_a_page_of_operate_is_one_or_two_screens() -> None:
    pages = {page.name: len(page.read_text(encoding="utf-8").splitlines()) for page in (DOCS / "operate").glob("*.md")}
    assert {name: lines for name, lines in pages.items() if lines > 75 and name not in GENERATED | LONG} == {}


def test_every_page_has_one_title_and_no_two_pages_have_the_same() -> None:
    titles: dict[str, str] = {}
    for page in sorted(DOCS.rglob("*.md")):
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        (title,) = re.findall(r"^# (.+)$", text, re.MULTILINE)
        assert titles.setdefault(title, str(page)) == str(page), title
