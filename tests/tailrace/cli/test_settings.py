"""``settings`` refuses what a stage would refuse at its start: prices, rules of answers, the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from schemas.errors import SettingsError
from tailrace.cli import settings as commands
from tailrace.settings.model import Settings


class Here:
    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)


def printed(tmp_path: Path, **settings: Any) -> Any:
    app = typer.Typer()
    commands.add_to(app)
    return CliRunner().invoke(app, ("settings",), obj=Here(home=tmp_path, **settings))


def test_settings_that_hold_are_printed(tmp_path: Path) -> None:
    found = printed(tmp_path, prices=[{"model": "my-judge", "input_usd_per_mtok": "0.15"}])
    assert found.exit_code == 0
    assert '"my-judge"' in found.stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prices": [{"model": "x", "input_usd_per_mtok": "abc"}]}, r"prices.*not a number"),
        ({"prices": [{"input_usd_per_mtok": 1}]}, "prices"),
        ({"evals": {"expect": [{"regex": ["("]}]}}, r"evals.expect\[1\].*cannot be compiled"),
        ({"judge": {"url": "https://api.example.org/v1"}}, "judge.model: it is missing"),
    ],
)
def test_what_a_stage_would_refuse_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    found = printed(tmp_path, **settings)
    assert isinstance(found.exception, SettingsError)
    with pytest.raises(SettingsError, match=said):
        raise found.exception
    assert not found.stdout
