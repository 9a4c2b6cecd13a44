"""Settings whose value is the content of a file: ``TAILRACE_X_FILE`` names the file of ``TAILRACE_X``.

Container images pass secrets this way (``POSTGRES_PASSWORD_FILE``): a file shows neither in the environment of a
process nor in ``docker inspect``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

from schemas.errors import SettingsError
from tailrace.settings.names import FILE_SUFFIX, Name, alternatives, names
from tailrace_emitter.config import VARIABLES as EMITTER_VARIABLES


def value_files(model: type[BaseModel]) -> dict[str, Name]:
    """Return the variables that name files, each with its setting."""
    every = ((name.variable + FILE_SUFFIX, name) for name in names(model))
    # the emitters read TAILRACE_USER_KEY_FILE, and so do we
    return {variable: name for variable, name in every if variable not in EMITTER_VARIABLES}


def read_value_files(model: type[BaseModel], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that files hold, nested as in ``tailrace.toml``.

    Raises:
        SettingsError: a file cannot be read or is empty, or a setting has a variable and a file.
    """
    found: dict[str, Any] = {}
    for variable, name in value_files(model).items():
        path = environment.get(variable)
        if path is None:
            continue
        if name.variable in environment:
            raise SettingsError(name.key, f"{name.variable} and {variable} are both set", "keep one of them")
        table = found
        for part in name.path[:-1]:
            table = table.setdefault(part, {})
        table[name.path[-1]] = _value(name, variable, Path(path))
    return found


def _value(name: Name, variable: str, path: Path) -> Any:
    """Return the content of ``path`` without the line's end; tables and lists are JSON."""
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = (isinstance(error, OSError) and error.strerror) or "not UTF-8"
        raise SettingsError(name.key, f"cannot read {path}: {problem}", f"correct {variable}") from None
    if not text.strip():
        raise SettingsError(name.key, f"{path} is empty", f"write the value into it, or unset {variable}")
    if not any(get_origin(part) in (list, dict, tuple) for part in alternatives(name.field.annotation)):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise SettingsError(name.key, f"{path} is not JSON", "write tables and lists as JSON") from None
