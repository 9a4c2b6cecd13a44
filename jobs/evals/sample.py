"""Which calls are scored: strata, how many of each, and with what probability. Pure.

The strata are the groups by app, feature, model and prompt version, and by topic where drift has made vectors. Within a
stratum those calls are drawn whose hash comes first, so the draw is simple, random and repeatable: n of the M calls
whose texts are there.

Content sampling. An emitter may keep the texts of a share of the calls only. It decides by random bits of the event's
id, and the event does not carry the share: a call without its texts has ``content_mode`` ``none``. So the share is
counted: of the N calls of a stratum M have texts, and a call is included with probability n/M x M/N = n/N. That is
right where the texts of a stratum are missing at random, as the emitter makes it. A stratum without any text has no
sample; it is reported as not covered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_POOL = "*"


@dataclass(frozen=True)
class Stratum:
    """Calls that are drawn from together."""

    number: int
    key: str
    """JSON list of app, feature, model, prompt name, prompt version and, if any, topic; ``["*"]``: rare groups."""
    calls: int
    with_text: int
    take: int
    """Calls to draw."""
    groups: tuple[int, ...]

    @property
    def probability(self) -> float:
        """Probability of inclusion of one of its calls, content sampling included."""
        return self.take / self.calls if self.calls else 0.0

    @property
    def text_share(self) -> float:
        """Share of its calls whose texts are there."""
        return self.with_text / self.calls if self.calls else 0.0


def plan(groups: Sequence[Mapping[str, Any]], *, size: int, floor: int) -> tuple[Stratum, ...]:
    """Return the strata and how many calls of each are drawn.

    Args:
        groups: rows with number, app, feature, model, prompt_name, prompt_version, topic, calls, with_text; the largest
            first.
        size: calls to draw in all, at most.
        floor: least number of calls of each stratum, as far as it has them; less where ``size`` does not allow it.
    """
    own = max(1, size // 4)  # with more strata each would get two or three calls: the rarest ones are merged into one
    apart, rare = groups[:own], groups[own:]
    pools = [[group] for group in apart] + ([list(rare)] if rare else [])
    room = [sum(int(g["with_text"]) for g in pool) for pool in pools]
    takes = allocate(room, [sum(int(g["calls"]) for g in pool) for pool in pools], size=size, floor=floor)
    return tuple(
        Stratum(
            number,
            _key(pool[0]) if len(pool) == 1 else json.dumps([_POOL]),
            sum(int(g["calls"]) for g in pool),
            room[number],
            takes[number],
            tuple(int(g["number"]) for g in pool),
        )
        for number, pool in enumerate(pools)
    )


def allocate(room: Sequence[int], calls: Sequence[int], *, size: int, floor: int) -> list[int]:
    """Return how many to draw from each stratum: the floor first, the rest in proportion to the calls.

    Args:
        room: calls that can be drawn.
        calls: all calls.
        size: in all, at most.
        floor: of each.
    """
    strata = [i for i, most in enumerate(room) if most]
    takes = [0] * len(room)
    if not strata:
        return takes
    least = min(floor, size // len(strata))
    for i in strata:
        takes[i] = min(room[i], least)
    left = min(size, sum(room)) - sum(takes)
    while left > 0:
        open_ = [i for i in strata if takes[i] < room[i]]
        total = sum(calls[i] for i in open_)
        shares = {i: min(room[i] - takes[i], left * calls[i] // total) for i in open_}
        if not any(shares.values()):  # less than one each: the largest first
            for i in sorted(open_, key=lambda i: (-calls[i], i))[:left]:
                takes[i] += 1
            left = min(size, sum(room)) - sum(takes)
            continue
        for i, share in shares.items():
            takes[i] += share
        left -= sum(shares.values())
    return takes


def _key(group: Mapping[str, Any]) -> str:
    topic = group.get("topic")
    named = [group[name] for name in ("app", "feature", "model", "prompt_name", "prompt_version")]
    return json.dumps([*named, *([f"topic {topic}"] if topic is not None else [])])
