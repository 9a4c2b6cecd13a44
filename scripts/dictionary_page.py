"""Write docs/reference/data-dictionary.md; `make docs` runs it after a table or a view was changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from warehouse.comments import data_dictionary
from warehouse.lake import Lake
from warehouse.query.shipped_views import VIEWS, ShippedView
from warehouse.storage.connect import LakeConfig

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "data-dictionary.md"


def page() -> str:
    """Return the page, with the columns of the views as a new lake has them."""
    with tempfile.TemporaryDirectory() as folder:
        config = LakeConfig(str(Path(folder) / "catalog.sqlite"), str(Path(folder) / "data"))
        lake = Lake.open(config, now=lambda: 0)
        try:
            return data_dictionary({question.name: _columns(lake, question) for question in VIEWS})
        finally:
            lake.close()


def _columns(lake: Lake, question: ShippedView) -> list[tuple[str, str]]:
    call = f"{question.name}(now())" if question.parameters else question.name
    rows = lake.query(f"SELECT * FROM (DESCRIBE SELECT * FROM {call})").to_pylist()
    return [(row["column_name"], row["column_type"]) for row in rows]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parents[2])}")
