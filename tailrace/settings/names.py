"""Which names the environment and ``tailrace.toml`` may use; another one is refused, with the nearest that exists.

A misspelt name that is ignored starts something else than was meant: an embedded broker instead of the given one.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.errors import FatalError, SettingsError
from tailrace_emitter import config as emitter

PREFIX, DELIMITER = "TAILRACE_", "__"
FILE_SUFFIX = "_FILE"
"""After a variable: the file that has its value."""
EMITTER_VARIABLES = emitter.VARIABLES
"""Accepted, because an app and `tailrace` may share an environment."""
OTHER_VARIABLES = {
    "TAILRACE_LOG_LEVEL": "Least level of a log line that is printed; the option `--log-level` wins.",
    "TAILRACE_CACHE": "Folder of Kafka's jars, downloaded once; default: `tailrace` in the user's cache folder.",
}
"""Variables of the command line that are no settings."""
INTERNAL_VARIABLES = (
    "TAILRACE_FAULT",
    "TAILRACE_FAULTS_TABLE",
    "TAILRACE_TEST_DATA",
    "TAILRACE_TEST_SECONDS",
    "TAILRACE_BLESS",
)
"""Of the fault tests and the test suite."""
REMEDY = "`tailrace settings reference` lists every name"
_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
"""What Kubernetes sets in every pod beside a service called tailrace or tailrace-...
(https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)."""
_SERVICE_PORT = re.compile(r"(tcp|udp|sctp)://")


class UnknownVariableError(SettingsError):
    """The environment has variables that begin as ours do and are none."""

    def __init__(self, unknown: Mapping[str, str]) -> None:
        """Name them; their values may be secrets.

        Args:
            unknown: name -> the nearest known one, empty where none is near.
        """
        self.name = next(iter(unknown))
        shown = [f"{name[:80]}{_question(known)}" for name, known in list(unknown.items())[:3]]
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        FatalError.__init__(self, f"unknown variable {', '.join(shown)}{more}: {REMEDY}")


@dataclass(frozen=True)
class Name:
    """One setting."""

    path: tuple[str, ...]
    field: FieldInfo
    owner: type[BaseModel]
    """The class that declares it."""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + DELIMITER.join(self.path).upper()

    @property
    def key(self) -> str:
        """Its key in ``tailrace.toml``, with dots between tables."""
        return ".".join(self.path)

    @property
    def open(self) -> bool:
        """Whether keys below it are the user's: a table of names that no model lists."""
        return any(get_origin(part) is dict for part in alternatives(self.field.annotation))


def names(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Name]:
    """Yield every setting of ``model``, in the order of their declaration."""
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section:
            yield from names(section, (*path, name))
        else:
            yield Name((*path, name), field, model)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a table, None where ``field`` is a value."""
    return next((a for a in alternatives(field.annotation) if isinstance(a, type) and issubclass(a, BaseModel)), None)


def check_environment(model: type[BaseModel], environment: Mapping[str, str]) -> None:
    """Refuse variables that begin as ours do and are none.

    Raises:
        UnknownVariableError: names them, and the nearest known one of each.
    """
    every = list(names(model))
    known = {n.variable for n in every} | {n.variable + FILE_SUFFIX for n in every} | _tables(every)
    known |= {*EMITTER_VARIABLES, *OTHER_VARIABLES, *INTERNAL_VARIABLES}
    open_ = tuple(n.variable + DELIMITER for n in every if n.open)
    unknown = [
        name
        for name, value in environment.items()
        if (upper := name.upper()).startswith(PREFIX)
        and upper not in known
        and not upper.startswith(open_)
        and not _of_a_service(upper, value)
    ]
    if unknown:
        meant = {each.removeprefix(PREFIX): each for each in sorted(known - set(INTERNAL_VARIABLES))}
        raise UnknownVariableError(
            {name: meant.get(_nearest(name[len(PREFIX) :], meant), "") for name in sorted(unknown)}
        )


def check_file(model: type[BaseModel], path: Path, content: Mapping[str, Any]) -> None:
    """Refuse tables and keys of a settings file that do not exist.

    Raises:
        SettingsError: names the file, the key and the nearest known one.
    """
    every = list(names(model))
    known = sorted({n.key for n in every} | {".".join(n.path[:i]) for n in every for i in range(1, len(n.path))})
    for found in _unknown(model, content, ()):
        key = ".".join(found)
        raise SettingsError(key[:120], f"unknown in {path}{_question(_nearest(key, known))}", REMEDY)


def _unknown(model: type[BaseModel], content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, value in content.items():
        field = model.model_fields.get(key)
        if field is None:
            yield (*path, key)
        elif (section := section_of(field)) and isinstance(value, Mapping):
            yield from _unknown(section, value, (*path, key))


def _tables(every: list[Name]) -> set[str]:
    """Return the variables of whole tables, which take JSON."""
    return {
        PREFIX + DELIMITER.join(name.path[:i]).upper()
        for name in every
        for i in range(1, len(name.path))
        if name.path[i:]
    }


def _of_a_service(name: str, value: str) -> bool:
    return bool(_SERVICE.search(name) or (name.endswith("_PORT") and _SERVICE_PORT.match(value)))


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return the nearest of ``known``, compared without regard to case; empty where none is near."""
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower()[:200], by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def _question(known: str) -> str:
    return f" (did you mean {known}?)" if known else ""


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one annotation."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
