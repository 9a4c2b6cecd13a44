"""``user id``: which pseudonym stands for a person."""

from __future__ import annotations

from typing import Annotated

import typer

from schemas.errors import SettingsError
from tailrace.cli.context import get
from tailrace_emitter.redact import pseudonym

user = typer.Typer(no_args_is_help=True, help="Pseudonyms of users.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(user, name="user")


@user.callback()
def _group() -> None:
    """Keep ``user id`` two words."""


@user.command("id")
def _id(context: typer.Context, name: Annotated[str, typer.Argument(help="As the app knows the user.")]) -> None:
    """Print the pseudonym under which the emitters publish this user (keyed HMAC, TAILRACE_USER_KEY)."""
    key = get(context).settings.user_key
    if key is None:
        raise SettingsError("user_key", "not set", "set TAILRACE_USER_KEY to the key that the emitters use")
    typer.echo(pseudonym(name, key.get_secret_value()))
