"""Reports of jobs reach each channel once; what may pass is tried again; channels with a route get none."""

from __future__ import annotations

import json
from typing import Any

from pipelines.notify.channels import Report
from pipelines.notify.guard import Guard
from pipelines.notify.reports import send_report
from pipelines.notify.spec import parse_channels

REPORT = Report("evals-1", "Quality", ("all is well",), b'{"type":"evals","id":"evals-1"}', 0)


def sent(receiver: Any, entries: list[Any], slept: list[float] | None = None) -> list[tuple[str, bool, str]]:
    found = send_report(
        REPORT,
        parse_channels(entries),
        Guard.allowing([receiver.host]),
        now=lambda: 1_760_000_000_000_000,
        sleep=(slept if slept is not None else []).append,
    )
    return [(each.channel, each.ok, each.detail) for each in found]


def test_each_channel_without_a_route_gets_it_once(receiver: Any) -> None:
    entries = [
        {"name": "hook", "url": receiver.url("/hook")},
        {"name": "slack", "kind": "slack", "url": receiver.url("/slack")},
        {"name": "only-shop", "url": receiver.url("/shop"), "route": {"app": ["shop"]}},
    ]
    assert sent(receiver, entries) == [("hook", True, "HTTP 200"), ("slack", True, "HTTP 200")]
    hook, slack = receiver.got
    assert json.loads(hook.body) == {"type": "evals", "id": "evals-1"}
    assert hook.headers["webhook-id"] == "evals-1"
    assert "all is well" in json.dumps(json.loads(slack.body)["blocks"])


def test_what_may_pass_is_tried_three_times_at_the_receivers_pace(receiver: Any) -> None:
    receiver.then(503).then(429, headers=(("retry-after", "7"),))
    slept: list[float] = []
    assert sent(receiver, [{"name": "hook", "url": receiver.url()}], slept) == [("hook", True, "HTTP 200")]
    assert slept == [2.0, 7.0]
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    receiver.always(500)
    assert sent(receiver, [{"name": "hook", "url": receiver.url()}]) == [("hook", False, "HTTP 500")]
    assert len(receiver.got) == 6


def test_what_is_refused_is_not_tried_again(receiver: Any) -> None:
    receiver.always(404)
    assert sent(receiver, [{"name": "hook", "url": receiver.url()}]) == [("hook", False, "HTTP 404")]
    assert len(receiver.got) == 1
