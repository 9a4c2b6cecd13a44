"""Which libraries this process does without, although they are installed."""

from __future__ import annotations

import sys


class _WithoutPandas:
    """Hides pandas, which another dependency brings.

    pyarrow imports it at its first array where it is installed: a second and 60 MB for each process, for frames that
    none of them ever sees.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse it, and leave every other module to the finders behind."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden from this process", name=name)


def hide_pandas() -> None:
    """Let this process do without pandas; harmless when called twice."""
    if not any(isinstance(finder, _WithoutPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutPandas())
