"""The options of every command are accepted before and behind its name."""

import json

import pytest
from typer.testing import CliRunner

from tailrace.cli import app
from tailrace.cli.context import Context
from tests.tailrace.commands import every_command


@pytest.fixture(autouse=True)
def _logs_stay(monkeypatch):
    """A runner's streams are closed at its end; a logger that was set up on them would fail in later tests."""
    monkeypatch.setattr("tailrace.logs.configure", lambda **_: None)


def test_every_command_takes_home_level_and_json_behind_its_name():
    found = {" ".join(path): {o for param in command.params for o in param.opts} for path, command in every_command()}
    assert len(found) > 35
    assert "golden export" in found
    assert {name for name, options in found.items() if not {"--home", "--log-level", "--json"} <= options} == set()


@pytest.mark.parametrize(
    "line",
    ["--home {} settings", "settings --home {}", "settings --home={}", "--home /nowhere settings --home {}"],
)
def test_a_home_counts_wherever_it_stands_and_the_last_one_wins(line, tmp_path):
    done = CliRunner().invoke(app, line.format(tmp_path).split())
    assert json.loads(done.stdout)["home"] == str(tmp_path)


def test_behind_a_group_s_name_it_counts_too(tmp_path):
    done = CliRunner().invoke(app, ["alerts", "--home", str(tmp_path / "none"), "list"])
    assert str(tmp_path / "none") in str(done.exception)


def test_a_text_that_looks_like_the_option_is_left_alone_behind_two_dashes(tmp_path):
    done = CliRunner().invoke(app, ["sql", "--home", str(tmp_path), "--", "--home"])
    assert str(tmp_path) in str(done.exception)


@pytest.mark.parametrize("line", ["--json status", "status --json", "--json status --json"])
def test_json_is_printed_wherever_it_is_asked_for(line, tmp_path):
    done = CliRunner().invoke(app, [*line.split(), "--home", str(tmp_path)])
    assert json.loads(done.stdout)["ready"] is False


@pytest.mark.parametrize("line", ["--json user id x", "user id x --json"])
def test_a_command_without_json_says_so(line):
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 2
    assert "prints no JSON" in done.stderr


@pytest.mark.parametrize("line", ["--log-level debug settings", "settings --log-level debug"])
def test_a_level_counts_wherever_it_stands_in_any_case(line, tmp_path, monkeypatch):
    levels = []
    monkeypatch.setattr(Context, "settings", property(lambda self: levels.append(self.log_level)))
    CliRunner().invoke(app, [*line.split(), "--home", str(tmp_path)])
    assert levels == ["DEBUG"]


def test_an_unknown_level_is_refused():
    done = CliRunner().invoke(app, ["settings", "--log-level", "loud"])
    assert done.exit_code == 2
    assert "loud" in done.stderr
