"""What ``tail`` prints of one row."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from tailrace import wiring
from tailrace.events.landed import Look, follow, line
from tailrace.settings.model import Settings, load
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

CALL: dict[str, Any] = {
    "table": "raw_calls",
    "app": "bot",
    "model": "gpt-4o",
    "input_tokens": None,
    "output_tokens": 3,
    "cost_usd": None,
    "status": None,
    "duplicate": False,
    "flags": None,
}


def test_a_call_is_one_line():
    assert line(CALL) == "call  bot  gpt-4o  - -> 3 tokens  unpriced  ok"


def test_unknown_fields_are_named_with_the_field_that_was_meant():
    row = {**CALL, "flags": ["clamped", "unknown_field:input_token", "unknown_field:output_tokens"]}
    assert line(row).endswith(
        "ok  UNKNOWN input_token (did you mean tokens.input?), "
        "output_tokens (its value does not fit tokens.output, or tokens.output is given as well)"
    )
    feedback = {**CALL, "table": "raw_feedback", "status": "thumbs", "flags": ["unknown_field:value"]}
    assert line(feedback) == "feedback  bot  thumbs  UNKNOWN value (did you mean score?)"


def test_no_control_character_of_a_stranger_reaches_the_terminal():
    assert "\x1b" not in line({**CALL, "app": "\x1b[31m", "flags": ["unknown_field:\x1b[31m"]})


def test_a_time_that_is_not_believed_is_shown_with_its_distance_and_the_remedy():
    arrival, day = 1_795_244_400_000_000, 86_400_000_000
    row = {**CALL, "flags": ["clock_skew", "clamped"], "kafka_time": arrival, "event_time": arrival - 61 * day}
    assert line(row).endswith(
        "ok  CLOCK 61 days before its arrival: it counts on the day of arrival; past events are sent with "
        "`emit --history`"
    )
    assert "CLOCK 3 days ahead of its arrival" in line({**row, "event_time": arrival + 3 * day})
    assert "history" not in line({**row, "event_time": arrival + 3 * day})


def test_following_looks_through_one_connection_and_opens_another_after_an_outage(
    tmp_path: Any, monkeypatch: Any
) -> None:
    settings = Settings(home=tmp_path)
    opened: list[LakeConfig] = []
    real = ReadOnlyLake.open

    def watched(config: LakeConfig) -> ReadOnlyLake:
        opened.append(config)
        return real(config)

    monkeypatch.setattr(ReadOnlyLake, "open", watched)
    monkeypatch.setattr("tailrace.events.landed.LOOK_EVERY_S", 0)
    assert list(follow(settings, since=0, until=iter([False, False, True]).__next__)) == []
    assert len(opened) == 2, "there is no lake yet"
    Lake.open(wiring.lake(settings), now=lambda: 0).close()
    assert list(follow(settings, since=0, until=iter([False] * 5 + [True]).__next__)) == []
    assert len(opened) == 3


def test_where_the_catalog_is_read_from_a_copy_every_look_takes_a_new_one(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path))
    settings = load()
    Lake.open(wiring.lake(settings), now=lambda: 1).close()
    allowed = os.access
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    with contextlib.closing(Look(settings)) as look:
        assert look.rows("SELECT count(*) AS n FROM calls", []) == [{"n": 0}]
        assert look._lake is None
