"""The page of settings follows from the models."""

from pathlib import Path

from tailrace.settings.model import Settings
from tailrace.settings.names import names
from tailrace.settings.reference import description, page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_the_committed_page_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == page(Settings), "run `make docs` and commit docs/reference/settings.md"


def test_every_setting_has_a_description():
    assert [name.key for name in names(Settings) if not description(name)] == []


def test_a_row_names_key_variable_type_default_unit_range_and_meaning():
    row = next(line for line in page(Settings).splitlines() if "`lake.query_timeout_s`" in line)
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    key, variable, kind, default, limits, meaning = cells
    assert (key, variable) == ("`lake.query_timeout_s`", "`TAILRACE_LAKE__QUERY_TIMEOUT_S`")
    assert (kind, default, limits) == ("number", "`300`", "s, > 0")
    assert meaning == "Longest time of one query."


def test_every_row_has_six_cells_whatever_stands_in_its_description():
    rows = [line.replace("\\|", "") for line in page(Settings).splitlines() if line.startswith("| `") and "__" in line]
    assert {row.count("|") for row in rows} == {7}
