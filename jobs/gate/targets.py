"""candidate.yaml and baseline.yaml: what answers the cases. Pure: text in, ``Target`` out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml

from jobs.gate.settings import GateInputError
from jobs.gate.template import Template, TemplateError, variables_of

_SEE = "docs/how-to/gate.md shows one"


@dataclass(frozen=True)
class Target:
    """One side of the comparison: a model behind an endpoint, or a command."""

    name: str
    model: str = ""
    base_url: str = ""
    """Empty: the OpenAI SDK's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the key; the key itself is in no file."""
    provider: str = ""
    """For the price; empty: derived from model and host."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the request: temperature, max_tokens, ..."""
    template: Template | None = None
    stream: bool = False
    """Streamed answers have a time to first token."""
    command: tuple[str, ...] = ()
    """Reads a case as JSON on stdin and prints the answer."""
    version: str = ""
    """Of what the command runs. Answers of a command without a version are not cached: its code may have changed."""
    timeout_s: float = 60.0
    retries: int = 2
    requests_per_minute: float = 0.0
    """0: as fast as the endpoint answers."""
    concurrency: int = 4

    @property
    def cacheable(self) -> bool:
        """Whether an answer depends on nothing but what is in the key of the cache."""
        return not self.command or bool(self.version)

    @property
    def digest(self) -> str:
        """Hash of what decides its answers."""
        return digest({name: value for name, value in self.facts().items() if name not in _PACE})

    def facts(self) -> dict[str, Any]:
        """Return what it is, for a report; it holds no secret."""
        return dict(msgspec.to_builtins(self))


def digest(value: Any) -> str:
    """Return the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_target(text: str, where: str) -> Target:
    """Return the target that ``text`` describes.

    Args:
        text: YAML.
        where: name of the file, for errors.

    Raises:
        GateInputError: it is no YAML, names something unknown, or neither a model nor a command.
    """
    try:
        read = yaml.safe_load(text)
        raw = msgspec.convert(read, _File)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise GateInputError(where, f"no YAML{line}", _SEE) from error
    except msgspec.ValidationError as error:
        raise GateInputError(where, str(error), _SEE) from error
    if bool(raw.model) == bool(raw.command):
        problem = "it names both a model and a command" if raw.model else "it names neither a model nor a command"
        raise GateInputError(where, problem, f"name one of them; {_SEE}")
    for name, low, high in _RANGES:
        if not low <= getattr(raw, name) <= high:
            raise GateInputError(where, f"{name} is {getattr(raw, name)}, outside {low:g} to {high:g}", "change it")
    if owned := sorted(set(raw.parameters) & _OURS):
        raise GateInputError(where, f"parameters name {', '.join(owned)}", "the gate sets these itself; leave them out")
    values = {name: getattr(raw, name) for name in raw.__struct_fields__ if name not in ("template", "command")}
    values["name"] = raw.name or raw.model or raw.command[0]
    return Target(**values, command=tuple(raw.command), template=_template(raw.template, where))


class _Texts(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    version: str = ""
    system: str | None = None
    user: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    model: str = ""
    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    provider: str = ""
    parameters: dict[str, Any] = {}
    template: _Texts | None = None
    stream: bool = False
    command: list[str] = []
    version: str = ""
    timeout_s: float = 60.0
    retries: int = 2
    requests_per_minute: float = 0.0
    concurrency: int = 4


_RANGES = (
    ("timeout_s", 0.1, 3_600.0),
    ("retries", 0, 20),
    ("requests_per_minute", 0.0, 1e6),
    ("concurrency", 1, 64),
)
_OURS = frozenset({"model", "messages", "stream", "stream_options", "n"})
_PACE = frozenset({"name", "timeout_s", "retries", "requests_per_minute", "concurrency"})
"""How it is asked, and what it is called: neither changes what it answers."""


def _template(raw: _Texts | None, where: str) -> Template | None:
    if raw is None:
        return None
    if raw.system is None and raw.user is None:
        raise GateInputError(f"{where}: template", "it has neither a system nor a user text", "give one of them")
    for name in ("system", "user"):
        try:
            variables_of(getattr(raw, name) or "")
        except TemplateError as error:
            raise GateInputError(f"{where}: template: {name}", str(error), "correct the template") from error
    return Template(raw.name, raw.version, raw.system, raw.user)
