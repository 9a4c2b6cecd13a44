"""Options that every command takes, before its name and behind it: ``--home``, ``--log-level``, ``--json``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tailrace.cli.context import get


class Level(StrEnum):
    """Least level of a log line that is printed."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class CommonOptionsGroup(TyperGroup):
    """The group of all commands; gives the options of this module to the command that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that ``args`` name, with the common options."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _add_options(command)
        return name, command, rest


def _home(context: typer.Context, value: Path | None) -> None:
    if value is not None:
        get(context).home_option = value


def _log_level(context: typer.Context, value: Level | None) -> None:
    if value is not None:
        get(context).log_level = value


def _as_json(context: typer.Context, value: bool) -> bool:
    """Return whether JSON is asked for, here or before the name of the command."""
    return value or get(context).as_json


def _no_json(context: typer.Context, value: bool) -> None:
    if _as_json(context, value):
        context.fail(f"`{context.command_path}` prints no JSON: leave --json out")


def _options(
    home: Annotated[
        Path | None,
        typer.Option(callback=_home, expose_value=False, readable=False, help="Folder that holds everything."),
    ] = None,
    log_level: Annotated[
        Level | None,
        typer.Option(callback=_log_level, expose_value=False, case_sensitive=False, help="Least level that is logged."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", callback=_no_json, expose_value=False, hidden=True)] = False,
) -> None:
    """Declare the options that commands get; never called."""


def _made() -> dict[str, Any]:
    part = typer.Typer(add_completion=False)
    part.command()(_options)
    return {str(param.name): param for param in typer.main.get_command(part).params}


def _add_options(command: Any) -> None:
    """Add the options to ``command``, and to the commands of a group; once."""
    known = {option: param for param in command.params for option in param.opts}
    if "--home" in known:
        return
    made = _made()
    command.params += [made["home"], made["log_level"]]
    if "--json" in known:  # of a command, or of a group that does something by itself
        known["--json"].callback = lambda context, _param, value: _as_json(context, value)
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            _add_options(each)
    elif "--json" not in known:
        command.params.append(made["as_json"])
