"""Reviews of golden cases: a record on llm.log, which land writes into the lake and a refresh reads there."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import msgspec
import pyarrow as pa

from jobs.golden import redactor
from jobs.golden.cases import reviewed
from pipelines.decode.rules import clean_text
from pipelines.kafka import KafkaConfig, Producer
from schemas.alerts import LogRecord
from schemas.errors import FatalError, SettingsError
from schemas.topics import LOG
from warehouse.errors import LakeUnavailableError
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

Verdict = Literal["accepted", "rejected"]
_FLUSH_S = 15.0
_LAND_S = 10.0
_LOOK_EVERY_S = 0.2
_LANDED = """
SELECT count(DISTINCT entry->>'id') AS landed FROM golden_reviews WHERE list_contains($1::VARCHAR[], entry->>'id')
"""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class NoGoldenSetError(FatalError):
    """A set has no such version, or none at all."""

    def __init__(self, set_name: str, version: int | None, catalog: str) -> None:
        which = "no version" if version is None else f"no version {version}"
        super().__init__(
            f"golden set {set_name} has {which} in lake {catalog}: `tailrace golden versions` lists what there is, "
            "`tailrace golden refresh` makes one"
        )


class NoGoldenCaseError(FatalError):
    """No set ever had such a case."""

    def __init__(self, case_id: str, catalog: str) -> None:
        super().__init__(
            f"no golden case {case_id[:80]} in any version of any set in lake {catalog}: `tailrace golden show` lists "
            "the cases of a set with their ids"
        )


class GoldenCaseGoneError(FatalError):
    """A rejected case is to come back, and a refresh has blanked it."""

    def __init__(self, case_id: str) -> None:
        super().__init__(
            f"golden case {case_id[:80]} cannot come back: a review rejected it, and the refresh after that removed "
            "its texts from all versions; accept another case"
        )


def set_name(text: str) -> str:
    """Return the name of a set as it was given.

    Raises:
        SettingsError: it is none.
    """
    if not _NAME.fullmatch(text):
        problem = f"{text[:80]!r} is no name of a golden set"
        raise SettingsError("--set", problem, "use up to 64 of a-z, 0-9, . _ -, the first a letter or digit")
    return text


def review(
    kafka: KafkaConfig,
    case: Mapping[str, Any],
    verdict: Verdict,
    *,
    actor: str,
    now: int,
    expected: str | None,
    note: str | None,
    rubric: str | None = None,
) -> str:
    """Record the review of a case by ``actor`` at ``now`` (µs UTC).

    Texts are redacted first; new placeholders continue the numbers of those in the case.

    Args:
        kafka: where to.
        case: columns of golden_cases.
        verdict: on it.
        actor: the reviewer.
        now: when.
        expected: what the answer should be; empty withdraws the earlier value.
        note: why.
        rubric: what a good answer does; empty withdraws the earlier value.

    Returns:
        The id of the record; ``until_landed`` waits for it.

    Raises:
        KafkaUnavailableError: it is not written; try again.
    """
    text = redactor(case, case["expected"], case["rubric"], expected, rubric, note)
    record_id = uuid.uuid4().hex  # sent twice, shown once
    row = {
        "id": record_id,
        "actor": actor,
        "case_id": case["case_id"],
        "verdict": verdict,
        "expected": _clean(text(expected)),
        "rubric": _clean(text(rubric)),
        "note": _clean(text(note)),
    }
    producer = Producer(kafka)
    try:
        producer.send(LOG, msgspec.json.encode(LogRecord(table="golden_reviews", at=now, row=row)))
        producer.flush(_FLUSH_S)
    finally:
        producer.close(0.0)
    return record_id


def until_landed(
    lake: LakeConfig, records: Collection[str], *, clock: Callable[[], float], wait: Callable[[float], None]
) -> bool:
    """Wait until ``records`` are in the lake, so that an export sees them; False where land does not land them."""
    deadline = clock() + _LAND_S
    while True:
        with contextlib.suppress(LakeUnavailableError), ReadOnlyLake.open(lake) as open_lake:
            if open_lake.query(_LANDED, [list(records)]).to_pylist()[0]["landed"] == len(records):
                return True
        if clock() > deadline:
            return False
        wait(_LOOK_EVERY_S)


def with_reviews(rows: pa.Table) -> pa.Table:
    """Return cases with the answers and rubrics of reviews, as the next refresh will write them.

    Args:
        rows: columns of golden_cases, and ``review_expected`` and ``review_rubric``: of golden_verdicts, NULL where
            none was given.
    """
    reviews = [{"expected": row["review_expected"], "rubric": row["review_rubric"]} for row in rows.to_pylist()]
    cases = [reviewed(row, review) for row, review in zip(rows.to_pylist(), reviews, strict=True)]
    return pa.Table.from_pylist(cases, rows.schema).drop_columns(["review_expected", "review_rubric"])


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)
