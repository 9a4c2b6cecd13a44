from __future__ import annotations

from typing import Any

import pytest

from pipelines.notify.channels.deadman import Deadman
from pipelines.notify.guard import Guard
from schemas.errors import SettingsError


def test_it_calls_while_all_is_well_and_is_silent_otherwise(receiver: Any) -> None:
    deadman = Deadman(receiver.url("/ping/secret"), guard=Guard.allowing([receiver.host]))
    assert deadman.call(lambda: False) == "withheld"
    assert receiver.got == []
    assert deadman.call(lambda: True) == "called"
    (got,) = receiver.got
    assert (got.path, got.body) == ("/ping/secret", b"")


def test_a_watcher_that_is_away_or_refuses_stops_nothing_and_its_url_is_not_told(receiver: Any) -> None:
    deadman = Deadman(receiver.url("/ping/secret"), guard=Guard.allowing([receiver.host]), deadline_s=2)
    receiver.then(404).then(302, headers=(("location", "http://169.254.169.254/"),))
    assert deadman.call(lambda: True) == "answered 404"
    assert deadman.call(lambda: True) == "answered 302"
    receiver.close()
    assert deadman.call(lambda: True) == "cannot connect"


def test_the_guard_holds_for_it_too() -> None:
    for url in ("http://10.0.0.1/x", "http://169.254.169.254/latest", "https://127.0.0.1/x", "file:///etc/passwd"):
        with pytest.raises(SettingsError) as caught:
            Deadman(url, guard=Guard())
        assert url not in str(caught.value)
