"""``user id``: which pseudonym stands for a person."""

from __future__ import annotations

from typing import Annotated

import typer

from schemas.errors import SettingsError
from tailrace.cli.context import get
from tailrace.settings import user_key
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
    """Print the pseudonym under which the emitters publish this user.

    A keyed HMAC; the key is TAILRACE_USER_KEY, or the content of TAILRACE_USER_KEY_FILE.
    """
    key = user_key(get(context).settings)
    if key is None:
        remedy = "set TAILRACE_USER_KEY or TAILRACE_USER_KEY_FILE to the key that the emitters use"
        raise SettingsError("user_key", "not set", remedy)
    typer.echo(pseudonym(name, key))
