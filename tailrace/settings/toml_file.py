"""Find and read ``tailrace.toml``."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.errors import SettingsError
from tailrace.settings.names import check_file

FILE_NAME = "tailrace.toml"
_READABLE = "make it a file that you can read, or remove it"


def find_file() -> Path | None:
    """Return the settings file: that of the home, else that of the working directory, None where there is none.

    Raises:
        SettingsError: a folder on the way cannot be searched.
    """
    home = Path(os.environ.get("TAILRACE_HOME", ".tailrace"))
    return next((p for p in (home / FILE_NAME, Path(FILE_NAME)) if _exists(p)), None)


def read_file(model: type[BaseModel], path: Path) -> dict[str, Any]:
    """Return the content of a settings file of ``model``.

    Raises:
        SettingsError: it cannot be read, is not UTF-8 or not TOML, or has a key that does not exist.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SettingsError("file", f"cannot read {path}: {error.strerror}", _READABLE) from None
    except UnicodeDecodeError as error:
        raise SettingsError("file", f"{path} is not UTF-8 (byte {error.start})", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("file", f"{path} is not TOML: {error}", "correct that line") from None
    check_file(model, path, content)
    return content


def absolute(home: Path) -> Path:
    """Return the whole path of a home.

    Raises:
        SettingsError: it begins with ``~`` and this user has no home folder, or its name is not text in this locale.
    """
    try:
        found = home.expanduser().resolve()
    except (RuntimeError, OSError) as error:
        raise SettingsError("home", f"{home}: {error}", "name a folder by its whole path") from None
    try:
        str(found).encode()
    except UnicodeEncodeError:  # DuckDB and Kafka take paths as UTF-8
        problem = f"{found} is not text in this locale"
        raise SettingsError("home", problem, "set a UTF-8 locale, such as LC_ALL=C.UTF-8") from None
    return found


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SettingsError("file", f"cannot read {path}: {error.strerror}", "name a home that you can read") from None
    return True
