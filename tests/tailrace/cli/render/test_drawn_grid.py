"""A grid that is drawn without rich is the one that rich draws."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.cli.render import grid as grid_module
from tailrace.cli.render.grid import folded_grid, grid

TEXTS = st.text(string.ascii_letters + string.digits + " []{}'\".:-é", max_size=12)
"""Without backslashes: rich prints the last one of a text twice."""


@settings(deadline=None)
@given(
    st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from([20, 40, 200]),
    st.data(),
)
def test_it_is_the_grid_that_rich_draws(
    columns: list[tuple[str, bool]], rows: int, width: int, data: st.DataObject
) -> None:
    names, numeric = [name for name, _ in columns], [right for _, right in columns]
    cells = [[data.draw(TEXTS) for _ in names] for _ in range(rows)]
    assert grid(names, cells, numeric, width) == folded_grid(names, cells, numeric, width)


def test_what_fits_is_drawn_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "folded_grid", lambda *_: pytest.fail("rich is not needed"))
    assert grid(["a", "bc"], [["1", "x"]], [True, False], 80).splitlines() == [
        "┏━━━┳━━━━┓",
        "┃ a ┃ bc ┃",
        "┡━━━╇━━━━┩",
        "│ 1 │ x  │",
        "└───┴────┘",
    ]


def test_spaces_at_the_end_of_a_number_are_dropped_as_rich_does() -> None:
    cells = [["0 "], ["12 "]]
    assert grid(["n"], cells, [True], 80) == folded_grid(["n"], cells, [True], 80)
