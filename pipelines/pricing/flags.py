"""The flags that pricing sets on a call; ``pipelines/decode/reasons.py`` lists every flag."""

from __future__ import annotations

USAGE_MISSING = "usage_missing"
"""Usage is 0 and 0 although there is an answer: the cost is not known."""
COST_DIFFERS = "cost_differs"
"""The cost that provider or gateway reported differs from the computed one by more than 1 %."""
