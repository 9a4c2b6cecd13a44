"""A stage that stands still, seen from outside: killed, started again, counted; and the dead-man stays silent."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tailrace.broker import Broker
from tailrace.home.layout import Home
from tailrace.monitor.status import status
from tailrace.monitor.watch import Watch
from tailrace.settings.model import KafkaSettings, Settings
from tailrace.supervisor.stages import STAGES
from tailrace.supervisor.up import running

STALL_S = 8.0
NOTIFY = tuple(replace(s, stall_after_s=STALL_S) for s in STAGES if s.name == "notify")


class Outside:
    """Who waits for the dead-man's call."""

    def __init__(self):
        self.calls = calls = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                calls.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def outside():
    made = Outside()
    yield made
    made.server.shutdown()
    made.server.server_close()


def wait(what, found, within_s=90):
    deadline = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"not in time: {what() if callable(what) else what}"
        time.sleep(0.1)
    return value


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def numbers(url):
    text = get(f"{url}/metrics")[1]
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)}


@contextmanager
def looked_after(supervisor, paused):
    """The loop of ``up``; while ``paused`` is set the supervisor itself stands still."""
    stop = threading.Event()

    def body():
        while not stop.wait(0.1):
            if not paused.is_set():
                supervisor.look()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_stage_that_stands_still_is_restarted_seen_and_keeps_the_dead_man_silent(broker, prefix, tmp_path, outside):
    settings = Settings(
        home=tmp_path,
        kafka=KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1),
        deadman_url=f"http://{outside.host}/ping/canary-of-the-deadman",
        webhook_allow_hosts=(outside.host,),
    )
    watch = Watch(settings, stages=NOTIFY, call_every_s=0.2)
    environment = {"TAILRACE_KAFKA__PREFIX": prefix}
    paused = threading.Event()
    with (
        running(settings, stages=NOTIFY, environment=environment) as (supervisor, _),
        watch.over(broker.bootstrap) as url,
        looked_after(supervisor, paused),
    ):
        supervisor.web = url
        wait("healthy", lambda: get(f"{url}/healthz")[0] == 200)
        wait("the outside is called", lambda: outside.calls)
        assert wait("status tells the URL", lambda: status(settings, stages=NOTIFY)["web"]["url"]) == url
        before = numbers(url)
        assert before["tailrace_healthy"] == before["tailrace_kafka_up"] == 1
        assert before['tailrace_stage_up{stage="notify"}'] == 1
        assert before['tailrace_stage_restarts_total{stage="notify"}'] == 0
        assert before['tailrace_stage_lag_records{stage="notify"}'] == 0
        assert before['tailrace_stage_behind_seconds{stage="notify"}'] == 0
        assert before['tailrace_stage_resident_memory_bytes{stage="notify"}'] > 10e6
        assert before["tailrace_deadman_called"] >= 1

        first = supervisor.pid("notify")
        os.kill(first, signal.SIGSTOP)
        wait("503", lambda: get(f"{url}/healthz")[0] == 503)
        time.sleep(0.5)  # a call that was on its way
        heard = len(outside.calls)
        state = json.loads(get(f"{url}/healthz")[1])["stages"]["notify"]
        assert state in ("silent", "restarting")
        wait("killed", lambda: supervisor.pid("notify") != first)
        assert len(outside.calls) == heard, "silent while a stage stands still"
        wait("healthy again", lambda: get(f"{url}/healthz")[0] == 200)
        wait("the outside is called again", lambda: len(outside.calls) > heard)
        after = numbers(url)
        assert after['tailrace_stage_restarts_total{stage="notify"}'] == 1
        assert after['tailrace_stage_stalls_total{stage="notify"}'] == 1
        assert after["tailrace_deadman_withheld"] > before["tailrace_deadman_withheld"]
        second = supervisor.pid("notify")

        # the whole machine stands still for longer than the stall period: nobody is to blame
        paused.set()
        os.kill(second, signal.SIGSTOP)
        time.sleep(STALL_S + 1)
        os.kill(second, signal.SIGCONT)
        paused.clear()
        wait("healthy", lambda: get(f"{url}/healthz")[0] == 200)
        time.sleep(1)
        assert supervisor.pid("notify") == second
        assert numbers(url)['tailrace_stage_restarts_total{stage="notify"}'] == 1
        assert "canary-of-the-deadman" not in get(f"{url}/metrics")[1]


UP = """
import sys
from tailrace.monitor.watch import Watch
Watch.__init__.__kwdefaults__["call_every_s"] = 0.3
from tailrace.__main__ import main
sys.argv = ["tailrace", "up", "--no-web"]
main()
"""


@pytest.mark.faults
@pytest.mark.row(11)
@pytest.mark.timeout(300)
def test_the_outside_is_called_no_more_once_the_whole_of_it_is_killed(broker, prefix, tmp_path, outside):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")},
        "TAILRACE_HOME": str(tmp_path),
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "TAILRACE_KAFKA__PREFIX": prefix,
        "TAILRACE_DEADMAN_URL": f"http://{outside.host}/ping",
        "TAILRACE_WEBHOOK_ALLOW_HOSTS": outside.host,
    }
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        up = subprocess.Popen([sys.executable, "-c", UP], env=environment, stdout=out, stderr=out)
    try:
        wait(
            lambda: f"called\n{log.read_text()[-3000:]}", lambda: len(outside.calls) >= 3 or up.poll() is not None, 240
        )
        assert up.poll() is None, log.read_text()[-3000:]
        stages = status(Settings(home=tmp_path))["stages"]
        assert all(stage["pid"] for stage in stages.values()), stages
    finally:
        up.kill()
        up.wait()
    time.sleep(1)  # a call that was on its way
    heard = len(outside.calls)
    wait("no stage outlives it", lambda: not any(os.path.exists(f"/proc/{s['pid']}") for s in stages.values()))
    time.sleep(5)  # of which each second held three calls
    assert len(outside.calls) == heard


@pytest.mark.faults
@pytest.mark.row(15)
def test_a_broker_that_is_gone_for_good_is_noticed_outside_by_another_path_than_kafka(tmp_path, outside, monkeypatch):
    monkeypatch.setattr("tailrace.monitor.watch.PROBE_EVERY_S", 0.5)
    with Broker(tmp_path / "own", heap_mb=256) as own:
        settings = Settings(
            home=tmp_path,
            kafka=KafkaSettings(bootstrap_servers=own.bootstrap),
            deadman_url=f"http://{outside.host}/ping",
            webhook_allow_hosts=(outside.host,),
        )
        Home(tmp_path).write_run("up", {"pid": os.getpid(), "bootstrap_servers": own.bootstrap, "stages": {}})
        watch = Watch(settings, stages=(), web=False, call_every_s=0.2)
        with watch.over(own.bootstrap):
            wait("it calls while all is well", lambda: len(outside.calls) >= 3)
            own.kill()
            wait("it sees that the broker is gone", lambda: not watch.health()[0], 60)
            time.sleep(1)  # a call that was on its way
            heard = len(outside.calls)
            time.sleep(3)
            assert len(outside.calls) == heard


def test_a_broker_that_is_away_is_unwell_although_every_stage_runs(tmp_path):
    settings = Settings(home=tmp_path, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"))
    watch = Watch(settings, stages=())
    well, parts = watch.health()
    assert not well
    assert parts["kafka"] is False
