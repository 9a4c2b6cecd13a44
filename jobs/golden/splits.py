"""Which part of a golden set a case belongs to. Pure.

The held-out part is a hash of the case's id, so that a case stays where it is in every version, and no file for
fine-tuning and no prompt may hold it. A case without a review is in the shadow part: shown, and never blocking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

Split = Literal["dev", "heldout", "shadow"]
HELD_OUT = 0.3
"""Share of the reviewed cases that is held out."""


def held_out(case_id: str) -> bool:
    """Return whether a case is held out, reviewed or not."""
    digest = hashlib.sha256(f"split/{case_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT * 2**64


def split(case: Mapping[str, Any]) -> Split:
    """Return the part of a case with its ``review``: the newest verdict, or None."""
    if case.get("review") != "accepted" and case.get("expected_from") != "import":
        return "shadow"
    return "heldout" if held_out(case["case_id"]) else "dev"
