"""The options of every command are accepted before and behind its name."""

import json
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tailrace.cli import app
from tailrace.cli.context import Context, get
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


def _seen(line):
    """Call a command, and return (home, level, JSON) as its body would find them; its own parameters are left out."""
    root = get_command(app)
    command, context, words = root, root.context_class(root), [word for word in line if not word.startswith("{")]
    found = []
    for word in words:
        _, command, _ = command.resolve_command(context, [word])

    def body(context):
        here, own = get(context), [p.name for p in command.params if "--json" in p.opts and p.expose_value]
        found.append((here.home_option, here.log_level, [context.params[name] for name in own]))

    command.params = [p for p in command.params if {"--home", "--log-level", "--json"} & set(p.opts)]
    command.invoke = body
    json_ = [p for p in command.params if "--json" in p.opts and p.expose_value]
    options = ["--home", "/a/home", "--log-level", "debug", *(["--json"] if json_ else [])]
    for arguments in ([*options, *words], [*words, *options]):
        root.main(arguments, prog_name="tailrace", standalone_mode=False)
    return found


@pytest.mark.parametrize("path", [path for path, _ in every_command()], ids=" ".join)
def test_every_command_finds_the_same_options_before_its_name_and_behind_it(path):
    before, behind = _seen(path)
    assert before == behind
    assert before[:2] == (Path("/a/home"), "DEBUG")
    assert all(before[2])
