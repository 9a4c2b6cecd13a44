"""The emitter in its own process: never raises, never blocks, counts everything, and ends in time."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from fault_harness.proxy import Proxy

import tailrace_emitter
from tailrace_emitter import Emitter, context, current

DEAD = "127.0.0.1:9"  # nobody listens on the discard port


@pytest.fixture
def lonely() -> Iterator[Emitter]:
    """An emitter whose broker is not there."""
    emitter = Emitter("a", bootstrap_servers=DEAD, queue_max=100, sigterm=False)
    yield emitter
    emitter.close(0)


def balance(emitter: Emitter) -> dict[str, Any]:
    stats = emitter.stats()
    assert stats["emitted"] == stats["delivered"] + stats["waiting"] + sum(stats["dropped"].values())
    return stats


@pytest.mark.row(49)
def test_every_event_arrives_once_with_key_and_version(topic: Any) -> None:
    ledger: dict[str, tuple[int, int]] = {}

    def delivered(event_id: str, name: str, partition: int | None, offset: int | None, error: Any) -> None:
        assert error is None
        assert partition is not None
        assert offset is not None
        ledger[event_id] = (partition, offset)

    emitter = Emitter("a", bootstrap_servers=topic.bootstrap, topic=topic.name, on_delivery=delivered, sigterm=False)
    ids = [emitter.call("m", session_id="s-1", input_tokens=i, output="hi bob@example.org") for i in range(500)]
    judged = emitter.feedback(ids[0], thumbs=True)
    scored = emitter.eval("f1", call_id=ids[0], score=0.5)
    assert emitter.flush(20) == 0
    messages = topic.messages(502)
    events = topic.events()
    assert sorted(e["id"] for e in events) == sorted([*ids, judged, scored])
    assert set(ledger) == {e["id"] for e in events}
    assert all(dict(m.headers())["v"] == b"1" for m in messages)
    assert len({m.partition() for m in messages if m.key() == b"s-1"}) == 1
    assert all(e["content"]["output"] == "hi <EMAIL_1>" for e in events if e["type"] == "call")
    assert balance(emitter)["delivered"] == 502
    assert emitter.close() == 0


@pytest.mark.row(49)
def test_a_team_that_makes_nearly_all_events_crowds_no_partition(topic: Any) -> None:
    admin = AdminClient({"bootstrap.servers": topic.bootstrap})
    for future in admin.create_partitions([NewPartitions(topic.name, 4)]).values():
        future.result(20)
    where: dict[str, int] = {}

    def delivered(event_id: str, name: str, partition: int | None, offset: int | None, error: Any) -> None:
        assert error is None
        assert partition is not None
        where[event_id] = partition

    emitter = Emitter("a", bootstrap_servers=topic.bootstrap, topic=topic.name, on_delivery=delivered, sigterm=False)
    sessions: dict[str, list[str]] = {}
    for n in range(4000):
        team = "hot" if n % 20 else f"team-{n}"
        if n % 2:
            emitter.call("m", tenant=team)
        else:
            sessions.setdefault(f"s-{n % 800}", []).append(emitter.call("m", tenant=team, session_id=f"s-{n % 800}"))
    assert emitter.flush(20) == 0
    held = Counter(where.values())
    assert sum(held.values()) == 4000
    assert len(held) == 4
    assert max(held.values()) <= 1.5 * 4000 / 4, held
    assert all(len({where[i] for i in ids}) == 1 for ids in sessions.values()), "a session stays in order"
    assert emitter.close() == 0


@pytest.mark.row(58)
def test_sixty_four_threads_lose_and_double_nothing(topic: Any) -> None:
    emitter = Emitter("a", bootstrap_servers=topic.bootstrap, topic=topic.name, sigterm=False)
    ids: list[str] = []

    def work() -> None:
        ids.extend([emitter.call("m", input_tokens=1) for _ in range(50)])

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert emitter.close(20) == 0
    assert sorted(e["id"] for e in topic.events(3200)) == sorted(ids)
    assert balance(emitter)["delivered"] == 3200


@pytest.mark.row(55)
def test_with_no_broker_delivered_and_dropped_and_waiting_are_all_there_is(lonely: Emitter) -> None:
    for _ in range(5000):
        lonely.call("m", output="x")
    for _ in range(400):
        if not lonely._sender._queue:
            break
        threading.Event().wait(0.02)
    stats = balance(lonely)
    assert stats["emitted"] == 5000
    assert stats["delivered"] == 0
    assert stats["waiting"] <= 100
    assert sum(stats["dropped"].values()) >= 4900
    assert lonely.close(0.1) == stats["waiting"]


@pytest.mark.row(55)
def test_what_is_inside_its_time_out_arrives_when_the_broker_is_back_and_the_rest_is_counted(topic: Any) -> None:
    with Proxy(int(topic.bootstrap.rsplit(":", 1)[1])) as door:
        door.refuse = True
        said: dict[str, Any] = {"bootstrap_servers": f"127.0.0.1:{door.port}", "topic": topic.name, "sigterm": False}
        hasty = Emitter("a", kafka={"message.timeout.ms": 1500}, **said)
        patient = Emitter("a", **said)
        lost = {hasty.call("m") for _ in range(20)}
        kept = {patient.call("m", output="x") for _ in range(30)}
        assert hasty.flush(60) == 0
        assert balance(hasty)["dropped"] == {"timed_out": 20}
        assert (balance(patient)["waiting"], balance(patient)["dropped"]) == (30, {})
        door.refuse = False
        assert patient.flush(60) == 0
        assert (balance(patient)["delivered"], balance(patient)["dropped"]) == (30, {})
        later = set()
        for _ in range(100):  # it finds the broker within seconds, and its events give up after one and a half
            later.add(hasty.call("m"))
            hasty.flush(5)
            if balance(hasty)["delivered"]:
                break
        assert balance(hasty)["delivered"] >= 1
        assert set(balance(hasty)["dropped"]) == {"timed_out"}
        assert [hasty.close(5), patient.close(5)] == [0, 0]
    arrived = [e["id"] for e in topic.events(31)]
    assert len(arrived) == len(set(arrived))
    assert kept <= set(arrived)
    assert later & set(arrived)
    assert not lost & set(arrived)


def test_what_is_dropped_is_said_once(lonely: Emitter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tailrace_emitter"):
        for _ in range(2000):
            lonely.call("m")
        lonely.flush(0.5)
        for _ in range(2000):
            lonely.call("m")
        lonely.flush(0.5)
    assert sum("does not keep up" in r.getMessage() for r in caplog.records) == 1


def test_without_an_address_nothing_is_sent_anywhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TAILRACE_BOOTSTRAP_SERVERS", raising=False)
    emitter = Emitter("a", sigterm=False)
    with caplog.at_level(logging.WARNING, "tailrace_emitter"):
        for _ in range(10):
            emitter.call("m")
        emitter.flush(5)
        emitter.close(1)
    assert balance(emitter)["dropped"] == {"not_configured": 10}
    assert sum("TAILRACE_BOOTSTRAP_SERVERS" in r.getMessage() for r in caplog.records) == 1


def test_a_wrong_kafka_setting_is_a_warning_and_not_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    emitter = Emitter("a", bootstrap_servers=DEAD, kafka={"no.such.setting": 1}, sigterm=False)
    with caplog.at_level(logging.WARNING, "tailrace_emitter"):
        emitter.call("m")
        emitter.flush(5)
        emitter.close(1)
    assert balance(emitter)["dropped"] == {"misconfigured": 1}
    assert "no.such.setting" in caplog.text


def test_a_disabled_emitter_gives_ids_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_DISABLED", "1")
    emitter = Emitter("a", bootstrap_servers=DEAD)
    before = threading.active_count()
    assert len(emitter.call("m")) == 36
    with emitter.span("m") as call:
        call.output = "x"
    assert threading.active_count() == before
    assert emitter.stats()["emitted"] == 0


def test_nothing_an_app_says_raises(lonely: Emitter) -> None:
    class Angry:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __str__(self) -> str:
            raise RuntimeError("no")

    for odd in (Angry(), object(), b"\xff", [Angry()], {1: Angry()}, float("nan"), 10**400, lambda: 1):
        lonely.call(odd, input=odd, tokens=odd, extra=odd, latency_ms=odd)  # type: ignore[arg-type]
        lonely.feedback(odd, kind=odd)  # type: ignore[arg-type]
        lonely.eval(odd, call_id=odd)  # type: ignore[arg-type]
    lonely.flush(0.5)
    assert lonely._sender._thread is not None
    assert lonely._sender._thread.is_alive()
    assert balance(lonely)["emitted"] == 24


def test_the_app_may_go_on_changing_its_conversation(kept: Any) -> None:
    emitter, events = kept
    conversation = [{"role": "user", "content": "one"}]
    emitter.call("m", messages=conversation)
    conversation.append({"role": "assistant", "content": "two"})
    assert [m["text"] for m in events()[0]["content"]["input"]] == ["one"]


@pytest.fixture
def kept(topic: Any) -> Any:
    """An emitter on the real broker, and its events so far."""
    emitter = Emitter("a", bootstrap_servers=topic.bootstrap, topic=topic.name, content="full", sigterm=False)

    def events() -> list[dict[str, Any]]:
        assert emitter.flush(20) == 0
        return sorted(topic.events(emitter.stats()["delivered"]), key=lambda e: e["id"])

    yield emitter, events
    emitter.close(1)


def test_spans_time_the_call_and_take_tokens_output_and_errors(kept: Any) -> None:
    emitter, events = kept
    with emitter.span("m", feature="search") as call:
        inner = current()
        assert inner is not None
        assert inner is call
        call.first_token()
        call.output = "hello"
        call.set(input_tokens=3, output_tokens=4)
    assert current() is None
    with pytest.raises(ZeroDivisionError), emitter.span("m") as failed:
        1 / 0  # noqa: B018
    ok, bad = events()
    assert (ok["id"], bad["id"]) == (call.id, failed.id)
    assert ok["tokens"] == {"input": 3, "output": 4}
    assert 0 <= ok["latency"]["ttft_ms"] <= ok["latency"]["total_ms"]
    assert "status" not in ok
    assert bad["status"] == "error"
    assert bad["error"] == {"type": "ZeroDivisionError", "message": "division by zero"}


def test_a_wrong_name_is_logged_once_counted_and_sent(kept: Any, caplog: pytest.LogCaptureFixture) -> None:
    emitter, events = kept
    with caplog.at_level("WARNING", "tailrace_emitter"):
        for number in range(3):
            emitter.call("m", input_token=number)
        sent = events()
    assert sorted(event["extra"]["input_token"] for event in sent) == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "tailrace: unknown field input_token: did you mean tokens.input?"
    ]
    assert emitter.stats()["unknown_fields"] == 3


def test_observed_functions_of_every_kind_are_recorded_and_unchanged(kept: Any) -> None:
    emitter, events = kept

    @emitter.observe(model="m")
    def plain(x: int) -> str:
        """Doc."""
        current().set(input_tokens=x)  # type: ignore[union-attr]
        return "plain"

    @emitter.observe(model="m")
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return "coroutine"

    @emitter.observe(model="m")
    def generator() -> Iterator[str]:
        yield "gen"
        yield "erator"

    @emitter.observe
    async def asyncgen() -> Any:
        yield "async"
        yield "gen"

    async def run() -> list[Any]:
        async with emitter.span("m") as outer:
            inner = current()
            assert inner is not None
            assert inner is outer
            both = await asyncio.gather(coroutine(), coroutine())
            outer.output = "outer"
        return [*both, *[piece async for piece in asyncgen()]]

    assert plain(7) == "plain"
    assert plain.__doc__ == "Doc."
    assert asyncio.run(run()) == ["coroutine", "coroutine", "async", "gen"]
    assert list(generator()) == ["gen", "erator"]
    outputs = sorted(e["content"]["output"] for e in events())
    assert outputs == ["asyncgen", "coroutine", "coroutine", "generator", "outer", "plain"]
    assert {e["feature"] for e in events() if "feature" in e} == {"plain", "coroutine", "generator", "asyncgen"}


def test_a_cancelled_task_is_a_cancelled_call(kept: Any) -> None:
    emitter, events = kept

    async def run() -> None:
        async def work() -> None:
            async with emitter.span("m"):
                await asyncio.sleep(60)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert events()[0]["status"] == "cancelled"


@pytest.mark.row(58)
def test_the_event_loop_only_ever_appends_to_the_queue(lonely: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Structure instead of a clock: encoding and producing never run in the thread of the loop."""
    threads: set[int] = set()
    encode = lonely._encode

    def watched(*args: Any, **kwargs: Any) -> Any:
        threads.add(threading.get_ident())
        return encode(*args, **kwargs)

    monkeypatch.setattr(lonely._sender, "_encode", watched)

    async def run() -> int:
        for _ in range(50):
            lonely.call("m", output="x")
            await asyncio.sleep(0)
        return threading.get_ident()

    loop_thread = asyncio.run(run())
    lonely.flush(0.5)
    assert threads
    assert loop_thread not in threads


