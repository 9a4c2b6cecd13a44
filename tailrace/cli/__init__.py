"""One file a command group; this one puts them together."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tailrace import logs
from tailrace.cli.commands import COMMANDS
from tailrace.cli.context import Context
from tailrace.cli.everywhere import CommonOptionsGroup, Level
from tailrace.imports import hide_numpy


class LazyGroup(CommonOptionsGroup):
    """A group whose commands are imported when they are called; its own help needs none of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=entry.help) for name, entry in COMMANDS.items()}
        self._loaded: dict[str, Any] = {}
        self._listing = False
        self._words: list[str] = []

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Note the words of the call: what is imported may depend on the command of a group."""
        self._words = args
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, imported; only its line of help while the help of this group is printed."""
        if self._listing or cmd_name not in COMMANDS:
            return self.commands.get(cmd_name)
        if cmd_name not in self._loaded:
            if not COMMANDS[cmd_name].needs_numpy(self._words):
                hide_numpy()
            part = typer.Typer(callback=lambda: None, pretty_exceptions_enable=False)
            import_module(f"tailrace.cli.{COMMANDS[cmd_name].module}").add_to(part)
            self._loaded |= getattr(typer.main.get_command(part), "commands", {})
        return self._loaded[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help without importing the commands."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


app = typer.Typer(
    name="tailrace",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(help="Streaming analytics for LLM applications: Kafka in, live alerts and a DuckDB lake out.")
def _root(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(readable=False, help="Folder that holds everything (TAILRACE_HOME).")
    ] = None,
    log_level: Annotated[
        Level, typer.Option(envvar="TAILRACE_LOG_LEVEL", case_sensitive=False, help="Least level that is logged.")
    ] = Level.INFO,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, where the command can.")] = False,
) -> None:
    logs.configure(stage=context.invoked_subcommand or "", level=log_level)
    context.obj = Context(home, log_level, as_json=as_json)
