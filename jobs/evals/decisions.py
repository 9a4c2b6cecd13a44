"""Which drops of a report need a decision by a person: at most three, each named by the slice that explains it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.evals.lines import Line, anchor
from jobs.evals.scorers import INFORM_ONLY

DECISIONS = 3
_MOST = 0.8
"""Share of the lost good answers from which on a slice explains a drop."""


@dataclass(frozen=True)
class Decision:
    """A drop that needs a decision by a person."""

    line: Line
    sentence: str
    anchor: str
    """Fragment of its place in the report."""
    also: tuple[str, ...] = ()
    """Other scorers that fell over the same slice: one cause, one decision."""


def decisions(lines: Sequence[Line]) -> tuple[Decision, ...]:
    """Return the drops that touch most, one of each slice.

    Of a scorer the narrowest slice counts: its others are parts of the same drop. Scorers that fell over the same slice
    are one decision. The most certain loss comes first. Scorers that only inform ask for no decision.
    """
    wanted = [line for line in lines if line.scorer not in INFORM_ONLY]
    drops = [line for line in wanted if line.significant and line.change and line.change.value < 0]
    by_scorer: defaultdict[str, list[Line]] = defaultdict(list)
    for line in drops:
        by_scorer[line.scorer].append(line)
    by_slice: defaultdict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for line in sorted(map(_narrowest, by_scorer.values()), key=lambda line: (_certain_loss(line), line.scorer)):
        by_slice[line.dimension, line.slice, line.against].append(line)
    chosen = [(first, tuple(line.scorer for line in others)) for first, *others in by_slice.values()]
    return tuple(Decision(line, _sentence(line, also), anchor(line), also) for line, also in chosen[:DECISIONS])


def _narrowest(drops: Sequence[Line]) -> Line:
    """Return the slice with the deepest drop among those that hold most of the lost good answers.

    A drop of one app lowers the mean over all calls as well; the report must name the app.
    """
    most = min(map(_loss, drops))
    holding = [line for line in drops if _loss(line) <= _MOST * most]
    return min(holding, key=lambda line: (line.change.value if line.change else 0.0, line.now.calls, line.slice))


def _loss(line: Line) -> float:
    """Return the change times the calls that it touches: how many good answers were lost, negative."""
    assert line.change is not None
    return line.change.value * line.now.calls


def _certain_loss(line: Line) -> float:
    """Return the same at the end of the interval that is nearer to no change.

    Few labels give large drops with wide intervals.
    """
    assert line.change is not None
    return line.change.high * line.now.calls


def _sentence(line: Line, also: Sequence[str]) -> str:
    assert line.change is not None
    change = line.change
    others = f" ({', '.join(also)} fell as well)" if also else ""
    against = f" against {line.against}" if line.against else ""
    return (
        f"{line.scorer} of {line.dimension} {line.slice} fell by {-100 * change.value:.1f} points{against} "
        f"({-100 * change.high:.1f} to {-100 * change.low:.1f}) to {100 * (line.now.mean or 0):.1f} %{others}: "
        "roll back, fix or accept?"
    )
