"""Every command that a runbook, a message or a page of docs names can be run as it is written."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines.alerts import runbook
from pipelines.drift import compose
from tailrace.cli import app

REPO = Path(__file__).parents[2]
FOLDERS = ("schemas", "warehouse", "pipelines", "jobs", "tailrace", "emitter/tailrace_emitter")
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
"""Beside docs/."""
NAMED = re.compile(r"`(?:uv run )?tailrace ([^`]+)`")
LINE = re.compile(r"^(?:uv run )?tailrace ([^\n#&|>]+)", re.MULTILINE)
"""A line of a block that is to be copied, up to a comment or what a shell acts on."""
ROOT = typer.main.get_command(app)


def problem(words: list[str]) -> str:
    """Why `tailrace ...words` cannot be: a command, subcommand or option that is not there; "" where it can."""
    command: Any = ROOT
    context = command.make_context("tailrace", [], resilient_parsing=True)
    while words and hasattr(command, "get_command"):
        if words[0].startswith("--"):  # an option of all commands or of this group, with its value
            words = words[1:] if words[0] in flags(command) else words[2:]
            continue
        name = words[0]
        if (found := command.get_command(context, name)) is None:
            return f"no command {name}"
        command, words = found, words[1:]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {
        "--home",
        "--log-level",
        "--help",
        "--json",
    }
    strange = [w for w in words if w.startswith("--") and w.split("=")[0] not in known]
    return f"no option {strange[0]}" if strange else ""


def flags(command: Any) -> set[str]:
    """Options of a command that take no value."""
    return {o for p in command.params if getattr(p, "is_flag", False) for o in (*p.opts, *p.secondary_opts)}


def in_source() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for file in sorted((REPO / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "VALUE" for p in node.values]
                    yield f"{file.relative_to(REPO)}:{node.lineno}", "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{file.relative_to(REPO)}:{node.lineno}", node.value


def in_docs() -> Iterator[tuple[str, str]]:
    for file in (*(REPO / name for name in PAGES), *sorted((REPO / "docs").rglob("*.md"))):
        text = file.read_text()
        yield file.name, text
        yield file.name, "".join(f"`tailrace {command}`" for command in LINE.findall(text) if "`" not in command)


def named(pages: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Command -> where it is named first."""
    found: dict[str, str] = {}
    for where, text in pages:
        for command in NAMED.findall(text):
            if "→" in command:  # the layers of the source
                continue
            found.setdefault(" ".join(command.split()), where)
    return found


@pytest.mark.parametrize("pages", [in_source, in_docs])
def test_what_is_named_can_be_run(pages: Any) -> None:
    commands = named(pages())
    assert commands
    wrong = []
    for command, where in commands.items():
        try:
            words = shlex.split(command)
        except ValueError:
            words = command.split()
        if found := problem(words):
            wrong.append(f"{where}: `tailrace {command}`: {found}")
    assert wrong == []


def test_every_runbook_names_a_command_that_can_be_run() -> None:
    books = {**runbook.STEPS, "drift": compose.STEPS}
    for rule, steps in books.items():
        commands = [c for step in steps for c in NAMED.findall(step)]
        assert commands, rule
        assert [c for c in commands if problem(shlex.split(c))] == [], rule


def test_the_check_finds_what_it_is_for() -> None:
    assert problem(["publish", "it"]) == "no command publish"
    assert problem(["alerts", "explain", "ID"]) == "no command explain"
    assert problem(["alerts", "show", "ID", "--colour"]) == "no option --colour"
    assert problem(["--home", "DIR", "alerts", "show", "ID", "--json"]) == ""


def test_ids_are_filled_in() -> None:
    steps = runbook.filled(runbook.steps("spike_cost"), alert_id="0a1b2c3d-1-2", call_ids=("c-1", "c-2"))
    assert any("`tailrace call c-1`" in step for step in steps)
    assert any("`tailrace alerts ack 0a1b2c3d`" in step for step in steps)
    unpad = runbook.filled(runbook.steps("spike_cost"), alert_id="0a1b2c3d-1-2", call_ids=())
    assert not any("CALL_ID" in step or "ALERT_ID" in step for step in unpad)
