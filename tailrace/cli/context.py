"""What every command gets: the settings, read at the first use, and the address of a running Kafka."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import typer
from pydantic import SecretStr

from pipelines.notify.spec import parse_channels, secret_values
from schemas.errors import FatalError, SettingsError
from tailrace import logs
from tailrace.cli.render.printable import json_line
from tailrace.home.layout import Home
from tailrace.settings.model import Settings, load
from warehouse.errors import passwords, without_password


class NotRunningError(FatalError):
    """The command needs a running Tailrace, or a setting with the address of Kafka."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"no Tailrace runs in {home}: start one with `tailrace --home {home} up`, "
            "or set TAILRACE_KAFKA__BOOTSTRAP_SERVERS"
        )


class Context:
    """Settings and home of this call."""

    def __init__(self, home: Path | None, log_level: str, *, as_json: bool = False) -> None:
        self.home_option, self.log_level, self.as_json = home, log_level, as_json

    @cached_property
    def settings(self) -> Settings:
        """The settings.

        Raises:
            SettingsError: one of them is wrong, or the home is something else than a folder.
        """
        settings = load(self.home_option)
        if settings.home.exists() and not settings.home.is_dir():
            raise SettingsError(
                "home", f"{settings.home} is no folder", "name a folder, or one that does not exist yet"
            )
        logs.configure(stage="", secrets=secrets(settings), level=self.log_level)
        return settings

    @property
    def home(self) -> Home:
        """The home."""
        return Home(self.settings.home)

    @cached_property
    def bootstrap_servers(self) -> str:
        """The address of Kafka: from the settings, else that of the running ``up``. Raises NotRunningError."""
        if self.known_bootstrap_servers is None:
            raise NotRunningError(self.settings.home)
        return self.known_bootstrap_servers

    @cached_property
    def known_bootstrap_servers(self) -> str | None:
        """Where Kafka is; None where it is not set and no ``up`` runs."""
        if self.settings.kafka.bootstrap_servers:
            return self.settings.kafka.bootstrap_servers
        report = self.home.read_run("up")
        return str(report["bootstrap_servers"]) if report else None


_SECRET_SETTING = re.compile(r"password|secret|\.pem$|oauthbearer\.config|token(?!\.endpoint)")
"""Names of librdkafka settings whose values are secrets."""

_SECRET_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""What DuckDB takes for a bucket where the settings name no keys."""


def get(context: typer.Context) -> Context:
    """Return what the root callback made."""
    return cast("Context", context.obj)


def secrets(settings: Settings) -> list[str]:
    """Every secret that is known, for the log filter."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)

    walk(dict(settings))
    walk(dict(settings.web))
    walk(dict(settings.lake))
    found += [v for k, v in settings.kafka.client.items() if _SECRET_SETTING.search(k)]
    found += passwords(settings.lake.catalog or "")
    found += [os.environ.get(name, "") for name in _SECRET_VARIABLES]
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else ""
    found += secret_values(parse_channels(settings.alert_channels, secrets=secret))
    return [each for each in found if each]  # an empty secret would match between any two characters


def masked(settings: Settings) -> dict[str, Any]:
    """Every setting as it holds, with *** in place of secrets and of what holds them."""
    values = settings.model_dump(mode="json")
    values["kafka"]["client"] = {k: "***" if _SECRET_SETTING.search(k) else v for k, v in settings.kafka.client.items()}
    values["alert_channels"] = [
        {"name": spec.name, "kind": spec.kind, "url": "***"} for spec in parse_channels(settings.alert_channels)
    ]
    values["lake"]["catalog"] = without_password(settings.lake.catalog or "") or None
    return {k: logs.hidden(v, secrets(settings)) for k, v in values.items()}


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json_line(value))
