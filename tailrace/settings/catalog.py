"""What names a catalog of a lake."""

from __future__ import annotations

import re

FORMS = "the path of an SQLite file, as it is, or postgresql://USER@HOST/DATABASE"
_KIND = re.compile(r"(\w[\w+.-]+):|host=")


def checked_catalog(value: str) -> str:
    """Return ``value``, the name of a catalog.

    Raises:
        ValueError: it would become an SQLite file of a strange name, such as ``sqlite:/data/x.sqlite``.
    """
    kind = _KIND.match(value)
    if kind and kind[1] not in ("postgres", "postgresql"):
        raise ValueError(f"a catalog is {FORMS}")
    return value
