"""A stranger's text as it may be printed: without control, direction or invisible characters."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any


def printable(value: Any) -> str:
    """One cell, or one line, without control, direction or invisible characters."""
    text = "NULL" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def printable_lines(value: Any) -> str:
    """``printable`` for what has lines and tabs of its own, such as a message of DuckDB or CSV."""
    return "".join(c if c in "\n\t" else printable(c) for c in str(value).replace("\r\n", "\n"))


def json_line(value: Any) -> str:
    """Encode ``value`` as one line of printable ASCII; DEL is ASCII that json leaves as it is.

    NaN and infinity, which JSON does not have, become null; an exact number stays a number where JSON's readers keep
    all its digits, and else a text of all of them.
    """
    try:
        text = json.dumps(value, default=_plain, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), default=_plain, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return str(value)
    if not value.is_finite():
        return None
    number = int(value) if value == value.to_integral_value() else float(value)
    return number if Decimal(repr(number)) == value else f"{value:f}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
