"""Chooses the cases of the next version of a set: which are kept, removed and added. Pure.

Where the topics of the traffic are known, cases are added by ``cover``, and cases of topics without current calls are
removed; else failed calls are added by their strata (app, feature, kind of reason).

To choose again from the same failures changes nothing: a case that was added lately, or that failed again, is not
replaced, and cases are removed only where others are added. So a refresh that was killed may simply be run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.golden.cases import HEALTHY, Row, chat_text, draw, new_case, reviewed, seen_again, severity
from jobs.golden.cover import Cover
from jobs.golden.settings import GoldenSettings
from jobs.golden.similar import SimilarityIndex, read
from jobs.golden.strata import take
from jobs.golden.topics import Topics

MOST_EMBEDDED = 2_000
"""Candidates of which the topic is looked at, for failed and for healthy calls each: a minute on one core."""


@dataclass(frozen=True)
class Before:
    """The state before a refresh."""

    cases: Sequence[Row] = ()
    """Of the version before."""
    recent_versions: Collection[int] = ()
    """Versions made within the last half of ``days``."""
    reviews: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Case -> verdict and expected answer."""
    returning: Sequence[Row] = ()
    """Removed cases that were accepted since, in their last form: they come back."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Cases that reviews rejected -> what ``sketch`` left of them: neither they nor near duplicates of them come
    in. Never their texts: what is chosen may not change when these go."""


@dataclass(frozen=True)
class Chosen:
    """The next version."""

    cases: tuple[Row, ...]
    """By id."""
    added: int
    kept: int
    dropped: int
    near_duplicates: int
    vanished: int = 0
    """Of the dropped: cases of topics without current calls."""
    coverage: float | None = None
    """Share of the traffic whose topic has a case; None: the topics are not known."""


def choose(
    before: Before,
    calls: Iterable[Mapping[str, Any]],
    settings: GoldenSettings,
    *,
    set_name: str,
    version: int,
    topics: Topics | None = None,
) -> Chosen:
    """Return what version ``version`` of the set holds.

    Args:
        before: the previous version, and its reviews.
        calls: rows of ``warehouse.golden.failed_calls``, in any order.
        settings: size, turnover, similarity, seed.
        set_name: of the golden set.
        version: the next one.
        topics: of the traffic; None: not known.

    Raises:
        EmbedderUnavailableError: the topics' model does not answer.
    """
    had = [*before.cases, *({**case, "added_in": version} for case in before.returning)]
    candidates = _candidates(
        before, had, _cases(calls, settings.seed, set_name, version), SimilarityIndex(settings.similarity)
    )
    kept, vanished = _live(before, candidates, topics)
    staying, added, same = _replaced(before, candidates, kept, settings, topics)
    cases = tuple(sorted((*staying, *added), key=lambda case: str(case["case_id"])))
    here = {case["case_id"] for case in before.cases}
    stayed = sum(case["case_id"] in here for case in staying)
    return Chosen(
        cases,
        added=len(cases) - stayed,
        kept=stayed,
        dropped=len(here) - stayed,
        near_duplicates=candidates.near + same,
        vanished=vanished,
        coverage=topics.covered(topics.vectors([chat_text(case) for case in cases])) if topics else None,
    )


def _replaced(
    before: Before, candidates: _Candidates, kept: Sequence[Row], settings: GoldenSettings, topics: Topics | None
) -> tuple[list[Row], list[Row], int]:
    """Return the cases that stay, the cases to add, and how many were left out as paraphrases of a case.

    Cases leave where there are more than ``size``, and, within the turnover, where others are added in their place.
    """
    order = _removal_order(before, candidates, kept, topics)
    over = max(0, len(kept) - settings.size)
    gone, left = order[:over], order[over:]
    may_leave = [case for case in left if not _needed(before, case, candidates.again)]
    recent_versions = sum(case["added_in"] in before.recent_versions for case in kept)
    turnover = max(0, int(settings.turnover * settings.size + 1e-9) - recent_versions)
    room = max(0, settings.size - len(kept) + len(gone))
    added, same = _added(candidates, kept, settings, room + min(turnover, len(may_leave)), topics)
    gone += may_leave[: max(0, len(added) - room)]
    out = {case["case_id"] for case in gone}
    return [case for case in kept if case["case_id"] not in out], added, same


def _live(before: Before, candidates: _Candidates, topics: Topics | None) -> tuple[list[Row], int]:
    """Return the cases that may stay, and the number of those whose topic has ended and that were not accepted."""
    if topics is None or not candidates.kept:
        return candidates.kept, 0
    live = topics.live(topics.vectors([chat_text(case) for case in candidates.kept]))
    kept = [
        case
        for case, alive in zip(candidates.kept, live, strict=True)
        if alive or _accepted(before, case) or _needed(before, case, candidates.again)
    ]
    return kept, len(candidates.kept) - len(kept)


