"""The cost of one reply of the judge: the reply becomes the event that the emitter would send, and is priced as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from jobs.evals.judge import JUDGE_APP
from jobs.evals.judge.endpoint import Price
from pipelines.decode import DuplicateWindow, decode
from pipelines.pricing import PriceBook, PriceBooks
from schemas.records import Records
from schemas.topics import EVENTS
from tailrace_emitter.adapters.providers import provider_of
from tailrace_emitter.encode import Policy, encode
from tailrace_emitter.ids import new_id


def price_by(book: PriceBook, host: str, *, now: Callable[[], int]) -> Price:
    """Return the function that prices a reply of ``host``.

    Args:
        book: prices.
        host: of the endpoint; it names the provider.
        now: µs UTC.
    """
    books, policy = PriceBooks([book]), Policy(JUDGE_APP)

    def price(model: str, usage: Mapping[str, Any]) -> Decimal | None:
        at = now()
        fields = {"model": model, "provider": provider_of(host, model), "usage": dict(usage)}
        value = encode("call", new_id(), at * 1000, fields, policy).value
        records = Records(EVENTS, [0], [0], [at], [None], [value], [()])
        cost = decode(records, books, DuplicateWindow(), epoch=0, landed_at=at).calls["cost_usd"][0].as_py()
        return None if cost is None else Decimal(cost)

    return price
