"""The key under which ids of people become pseudonyms: one that was set, or one that the home makes once."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from schemas.errors import SettingsError
from tailrace.home.layout import Home
from tailrace.settings.model import Settings, user_key
from tailrace_emitter.config import HOME_KEY
from tailrace_emitter.people import People


def people(settings: Settings, *, make: bool = True) -> People | None:
    """Return how land and meter replace ids of people; None where they stay.

    Args:
        settings: mode and key.
        make: make the home's key where none was set and it has none; else it counts as absent.

    Raises:
        SettingsError: the key cannot be read or made.
    """
    if settings.user_mode == "plain":
        return None
    if key := user_key(settings):
        return People(key, every=True)
    path = key_file(settings)
    key = _read(path) or (_make(path) if make else None)
    return People(key, every=settings.user_mode == "all") if key else None


def forms(settings: Settings, user: str) -> tuple[str, ...]:
    """Return the ids under which the lake may hold ``user``: as the app sends it, and its pseudonym.

    A pseudonym stays as it is: it cannot be traced to an id.
    """
    key = user_key(settings) or _read(key_file(settings))
    stored = People(key, every=True).user(user) if key else user
    return (user,) if stored == user else (user, stored)


def tenant_forms(settings: Settings, tenant: str) -> tuple[str, ...]:
    """Return the same of a tenant, which is replaced where it holds a mail address or a telephone number."""
    key = user_key(settings) or _read(key_file(settings))
    stored = People(key).other(tenant) if key else tenant
    return (tenant,) if stored == tenant else (tenant, stored)


def keyed_hash(settings: Settings, kind: str, ids: tuple[str, ...]) -> str:
    """Return the hash that replaces a person in a permanent record: the same for every form of the id.

    It differs from the pseudonym: what was stored under that cannot be joined with it without the key.

    Raises:
        SettingsError: the key cannot be read or made.
    """
    path = key_file(settings)
    key = user_key(settings) or _read(path) or _make(path)
    return hmac.new(key.encode(), f"forget {kind} {ids[-1]}".encode(), hashlib.sha256).hexdigest()[:32]


def key_file(settings: Settings) -> Path:
    """Return where the home keeps its own key."""
    return settings.home / HOME_KEY


def _read(path: Path) -> str | None:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, error) from None
    if not key:
        raise SettingsError("user_key", f"{path} is empty", "restore the file from a backup, or remove it")
    return key


def _make(path: Path) -> str:
    """Write a new key, readable by its owner only; where another process was faster, its key is returned."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        Home(path.parent).folder("")
        with open(draft, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, path)
    except OSError as error:
        raise _unusable(path, error) from None
    finally:
        draft.unlink(missing_ok=True)
    return _read(path) or ""


def _publish(draft: Path, path: Path) -> None:
    """Give ``draft`` the name ``path``: whole or not at all, and never over another process's key."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unusable(path: Path, error: Exception) -> SettingsError:
    problem = (isinstance(error, OSError) and error.strerror) or "not UTF-8"
    remedy = "correct the file or its permissions, or set TAILRACE_USER_KEY or TAILRACE_USER_MODE=plain"
    return SettingsError("user_key", f"{path}: {problem}", remedy)
