"""A canary: a new variant gets a small share of the traffic, then more, and is withdrawn as soon as it is worse. Pure.

Each stage is a test of its own over the calls since it began: the share of B changes between stages, so pooled calls
would compare one hour of A with another hour of B. The intervals hold at every look (``sequential``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.gate.sequential import Comparison
from jobs.gate.variants import counts, facts, line
from jobs.gate.verdict import Verdict, overall
from pipelines.notify.channels import Report
from schemas.errors import SettingsError

Action = Literal["advance", "hold", "rollback"]
SHARES = (5, 50, 100)
TYPE = "release.canary"


@dataclass(frozen=True)
class Canary:
    """What is released."""

    a: str
    """Variant that runs today."""
    b: str
    """The new one."""
    app: str | None
    shares: tuple[int, ...] = SHARES
    """Percent of the traffic that B gets, stage by stage; the last is reached and not judged: there is no A left."""


@dataclass(frozen=True)
class Decision:
    """What is to be done with B."""

    action: Action
    share: int
    """Percent of the traffic that B gets now."""
    next_share: int
    """Percent that it is to get; 0 after a rollback."""
    reasons: tuple[str, ...]


def parse_shares(text: str) -> tuple[int, ...]:
    """Read shares such as ``5,50,100``.

    Raises:
        SettingsError: they are none, or do not rise to 100.
    """
    remedy = "write percents that rise to 100, such as 5,50,100"
    try:
        shares = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError("--shares", f"{text[:80]!r} is no list of numbers", remedy) from error
    if len(shares) < 2 or shares[-1] != 100 or shares[0] < 1 or list(shares) != sorted(set(shares)):
        raise SettingsError("--shares", f"{text[:80]} does not rise from 1 or more to 100", remedy)
    return shares


def decide(found: Sequence[Comparison], canary: Canary, share: int) -> Decision:
    """Return what is to be done after a look at the calls of a stage.

    Args:
        found: the comparison of each measure of the calls since the stage began.
        canary: what is released.
        share: of the stage, one of ``canary.shares`` but the last.
    """
    counted = [each for each in found if counts(each)]
    verdict = overall([each.verdict for each in counted])
    if verdict is Verdict.PASS:
        following = canary.shares[canary.shares.index(share) + 1]
        return Decision("advance", share, following, tuple(map(line, counted)))
    reasons = tuple(line(each) for each in counted if each.verdict is verdict)
    if verdict is Verdict.REGRESS:
        return Decision("rollback", share, 0, reasons)
    return Decision("hold", share, share, reasons)


def message(decision: Decision, canary: Canary, found: Sequence[Comparison], *, began: int, at: int) -> Report:
    """Return the message for channels; its id is the same for every attempt of one decision.

    Args:
        decision: what is to be done.
        canary: what is released.
        found: the comparison of each measure.
        began: when the stage began, µs UTC.
        at: now, µs UTC.
    """
    names = json.dumps([canary.a, canary.b, canary.app, decision.share, began, decision.action])
    identity = f"canary-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
    change = {
        "advance": f"give it {decision.next_share} % of the traffic",
        "hold": f"leave it at {decision.share} %",
        "rollback": "give it no traffic",
    }[decision.action]
    title = f"Canary {canary.b} against {canary.a} at {decision.share} %: {decision.action}, {change}"
    body = {
        "type": TYPE,
        "id": identity,
        "action": decision.action,
        "share": decision.share,
        "next_share": decision.next_share,
        "app": canary.app,
        "a": canary.a,
        "b": canary.b,
        "began_at_us": began,
        "decided_at_us": at,
        "measures": [facts(each) for each in found],
    }
    return Report(identity, title, decision.reasons, json.dumps(body, ensure_ascii=True).encode(), at)
