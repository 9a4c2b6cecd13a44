"""What a run of evals did: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import msgspec


@dataclass(frozen=True)
class EvalReport:
    """What a run did."""

    ok: bool
    """False where a scorer failed at every call that it could judge, such as a judge that is unavailable."""
    done: bool
    """False where it was stopped; run it again to go on."""
    took_s: float
    run_id: str
    calls: int
    """Of the window."""
    with_text: int
    """Of them, those whose texts are there."""
    strata: int
    sampled: int
    scores: int
    """Events published by this process."""
    skipped: int
    """Scores that had landed before."""
    not_judgeable: int
    errors: int
    """Scores that a scorer failed to make."""
    scorers: Mapping[str, str]
    """Name -> version."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Scorer -> at how many calls it failed, and its first error."""

    def to_json(self) -> str:
        """Encode for ``tailrace job run evals --json``."""
        return msgspec.json.encode(asdict(self)).decode()

    def text(self) -> str:
        """Return the report in words."""
        head = f"{'ok' if self.ok else 'FAILED'} in {self.took_s:.1f} s{'' if self.done else ', stopped early'}"
        failed = [f"\n{name} failed at {why}" for name, why in self.failed.items()]
        again = "\nrun it again: what failed is tried again, what is scored is not" if failed else ""
        return (
            f"{head}: run {self.run_id}: {self.sampled} of {self.calls} calls ({self.with_text} with texts) in "
            f"{self.strata} strata; {self.scores} scores published, {self.skipped} had landed before; "
            f"{self.not_judgeable} not judgeable, {self.errors} errors{''.join(failed)}{again}"
        )
