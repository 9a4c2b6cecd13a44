"""``eval report`` and ``eval scorers`` as a person runs them, on a lake with scores."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jobs.evals.scorers import SCORERS
from schemas.errors import SettingsError
from tailrace.cli import evals as commands
from tailrace.files import FileRefusedError
from tailrace.home.layout import Home
from tailrace.job_runs.evals import NoScoresError
from tailrace.settings.model import LakeSettings, Settings
from tests.jobs.evals.lake import LakeOutlet, call, land_calls, run
from warehouse.storage.connect import LakeConfig


class Here:
    """What a command gets: settings of this lake, and no Kafka."""

    def __init__(self, config: LakeConfig, **settings: Any) -> None:
        lake = LakeSettings(catalog=config.catalog, data_path=config.data_path)
        self.settings = Settings(home=Path(config.catalog).parent, lake=lake, **settings)
        self.home = Home(self.settings.home)


def evaluate(config: LakeConfig, *words: str, **settings: Any) -> Any:
    app = typer.Typer()
    commands.add_to(app)
    return CliRunner().invoke(app, ("eval", *words), obj=Here(config, **settings))


def test_the_report_of_a_week_is_printed_as_markdown_and_as_json(config: LakeConfig, outlet: LakeOutlet) -> None:
    land_calls(config, [call(i, finish_reason="length" if i % 5 == 0 else "stop") for i in range(100)])
    run(config, outlet)
    outlet.land()
    text = evaluate(config, "report", "--week", "2026-W46").stdout
    assert text.startswith("# Quality of 2026-11-09 to 2026-11-15")
    assert "| complete | all calls | 0." in text
    assert "60 calls were drawn out of 100" in text
    assert "answered: answer" in text  # a worst call with its texts
    document = json.loads(evaluate(config, "report", "--week", "2026W46", "--format", "json").stdout)
    complete = next(x for x in document["lines"] if (x["scorer"], x["dimension"]) == ("complete", "all"))
    assert complete["now"]["low"] < 0.8 < complete["now"]["high"]
    assert document["period"]["run_id"].startswith("2026-11-09_2026-11-15_")


def test_the_report_is_a_page_in_a_new_file(config: LakeConfig, outlet: LakeOutlet, tmp_path: Path) -> None:
    land_calls(config, [call(i, finish_reason="length" if i % 5 == 0 else "stop") for i in range(100)])
    run(config, outlet)
    outlet.land()
    page = tmp_path / "report.html"
    words = ("report", "--week", "2026-W46", "--format", "html", "--out", str(page))
    assert evaluate(config, *words).exit_code == 0
    text = page.read_text()
    assert "Quality of 9–15 November 2026" in text
    assert "no judge is configured" in text
    assert page.stat().st_mode & 0o077 == 0
    again = evaluate(config, *words)
    assert isinstance(again.exception, FileRefusedError)


def test_the_summary_goes_to_the_channels_and_the_page_stays_here(
    config: LakeConfig, outlet: LakeOutlet, receiver: Any
) -> None:
    land_calls(config, [call(i, finish_reason="length" if i % 5 == 0 else "stop") for i in range(100)])
    run(config, outlet)
    outlet.land()
    found = evaluate(
        config,
        *("report", "--week", "2026-W46", "--send"),
        alert_channels=[receiver.url("/hook"), {"kind": "slack", "url": receiver.url("/slack")}],
        webhook_allow_hosts=(receiver.host,),
    )
    assert found.exit_code == 0
    hook, slack = (got.body.decode() for got in receiver.got)
    body = json.loads(hook)
    assert (body["type"], body["from"], body["sampled"]) == ("report.quality", "2026-11-09", 60)
    assert "Quality 2026-11-09 to 2026-11-15: first week, no baseline yet" in json.loads(slack)["text"]
    for text in (hook, slack):
        assert "answer 1" not in text  # no text of a call leaves
    folder = Path(config.catalog).parent / "reports" / "quality" / "2026-11-09_2026-11-15"
    files = {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir()}
    assert files == dict.fromkeys(("report.html", "report.json", "report.md", "scores.png"), 0)


def test_a_week_without_scores_says_how_to_make_them(config: LakeConfig) -> None:
    found = evaluate(config, "report", "--week", "2026-W46")
    assert isinstance(found.exception, NoScoresError)
    assert "has no scores of 2026-11-09 to 2026-11-15: `tailrace eval run` makes them" in str(found.exception)


def test_the_scorers_are_listed_with_their_versions(config: LakeConfig) -> None:
    rows = [json.loads(line) for line in evaluate(config, "scorers", "--json").stdout.splitlines()]
    assert rows == [{"name": s.name, "kind": s.kind, "version": s.version} for s in SCORERS]


def test_weeks_are_read_and_others_refused() -> None:
    assert commands.week_days("2026-W53") == (date(2026, 12, 28), date(2027, 1, 3))
    for wrong in ("2025-W53", "2026-W00", "last", "2026-11-09"):
        with pytest.raises(SettingsError, match="is no ISO week; name one such as 2026-W47"):
            commands.week_days(wrong)


def test_days_in_the_wrong_order_are_refused(config: LakeConfig) -> None:
    found = evaluate(config, "run", "--from", "2026-11-09", "--to", "2026-11-01")
    assert isinstance(found.exception, SettingsError)
    assert "2026-11-01 is before 2026-11-09" in str(found.exception)
    assert "name the first day beside --to" in str(evaluate(config, "report", "--to", "2026-11-01").exception)
