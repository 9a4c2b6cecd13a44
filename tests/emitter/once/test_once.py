"""One provider call costs once, whatever wraps it: decorators, spans, streams, retries, raw responses, resends.

Every case is a function of a scripted world, with the number of events that carry money and their exact sum.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import openai
import pytest
from once_world import USAGE, World, chat, failed, stream

import tailrace_emitter
from tailrace_emitter import bind

ONE = Decimal("0.0075")
TWICE = 2 * ONE
NONE = Decimal(0)
MINI = Decimal("0.00045")
"""The usage at the prices of gpt-4o-mini."""
REQUEST: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


def here() -> tailrace_emitter.Span:
    """The span around the caller."""
    span = tailrace_emitter.current()
    assert span is not None
    return span


def plain(world: World) -> None:
    world.ask()()


def observed_response(world: World) -> None:
    world.emitter.observe(world.ask())()


def observed_with_model(world: World) -> None:
    world.emitter.observe(model="gpt-4o")(world.ask())()


def observed_text(world: World) -> None:
    ask = world.ask()
    world.emitter.observe(model="gpt-4o")(lambda: ask().choices[0].message.content)()


def observed_usage(world: World) -> None:
    ask = world.ask()

    def function() -> str:
        answer = ask()
        here().usage = answer.usage
        return "x"

    world.emitter.observe(model="gpt-4o")(function)()


def observed_tokens(world: World) -> None:
    ask = world.ask()

    def function() -> None:
        ask()
        here().set(input_tokens=1000, output_tokens=500)

    world.emitter.observe(model="gpt-4o")(function)()


def observed_twice(world: World) -> None:
    world.emitter.observe(model="gpt-4o")(world.emitter.observe(model="gpt-4o")(world.ask()))()


def observed_two_calls(world: World) -> None:
    ask = world.ask()
    world.emitter.observe(model="gpt-4o")(lambda: (ask(), ask())[1])()


def observed_other_client(world: World) -> None:
    """No recorded client inside: what the span says is all there is."""

    def function() -> Any:
        here().usage = USAGE

    world.emitter.observe(model="gpt-4o", provider="openai")(function)()


def observed_generator(world: World) -> None:
    ask = world.ask(stream())

    def pieces() -> Any:
        for chunk in ask(stream=True):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    assert "".join(world.emitter.observe(model="gpt-4o")(pieces)()) == "Hello."


def observed_coroutine(world: World) -> None:
    client = world.async_client()

    async def function() -> Any:
        return await client.chat.completions.create(**REQUEST)

    asyncio.run(world.emitter.observe(model="gpt-4o")(function)())


def observed_asyncgen(world: World) -> None:
    client = world.async_client(stream())

    async def pieces() -> Any:
        async for chunk in await client.chat.completions.create(**REQUEST, stream=True):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    async def read() -> str:
        return "".join([piece async for piece in world.emitter.observe(model="gpt-4o")(pieces)()])

    assert asyncio.run(read()) == "Hello."


def observed_gather(world: World) -> None:
    client = world.async_client()

    async def function() -> Any:
        return (await asyncio.gather(*(client.chat.completions.create(**REQUEST) for _ in range(2))))[0]

    asyncio.run(world.emitter.observe(model="gpt-4o")(function)())


def observed_pool(world: World) -> None:
    ask = world.ask()

    def function() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(bind(ask)).result()

    world.emitter.observe(model="gpt-4o")(function)()


def observed_failure(world: World) -> None:
    with contextlib.suppress(openai.APIError):
        world.emitter.observe(model="gpt-4o")(world.ask(failed(400)))()


def span_usage(world: World) -> None:
    ask = world.ask()
    with world.emitter.span("gpt-4o") as call:
        call.usage = ask().usage


def span_answer(world: World) -> None:
    ask = world.ask()
    with world.emitter.span("gpt-4o") as call:
        call.output = ask().choices[0].message.content


def span_dated_model(world: World) -> None:
    ask = world.ask()
    with world.emitter.span("gpt-4o-2024-08-06") as call:
        call.usage = ask().usage


def span_parent(world: World) -> None:
    ask = world.ask()
    with world.emitter.span("gpt-4o") as parent, world.emitter.span("gpt-4o") as child:
        child.usage = parent.usage = ask().usage


def span_manual_child(world: World) -> None:
    """No recorded client: the child carries the usage, and its parent repeats it."""
    with world.emitter.span("gpt-4o", provider="openai") as parent:
        with world.emitter.span("gpt-4o", provider="openai") as child:
            child.usage = USAGE
        parent.usage = USAGE


def span_reported(world: World) -> None:
    ask = world.ask()
    with world.emitter.span("gpt-4o") as call:
        ask()
        call.set(cost_reported=0.0075)


def streamed(world: World) -> None:
    list(world.ask(stream())(stream=True))


def streamed_with_usage(world: World) -> None:
    list(world.ask(stream())(stream=True, stream_options={"include_usage": True}))


def streamed_without_usage(world: World) -> None:
    list(world.ask(stream(usage=None))(stream=True))


def streamed_usage_in_every_chunk(world: World) -> None:
    status, body = stream()
    spread = body.replace(
        '"finish_reason": null}]}',
        '"finish_reason": null}], "usage": {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}}',
    )
    list(world.ask((status, spread))(stream=True))


def streamed_and_closed(world: World) -> None:
    answer = world.ask(stream())(stream=True)
    next(iter(answer))
    answer.close()


def streamed_by_helper(world: World) -> None:
    with world.client(stream()).chat.completions.stream(**REQUEST) as events:
        for _ in events:
            pass
        events.get_final_completion()


def parsed(world: World) -> None:
    world.client().chat.completions.parse(**REQUEST)


def raw(world: World) -> None:
    answer = world.client().chat.completions.with_raw_response.create(**REQUEST)
    assert answer.parse().usage == answer.parse().usage


def raw_stream(world: World) -> None:
    with world.client(stream()).chat.completions.with_streaming_response.create(**REQUEST, stream=True) as answer:
        list(answer.iter_lines())


def sdk_retry(world: World) -> None:
    world.ask(failed(500), chat(), max_retries=2)()
    assert world.asked == 2


def sdk_retry_limit(world: World) -> None:
    world.ask(failed(429), failed(429), chat(), max_retries=2)()
    assert world.asked == 3


def sdk_retry_stream(world: World) -> None:
    list(world.ask(failed(500), stream(), max_retries=2)(stream=True))
    assert world.asked == 2


def sdk_retries_exhausted(world: World) -> None:
    with contextlib.suppress(openai.InternalServerError):
        world.ask(failed(500), max_retries=1)()
    assert world.asked == 2


def app_retry(world: World) -> None:
    ask = world.ask(failed(500), chat(), max_retries=0)
    with contextlib.suppress(openai.InternalServerError):
        ask()
    ask()


def app_retry_observed(world: World) -> None:
    ask = world.ask(failed(500), chat(), max_retries=0)

    def function() -> Any:
        with contextlib.suppress(openai.InternalServerError):
            return ask()
        return ask()

    world.emitter.observe(model="gpt-4o")(function)()


def fallback(world: World) -> None:
    ask = world.ask(failed(503), chat("gpt-4o-mini-2024-07-18"), max_retries=0)
    with contextlib.suppress(openai.InternalServerError):
        ask()
    ask(model="gpt-4o-mini")


def with_options(world: World) -> None:
    world.client().with_options(timeout=5).chat.completions.create(**REQUEST)


def instrumented_too(world: World) -> None:
    tailrace_emitter.instrument(world.emitter)
    tailrace_emitter.instrument(world.emitter)
    try:
        world.ask()()
    finally:
        tailrace_emitter.uninstrument()


def two_choices(world: World) -> None:
    world.ask()(n=2)


def answer_cache(world: World) -> None:
    """The app keeps an answer, and records that its cache gave it again."""
    answer = world.ask()()
    world.emitter.record({"model": "gpt-4o", "usage": answer.usage, "cache": {"kind": "exact", "saved": 0.0075}})


def resent(world: World) -> None:
    """The producer sends one message again: the same bytes, at a later offset."""
    world.ask()()
    world.emitter.messages *= 3


def openrouter_reported(world: World) -> None:
    usage = {**USAGE, "cost": 0.0071}
    answer = chat("openai/gpt-4o", usage)
    world.ask(answer, base_url="https://openrouter.ai/api/v1")(model="openai/gpt-4o")


def openrouter_observed(world: World) -> None:
    answer = chat("openai/gpt-4o", {**USAGE, "cost": 0.0071})
    ask = world.ask(answer, base_url="https://openrouter.ai/api/v1")
    world.emitter.observe(model="openai/gpt-4o")(lambda: ask(model="openai/gpt-4o"))()


def response(status: str) -> tuple[int, Any]:
    """A response that goes on in the background, or has ended."""
    done = status == "completed"
    usage = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500} if done else None
    body = {"id": "resp_68f0a1", "object": "response", "created_at": 1_787_227_000, "model": "gpt-4o-2024-08-06"}
    return 200, {**body, "status": status, "background": True, "output": [], "usage": usage}


def background(world: World) -> None:
    client = world.client(response("queued"), response("in_progress"), response("completed"))
    started = client.responses.create(model="gpt-4o", input="Hi", background=True)
    while client.responses.retrieve(started.id).status != "completed":
        pass
    client.responses.retrieve(started.id)


def background_observed(world: World) -> None:
    client = world.client(response("queued"), response("completed"))

    def function() -> Any:
        return client.responses.retrieve(client.responses.create(model="gpt-4o", input="Hi", background=True).id)

    world.emitter.observe(model="gpt-4o")(function)()


def background_left(world: World) -> None:
    world.client(response("queued")).responses.create(model="gpt-4o", input="Hi", background=True)


CASES: list[tuple[Callable[[World], None], int, Decimal]] = [
    (plain, 1, ONE),
    (observed_response, 1, ONE),
    (observed_with_model, 1, ONE),
    (observed_text, 1, ONE),
    (observed_usage, 1, ONE),
    (observed_tokens, 1, ONE),
    (observed_twice, 1, ONE),
    (observed_two_calls, 2, TWICE),
    (observed_other_client, 1, ONE),
    (observed_generator, 1, ONE),
    (observed_coroutine, 1, ONE),
    (observed_asyncgen, 1, ONE),
    (observed_gather, 2, TWICE),
    (observed_pool, 1, ONE),
    (observed_failure, 0, NONE),
    (span_usage, 1, ONE),
    (span_answer, 1, ONE),
    (span_dated_model, 1, ONE),
    (span_parent, 1, ONE),
    (span_manual_child, 1, ONE),
    (span_reported, 1, ONE),
    (streamed, 1, ONE),
    (streamed_with_usage, 1, ONE),
    (streamed_without_usage, 0, NONE),
    (streamed_usage_in_every_chunk, 1, ONE),
    (streamed_and_closed, 0, NONE),
    (streamed_by_helper, 1, ONE),
    (parsed, 1, ONE),
    (raw, 1, ONE),
    (raw_stream, 1, ONE),
    (sdk_retry, 1, ONE),
    (sdk_retry_limit, 1, ONE),
    (sdk_retry_stream, 1, ONE),
    (sdk_retries_exhausted, 0, NONE),
    (app_retry, 1, ONE),
    (app_retry_observed, 1, ONE),
    (fallback, 1, MINI),
    (with_options, 1, ONE),
    (instrumented_too, 1, ONE),
    (two_choices, 1, ONE),
    (answer_cache, 1, ONE),
    (resent, 1, ONE),
    (openrouter_reported, 1, ONE),
    (openrouter_observed, 1, ONE),
    (background, 1, ONE),
    (background_observed, 1, ONE),
    (background_left, 0, NONE),
]


@pytest.mark.parametrize(("case", "events", "usd"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_provider_call_costs_once(world: World, case: Callable[[World], None], events: int, usd: Decimal) -> None:
    case(world)
    assert world.bill() == (events, usd)
