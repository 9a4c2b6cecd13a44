"""Reads docker-compose.yml: anchors, merges and variables resolved, as `docker compose config` prints it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).parents[3]
_VARIABLE = re.compile(
    r"\$(?:\$|\{(?P<name>[A-Z_][A-Z0-9_]*)(?:(?P<how>:?[-?])(?P<default>[^}]*))?\}|(?P<plain>[A-Z_]\w*))"
)


class UnresolvedError(Exception):
    """A variable that has neither a value nor a default."""


def dotenv(path: Path = REPO / ".env") -> dict[str, str]:
    """What ``.env`` sets."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``${NAME}``, ``${NAME:-default}``, ``${NAME-default}`` and ``$$``."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name, how = found["name"] or found["plain"], found["how"] or ""
        if name in variables and (variables[name] or not how.startswith(":")):
            return variables[name]
        if "-" not in how:
            raise UnresolvedError(name)
        return found["default"]

    return _VARIABLE.sub(value, text)


def resolved(node: Any, variables: Mapping[str, str]) -> Any:
    """Return ``node`` with every variable in its values replaced."""
    if isinstance(node, dict):
        return {key: resolved(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, variables) for value in node]
    return interpolate(node, variables) if isinstance(node, str) else node


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file, resolved with ``.env`` and ``variables``."""
    document = yaml.safe_load((REPO / "docker-compose.yml").read_text())
    found: dict[str, Any] = resolved(document, {**dotenv(), **(variables or {})})
    return found


def services(document: Mapping[str, Any], profile: str) -> dict[str, dict[str, Any]]:
    """The services that ``--profile`` starts."""
    return {n: s for n, s in document["services"].items() if profile in s.get("profiles", [profile])}


def image_environment() -> dict[str, str]:
    """What the last stage of the Dockerfile sets."""
    runtime = (REPO / "Dockerfile").read_text().split(" AS runtime\n", 1)[1]
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", runtime, re.MULTILINE)
    assert block
    pairs = block[1].replace("\\\n", " ").split()
    return dict(pair.split("=", 1) for pair in pairs)
