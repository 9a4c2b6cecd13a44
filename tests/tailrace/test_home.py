import threading

from tailrace import home as module
from tailrace.home import Heartbeat, Home


def test_a_stage_that_still_imports_is_heard_until_it_speaks_itself(tmp_path):
    home = Home(tmp_path)
    clock = iter(range(1000))
    heartbeat = Heartbeat(home, "land", lambda: next(clock))
    ended = threading.Event()
    thread = threading.Thread(target=heartbeat.while_starting, args=(ended,))
    thread.start()
    while home.read_run("land") is None:
        thread.join(0.05)
    assert home.read_run("land")["state"] == "starting"
    heartbeat({"lag": 3})
    thread.join(10)
    assert not thread.is_alive()
    heartbeat.write("running")
    assert home.read_run("land")["facts"] == {"lag": 3}


def test_the_voice_of_a_start_that_never_ends_falls_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STARTING_S", -1.0)
    heartbeat = Heartbeat(Home(tmp_path), "land", lambda: 0)
    ended = threading.Event()
    thread = threading.Thread(target=heartbeat.while_starting, args=(ended,))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert not heartbeat.spoken.is_set()
