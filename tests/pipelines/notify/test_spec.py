"""What the settings may say of channels, and that a URL is never shown."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.notify.channels import build
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard
from pipelines.notify.spec import parse_channels, secret_values
from schemas.alerts import Alert
from schemas.errors import SettingsError

SLACK = "https://hooks.slack.com/services/T000/B000/canary-slack"
ONE = "whsec_" + base64.b64encode(b"1" * 24).decode()
TWO = "whsec_" + base64.b64encode(b"2" * 32).decode()


def test_a_bare_url_tells_its_kind() -> None:
    urls = [SLACK, "https://example.org/hook", "mailto://canary:pw@example.org", "discord://1/canary"]
    assert [s.kind for s in parse_channels(urls)] == ["slack", "webhook", "apprise", "apprise"]


def test_a_name_of_its_own_making_is_stable_and_says_nothing_of_the_url() -> None:
    (a,), (b,) = parse_channels([SLACK]), parse_channels([{"url": SLACK}])
    assert a.name == b.name
    assert a.name.startswith("slack-")
    assert "canary" not in repr(a)
    assert "T000" not in repr(a)


def test_a_table_may_force_the_kind_and_choose_what_it_hears(make_alert: Callable[..., Alert]) -> None:
    entry = {
        "name": "oncall",
        "kind": "slack",
        "url": "http://127.0.0.1:9/x",
        "min_severity": "warning",
        "route": {"app": ["shop", "search"], "tenant": "acme"},
    }
    (spec,) = parse_channels([entry])
    assert (spec.name, spec.kind) == ("oncall", "slack")
    assert spec.refusal(make_alert()) == ""
    assert spec.refusal(make_alert(severity="info")) == "below warning"
    assert spec.refusal(make_alert(series={"app": "shop"})) == "routed elsewhere by tenant"


def test_secrets_come_from_the_table_from_a_file_or_from_the_one_for_all(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(f"{ONE}\n{TWO}\n")
    entries: list[dict[str, Any]] = [
        {"name": "a", "url": "https://a.example/", "secrets": [ONE, TWO]},
        {"name": "b", "url": "https://b.example/", "secret_file": str(tmp_path / "s")},
        {"name": "c", "url": "https://c.example/"},
        {"name": "d", "url": SLACK},
    ]
    specs = parse_channels(entries, secrets=f"{TWO}, {ONE}")
    assert [s.secrets for s in specs] == [(ONE, TWO), (ONE, TWO), (TWO, ONE), ()]
    assert SLACK in secret_values(specs)
    assert ONE in secret_values(specs)


def test_a_url_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(SLACK + "\n")
    assert parse_channels([{"url_file": str(tmp_path / "url")}])[0].url == SLACK


@pytest.mark.parametrize(
    "entry",
    [
        "canary",
        "",
        {"url": SLACK, "colour": "red"},
        {"url": SLACK, "name": "a b/canary"},
        {"url": SLACK, "min_severity": "fatal"},
        {"url": SLACK, "route": ["app"]},
        {"url": "https://a.example/canary", "secret": "whsec_canary"},
        {"url": "https://a.example/canary", "secret": "c"},
        {"url_file": "/nonexistent/canary-is-only-a-path"},
        {"name": "nothing"},
    ],
)
def test_what_cannot_be_is_refused_at_the_start_without_showing_a_url(entry: str | dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_channels([entry])
    assert "canary" not in str(caught.value)
    assert "services" not in str(caught.value)


def test_two_channels_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="two channels"):
        parse_channels([{"name": "a", "url": SLACK}, {"name": "a", "url": "https://example.org/"}])


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "x", "kind": "pigeon", "url": "https://example.org/canary"},
        {"name": "x", "url": "http://example.org/canary"},
        {"name": "x", "kind": "slack", "url": "https://169.254.169.254/canary"},
        {"name": "x", "url": "nosuchscheme://canary"},
        {"name": "x", "url": "json://127.0.0.1/canary"},
        {"name": "x", "kind": "slack", "url": "mailto://canary@example.org"},
    ],
)
def test_a_channel_that_cannot_be_built_stops_the_start_without_showing_its_url(entry: dict[str, object]) -> None:
    (spec,) = parse_channels([entry])
    with pytest.raises(SettingsError) as caught:
        build(spec, Poster(Guard()))
    assert "canary" not in str(caught.value)
    assert "x" in str(caught.value)
