"""From ids on a command line to whose rows are looked for."""

from __future__ import annotations

from schemas.errors import SettingsError
from tailrace.home.people import forms, tenant_forms
from tailrace.settings.model import Settings
from warehouse.forget import Who


def person_of(settings: Settings, command: str, user: str | None, tenant: str | None) -> Who:
    """Return a user, a tenant, or that user of that tenant, in all forms of the id.

    Raises:
        SettingsError: no user and no tenant is named, or an id is not UTF-8.
    """
    if not (user or tenant):
        raise SettingsError(command, "nobody is named", "name a user (--user) or a tenant (--tenant)")
    try:
        return Who(
            tenants=tenant_forms(settings, tenant) if tenant else (), users=forms(settings, user) if user else ()
        )
    except UnicodeEncodeError:
        raise SettingsError(command, "the id is not UTF-8", "write it as the app sends it") from None
