"""A page of fields for a terminal: a label, and a value that is wrapped and never cut. Values may be hostile texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from tailrace.cli.render.printable import printable_lines

_LABEL = 12


class Page:
    """Prints lines and fields at the width of the terminal, 80 where there is none. Wide characters count as two."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, emoji=False, markup=False)

    def title(self, text: str) -> None:
        """Print the heading."""
        for line in self._wrapped(text, 0):
            self._print(Text(line, style="bold"))

    def line(self, text: str, *, indent: int = 0) -> None:
        """Print ``text``, every line of it behind its indent."""
        for line in self._wrapped(text, indent):
            self._print(Text(" " * indent + line))

    def field(self, label: str, value: Any) -> None:
        """Print a label and its value, or one value a line; nothing where there is none."""
        values = [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
        if value is None or value == "" or not values:
            return
        lines = [line for text in values for line in self._wrapped(text, _LABEL)]
        for number, line in enumerate(lines):
            head = label if number == 0 else ""
            self._print(Text.assemble((head.ljust(_LABEL), "dim"), line))

    def fields(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Print several."""
        for label, value in pairs:
            self.field(label, value)

    def _wrapped(self, text: str, indent: int) -> list[str]:
        width = max(self._console.width - indent, 20)
        found: list[str] = []
        for part in printable_lines(text).split("\n"):
            lines = Text(part).wrap(self._console, width, overflow="fold", tab_size=4)
            found += [line.plain.rstrip() for line in lines] or [""]
        return found

    def _print(self, line: Text) -> None:
        line.rstrip()
        self._console.print(line, soft_wrap=True)
