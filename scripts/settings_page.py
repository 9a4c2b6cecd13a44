"""Write docs/reference/settings.md; `make docs` runs it after a setting was added or changed."""

from __future__ import annotations

from pathlib import Path

from tailrace.settings.model import Settings
from tailrace.settings.reference import page

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"

if __name__ == "__main__":
    PAGE.write_text(page(Settings), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parents[2])}")
