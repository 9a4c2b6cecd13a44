"""The emitter in an app of greenlets: what waits for Kafka waits in a thread of its own, never in the hub's."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.emitter.test_processes import by_pid, environment, sends_from_every_worker

PATCH = "import gevent.monkey; gevent.monkey.patch_all()"
FIRST_EVENT = "import tailrace_emitter; tailrace_emitter.call('m', extra={'pid': 0})"
ORDERS = {
    "patched first": (PATCH, "pass"),
    "patched after the import": ("import tailrace_emitter", PATCH),
    "patched after the first event": (FIRST_EVENT, PATCH),
}
EMIT = """
    {first}
    {then}
    import os, signal, sys, gevent, tailrace_emitter
    def work():
        for i in range(50):
            tailrace_emitter.call("m", input_tokens=i, extra={{"pid": os.getpid()}})
            gevent.sleep(0)
    gevent.joinall([gevent.spawn(work) for _ in range(20)], raise_error=True)
    {end}
"""
ENDS = {
    "normal": ("", 0),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM); gevent.sleep(30)", -signal.SIGTERM),
}

WATCHED = """
    {first}
    {then}
    import gevent, tailrace_emitter
    from tailrace_emitter.native import original
    here = original("_thread", "get_ident")
    sender = tailrace_emitter.default()._sender
    where = set()
    work_slice = sender._work_slice
    def watched(*args):
        where.add(here())
        return work_slice(*args)
    sender._work_slice = watched
    tailrace_emitter.call("m", output="x")
    ticks = 0
    while ticks < 100 or not where:  # the hub goes round
        gevent.sleep(0.001)
        ticks += 1
    assert here() not in where, "the sender ran in the hub's thread"
    assert tailrace_emitter.stats()["waiting"] == 1, tailrace_emitter.stats()
    assert tailrace_emitter.flush(0.2) == 1
"""


@pytest.mark.row(58)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_a_thousand_events_of_twenty_greenlets_arrive_once(order: tuple[str, str], topic: Any, script: Any) -> None:
    source = EMIT.format(first=order[0], then=order[1], end="")
    app = script(source, environment(topic, TAILRACE_EXIT_S="60"))  # the machine may be busy
    _, err = app.communicate(timeout=120)
    assert app.returncode == 0, err
    assert "not delivered" not in err
    counts = by_pid([e for e in topic.events(1000) if e["extra"]["pid"]])
    assert counts == {app.pid: 1000}


@pytest.mark.row(58)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_an_app_of_greenlets_ends_in_time_and_says_what_is_left(end: tuple[str, int], script: Any) -> None:
    code, status = end
    source = EMIT.format(first=PATCH, then="pass", end=code)
    app = script(source, environment(None, TAILRACE_BOOTSTRAP_SERVERS="127.0.0.1:9", TAILRACE_EXIT_S="0.5"))
    _, err = app.communicate(timeout=60)
    assert app.returncode == status, err
    assert "1000 events not delivered at exit within 0.5 s" in err


@pytest.mark.row(58)
def test_sigterm_flushes_an_app_of_greenlets(topic: Any, script: Any) -> None:
    code, status = ENDS["sigterm"]
    app = script(EMIT.format(first=PATCH, then="pass", end=code), environment(topic, TAILRACE_EXIT_S="60"))
    _, err = app.communicate(timeout=120)
    assert app.returncode == status, err
    assert by_pid(topic.events(1000)) == {app.pid: 1000}


@pytest.mark.row(58)
@pytest.mark.parametrize("order", list(ORDERS.values())[:2], ids=list(ORDERS)[:2])
def test_with_no_broker_the_hub_goes_round_while_an_event_waits(order: tuple[str, str], script: Any) -> None:
    """Structure instead of a clock: no work slice of the sender, which may wait for Kafka, runs in the hub."""
    source = WATCHED.format(first=order[0], then=order[1])
    app = script(source, environment(None, TAILRACE_BOOTSTRAP_SERVERS="127.0.0.1:9", TAILRACE_EXIT_S="0.1"))
    try:
        _, err = app.communicate(timeout=60)
    finally:
        app.kill()
    assert app.returncode == 0, err


@pytest.mark.row(58)
def test_gunicorn_with_gevent_workers_and_preload_sends_from_every_worker(topic: Any, tmp_path: Path) -> None:
    """The worst order: the parent has sent before the fork, and the workers patch after it."""
    sends_from_every_worker(topic, tmp_path, 2, "-k", "gevent", TAILRACE_EXIT_S="60")
