"""Every command that there is, for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from tailrace.cli import app


def every_command() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words, command) of every command, as a call of it finds them."""
    root = get_command(app)
    yield from _below(root, root.context_class(root), ())


def _below(command: Any, context: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(command, TyperGroup) or command.invoke_without_command:
        yield path, command
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            _, found, _ = command.resolve_command(context, [name])
            yield from _below(found, context, (*path, name))