def _removal_order(before: Before, candidates: _Candidates, kept: Sequence[Row], topics: Topics | None) -> list[Row]:
    """Return what may give room, the first to leave first: the oldest, but the last case of a topic after others."""
    order = sorted(
        (case for case in kept if not _accepted(before, case)),
        key=lambda case: (_needed(before, case, candidates.again), case["added_in"], case["ts"], case["case_id"]),
    )
    if topics is None or not kept:
        return order
    of = dict(zip(_ids(kept), topics.of(topics.vectors([chat_text(case) for case in kept])).tolist(), strict=True))
    count = Counter(of.values())
    early: list[Row] = []
    late: list[Row] = []
    for case in order:
        topic = of[case["case_id"]]
        (early if count[topic] > 1 else late).append(case)
        count[topic] -= 1
    return sorted((*early, *late), key=lambda case: _needed(before, case, candidates.again))


def _ids(cases: Iterable[Row]) -> list[str]:
    return [case["case_id"] for case in cases]


def _added(
    candidates: _Candidates, kept: Sequence[Row], settings: GoldenSettings, total: int, topics: Topics | None
) -> tuple[list[Row], int]:
    """Return the cases to add, and how many were left out as paraphrases of a case."""
    share = int(settings.healthy * settings.size + 1e-9) - sum(case["reasons"] == [HEALTHY] for case in kept)
    healthy = [case for case in candidates.fresh if case["reasons"] == [HEALTHY]]
    failed = [case for case in candidates.fresh if case["reasons"] != [HEALTHY]]
    if topics is None or not candidates.fresh:
        drawn = take(healthy, max(0, min(share, total)))
        return [*take(failed, total - len(drawn)), *drawn], 0
    some = [*take(failed, MOST_EMBEDDED), *healthy[:MOST_EMBEDDED]]
    stay, may_come = ((cases, topics.vectors([chat_text(case) for case in cases])) for cases in (kept, some))
    cover = Cover(topics, stay, may_come, total)
    return cover.fill(max(0, share)), cover.same


def _cases(calls: Iterable[Mapping[str, Any]], seed: int, set_name: str, version: int) -> list[Row]:
    """Return each call once as a case, the most severe first."""
    firsts: dict[str, Mapping[str, Any]] = {}
    for call in calls:
        place = (call["call_epoch"], call["call_partition"], call["call_offset"])
        known = firsts.get(call["call_id"])
        if known is None or place < (known["call_epoch"], known["call_partition"], known["call_offset"]):
            firsts[call["call_id"]] = call  # the first position of an id counts
    made = (new_case(set_name, call, version=version) for call in firsts.values())
    return sorted((c for c in made if c), key=lambda c: (-severity(c), draw(seed, c["call_id"]), c["call_id"]))


@dataclass(frozen=True)
class _Candidates:
    """The cases to choose from."""

    kept: list[Row]
    """May stay."""
    fresh: list[Row]
    """Cases that may be added, the most severe first."""
    near: int
    """Candidates that are near duplicates of a case."""
    again: set[str]
    """Cases that failed again."""


def _candidates(before: Before, had: Iterable[Row], candidates: Iterable[Row], known: SimilarityIndex) -> _Candidates:
    reviews = before.reviews
    out = {case_id for case_id, review in reviews.items() if review["verdict"] == "rejected"}
    kept = {c["case_id"]: reviewed(c, reviews.get(c["case_id"])) for c in had if c["case_id"] not in out}
    for case in kept.values():
        known.add(case["case_id"], read(chat_text(case)))
    for case_id, left in before.rejected.items():
        known.add_sketch(case_id, left)
    fresh: list[Row] = []
    again: set[str] = set()
    near = 0
    for case in candidates:
        if case["case_id"] in kept:
            again.add(case["case_id"])
            kept[case["case_id"]] = seen_again(kept[case["case_id"]], case)
        elif case["case_id"] not in out:
            text = read(chat_text(case))
            if alike := known.like(text):
                again.update(alike)
                near += 1
                continue
            known.add(case["case_id"], text)
            fresh.append(reviewed(case, reviews.get(case["case_id"])))
    return _Candidates(list(kept.values()), fresh, near, again)


def _accepted(before: Before, case: Row) -> bool:
    review = before.reviews.get(case["case_id"])
    return review is not None and review["verdict"] == "accepted"


def _needed(before: Before, case: Row, again: Collection[str]) -> bool:
    """Whether ``case`` came in lately or failed again: it gives no room to another."""
    return case["added_in"] in before.recent_versions or case["case_id"] in again
