"""A call through LiteLLM costs once, whether its logger, the client below it or a decorator sees it, or all of them."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from once_world import World, chat, failed, stream

import tailrace_emitter

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network for prices
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import litellm

    from tailrace_emitter.adapters import litellm as adapter
    from tailrace_emitter.litellm import TailraceLogger

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own deprecations
ONE = Decimal("0.0075")
MESSAGES = [{"role": "user", "content": "Hi"}]
WAIT_S = 20.0
LOGGER = TailraceLogger()
"""One for all cases: LiteLLM keeps the first logger of a class."""


@pytest.fixture(autouse=True)
def logger(world: World) -> Iterator[None]:
    """LiteLLM with our logger."""
    before = litellm.callbacks
    LOGGER._emitter = world.emitter
    litellm.callbacks = [LOGGER]
    yield
    for name in adapter._LISTS:  # a call has copied it there, and later tests of this process would get its events
        adapter._forget(name, LOGGER)
    litellm.callbacks = before


def below(world: World, *answers: Any, recorded: bool = True) -> Any:
    """The client that LiteLLM is given: recorded, or the SDK's own."""
    client = world.client(*answers, max_retries=0)
    return client if recorded else openai.OpenAI(api_key="none", http_client=world.http, max_retries=0)


def ask(client: Any, **how: Any) -> Any:
    how = {"model": "openai/gpt-4o", "max_retries": 0, **how}
    return litellm.completion(messages=MESSAGES, client=client, **how)


def plain(world: World) -> None:
    ask(below(world, recorded=False))


def recorded_below(world: World) -> None:
    ask(below(world))


def two_loggers(world: World) -> None:
    litellm.callbacks.append(litellm.callbacks[0])
    ask(below(world))


def instrumented(world: World) -> None:
    tailrace_emitter.instrument(world.emitter)
    try:
        ask(below(world))
    finally:
        tailrace_emitter.uninstrument()


def streamed(world: World) -> None:
    list(ask(below(world, stream()), stream=True))


def observed(world: World) -> None:
    world.emitter.observe(model="gpt-4o")(lambda: ask(below(world)))()


def retried_by_app(world: World) -> None:
    client = below(world, failed(500), chat())
    with contextlib.suppress(Exception):
        ask(client)
    ask(client)


def fallen_back(world: World) -> None:
    client = below(world, failed(500), chat())
    with contextlib.suppress(Exception):
        ask(client, model="openai/gpt-4o-mini")
    ask(client)


def retried_by_litellm(world: World) -> None:
    ask(below(world, failed(500), chat()), max_retries=2)
    assert world.asked == 2


CASES: list[tuple[Callable[[World], None], int]] = [
    (plain, 1),
    (recorded_below, 1),
    (two_loggers, 1),
    (instrumented, 1),
    (streamed, 1),
    (observed, 2),
    (retried_by_app, 2),
    (fallen_back, 2),
    (retried_by_litellm, 1),
]
"""(case, events to wait for)."""


@pytest.mark.parametrize(("case", "events"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_call_through_litellm_costs_once(world: World, case: Callable[[World], None], events: int) -> None:
    case(world)
    until = time.monotonic() + WAIT_S  # the logger runs in a thread of LiteLLM's
    while len(world.emitter.messages) < events and time.monotonic() < until:
        time.sleep(0.02)
    assert len(world.emitter.messages) == events
    assert world.bill() == (1, ONE)
