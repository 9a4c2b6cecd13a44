"""Forks, workers and ends of processes: real gunicorn, real Celery, real signals, a real broker."""

import collections
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tailrace.broker import Broker
from tailrace_emitter import Emitter

WRITE = """
    import os, sys, signal, time
    import tailrace_emitter
    for i in range(50):
        tailrace_emitter.call("m", input_tokens=i, extra={"pid": os.getpid()})
"""


def environment(topic: Any | None, **more: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")}
    env["PYTHONPATH"] = str(Path(__file__).parents[2] / "emitter")
    env["TAILRACE_APP"] = "app"
    if topic is not None:
        env |= {"TAILRACE_BOOTSTRAP_SERVERS": topic.bootstrap, "TAILRACE_TOPIC": topic.name}
    return env | more


def by_pid(events: list[dict[str, Any]]) -> dict[int, int]:
    assert len({e["id"] for e in events}) == len(events), "an event arrived twice"
    return dict(collections.Counter(e["extra"]["pid"] for e in events))


ENDS = {
    "normal": ("", 0),
    "exception": ("raise RuntimeError('the app failed')", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", -signal.SIGTERM),
    "sigterm handled by the app": (
        "signal.signal(signal.SIGTERM, lambda *a: sys.exit(7)); os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)",
        7,
    ),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.row(56)
def test_events_arrive_however_the_process_ends(end: str, topic: Any, script: Any) -> None:
    code, status = ENDS[end]
    app = script(WRITE + "    " + code, environment(topic, TAILRACE_EXIT_S="60"))  # the machine may be busy
    _, err = app.communicate(timeout=90)
    assert app.returncode == status, err
    assert len(topic.events(50)) == 50
    assert "not delivered" not in err


@pytest.mark.parametrize("end", ["normal", "sigterm"])
@pytest.mark.row(56)
def test_with_no_broker_the_process_still_ends_and_says_what_is_left(end: str, script: Any) -> None:
    code, status = ENDS[end]
    app = script(WRITE + "    " + code, environment(None, TAILRACE_BOOTSTRAP_SERVERS="127.0.0.1:9"))
    _, err = app.communicate(timeout=30)
    assert app.returncode == status, err
    assert "50 events not delivered at exit within 2 s" in err


HELD = {
    "the lock of the count of refused events": "sender._refused_lock",
    "the lock of the sender's start": "sender._start_lock",
    "the lock of threads that start": "__import__('threading')._active_limbo_lock",
}


@pytest.mark.parametrize("lock", HELD.values(), ids=HELD.keys())
@pytest.mark.row(56)
def test_sigterm_ends_a_process_whose_main_thread_holds_a_lock(lock: str, script: Any) -> None:
    code = f"""
    sender = tailrace_emitter.default()._sender
    while not sender._idle: time.sleep(0.01)
    with {lock}:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    """
    app = script(WRITE + code, environment(None, TAILRACE_EXIT_S="0.5"))
    try:
        _, err = app.communicate(timeout=30)
    finally:
        app.kill()
    assert app.returncode == -signal.SIGTERM, err


def test_how_long_the_end_may_take_is_the_apps_to_say(script: Any) -> None:
    app = script(WRITE, environment(None, TAILRACE_BOOTSTRAP_SERVERS="127.0.0.1:9", TAILRACE_EXIT_S="0.2"))
    _, err = app.communicate(timeout=30)
    assert app.returncode == 0, err
    assert "50 events not delivered at exit within 0.2 s" in err


@pytest.mark.row(59)
def test_a_killed_process_loses_only_what_was_not_acknowledged(topic: Any, script: Any, tmp_path: Path) -> None:
    source = """
        import os, sys, tailrace_emitter
        ledger = open(sys.argv[1], "a", buffering=1)
        def note(event_id, topic, partition, offset, error):
            if error is None:
                ledger.write(event_id + "\\n")
        emitter = tailrace_emitter.Emitter(on_delivery=note)
        while True:
            emitter.call("m", output="x" * 200)
            if emitter.stats()["waiting"] > 2000:
                emitter.flush(0.05)
    """
    ledger = tmp_path / "ledger"
    app = script(source, environment(topic), str(ledger))
    until = time.monotonic() + 20
    while time.monotonic() < until and (not ledger.exists() or ledger.stat().st_size < 37 * 500):
        time.sleep(0.02)
    app.kill()
    app.communicate(timeout=10)
    acknowledged = [line for line in ledger.read_text().splitlines() if len(line) == 36]
    assert len(acknowledged) >= 500
    landed = [e["id"] for e in topic.events()]
    assert set(acknowledged) <= set(landed)
    assert len(landed) == len(set(landed))


@pytest.mark.row(57)
def test_multiprocessing_children_each_deliver_their_own(topic: Any, script: Any) -> None:
    source = """
        import multiprocessing, os, sys
        import tailrace_emitter

        def work(n):
            for i in range(n):
                tailrace_emitter.call("m", extra={"pid": os.getpid()})

        if __name__ == "__main__":
            work(20)
            for method in ("fork", "spawn"):
                context = multiprocessing.get_context(method)
                children = [context.Process(target=work, args=(30,)) for _ in range(3)]
                for child in children: child.start()
                work(5)
                for child in children: child.join()
                assert [c.exitcode for c in children] == [0, 0, 0]
            print(os.getpid())
    """
    app = script(source, environment(topic))
    out, err = app.communicate(timeout=60)
    assert app.returncode == 0, err
    counts = by_pid(topic.events(210))
    assert counts.pop(int(out)) == 30
    assert sorted(counts.values()) == [30] * 6


@pytest.mark.row(57)
def test_forking_in_the_middle_of_sending_takes_nothing_twice(topic: Any, script: Any) -> None:
    source = """
        import os, sys, tailrace_emitter
        def emit(n):
            for _ in range(n):
                tailrace_emitter.call("m", output="x" * 100, extra={"pid": os.getpid()})
        children = []
        for _ in range(10):
            emit(100)
            pid = os.fork()
            if pid == 0:
                emit(10)
                sys.exit(0)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        assert codes == [0] * 10, codes
        print(os.getpid())
    """
    app = script(source, environment(topic))
    out, err = app.communicate(timeout=90)
    assert app.returncode == 0, err
    counts = by_pid(topic.events(1100))
    assert counts.pop(int(out)) == 1000
    assert sorted(counts.values()) == [10] * 10


QUIET = """
    import os, sys, time
    def threads_of_librdkafka():
        names = []
        for task in os.listdir("/proc/self/task"):
            try:
                names.append(open(f"/proc/self/task/{task}/comm").read())
            except OSError:
                pass  # it has just ended
        return [name for name in names if name.startswith("rdk")]
    def look():
        tries = 0
        while threads_of_librdkafka() and tries < 100:  # one that was joined is on the kernel's list for a moment
            tries += 1
            time.sleep(0.001)
        at_fork.append(threads_of_librdkafka())
    at_fork = []
    os.register_at_fork(before=look)  # registered first, called last
    import tailrace_emitter
    tailrace_emitter.fork.FORK_WAIT_S = 60  # the machine may be busy
    sender = tailrace_emitter.default()._sender
    children = []
    for i in range(8):
        tailrace_emitter.call("m", extra={"pid": os.getpid()})
        while sender._producer is None: time.sleep(0.001)
        time.sleep(i * 0.01)  # while it connects, sends, rests
        assert threads_of_librdkafka(), "this would show nothing"
        pid = os.fork()
        if pid == 0:
            tailrace_emitter.call("m", extra={"pid": os.getpid()})
            sys.exit(0)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes == [0] * 8, codes
    assert at_fork == [[]] * 8, at_fork
    print(os.getpid())
"""


@pytest.mark.row(57)
@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
def test_no_thread_of_librdkafka_is_there_when_the_app_forks(topic: Any, script: Any) -> None:
    """A thread that connects holds locks of glibc and OpenSSL, which its copy in a child would never open."""
    app = script(QUIET, environment(topic, TAILRACE_EXIT_S="60"))
    out, err = app.communicate(timeout=120)
    assert app.returncode == 0, err
    counts = by_pid(topic.events(16))
    assert counts.pop(int(out)) == 8
    assert sorted(counts.values()) == [1] * 8


@pytest.mark.row(57)
def test_events_that_wait_for_a_broker_that_is_away_outlive_a_fork_and_hold_up_only_the_first(script: Any) -> None:
    source = """
        import os, tailrace_emitter
        tailrace_emitter.fork.FORK_WAIT_S = 0.2
        sender = tailrace_emitter.default()._sender
        tailrace_emitter.call("m")
        while sender._taken == 0: pass
        real, flushes = sender._producer, []
        class Producer:
            def __getattr__(self, name):
                if name == "flush": flushes.append(name)
                return getattr(real, name)
            def __len__(self): return len(real)
        sender._producer = seen = Producer()
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                os._exit(tailrace_emitter.stats()["waiting"])
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            while sender._close_until is not None: pass
        assert flushes == ["flush"], flushes
        assert sender._producer is seen
        assert tailrace_emitter.stats()["waiting"] == 1
    """
    app = script(source, environment(None, TAILRACE_BOOTSTRAP_SERVERS="127.0.0.1:9", TAILRACE_EXIT_S="0.1"))
    _, err = app.communicate(timeout=60)
    assert app.returncode == 0, err
    assert "1 events not delivered at exit" in err


@pytest.mark.row(57)
def test_a_row_of_forks_waits_once_and_what_is_recorded_meanwhile_is_sent_after_it(topic: Any, script: Any) -> None:
    source = """
        import os, tailrace_emitter
        tailrace_emitter.fork.FORK_WAIT_S = tailrace_emitter.fork.FORK_SERIES_GAP_S = 60
        from tailrace_emitter import sender as senders
        senders.PRODUCER_DELAY_MAX_S = 60
        sender = tailrace_emitter.default()._sender
        built = []
        make = sender._load
        sender._load = lambda: built.append(1) or make()
        for _ in range(10):
            tailrace_emitter.call("m", extra={"pid": os.getpid()})
            while not built: pass
            pid = os.fork()
            if pid == 0: os._exit(0)
            os.waitpid(pid, 0)
        assert len(built) == 1, built
        tailrace_emitter.fork.FORK_SERIES_GAP_S = 0
        assert tailrace_emitter.flush(60) == 0
        assert len(built) == 2, built
        print(os.getpid())
    """
    app = script(source, environment(topic, TAILRACE_EXIT_S="60"))
    out, err = app.communicate(timeout=120)
    assert app.returncode == 0, err
    assert by_pid(topic.events(10)) == {int(out): 10}


@pytest.mark.row(57)
def test_a_producer_that_cannot_be_built_again_for_now_loses_nothing(topic: Any, script: Any) -> None:
    source = """
        import os, tailrace_emitter
        tailrace_emitter.fork.FORK_WAIT_S = 60
        sender = tailrace_emitter.default()._sender
        tailrace_emitter.call("m", extra={"pid": os.getpid()})
        assert tailrace_emitter.flush(60) == 0
        refused, make = [], sender._load
        def load():
            if len(refused) < 3:
                refused.append(1)
                raise RuntimeError("no thread to be had")
            return make()
        sender._load = load
        if os.fork() == 0: os._exit(0)
        os.wait()
        tailrace_emitter.call("m", extra={"pid": os.getpid()})
        assert tailrace_emitter.flush(60) == 0
        assert len(refused) == 3
        assert tailrace_emitter.stats()["dropped"] == {}, tailrace_emitter.stats()
        print(os.getpid())
    """
    app = script(source, environment(topic))
    out, err = app.communicate(timeout=120)
    assert app.returncode == 0, err
    assert by_pid(topic.events(2)) == {int(out): 2}


def sends_from_every_worker(topic: Any, folder: Path, workers: int, *options: str, **environ: str) -> None:
    """Ask a preloaded gunicorn until each worker has answered: one event a question, and one from before the fork."""
    (folder / "web.py").write_text(
        "import os, tailrace_emitter\n"
        "tailrace_emitter.call('m', extra={'pid': os.getpid()})\n"
        "def app(environ, start_response):\n"
        "    tailrace_emitter.call('m', extra={'pid': os.getpid()})\n"
        "    start_response('200 OK', [('content-type', 'text/plain')])\n"
        "    return [str(os.getpid()).encode()]\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", str(workers), "-b", f"127.0.0.1:{port}", *options]
    server = subprocess.Popen(
        [*command, "web:app"],
        cwd=folder,
        env=environment(topic, **environ),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    answered: list[int] = []
    try:
        until = time.monotonic() + 60
        while len(set(answered)) < workers and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                    answered.append(int(response.read()))
            except OSError:
                time.sleep(0.1)
    finally:
        server.terminate()
        _, err = server.communicate(timeout=60)
    assert len(set(answered)) == workers, err
    counts = by_pid(topic.events(len(answered) + 1))
    assert counts.pop(server.pid) == 1, err
    assert counts == dict(collections.Counter(answered)), err


@pytest.mark.row(57)
def test_gunicorn_with_preload_sends_from_every_worker(topic: Any, tmp_path: Path) -> None:
    sends_from_every_worker(topic, tmp_path, 3)


@pytest.mark.row(57)
def test_celery_prefork_sends_from_every_child(topic: Any, tmp_path: Path) -> None:
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    (tmp_path / "work.py").write_text(
        "import os, time, tailrace_emitter\n"
        "from celery import Celery\n"
        "app = Celery('work', broker='filesystem://')\n"
        "app.conf.broker_transport_options = {'data_folder_in': 'queue', 'data_folder_out': 'queue', "
        "'control_folder': 'control'}\n"
        "tailrace_emitter.call('m', extra={'pid': os.getpid(), 'task': -1})\n"
        "@app.task\n"
        "def work(i):\n"
        "    time.sleep(0.05)\n"
        "    tailrace_emitter.call('m', extra={'pid': os.getpid(), 'task': i})\n"
    )
    env = environment(topic)
    send = "from work import work\nfor i in range(30): work.delay(i)\n"
    subprocess.run(
        [sys.executable, "-c", send], cwd=tmp_path, env=env | {"TAILRACE_DISABLED": "1"}, check=True, timeout=60
    )
    command = [sys.executable, "-m", "celery", "-A", "work", "worker", "-c", "2", "-P", "prefork", "--without-gossip"]
    worker = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        topic.messages(31, wait_s=60)
    finally:
        worker.terminate()
        out, _ = worker.communicate(timeout=30)
    events = topic.events()
    tasks = sorted(e["extra"]["task"] for e in events)
    assert tasks == [-1, *range(30)], out
    counts = by_pid([e for e in events if e["extra"]["task"] >= 0])
    assert len(counts) == 2
    assert worker.pid not in counts


@pytest.mark.row(55)
def test_a_broker_that_comes_late_gets_what_fits_and_the_rest_is_counted(tmp_path: Path) -> None:
    """Its own broker, because this one has to be away first."""
    from tests.emitter.conftest import Topic  # pytest's importlib mode puts it there

    with Broker(tmp_path / "home") as broker:
        topic = Topic(broker.bootstrap, "late.llm.events")
        broker.stop()
        emitter = Emitter("a", bootstrap_servers=topic.bootstrap, topic=topic.name, queue_max=300, sigterm=False)
        ids = [emitter.call("m") for _ in range(1000)]
        emitter.flush(1.0)
        assert emitter.stats()["delivered"] == 0
        broker.start()
        assert emitter.flush(60) == 0
        stats = emitter.stats()
        assert stats["delivered"] + sum(stats["dropped"].values()) == 1000
        assert stats["delivered"] >= 300
        landed = [e["id"] for e in topic.events(stats["delivered"])]
        assert len(landed) == len(set(landed)) == stats["delivered"]
        assert set(landed) <= set(ids)
        emitter.close(1)
