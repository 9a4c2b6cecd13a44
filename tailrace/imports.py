"""Which libraries this process does without, although they are installed."""

from __future__ import annotations

import importlib
import sys


class _Without:
    """Hides libraries that others import where they are installed.

    pyarrow imports pandas at its first array, a second and 60 MB for each process, for frames that none of them ever
    sees; and numpy at its own import, a tenth of a second, for arrays that only some of them make.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse it, and leave every other module to the finders behind."""
        if name == self.name:
            raise ModuleNotFoundError(f"{name} is hidden from this process", name=name)


def hide_pandas() -> None:
    """Let this process do without pandas; harmless when called twice."""
    _hide("pandas")


def hide_numpy() -> None:
    """Let this process do without numpy, unless it is imported already; for one that ends without a use for it."""
    if "numpy" not in sys.modules:
        _hide("numpy")


def import_structlog() -> None:
    """Import structlog without rich, a third of its import, for tracebacks in colour that no log line has.

    A later import of rich still works.
    """
    finder = _Without("rich")
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("structlog")
    finally:
        sys.meta_path.remove(finder)


def _hide(name: str) -> None:
    if not any(isinstance(finder, _Without) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Without(name))
