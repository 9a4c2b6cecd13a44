"""Azure deployments: an app calls a model of Azure by the name of its deployment, which does not name the model.

The map is part of the price book, so that land, meter and re-pricing look a deployment up in the same way. Azure's
answers name the model; the map decides where they do not: errors, streams that end early, and servers that repeat the
deployment's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.errors import SettingsError

KEY = "deployment"
"""Key of a rule that names a deployment; its ``model`` is the model that is deployed."""
_MAX_CHARS = 256
_SETTING = "azure_deployments"


def deployments_of(rules: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return deployment -> model, both in lower case.

    Raises:
        SettingsError: a name is missing or too long, or a deployment has two models.
    """
    found: dict[str, str] = {}
    for rule in rules:
        name, model = (str(rule.get(key) or "").strip().lower() for key in (KEY, "model"))
        where = f"{_SETTING}.{name}" if name else _SETTING
        if not name or len(name) > _MAX_CHARS or "/" in name:
            raise SettingsError(where, "not the name of a deployment", "write the name as in the Azure portal")
        if not model or len(model) > _MAX_CHARS:
            raise SettingsError(where, "no model", "write the model that is deployed, such as gpt-4o-2024-08-06")
        if found.setdefault(name, model) != model:
            raise SettingsError(where, f"two models, {found[name]} and {model}", "name each deployment once")
    return found
