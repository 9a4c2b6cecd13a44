"""Every link of every Markdown file leads somewhere, and every path that a page or the code names exists."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[2]
HISTORY = "CHANGELOG.md"
"""It names pages as they were called then."""
OTHERS = (
    "tests/fixtures",
    "tests/corpus",
    "tests/docs/test_links",
    "emitter/tailrace_emitter/adapters/usage/ollama.py",
)
"""Files that name pages of other projects, or pages that are not there."""
TOOLS = {f".venv/bin/{name}" for name in ("ruff", "lint-imports", "python")}
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_SOURCE = re.compile(r"<(?:img|a)\b[^>]*\b(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
_FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"(?<![\w/.-])docs/[\w./-]*\.(?:md|svg|png)\b")
_PATH = re.compile(
    r"`((?:emitter|schemas|warehouse|pipelines|jobs|tailrace|tests|bench|scripts|deploy|docs)/[\w./-]*)`"
)


def tracked(*patterns: str) -> list[str]:
    """Names of the files that are in git, or would be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: nothing says which files are tracked")
    return [name for name in listed.stdout.splitlines() if (REPO / name).is_file()]


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@cache
def anchors_of(file: Path) -> set[str]:
    return anchors(file.read_text(encoding="utf-8"))


def problem(link: str, page: Path, text: str) -> str:
    """Why ``link`` on ``page`` leads nowhere; "" where it does, or leaves the repository."""
    if re.match(r"[a-z][a-z+.-]*:", link):
        return ""
    path, _, anchor = link.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(REPO) or not file.exists():
        return "no such file"
    if anchor and anchor not in (anchors(text) if file == page else anchors_of(file)):
        return "no such heading"
    return ""


def links(text: str) -> Iterator[str]:
    prose = _FENCED.sub("", text)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    yield from (match[1] for pattern in (_LINK, _SOURCE) for match in pattern.finditer(prose))


def test_every_relative_link_and_anchor_leads_somewhere() -> None:
    wrong, count = [], 0
    for name in tracked("*.md"):
        if name == HISTORY:
            continue
        text = (REPO / name).read_text(encoding="utf-8")
        for link in links(text):
            count += 1
            if found := problem(link, REPO / name, text):
                wrong.append(f"{name}: {link}: {found}")
    assert count > 100
    assert wrong == []


def test_the_check_finds_what_it_is_for(tmp_path: Path) -> None:
    page = REPO / "docs" / "index.md"
    text = "# One\n\n## A `b`: c, d\n\n## One\n\n```sh\n# [no](link.md)\n```\n"
    assert anchors(text) == {"one", "a-b-c-d", "one-1"}
    assert list(links('[a](x.md#y) ![b](<z.svg>) `[c](d.md)` [![e](f.svg)](g.md) <img src="h.svg">')) == [
        *("x.md#y", "z.svg", "g.md", "h.svg"),
    ]
    assert problem("none.md", page, text) == "no such file"
    assert problem("#two", page, text) == "no such heading"
    assert problem("#one-1", page, text) == ""
    assert problem("../README.md#no-such", page, text) == "no such heading"
    assert problem("../../outside.md", page, text) == "no such file"
    assert problem("https://example.org/a.md", page, text) == ""


def test_every_page_of_docs_that_a_file_names_exists() -> None:
    """Messages, comments, rules and scripts name pages; a page that moves takes its name along."""
    missing = []
    for name in tracked():
        if name == HISTORY or name.startswith(OTHERS):
            continue
        content = (REPO / name).read_bytes()
        if b"docs/" not in content or b"\0" in content[:8000]:
            continue
        for found in _NAMED.findall(re.sub(r"https?://\S+", "", content.decode(errors="replace"))):
            if not (REPO / found).is_file():
                missing.append(f"{name}: {found}")
    assert missing == []


def test_no_file_cites_a_document_that_is_not_here() -> None:
    """Facts about engines are in docs/engine-notes.md; other pages of the design never were in the repository."""
    private = re.compile(r"\b(?:pitfalls|incidents|schema|design|house-style|interop)\.md\b|\bpitfalls [0-9]")
    cited = []
    for name in tracked("*.py", "*.sql", "*.sh", "*.toml", "*.yml", "*.yaml", "*.md", "Makefile", "Dockerfile"):
        if name == HISTORY or name.startswith(OTHERS):
            continue
        text = (REPO / name).read_text(encoding="utf-8")
        cited += [f"{name}: {found}" for found in private.findall(text)]
    assert cited == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/engine-notes.md"])
def test_every_path_that_the_page_names_exists(page: str) -> None:
    named = _PATH.findall((REPO / page).read_text(encoding="utf-8"))
    examples = [path for path in named if re.search(r"/x\.\w+$|no_links\.py$", path)]
    assert named
    assert [path for path in named if path not in examples and not (REPO / path).exists()] == []


def test_every_page_is_in_the_table_of_contents_of_the_site() -> None:
    contents = (REPO / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", contents.partition("\nnav:")[2]))
    pages = {name.removeprefix("docs/") for name in tracked("docs/*.md")}
    assert pages - listed - set(re.findall(r"^  ([\w/-]+\.md)$", contents, re.MULTILINE)) == set()


def test_every_hook_of_pre_commit_runs_something_that_is_there() -> None:
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    commands = [hook["entry"].split() for hook in hooks]
    assert {command[0] for command in commands} <= {*tracked(".pre-commit-config.yaml", "scripts"), *TOOLS}
    named = [word for command in commands for word in command[1:] if word.startswith("tests/")]
    assert [word for word in named if not (REPO / word).exists()] == []
