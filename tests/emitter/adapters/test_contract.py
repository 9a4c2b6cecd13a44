"""What every adapter promises, checked over all of them with the real SDKs and ``instrument()``."""

import asyncio
import gc
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contract_harness.drivers import ARGUMENT, DRIVERS, SECRET, SPOKEN, litellm

import tailrace_emitter as tailrace
from tailrace_emitter.adapters import ADAPTERS

NAMES = [adapter.name for adapter in ADAPTERS]
pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own deprecations


@pytest.fixture(params=NAMES)
def driver(request: Any, provider: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One client, whose provider answers from here."""
    monkeypatch.setattr("google.genai._api_client.has_aiohttp", False)  # it cannot read two chunks in one packet
    found = DRIVERS[request.param]
    root = provider.url.removesuffix("/v1")
    found.start(provider.url if request.param in ("openai", "litellm") else root)
    found.provider = provider
    provider.answers = [answer(found.whole())]
    return found


def answer(body: Any, status: int = 200) -> dict[str, Any]:
    return {"status": status, "response_kind": "sse" if isinstance(body, str) else "json", "response_body": body}


@pytest.fixture
def restored(request: Any) -> Iterator[None]:
    """LiteLLM copies a logger into its lists, and leaves an event loop open."""
    kept = {name: list(getattr(litellm, name)) for name in LISTS}
    yield
    for name, former in kept.items():
        setattr(litellm, name, former)
    asyncio.set_event_loop(None)
    if "litellm" in request.node.name:
        gc.collect()


@pytest.fixture
def recorded(recorder: Any, restored: None) -> Iterator[Any]:
    """Every client is instrumented with an emitter whose events stay here."""
    tailrace.instrument(recorder)
    yield recorder
    tailrace.uninstrument()


LISTS = (
    *("callbacks", "input_callback", "success_callback", "failure_callback"),
    *("_async_success_callback", "_async_failure_callback"),
)


def events(recorder: Any, count: int) -> list[dict[str, Any]]:
    """The events, once there are ``count``: LiteLLM calls back from a thread of its own."""
    until = time.monotonic() + 20
    while len(recorder.events) < count and time.monotonic() < until:
        time.sleep(0.01)
        if "litellm" in sys.modules and not recorder.events:
            gc.collect()  # LiteLLM's stream and request hold each other
    assert len(recorder.events) == count
    found: list[dict[str, Any]] = recorder.events
    return found


async def arrived(recorder: Any, count: int) -> None:
    await asyncio.get_running_loop().run_in_executor(None, events, recorder, count)


def test_every_adapter_has_a_driver_an_extra_and_a_line_in_the_readme() -> None:
    assert set(DRIVERS) == set(NAMES)
    emitter = Path(tailrace.__file__).parent.parent
    extras = (emitter / "pyproject.toml").read_text(encoding="utf-8").partition("optional-dependencies]")[2]
    readme = (emitter / "README.md").read_text(encoding="utf-8")
    for adapter in ADAPTERS:
        assert re.search(rf'^{adapter.name.replace("_", "-")} = \["{adapter.distribution}>=', extras, re.MULTILINE)
        assert f"tailrace-emitter[{adapter.name.replace('_', '-')}]" in readme
        assert adapter.shapes


def test_importing_the_emitter_imports_no_client() -> None:
    import subprocess

    code = (
        "import sys, tailrace_emitter as t; t.instrument(); t.uninstrument();"
        "print([n for n in ('openai', 'litellm', 'anthropic', 'google.genai') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_answer_is_the_sdks_own_and_is_recorded(driver: Any, recorder: Any, restored: None) -> None:
    plain = driver.ask("hello")
    tailrace.instrument(recorder)
    try:
        got = driver.ask("hello")
        (event,) = events(recorder, 1)
    finally:
        tailrace.uninstrument()
    assert type(got) is type(plain)
    if driver.name != "litellm":  # it makes an id for every answer
        assert got == plain
    assert (event["tokens"]["input"], event["tokens"]["output"]) == (7, 2)
    assert (event["content"]["input"][-1]["text"], event["content"]["output"]) == ("hello", SPOKEN)
    assert [(t["name"], t["args"]) for t in event["tools"]] == [("look", f'{{"q": "{ARGUMENT}"}}')]
    assert event["latency"]["total_ms"] > 0
    assert event.get("status") is None


def test_a_stream_is_on_who_asked_whoever_reads_it(driver: Any, recorded: Any) -> None:
    driver.provider.answers = [answer(driver.chunks())]
    with tailrace.context(user="asks", tenant="t1"):
        stream = driver.stream("hello")
    with tailrace.context(user="reads", session_id="other"):
        assert len(list(stream)) >= 3
    (event,) = events(recorded, 1)
    assert (event["user"], event["tenant"], event.get("session_id")) == ("asks", "t1", None)
    assert event["stream"] is True
    assert (event["tokens"]["input"], event["tokens"]["output"]) == (7, 2)
    assert event["content"]["output"] == f"{SPOKEN} and more"
    assert 0 < event["latency"]["ttft_ms"] <= event["latency"]["total_ms"]


def test_asynchronous_calls_and_streams_are_on_who_asked(driver: Any, recorded: Any) -> None:
    async def one(user: str) -> Any:
        with tailrace.context(user=user):
            return await driver.ask_async(user)

    async def both() -> None:
        await asyncio.gather(*(one(f"u{i}") for i in range(10)))
        driver.provider.answers = [answer(driver.chunks())]
        streams = []
        for user in ("s0", "s1"):
            with tailrace.context(user=user):
                streams.append(await driver.stream_async(user))
        with tailrace.context(user="reads"):
            for stream in reversed(streams):
                assert len([c async for c in stream]) >= 3
        await arrived(recorded, 12)
        await driver.close()

    asyncio.run(both())
    assert sorted(e["user"] for e in recorded.events) == sorted([f"u{i}" for i in range(10)] + ["s0", "s1"])
    assert all(e["user"] == e["content"]["input"][-1]["text"] for e in recorded.events)
    assert [e.get("stream", False) for e in recorded.events].count(True) == 2


def test_threads_and_interleaved_streams_keep_their_owners(driver: Any, recorded: Any) -> None:
    users = [f"u{i}" for i in range(40)]

    def own(user: str) -> None:
        with tailrace.context(user=user):
            driver.ask(user)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(own, user) for user in users[:10]]
        for user in users[10:20]:
            with tailrace.context(user=user):
                futures.append(pool.submit(tailrace.bind(driver.ask), user))
        for future in futures:
            future.result()
    driver.provider.answers = [answer(driver.chunks())]
    streams = []
    for user in users[20:]:
        with tailrace.context(user=user):
            streams.append(driver.stream(user))
    for stream in streams[::2] + streams[1::2]:
        assert len(list(stream)) >= 3
    found = events(recorded, 40)
    assert sorted(e["user"] for e in found) == sorted(users)
    assert all(e["user"] == e["content"]["input"][-1]["text"] for e in found)


def test_an_aborted_stream_is_cancelled(driver: Any, recorded: Any) -> None:
    driver.provider.answers = [answer(driver.chunks())]
    stream = driver.stream("hello")
    next(iter(stream))
    if hasattr(stream, "close"):  # LiteLLM's has none
        stream.close()
    del stream
    (event,) = events(recorded, 1)
    assert event["status"] == "cancelled"
    assert event["usage_reported"] is False
    assert "output" not in event.get("tokens", {})


def test_an_error_is_recorded_and_raised_again(driver: Any, recorder: Any, restored: None) -> None:
    driver.provider.answers = [answer(driver.error, 404)]
    with pytest.raises(driver.raises) as plain:
        driver.ask("hello")
    tailrace.instrument(recorder)
    try:
        with pytest.raises(driver.raises) as caught:
            driver.ask("hello")
        (event,) = events(recorder, 1)
    finally:
        tailrace.uninstrument()
    assert type(caught.value) is type(plain.value)
    assert str(caught.value) == str(plain.value)
    assert event["status"] == "error"
    assert event["error"]["type"] == type(plain.value).__name__
    assert "no such model" in event["error"]["message"]
    assert "tokens" not in event


def test_usage_that_is_missing_stays_unknown(driver: Any, recorded: Any) -> None:
    driver.provider.answers = [answer(driver.whole(usage=False))]
    driver.ask("hello")
    (event,) = events(recorded, 1)
    assert event["usage_reported"] is False
    assert "tokens" not in event


def test_mode_none_leaks_no_text(driver: Any, recorder: Any, restored: None) -> None:
    from tailrace_emitter.encode import Policy

    recorder.policy = Policy(app="test", content="none")
    tailrace.instrument(recorder)
    try:
        driver.ask(SECRET)
        driver.provider.answers = [answer(driver.chunks())]
        assert len(list(driver.stream(SECRET))) >= 3
        events(recorder, 2)
    finally:
        tailrace.uninstrument()
    assert "quetzal" not in str(recorder.events)


@pytest.mark.parametrize("broken", ["put", "shape"])
def test_an_emitter_that_fails_never_reaches_the_app(
    broken: str, driver: Any, restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the emitter is broken")

    emitter = tailrace.Emitter("test", sigterm=False)
    if broken == "put":
        monkeypatch.setattr(emitter._sender, "put", fail)
    else:
        monkeypatch.setattr("tailrace_emitter.encode.clean", fail)
    tailrace.instrument(emitter)
    try:
        assert driver.ask("hello") is not None
        driver.provider.answers = [answer(driver.chunks())]
        assert len(list(driver.stream("hello"))) >= 3
    finally:
        tailrace.uninstrument()
        emitter.close(0)


def test_uninstrument_restores_the_client(driver: Any, recorder: Any, restored: None) -> None:
    def found() -> list[Any]:
        return [vars(owner).get(name) for owner, name in driver.owners] + [list(litellm.callbacks)]

    before = found()
    tailrace.instrument(recorder)
    tailrace.instrument(recorder)  # twice is once
    assert found() != before
    driver.ask("hello")
    events(recorder, 1)
    tailrace.uninstrument()
    assert found() == before
    driver.ask("hello")
    time.sleep(0.2 if driver.name == "litellm" else 0)
    assert len(recorder.events) == 1
