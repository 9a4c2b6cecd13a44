"""Builds the judge scorers from settings: rubrics, endpoint, cache, spend limit and rate limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType

import openai

from jobs.evals.judge import rubric
from jobs.evals.judge.cache import CachingEndpoint
from jobs.evals.judge.endpoint import ChatEndpoint, Price
from jobs.evals.judge.limits import Breaker, RateLimit, SpendLimit
from jobs.evals.judge.rubric import Rubric, RubricError
from jobs.evals.judge.scorer import JudgeScorer

SHIPPED = Path(__file__).parent / "rubrics"


@dataclass(frozen=True)
class JudgeOptions:
    """How the judge is reached, and what it may cost."""

    model: str
    url: str
    """Base address of an API that implements OpenAI's chat completions."""
    rubrics: tuple[Path, ...] = ()
    """Empty: those that are shipped."""
    samples: int = 1
    per_minute: float = 60.0
    workers: int = 4
    spend_limit: Decimal | None = Decimal(5)
    """USD of one run; None: no limit."""


@dataclass
class Judges:
    """The judge scorers of one run; closes the cache and the client."""

    scorers: tuple[JudgeScorer, ...]
    spend: SpendLimit
    cache: CachingEndpoint
    _stack: ExitStack = field(repr=False)

    def __enter__(self) -> Judges:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def rubrics_of(options: JudgeOptions) -> tuple[Rubric, ...]:
    """Return the rubrics.

    Raises:
        RubricError: one cannot be read, or two have one name.
    """
    paths = options.rubrics or tuple(sorted(SHIPPED.glob("*.yaml")))
    found: dict[str, Rubric] = {}
    for path in paths:
        each = rubric.load(path)
        if each.name in found:
            raise RubricError(str(path), "name", f"another rubric is named {each.name}")
        found[each.name] = each
    return tuple(found.values())


def build(
    options: JudgeOptions,
    client: openai.OpenAI,
    price: Price,
    cache: Path,
    *,
    now: Callable[[], int],
    only: Sequence[str] = (),
) -> Judges:
    """Make the scorers. All share one cache, one spend limit and one pace.

    Args:
        options: from the settings.
        client: of the endpoint; the code that made it also records its calls.
        price: of one reply.
        cache: file of the replies.
        now: µs UTC.
        only: names of scorers (``judge.NAME``) to make; empty: all.

    Raises:
        RubricError: a rubric cannot be used.
        CacheUnusableError: the cache cannot be opened.
    """
    rubrics = rubrics_of(options)
    stack = ExitStack()
    chat = ChatEndpoint(client, options.model, price, temperature=0.0 if options.samples == 1 else 0.7)
    spend = SpendLimit(Breaker(RateLimit(chat, options.per_minute, time.monotonic, time.sleep)), options.spend_limit)
    identity = f"{options.url} {options.model} {chat.temperature} {chat.max_tokens}"
    caching = CachingEndpoint(spend, cache, identity=identity, now=now)
    stack.callback(client.close)
    stack.callback(caching.close)
    scorers = (
        JudgeScorer(each, caching, options.model, samples=options.samples, workers=options.workers) for each in rubrics
    )
    return Judges(tuple(s for s in scorers if not only or s.name in only), spend, caching, stack)
