"""What changed between two versions of a golden set. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.golden.cases import chat_text

Row = Mapping[str, Any]
_TEXTS = ("system_text", "messages", "input_text", "output_text", "retrieval_docs", "variables")


@dataclass(frozen=True)
class Changed:
    """A case that both versions have."""

    case_id: str
    what: tuple[str, ...]
    """``expected``, ``rubric``, ``reasons``, ``texts``."""


@dataclass(frozen=True)
class Difference:
    """From one version to another."""

    added: tuple[Row, ...]
    removed: tuple[Row, ...]
    changed: tuple[Changed, ...]
    same: int


def difference(old: Sequence[Row], new: Sequence[Row]) -> Difference:
    """Compare the cases of two versions by their ids."""
    before, after = ({case["case_id"]: case for case in cases} for cases in (old, new))
    both = sorted(set(before) & set(after))
    changed = [Changed(i, what) for i in both if (what := _changes(before[i], after[i]))]
    return Difference(
        tuple(after[i] for i in sorted(set(after) - set(before))),
        tuple(before[i] for i in sorted(set(before) - set(after))),
        tuple(changed),
        len(both) - len(changed),
    )


def facts(found: Difference) -> dict[str, Any]:
    """Return ``found`` for JSON: ids, and the inputs of cases that were added or removed."""
    return {
        "added": [
            {"case_id": c["case_id"], "reasons": list(c["reasons"]), "asked": chat_text(dict(c))} for c in found.added
        ],
        "removed": [{"case_id": c["case_id"], "asked": chat_text(dict(c))} for c in found.removed],
        "changed": [{"case_id": c.case_id, "what": list(c.what)} for c in found.changed],
        "same": found.same,
    }


def _changes(old: Row, new: Row) -> tuple[str, ...]:
    found = [name for name in ("expected", "rubric", "reasons") if old.get(name) != new.get(name)]
    return (*found, "texts") if any(old[name] != new[name] for name in _TEXTS) else tuple(found)
