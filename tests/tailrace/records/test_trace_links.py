"""Links by trace id: filled and escaped, never to a reader's own machine."""

from __future__ import annotations

import pytest

from schemas.errors import SettingsError
from tailrace.records.trace_links import links

DATADOG = "https://app.datadoghq.com/apm/trace/{trace_id}"


def test_a_template_is_filled_for_each_of_the_first_traces() -> None:
    assert links({"Datadog": DATADOG}, ["4bf9", "a1"]) == [
        "Datadog: https://app.datadoghq.com/apm/trace/4bf9",
        "Datadog: https://app.datadoghq.com/apm/trace/a1",
    ]
    assert len(links({"Datadog": DATADOG}, map(str, range(100)))) == 3
    assert links({}, ["4bf9"]) == []


def test_a_hostile_trace_id_stays_one_part_of_the_address() -> None:
    (link,) = links({"x": DATADOG}, ["../../a?b=c#d/\u202e \x1b{trace_id}"])
    path = link.removeprefix("x: https://app.datadoghq.com/apm/trace/")
    assert not set(path) & set("/?# \x1b{}")
    assert path.isascii()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("https://app.datadoghq.com/apm/trace/", "it has no {trace_id}"),
        ("javascript:alert('{trace_id}')", "no http or https address"),
        ("file:///{trace_id}", "no http or https address"),
        ("https:///{trace_id}", "no http or https address"),
        ("https://x y/{trace_id}", "no http or https address"),
        ("https://[::1/{trace_id}", "it is no address"),
        ("http://localhost:3000/{trace_id}", "loopback"),
        ("http://127.0.0.1/{trace_id}", "loopback"),
        ("http://[::1]/{trace_id}", "loopback"),
        ("http://0.0.0.0/{trace_id}", "loopback"),
        ("http://tempo.localhost/{trace_id}", "loopback"),
    ],
)
def test_what_nobody_else_can_open_is_refused_by_name(template: str, said: str) -> None:
    with pytest.raises(SettingsError, match=r"setting trace_links.Tempo: ") as refused:
        links({"Tempo": template}, ["4bf9"])
    assert said in str(refused.value)
