"""Attach a lake to a new DuckDB instance: extensions from their wheels, no network, WAL checked."""

from __future__ import annotations

import importlib.resources
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from schemas.errors import TailraceError
from warehouse.errors import LakeMissingError, LakeRefusedError, LakeUnavailableError, first_line, without_password
from warehouse.storage import spill
from warehouse.storage.libpq import with_timeouts

LAKE = "lake"
"""Name under which the lake is attached, and current database of every connection."""
_POSTGRES = ("postgres:", "postgresql:")


@dataclass(frozen=True)
class LakeConfig:
    """Where a lake is, and what one DuckDB may use for it."""

    catalog: str
    """Path of a SQLite file, ``postgres:`` and a libpq connection string, or a libpq URI (``postgresql://...``)."""
    data_path: str
    """Folder (or bucket URL) of the Parquet files."""
    memory_limit: str = "1GiB"
    threads: int = 1
    temp_dir: str = ""
    """Spill files go into folders below it; default: ``tmp`` beside the data, of a bucket one of the system's."""
    max_temp_size: str = "4GiB"
    idle_s: int = 120
    """How long a writer's transaction may do nothing before a Postgres catalog ends it: far above a landing's 30 s,
    and below what others can wait."""
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further DuckDB settings, e.g. ``s3_endpoint``; the keys of a bucket are among them."""

    @property
    def on_sqlite(self) -> bool:
        """Whether the catalog is a SQLite file: then one process lands."""
        return not self.catalog.startswith(_POSTGRES)

    @property
    def on_disk(self) -> bool:
        """Whether the data path is a local folder."""
        return "://" not in self.data_path

    @property
    def name(self) -> str:
        """The catalog for messages: without a password."""
        if self.on_sqlite:
            return self.catalog
        words = without_password(self.catalog).split()  # a password in quotes may hold blanks
        return " ".join(word for word in words if "password" not in word.lower()).split("@")[-1]


def needed_extensions(config: LakeConfig) -> tuple[str, ...]:
    """Return the extensions of DuckDB that a lake needs, by the names of their files."""
    catalog = "sqlite_scanner" if config.on_sqlite else "postgres_scanner"
    return ("ducklake", catalog) if config.on_disk else ("ducklake", catalog, "httpfs")


def load_extensions(connection: duckdb.DuckDBPyConnection, config: LakeConfig) -> None:
    """Load the signed extensions that PyPI carries; nothing is fetched at run time."""
    for name in needed_extensions(config):
        folder = importlib.resources.files(f"duckdb_extension_{name}") / "extensions" / f"v{duckdb.__version__}"
        connection.execute(f"LOAD {quoted(str(folder / f'{name}.duckdb_extension'))}")


def quoted(text: str) -> str:
    """Return ``text`` as a SQL string literal; for places that take no parameter."""
    return "'" + text.replace("'", "''") + "'"


def connect(
    config: LakeConfig, *, read_only: bool = False, create: bool = False, long_wait: bool = False
) -> duckdb.DuckDBPyConnection:
    """Return a connection whose current database is the lake.

    Args:
        config: where the lake is.
        read_only: without the right to write.
        create: make a lake where none is.
        long_wait: wait longer inside one statement for a locked SQLite catalog. For jobs: a stage has to report.

    Raises:
        LakeMissingError: no catalog and ``create`` is off, or a data folder without its catalog.
        LakeUnavailableError: the catalog does not answer; retry.
        LakeRefusedError: WAL cannot be switched on (network file systems refuse it).
    """
    if config.on_sqlite and not _catalog_is_there(config):
        _may_create(config, create=create)
    connection = _instance(config)
    try:
        load_extensions(connection, config)
        configure(connection, config)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(attach_statement(config, read_only=read_only, create=create, long_wait=long_wait))
        connection.execute(f"USE {LAKE}")
    except duckdb.Error as error:
        connection.close()
        raise _attach_error(config, error) from error
    if config.on_sqlite and not read_only:
        _check_wal(config, connection)
    return connection


def _instance(config: LakeConfig) -> duckdb.DuckDBPyConnection:
    """Return a connection to a new DuckDB in memory, which spills into a folder of its own."""
    beside = Path(config.data_path).parent / "tmp" if config.on_disk else Path(tempfile.gettempdir()) / "tailrace"
    temp = spill.folder(Path(config.temp_dir) if config.temp_dir else beside)
    return duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "memory_limit": config.memory_limit,
            "threads": str(config.threads),
            "preserve_insertion_order": "false",
            "max_temp_directory_size": config.max_temp_size,
            "temp_directory": temp,
        }
    )


_ANOTHER = "restore it, or name another catalog"


def _attach_error(config: LakeConfig, error: duckdb.Error) -> TailraceError:
    if "creating a new DuckLake is explicitly disabled" in str(error):
        remedy = "start `tailrace land` once, or name another"
        return LakeMissingError(config.name, "the catalog holds no lake", remedy)
    if "file is not a database" in str(error):
        return LakeRefusedError(config.name, "open", f"it is no SQLite database; {_ANOTHER}")
    return LakeUnavailableError(config.name, "attach", first_line(error))


def _catalog_is_there(config: LakeConfig) -> bool:
    """Whether the catalog is a file that this user can read. It is not opened: see `_check_wal`.

    Raises:
        LakeRefusedError: something else is there, or the file may not be read.
    """
    catalog = Path(config.catalog)
    try:
        mode = catalog.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LakeRefusedError(config.name, "open", f"{error.strerror}; allow it to user {os.getuid()}") from error
    if not stat.S_ISREG(mode):
        raise LakeRefusedError(config.name, "open", f"it is no file; {_ANOTHER}")
    if not os.access(catalog, os.R_OK):
        raise LakeRefusedError(config.name, "open", f"Permission denied; allow it to user {os.getuid()}")
    return True


def disconnect(connection: duckdb.DuckDBPyConnection) -> None:
    """Close ``connection``, also with an open or broken transaction.

    Closing one with a transaction whose Postgres session has ended aborts the whole process (DuckDB 1.5.5: an exception
    in a destructor): it is rolled back first, and an error of the rollback is ignored.
    """
    with suppress(duckdb.Error):
        connection.rollback()
    with suppress(duckdb.Error):
        connection.close()


OF_SECRET = {
    "s3_access_key_id": "KEY_ID",
    "s3_secret_access_key": "SECRET",
    "s3_region": "REGION",
    "s3_endpoint": "ENDPOINT",
    "s3_url_style": "URL_STYLE",
    "s3_use_ssl": "USE_SSL",
}
"""Settings of a bucket -> their names in CREATE SECRET."""


def configure(connection: duckdb.DuckDBPyConnection, config: LakeConfig, *, name: str = "bucket") -> None:
    """Apply the settings; a bucket's keys as a secret, because a reader's SQL can read settings.

    Args:
        connection: to configure.
        config: whose settings.
        name: of the secret.
    """
    of_secret = OF_SECRET if "s3_secret_access_key" in config.settings else {}
    secret = ["TYPE s3"]
    for setting, value in config.settings.items():
        if setting in of_secret:
            secret.append(f"{of_secret[setting]} {quoted(value)}")
        else:
            # GLOBAL: DuckLake lists a bucket for orphans on a connection of its own
            connection.execute(f"SET GLOBAL {setting} = {quoted(value)}")
    if of_secret:
        connection.execute(f"CREATE SECRET {name} ({', '.join(secret)})")


def _may_create(config: LakeConfig, *, create: bool) -> None:
    folder = Path(config.data_path)
    if config.on_disk and folder.is_dir() and next(folder.rglob("*.parquet"), None):
        # a new catalog over old files would look like an empty lake, and land would start from the beginning
        raise LakeMissingError(
            config.catalog, f"its data folder {folder} has files but the catalog is gone", "restore the catalog"
        )
    if not create:
        raise LakeMissingError(config.catalog, "the file does not exist", "start `tailrace land` once, or name another")
    Path(config.catalog).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if config.on_disk:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def attach_statement(
    config: LakeConfig, *, read_only: bool, create: bool = False, long_wait: bool = False, name: str = LAKE
) -> str:
    """Return the statement that attaches the lake as ``name``."""
    options = [f"DATA_PATH {quoted(config.data_path.rstrip('/') + '/')}", "OVERRIDE_DATA_PATH true"]
    if read_only:
        options.append("READ_ONLY")
    else:
        options.append(f"CREATE_IF_NOT_EXISTS {str(create).lower()}")
        # events never inline (docs/engine-notes.md); the ledger alone has a limit of its own
        options.append("DATA_INLINING_ROW_LIMIT 0")
    if config.on_sqlite:
        catalog = f"sqlite:{config.catalog}"
        # short: a stage that waits inside SQLite cannot send heartbeats; Lake retries for longer
        options.append(f"META_BUSY_TIMEOUT {5000 if read_only else 15_000 if long_wait else 1000}")
        if not read_only:
            options.append("META_JOURNAL_MODE 'WAL'")
    else:
        # a libpq URI needs the kind as well; without it DuckLake takes the URI for a path
        catalog = ("postgres:" if "://" in config.catalog else "") + with_timeouts(
            config.catalog, 0 if read_only else config.idle_s
        )
    return f"ATTACH {quoted(f'ducklake:{catalog}')} AS {name} ({', '.join(options)})"


def _check_wal(config: LakeConfig, connection: duckdb.DuckDBPyConnection) -> None:
    """Ask DuckDB's own SQLite for the journal mode.

    Never open the catalog by other means here: closing any handle of a file drops the locks that DuckDB's SQLite
    holds on it in this process (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    meta = f"__ducklake_metadata_{LAKE}"
    (mode,) = connection.execute(f"FROM sqlite_query('{meta}', 'PRAGMA journal_mode')").fetchone() or ("unknown",)
    if mode != "wal":
        connection.close()
        raise LakeRefusedError(
            config.name, "commit safely", f"its journal mode is {mode}, not wal; put the catalog on a local disk"
        )
