"""Hooks of mkdocs: pages outside docs/, and links as GitHub follows them.

The Markdown files are read on GitHub and on the site. There a link is relative to the repository; on the site only the
pages below docs/ exist. So the pages of ``BESIDE`` are added to the site, and every link is resolved in the repository
first: to a page of the site where there is one, else it is left as text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
BESIDE = {
    "ARCHITECTURE.md": "contribute/architecture.md",
    "CONTRIBUTING.md": "contribute/contributing.md",
    "emitter/README.md": "reference/emitter.md",
}
"""File of the repository -> its page on the site."""
MERMAID = ROOT / ".cache" / "site" / "mermaid.min.js"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^\s*(```|~~~)")


def on_config(config: Any) -> Any:
    """Draw diagrams with our own copy of Mermaid, where `make site` has one; else the theme loads it."""
    if MERMAID.is_file():
        config.extra_javascript.append("assets/mermaid.min.js")
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are outside docs/, and Mermaid."""
    for source, target in BESIDE.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    if MERMAID.is_file():
        files.append(File.generated(config, "assets/mermaid.min.js", abs_src_path=str(MERMAID)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Resolve the links of a page, except in blocks of code."""
    here = page.file.src_uri
    source = next((source for source, target in BESIDE.items() if target == here), f"docs/{here}")
    lines, fenced = [], False
    for line in markdown.splitlines():
        fenced ^= bool(_FENCE.match(line))
        lines.append(line if fenced else _LINK.sub(lambda match: _resolved(match, source, here), line))
    return "\n".join(lines) + "\n"


def _resolved(match: re.Match[str], source: str, here: str) -> str:
    mark, text, target = match.groups()
    path, hash_, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return match[0]
    repository = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    site = BESIDE.get(repository) or (repository.removeprefix("docs/") if repository.startswith("docs/") else "")
    if not site:
        return text
    return f"{mark}[{text}]({posixpath.relpath(site, posixpath.dirname(here) or '.')}{hash_}{anchor})"
