"""The page of all settings, made from the models and the docstrings of their fields."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from tailrace.settings.names import EMITTER_VARIABLES, OTHER_VARIABLES, Name, names

_UNITS = {
    "_per_s": "1/s",
    "_s": "s",
    "_ms": "ms",
    "_h": "h",
    "days": "days",
    "_mb": "MiB",
    "_usd": "USD",
    "_rows": "rows",
}
"""Ends of names -> unit; the first that fits counts."""
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "pattern": "`{}`"}
_HEAD = """# Settings

Made by `make docs` from `tailrace/settings/model.py`; `tailrace settings reference` prints it,
`tailrace settings` prints the values in force.

A setting is an environment variable or a key of `tailrace.toml`, which is looked for in the home and then in the
working directory. A variable wins over the file. Variables of tables, such as `TAILRACE_KAFKA`, and of lists take JSON.
Unknown variables that begin with `TAILRACE_`, and unknown keys and tables of the file, are refused.

Every variable has a twin that ends in `_FILE`, such as `TAILRACE_LAKE__CATALOG_FILE`: the path of a file that holds the
value, for secrets of containers.
"""


def page(model: type[BaseModel]) -> str:
    """Return the Markdown page of ``model`` and of the variables that are no settings."""
    parts = [_HEAD]
    tables = sorted(names(model), key=lambda name: len(name.path) > 1)  # stable: the keys without a table first
    for table, group in groupby(tables, key=lambda name: name.path[:-1]):
        found = list(group)
        title = f"`[{'.'.join(table)}]`" if table else "Top level"
        doc = inspect.cleandoc(found[0].owner.__doc__ or "") if table else "Keys at the top of the file."
        parts.append(f"## {title}\n\n{_plain(doc)}\n")
        parts.append("| key | variable | type | default | unit, range | meaning |\n|---|---|---|---|---|---|")
        parts += [_row(name) for name in found]
        parts.append("")
    parts.append("## Variables that are no settings\n\n| variable | meaning |\n|---|---|")
    parts += [f"| `{name}` | {_plain(doc)} |" for name, doc in OTHER_VARIABLES.items()]
    parts.append("\n## Variables of the emitter, in the apps\n\n| variable | meaning |\n|---|---|")
    parts += [f"| `{name}` | {_plain(doc)} |" for name, doc in EMITTER_VARIABLES.items()]
    return "\n".join(parts) + "\n"


def description(name: Name) -> str:
    """Return the docstring of the field, empty where it has none."""
    return _docstrings(name.owner.__module__).get((name.owner.__name__, name.path[-1]), "")


def _row(name: Name) -> str:
    limits = ", ".join(part for part in (_unit(name.path[-1]), *_range(name.field.metadata)) if part)
    cells = (f"`{name.key}`", f"`{name.variable}`", _type(name), _default(name), limits, _plain(description(name)))
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Return a docstring as one cell of a table."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")


def _range(metadata: list[Any]) -> Iterator[str]:
    for each in metadata:
        for attribute, shape in _BOUNDS.items():
            value = getattr(each, attribute, None)
            if value is not None:
                yield shape.format(value).replace("|", "\\|")


def _default(name: Name) -> str:
    value = name.field.default
    if value is None or value is PydanticUndefined or (not value and isinstance(value, str | dict | list | tuple)):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`".replace("|", "\\|")


def _type(name: Name) -> str:
    """Return the annotation in the words of a settings file."""
    return _words(name.field.annotation).replace("|", "\\|")


def _words(annotation: Any) -> str:
    known = {str: "text", int: "integer", float: "number", bool: "true, false", Path: "path", SecretStr: "secret"}
    if annotation in known:
        return known[annotation]
    origin, parts = getattr(annotation, "__origin__", None), get_args(annotation)
    if origin is dict:
        return f"table of {_words(parts[1])}" if parts[1] is not Any else "table"
    if origin in (list, tuple):
        return f"list of {_words(parts[0])}"
    if origin is None and not parts:
        return "any"
    if all(isinstance(part, str) for part in parts):
        return ", ".join(f"`{part}`" for part in parts)
    return " or ".join(dict.fromkeys(_words(part) for part in parts if part is not type(None)))


@cache
def _docstrings(module: str) -> dict[tuple[str, str], str]:
    """Return (class, field) -> the string below the field, of a module's source (PEP 258's attribute docstrings)."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if (
                isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[node.name, field.target.id] = text.value.value
    return found
