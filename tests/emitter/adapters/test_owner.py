"""Who is charged: the context belongs to the moment of the request, however and wherever its answer is read."""

import asyncio
import gc
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import tailrace_emitter as tailrace
from tailrace_emitter.openai import AsyncOpenAI, OpenAI

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network for prices
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    litellm = pytest.importorskip("litellm")

from tailrace_emitter.adapters.litellm import _contexts
from tailrace_emitter.litellm import TailraceLogger

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own deprecations

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
Owner = dict[str, str]


def owner_of(number: int) -> Owner:
    return {
        "user": f"u{number}",
        "tenant": f"t{number % 7}",
        "session_id": f"s{number}",
        "feature": f"f{number % 5}",
        "release": f"r{number % 3}",
        "prompt_name": f"p{number % 4}",
    }


def text_of(owner: Owner) -> str:
    return f"hi {owner['user']}."


@pytest.fixture
def server(provider: Any) -> Any:
    """A provider that streams where it is asked to, and fails each first attempt of a retried call."""
    import json

    tried: set[str] = set()
    chat = {"id": "c1", "created": 1, "model": "gpt-4o-2024-08-06"}
    message = {"role": "assistant", "content": "Hello."}
    whole = {**chat, "object": "chat.completion", "usage": USAGE}
    whole["choices"] = [{"index": 0, "finish_reason": "stop", "message": message}]
    piece = {**chat, "object": "chat.completion.chunk"}
    pieces = [{**piece, "choices": [{"index": 0, "delta": message, "finish_reason": None}]} for _ in range(3)]
    pieces.append({**piece, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    pieces.append({**piece, "choices": [], "usage": USAGE})
    stream = "".join(f"data: {json.dumps(p)}\n\n" for p in pieces) + "data: [DONE]\n\n"

    class Answers(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            body = provider.asked[-1]
            asked = body["messages"][-1]["content"]
            if "again" in asked and asked not in tried:
                tried.add(asked)
                return {"status": 500, "response_body": {"error": {"message": "once"}}, "response_kind": "json"}
            kind = ("sse", stream) if body.get("stream") else ("json", whole)
            return {"status": 200, "response_kind": kind[0], "response_body": kind[1]}

    provider.answers = Answers([None])
    return provider


@pytest.fixture
def logger(recorder: Any) -> Iterator[Any]:
    before = list(litellm.callbacks)
    litellm.callbacks = [TailraceLogger(recorder)]
    _contexts.clear()  # requests that other tests of this process left open
    yield recorder
    litellm.callbacks = before
    for name in ("input_callback", "success_callback", "failure_callback"):
        setattr(litellm, name, [c for c in getattr(litellm, name) if not isinstance(c, TailraceLogger)])
    for name in ("_async_success_callback", "_async_failure_callback"):
        setattr(litellm, name, [c for c in getattr(litellm, name) if not isinstance(c, TailraceLogger)])
    asyncio.set_event_loop(None)
    gc.collect()


def wait_for(recorder: Any, count: int) -> None:
    """LiteLLM calls back from a thread pool of its own."""
    for _ in range(1500):
        if len(recorder.events) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{len(recorder.events)} of {count} events after 30 s")


def check(events: list[dict[str, Any]], owners: list[Owner]) -> None:
    """Each event's own text names the user it belongs to; all that context() held must be that user's."""
    by_text = {text_of(o): o for o in owners}
    assert len(events) == len(owners)
    for event in events:
        asked = event["content"]["input"][-1]["text"].replace(" again", "")
        owner = by_text.pop(asked)
        found = {name: event.get(name) for name in ("user", "tenant", "session_id", "feature", "release")}
        found["prompt_name"] = event["prompt"]["name"]
        assert found == owner
    assert not by_text


@pytest.mark.extended
def test_a_thousand_interleaved_requests_are_each_on_their_own_owner(server: Any, recorder: Any) -> None:
    shared = {"api_key": "sk-x", "base_url": server.url, "tailrace": recorder, "max_retries": 2}
    client, aclient = OpenAI(**shared), AsyncOpenAI(**shared)
    draw = random.Random(13)
    owners = [owner_of(i) for i in range(1000)]
    unread: list[Any] = []

    def ask(owner: Owner, **more: Any) -> dict[str, Any]:
        text = text_of(owner) + (" again" if draw.random() < 0.02 else "")
        return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}

    def whole(owner: Owner) -> None:
        with tailrace.context(**owner):
            client.chat.completions.create(**ask(owner))

    def stream_read_later(owner: Owner) -> None:
        with tailrace.context(**owner):
            unread.append(client.chat.completions.create(**ask(owner, stream=True)))

    def stream_read_under_another(owner: Owner) -> None:
        stream_read_later(owner)
        with tailrace.context(user="somebody else", tenant="another", session_id="x"):
            for _ in unread.pop(draw.randrange(len(unread))):
                pass

    def abandoned(owner: Owner) -> None:
        stream_read_later(owner)
        with tailrace.context(user="somebody else"):
            stream = unread.pop()
            next(iter(stream))
            stream.close()

    ways: list[Callable[[Owner], None]] = [whole, stream_read_later, stream_read_under_another, abandoned]
    for owner in owners[:400]:
        draw.choice(ways)(owner)
    for stream in unread:
        for _ in stream:
            pass
    with ThreadPoolExecutor(8) as pool:  # the block in the worker, or the worker's function bound to the block
        futures: list[Future[Any]] = [pool.submit(whole, owner) for owner in owners[400:550]]
        for owner in owners[550:700]:
            with tailrace.context(**owner):
                futures.append(pool.submit(tailrace.bind(client.chat.completions.create), **ask(owner)))
        for future in futures:
            future.result()

    async def one(owner: Owner) -> None:
        with tailrace.context(**owner):
            if draw.random() < 0.5:
                await aclient.chat.completions.create(**ask(owner))
                return
            stream = await aclient.chat.completions.create(**ask(owner, stream=True))
        async for _ in stream:
            await asyncio.sleep(0)

    async def background(owner: Owner) -> asyncio.Task[Any]:
        with tailrace.context(**owner):
            return asyncio.create_task(aclient.chat.completions.create(**ask(owner)))

    async def all_of_them() -> None:
        for start in range(700, 900, 20):
            await asyncio.gather(*(one(owner) for owner in owners[start : start + 20]))
        for start in range(900, 1000, 20):
            await asyncio.gather(*[await background(owner) for owner in owners[start : start + 20]])
        await aclient.close()

    asyncio.run(all_of_them())
    gc.collect()
    check(recorder.events, owners)


def test_litellm_calls_are_on_the_owner_of_their_request(server: Any, logger: Any) -> None:
    owners = [owner_of(i) for i in range(60)]

    def ask(owner: Owner, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": text_of(owner)}]
        return {"model": "openai/gpt-4o", "messages": messages, "api_key": "x", "api_base": server.url, **more}

    for owner in owners[:15]:
        with tailrace.context(**owner):
            litellm.completion(**ask(owner))
    unread = []
    for owner in owners[15:30]:
        with tailrace.context(**owner):
            unread.append(litellm.completion(**ask(owner, stream=True)))
    with tailrace.context(user="somebody else", tenant="another"):
        for stream in unread:
            for _ in stream:
                pass

    async def one(owner: Owner, *, stream: bool) -> None:
        with tailrace.context(**owner):
            answer = await litellm.acompletion(**ask(owner, stream=stream))
        if stream:
            async for _ in answer:
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(owner, stream=i % 2 == 0) for i, owner in enumerate(owners[30:])))
        await asyncio.get_running_loop().run_in_executor(None, wait_for, logger, 60)

    asyncio.run(all_of_them())
    check(logger.events, owners)
    assert not _contexts  # what was kept of the requests is gone with them


def test_an_answer_from_litellms_cache_is_on_who_asked_again(server: Any, logger: Any) -> None:
    litellm.cache = litellm.Cache(type="local")
    try:
        for user in ("first", "second"):
            with tailrace.context(user=user, tenant=user):
                litellm.completion(
                    model="openai/gpt-4o",
                    messages=[{"role": "user", "content": "the same"}],
                    api_key="x",
                    api_base=server.url,
                    caching=True,
                )
        wait_for(logger, 2)
    finally:
        litellm.cache = None
    assert {(e["user"], e["tenant"]) for e in logger.events} == {("first", "first"), ("second", "second")}
    assert len(server.asked) == 1
    assert [e.get("cache", {}).get("kind") for e in logger.events] == [None, "exact"]
    assert not _contexts
