"""Calls as columns, what may be changed in them from a moment on, and their lines of JSON."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
T0 = 1_764_547_200 * SECOND
"""Event time of day 0 of every trace: Monday, 1 December 2025."""
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"))
"""Of the calls, with shares ``MODEL_SHARES``."""
MODEL_SHARES = (0.5, 0.3, 0.2)
EXPENSIVE = (("openai", "gpt-4.5-preview"), ("openai", "gpt-4.5-preview"), ("openai", "gpt-4"))
"""Where a call of each of MODELS goes by mistake: 10 to 30 times the price of a mean call."""
ALL_MODELS = (*MODELS, *EXPENSIVE)
STOPS = (("stop", "length"), ("end_turn", "max_tokens"), ("STOP", "MAX_TOKENS"))
"""Whole and cut-off answers as each of MODELS spells them: the spellings of the recorded exchanges."""
ERRORS = (("rate_limit_error", "429"), ("server_error", "503"), ("overloaded_error", "529"))
"""Written by hand for 5xx and 429, of which the recorded exchanges have none and one."""
Array = np.ndarray[Any, Any]


@dataclass
class Calls:
    """Calls in the order of time; row i of every column is one call."""

    t: Array
    """Event time, µs UTC."""
    client: Array
    """Number of the client: the affected slice is one of these. -1 = none."""
    user: Array
    """Number of the user; below 0 one who is not of the trace."""
    model: Array
    """Index into ALL_MODELS."""
    input: Array
    output: Array
    cached: Array
    cut_off: Array
    failed: Array
    flagged: Array
    """A guardrail that looks for attacks has flagged the call."""
    no_usage: Array
    attempt: Array
    """1 for the first try."""
    ttft: Array
    """Time to the first token, ms; 0 = not reported."""
    text: Array
    """Index into the texts of the world; -1 = no text."""
    answer: Array
    """Index into the answers of the world; -1 = no answer."""
    document: Array
    """Index into the retrieved texts of the world; -1 = nothing was looked up."""

    def __len__(self) -> int:
        return len(self.t)

    def take(self, rows: Array) -> Calls:
        """Return the calls ``rows``: indices, or a mask."""
        return Calls(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def between(self, since: int, until: int) -> Calls:
        """Return the calls in [since, until), µs UTC."""
        first, last = np.searchsorted(self.t, [since, until])
        return self.take(np.arange(first, last))

    def changed(self, rows: Array, **columns: Any) -> Calls:
        """Return a copy with other values in ``rows`` of some columns."""
        more = {}
        for name, values in columns.items():
            column = getattr(self, name).copy()
            column[rows] = values
            more[name] = column
        return replace(self, **more)

    def merged(self, other: Calls) -> Calls:
        """Return both, in the order of time."""
        both = Calls(**{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)})
        return both.take(np.argsort(both.t, kind="stable"))


@dataclass(frozen=True)
class Naming:
    """How a world's clients show in the events."""

    app: str = "assistant"
    dimension: str = "tenant"
    """feature or tenant."""
    texts: Sequence[str] = ()
    answers: Sequence[str] = ()
    documents: Sequence[str] = ()
    tenants_per_client: int = 1
    features: int = 0
    """Features by user, beside the dimension of the clients."""

    def client(self, number: int) -> str:
        """Return the value of the dimension for a client."""
        return f"client-{number}"

    def names(self, client: int, user: int) -> str:
        """Return the dimensions of a call as members of a JSON object."""
        part = f"-{user % self.tenants_per_client}" if self.tenants_per_client > 1 else ""
        feature = f',"feature":"feature-{user % self.features}"' if self.features else ""
        return f',"{self.dimension}":"{self.client(client)}{part}"{feature}' if client >= 0 else ""

    def user(self, number: int) -> str:
        """Return the id of a user."""
        return f"user-{number}" if number >= 0 else f"stranger{number}"


def lines(calls: Calls, naming: Naming, seed: int) -> Iterator[bytes]:
    """Yield the events of ``calls`` as JSON; ids are drawn from ``seed``."""
    draws = np.random.default_rng(seed)
    ids = draws.integers(0, 2**63, (len(calls), 2), dtype=np.int64)
    noise = np.exp(draws.normal(0.0, 0.2, len(calls)))
    texts = [[json.dumps(text) for text in part] for part in (naming.texts, naming.answers, naming.documents)]
    columns = [getattr(calls, f.name).tolist() for f in fields(calls)]
    for row, (high, low), factor in zip(zip(*columns, strict=True), ids.tolist(), noise.tolist(), strict=True):
        yield _line(row, uuid.UUID(int=(high << 64 | low), version=4), factor, naming, texts)


def _line(row: Sequence[Any], name: uuid.UUID, factor: float, naming: Naming, texts: Sequence[Sequence[str]]) -> bytes:
    t, client, user, model, tokens_in, tokens_out, cached, cut_off, failed, flagged, no_usage, attempt, ttft = row[:13]
    text, answer, document = row[13:]
    provider, model_name = ALL_MODELS[model]
    parts = [
        f'{{"v":1,"type":"call","id":"{name}","ts":{t // 1000},"app":"{naming.app}","provider":"{provider}",'
        f'"model":"{model_name}","user":"{naming.user(user)}"{naming.names(client, user)}'
    ]
    if attempt > 1:
        parts.append(f',"attempt":{attempt}')
    if failed:
        kind, code = ERRORS[t % len(ERRORS)]
        parts.append(
            f',"status":"error","error":{{"type":"{kind}","code":"{code}"}},"latency":{{"total_ms":{80 * factor:.1f}}}'
        )
    else:
        stop = STOPS[model % len(MODELS)][int(cut_off)]
        first = f',"ttft_ms":{ttft:.1f}' if ttft else ""
        total = (ttft or 350) + 12 * tokens_out * factor
        parts.append(f',"finish_reason":"{stop}","latency":{{"total_ms":{total:.1f}{first}}}')
        if no_usage:
            parts.append(',"stream":true')
        else:
            cache = f',"cache_read":{cached}' if cached else ""
            parts.append(f',"tokens":{{"input":{tokens_in},"output":{tokens_out}{cache}}}')
    if flagged:
        parts.append(',"guardrails":[{"name":"injection","stage":"input","action":"flag"}]')
    if text >= 0:
        output = f',"output":{texts[1][answer]}' if answer >= 0 and not failed else ""
        parts.append(f',"content":{{"mode":"redacted","input":[{{"role":"user","text":{texts[0][text]}}}]{output}}}')
    if document >= 0:
        parts.append(f',"retrieval":{{"index":"docs","docs":[{{"id":"doc-{document}","text":{texts[2][document]}}}]}}')
    return "".join([*parts, "}"]).encode()
