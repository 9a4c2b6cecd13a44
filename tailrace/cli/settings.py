"""``settings``: the values in force; ``settings reference``: every name that there is."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace.cli.context import get, masked, print_json
from tailrace.settings.model import Settings

settings = typer.Typer(invoke_without_command=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(settings, name="settings")


@settings.callback()
def _settings(
    context: typer.Context,
    _as_json: Annotated[bool, typer.Option("--json", hidden=True, help="It always is JSON.")] = False,
) -> None:
    """Print every setting as it holds, from file, environment and defaults; secrets as ***."""
    if context.invoked_subcommand is None:
        found = get(context).settings
        _check(found)
        print_json(masked(found))


def _check(found: Settings) -> None:
    """Read what is read at a start of a stage only: prices, rules of answers, budgets, the judge.

    Raises:
        SettingsError: one of them cannot be used.
    """
    from jobs.budgets import read_budgets
    from jobs.evals.expect import Rules
    from pipelines.pricing import default_book
    from tailrace.job_runs.judge import options

    default_book(found.price_rules)
    Rules.read(found.evals.expect)
    read_budgets(found.budgets)
    options(found)


@settings.command("reference")
def _reference() -> None:
    """Print every setting: key, variable, type, default, range, meaning; as Markdown."""
    from tailrace.settings.reference import page

    typer.echo(page(Settings), nl=False)
