"""``user id``: the pseudonym of a person."""

from __future__ import annotations

from typing import Annotated

import typer

from schemas.errors import SettingsError
from tailrace.cli.context import get
from tailrace.home.people import people

user = typer.Typer(no_args_is_help=True, help="Pseudonyms of users.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(user, name="user")


@user.callback()
def _group() -> None:
    """Keep ``user id`` two words."""


@user.command("id")
def _id(context: typer.Context, name: Annotated[str, typer.Argument(help="As the app names the user.")]) -> None:
    """Print the id under which this user lands.

    Users become a keyed HMAC: all of them under TAILRACE_USER_KEY or TAILRACE_USER_KEY_FILE; without a key of yours
    those that look like a mail address, a phone number or a name, under the home's own.
    """
    settings = get(context).settings
    if settings.user_mode == "plain":
        typer.echo(name)
        return
    rule = people(settings, make=False)
    if rule is None:
        remedy = "set TAILRACE_USER_KEY or TAILRACE_USER_KEY_FILE to the key that the emitters use"
        raise SettingsError("user_key", "not set, and this home has not made one yet", remedy)
    typer.echo(rule.user(name))
