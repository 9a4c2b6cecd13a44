"""The examples of docs/how-to/ work as they are written."""

from __future__ import annotations

import re
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest

from jobs.evals.case import Case
from pipelines.detect.detectors.base import View
from pipelines.detect.items import Batch, parse
from pipelines.detect.windows import Windows
from pipelines.notify.spec import parse_channels
from pipelines.pricing import default_book
from tailrace.settings.model import KafkaSettings, LakeSettings
from tests.pipelines.detect.traffic import SECOND, T0, App, Incident, Stream

FOLDER = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    """Blocks of a page, without the indentation of a list."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\b[^\n]*\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def module(source: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(source, f"docs/how-to/{name}", "exec"), made.__dict__)
    return made


def findings(detector: Any, incidents: tuple[Incident, ...]) -> list[Any]:
    """What the detector finds, bucket by bucket, in five minutes of one app."""
    stream, windows, state, found = (
        Stream(5, partitions=1, incidents=incidents),
        Windows("bot"),
        detector.initial_state(),
        [],
    )
    for record in stream.records(T0 - 60 * SECOND, T0 + 240 * SECOND, live=False, batch_s=10):
        if not isinstance(batch := parse(record), Batch):
            continue
        windows.add(batch)
        view = View(windows, windows.index[windows.own], windows.latest())
        state, more = detector.step(state, view)
        found += more
        if more:
            state = detector.on_resolved(state, more[0], view.until, view.until)
    return found


def test_the_detector_finds_a_flood_and_is_silent_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = blocks("write-a-detector.md", "python")
    flood = module(source, "flood", monkeypatch).Flood(calls_a_minute=600.0)
    planted = Incident(T0 + 60 * SECOND, T0 + 120 * SECOND, factor=20.0, app=App().name)
    assert findings(flood, ()) == []
    found = findings(flood, (planted,))
    assert found
    assert all(T0 <= f.start < f.end <= T0 + 300 * SECOND and f.observed > 600 for f in found)
    assert found[0].series == {"app": "bot"}


def test_the_scorer_judges_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = blocks("add-a-scorer.md", "python")
    scorer = module(source, "no_links", monkeypatch).NO_LINKS
    with_link, without, none = scorer.score(
        [Case("1", output="see https://example.org"), Case("2", output="no"), Case("3")]
    )
    assert (with_link.value, without.value, none.value) == (0.0, 1.0, None)
    assert none.not_judgeable


def test_the_prices_are_accepted_and_hold() -> None:
    (text,) = blocks("add-a-price.md", "toml")
    book = default_book(tomllib.loads(text)["prices"])
    assert book.override("openai", "my-model-7", *book.moment(0)) is not None


def test_the_settings_are_accepted() -> None:
    channels = [spec for text in blocks("slack.md", "toml") for spec in tomllib.loads(text)["alert_channels"]]
    assert {spec["name"] for spec in channels} == {"slack", "oncall", "shop"}
    for spec in channels:  # the files of the page are not here
        parse_channels(
            [{key: value for key, value in spec.items() if key != "url_file"} | {"url": "https://hooks.slack.com/x"}]
        )
    server, client = (tomllib.loads(text) for text in blocks("external-kafka.md", "toml"))
    assert KafkaSettings(**server["kafka"], client=client["kafka"]["client"]).partitions == 12
    (lake,) = blocks("bucket.md", "toml")
    assert LakeSettings(**tomllib.loads(lake)["lake"]).data_path == "s3://lake/tailrace"
