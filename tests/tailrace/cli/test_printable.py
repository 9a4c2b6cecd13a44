"""What commands print as JSON is JSON, one line of ASCII."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tailrace.cli.render.printable import json_line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "null"),
        ({"a": [1.5, -math.inf, {"b": (math.inf, "NaN")}]}, '{"a": [1.5, null, {"b": [null, "NaN"]}]}'),
        (Decimal("0E-9"), "0"),
        (Decimal("0.000000001"), "1e-09"),
        (Decimal("0.15"), "0.15"),
        (Decimal(170141183460469231731687303715884105727), "170141183460469231731687303715884105727"),
        (Decimal("123456789012345678.123456789"), '"123456789012345678.123456789"'),
        (Decimal("NaN"), "null"),
        ({"é\x7f": datetime(2026, 11, 21, 7, tzinfo=UTC)}, '{"\\u00e9\\u007f": "2026-11-21 07:00:00+00:00"}'),
    ],
)
def test_values_that_json_does_not_have_are_null_and_exact_numbers_stay_exact(value, text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json_line(value) == text
    json.loads(text, parse_constant=refuse)
