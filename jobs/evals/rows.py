"""From a row of the sample to a case, and from a score to the event that is published. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from jobs.evals.case import NOTHING_EXPECTED, Case, Context, Expectation, Message, Opinion, Score, Tool
from jobs.evals.sample import Stratum
from jobs.evals.scorers import Scorer
from tailrace_emitter.event import Eval, Evaluator
from tailrace_emitter.redact import Redactor

NOT_JUDGEABLE = "not_judgeable"
"""Label of an eval event without a score: this scorer cannot judge the call.

The explanation of the event holds the reason.
"""
KINDS = {"code": "code", "embedding": "code", "llm": "llm", "human": "human"}
"""Kind of a scorer -> ``evaluator.kind`` on the wire, which has no kind for an embedding model."""
_DIGEST = re.compile(r"(hmac|sha256):[0-9a-f]{64}")
"""The digest by which an emitter in mode ``hashed`` replaces a text."""
_NAMESPACE = uuid.UUID("5a1c0f0e-6f0b-5a3e-9d5b-7c0a51f1e7a1")
_MOST_CHARS = 500
"""Of an explanation."""
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RunFacts:
    """What the events of one run have in common."""

    run_id: str
    as_of: int
    """Time of the events, µs UTC."""


def case_of(row: Mapping[str, Any], expect: Expectation = NOTHING_EXPECTED) -> Case:
    """Return the case of a row of ``warehouse.evals.sample``; the user's last edit is its reference."""
    opinions = tuple(_opinion(found) for found in row["opinions"] or ())
    edits = [opinion.edited for opinion in opinions if opinion.edited]
    system = row["system_text"]
    messages = tuple(Message(m["role"] or "", m["text"]) for m in row["messages"] or () if m["text"])
    return Case(
        call_id=row["call_id"],
        app=row["app"],
        feature=row["feature"],
        model=row["model"],
        prompt_name=row["prompt_name"],
        prompt_version=row["prompt_version"],
        variant=row["variant"],
        messages=(Message("system", system), *messages) if system else messages,
        input_text=row["input_text"],
        output=row["output_text"],
        reference=edits[-1] if edits else None,
        contexts=tuple(
            Context(doc["id"] or doc["chunk"] or "", doc["text"], doc["rank"], doc["relevant"])
            for doc in row["retrieval_docs"] or ()
        ),
        finish_reason=row["finish_reason"],
        status=row["status"],
        refused=row["refused"],
        latency_ms=row["latency_ms"],
        ttft_ms=row["ttft_ms"],
        cost_usd=row["cost_usd"],
        opinions=opinions,
        tools=tuple(Tool(tool["name"] or "", tool["ok"], tool["args"]) for tool in row["tools"] or ()),
        expect=expect,
    )


def event_of(row: Mapping[str, Any], score: Score, scorer: Scorer, *, run: RunFacts, stratum: Stratum) -> Eval:
    """Return the eval event of ``score``; the same call, scorer, version and run give the same id.

    An error has an id of its own, so that a later score of the same call is no duplicate of it.
    """
    explanation = (score.explanation or score.not_judgeable)[:_MOST_CHARS]
    return Eval(
        v=1,
        id=event_id(run.run_id, row["call_id"], scorer.name, scorer.version, *(("error",) if score.error else ())),
        ts=_START + timedelta(microseconds=run.as_of),
        name=scorer.name,
        app=row["app"],
        env=row["env"],
        call_id=uuid.UUID(row["call_id"]),
        trace_id=row["trace_id"],
        score=score.value,
        label=NOT_JUDGEABLE if score.not_judgeable else score.label,
        explanation=Redactor().text(explanation) if explanation else None,
        evaluator=Evaluator(
            kind=KINDS[scorer.kind],  # type: ignore[arg-type]
            name=scorer.name,
            version=scorer.version,
            model=getattr(scorer, "model", None),
        ),
        run_id=run.run_id,
        experiment=row["experiment"],
        variant=row["variant"],
        error=Redactor().text(score.error[:_MOST_CHARS]) if score.error else None,
        extra={
            "inclusion_probability": stratum.probability,
            "stratum": stratum.key,
            "stratum_calls": stratum.calls,
            "stratum_with_text": stratum.with_text,
            "stratum_sampled": stratum.take,
        },
    )


def event_id(run_id: str, call_id: str, *what: str) -> uuid.UUID:
    """Return the id of a score: made of what it is about, so that a score that is made again is a duplicate."""
    return uuid.uuid5(_NAMESPACE, "\x00".join((run_id, call_id, *what)))


def message_of(event: Eval) -> tuple[bytes, bytes]:
    """Return the Kafka key and the value of ``event``; the key as the emitter chooses it."""
    key = str(event.trace_id or event.id).encode()
    return key, msgspec.json.encode(event)


def _opinion(row: Mapping[str, Any]) -> Opinion:
    edited = row["edited"]
    return Opinion(
        row["kind"],
        row["score"],
        row["label"],
        edited if edited and not _DIGEST.fullmatch(edited) else None,
        row["name"] or "",
    )