def test_context_holds_for_the_block_and_the_inner_one_wins(kept: Any) -> None:
    emitter, events = kept
    with context(feature="a", team="t"), context(feature="b"):
        emitter.call("m")
        emitter.call("m", feature="c")
    emitter.call("m")
    assert [(e.get("feature"), e.get("team")) for e in events()] == [("b", "t"), ("c", "t"), (None, None)]


@pytest.mark.row(60)
def test_mode_none_puts_no_byte_of_content_on_the_wire(topic: Any) -> None:
    emitter = Emitter("a", bootstrap_servers=topic.bootstrap, topic=topic.name, content="none", sigterm=False)
    emitter.call(
        "m", input="canary-1", output="canary-2", error=ValueError("canary-3"), retrieval={"query": "canary-4"}
    )
    assert emitter.close(20) == 0
    assert all(b"canary" not in m.value() for m in topic.messages(1))


@pytest.mark.row(60)
def test_a_hook_that_raises_is_counted_and_the_content_stays_here(topic: Any) -> None:
    def hook(event: dict[str, Any]) -> None:
        raise KeyError(event["content"]["output"])

    emitter = Emitter("a", bootstrap_servers=topic.bootstrap, topic=topic.name, redact=hook, sigterm=False)
    emitter.call("m", output="canary", input_tokens=3)
    assert emitter.close(20) == 0
    (message,) = topic.messages(1)
    assert b"canary" not in message.value()
    assert emitter.stats()["redaction_failed"] == 1


def test_the_environment_makes_the_default_emitter(topic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_BOOTSTRAP_SERVERS", topic.bootstrap)
    monkeypatch.setenv("TAILRACE_TOPIC_PREFIX", topic.name.removesuffix("llm.events"))
    for name, value in (("APP", "shop"), ("ENV", "staging"), ("RELEASE", "2.4.1"), ("USER_KEY", "k"), ("SIGTERM", "0")):
        monkeypatch.setenv(f"TAILRACE_{name}", value)
    monkeypatch.setattr(tailrace_emitter, "_default", None)
    call_id = tailrace_emitter.call("m", user="alice")
    tailrace_emitter.feedback(call_id, comment="good")
    assert tailrace_emitter.flush(20) == 0
    call, said = sorted(topic.events(2), key=lambda e: e["type"])
    assert (call["app"], call["env"], call["release"]) == ("shop", "staging", "2.4.1")
    assert call["user"] == tailrace_emitter.pseudonym("alice", "k")
    assert said["call_id"] == call_id
    assert tailrace_emitter.stats()["delivered"] == 2
    tailrace_emitter.default().close()
