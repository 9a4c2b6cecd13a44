"""Texts of prompts and answers stay in, and vectors always."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

from pipelines.drift.clusters import CosineBall
from pipelines.drift.region_sql import share_sql
from pipelines.notify.channels.slack import payload
from pipelines.notify.content import outgoing, show
from pipelines.notify.plain import plain
from schemas.alerts import Alert, Cause, Evidence

Make = Callable[..., Alert]
TEXT = "canary text of a prompt: where is my order 4711?"
OTHER = "canary text of an older prompt"
SQL = share_sql(
    CosineBall(tuple(int(v) for v in np.random.default_rng(1).integers(-127, 128, 384)), 0.5),
    {0: (1, 99)},
    app="shop",
    side="input",
    feature=None,
)


@pytest.fixture
def drift(make_alert: Make) -> Alert:
    """A drift alert as the stage makes it; its title as an older version made it."""
    return make_alert(
        detector="drift",
        rule="input_drift",
        title=f"shop: inputs drifted, 57% are like “{TEXT}”, expected 0%",
        cause=(
            Cause("topic", TEXT, 0.9, f"grew from 0% to 57%: e.g. “{TEXT}”"),
            Cause("topic", OTHER, 0.1, f"shrank from 30% to 10%: e.g. “{OTHER}”"),
            Cause("tenant", "acme", 0.8, "tenant acme: 80% of these texts"),
        ),
        evidence=Evidence(SQL, ("c-1",)),
    )


def messages(alert: Alert, body: bytes) -> dict[str, str]:
    """What each channel would send."""
    return {
        "webhook": body.decode(),
        "slack": json.dumps(payload(alert), ensure_ascii=False),
        "apprise": "\n".join(plain(alert)),
    }


def numbers(text: str) -> int:
    """The longest list of numbers in ``text``."""
    best = run = 0
    for part in text.replace("[", ",").replace("]", ",").split(","):
        run = run + 1 if part.strip().lstrip("-").replace(".", "").isdigit() else 0
        best = max(best, run)
    return best


def test_no_door_carries_a_text_or_a_vector_and_each_names_the_command_that_shows_them(drift: Alert) -> None:
    assert numbers(drift.to_json().decode()) == 384
    for name, shown in messages(*outgoing(drift, drift.to_json(), texts=False)).items():
        assert "canary" not in shown, name
        assert numbers(shown) < 4, name
        assert "grew from 0% to 57%: e.g. “…”" in shown, name
        assert "tenant acme: 80% of these texts" in shown, name
        assert f"tailrace alerts show {drift.id[:8]}" in shown, name


def test_with_the_setting_the_texts_leave_and_the_vector_does_not(drift: Alert) -> None:
    for name, shown in messages(*outgoing(drift, drift.to_json(), texts=True)).items():
        assert TEXT in shown, name
        assert OTHER in shown, name
        assert numbers(shown) < 4, name


def test_an_alert_without_either_leaves_byte_for_byte_as_it_stands(make_alert: Make) -> None:
    alert = make_alert(cause=(Cause("user", "u-17", 0.94, "user u-17: 94 % of the rise"),))
    body = b" " + alert.to_json()
    assert outgoing(alert, body, texts=False) == (alert, body)


@pytest.mark.parametrize("excerpt", ["a", "e.g.", "”", "“x”", "grew from", ""])
def test_an_odd_excerpt_is_taken_out_as_well(drift: Alert, excerpt: str) -> None:
    odd = replace(drift, title="shop: inputs drifted", cause=(Cause("topic", excerpt, 0.9, f"grew: e.g. “{excerpt}”"),))
    sent, _ = outgoing(odd, odd.to_json(), texts=False)
    assert sent.cause[0].value == ""
    assert f"“{excerpt}”" not in sent.cause[0].text


def test_wording_that_does_not_quote_the_excerpt_is_dropped_whole(drift: Alert) -> None:
    odd = replace(drift, cause=(Cause("topic", TEXT, 0.9, f"now about {TEXT}"),))
    sent, _ = outgoing(odd, odd.to_json(), texts=False)
    assert sent.cause[0].text == f"topic: 90% of the change (see `{show(drift)}`)"


def test_an_id_that_is_none_of_ours_is_not_cut(make_alert: Make) -> None:
    assert show(make_alert(id="some-other-id")) == "tailrace alerts show some-other-id"
