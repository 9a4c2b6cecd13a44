"""Open a lake for reading, where its folder may be a read-only mount, and close it at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from warehouse.query.catalog_copy import readable
from warehouse.storage.connect import LakeConfig, connect, disconnect


@contextmanager
def reading(config: LakeConfig) -> Iterator[tuple[duckdb.DuckDBPyConnection, LakeConfig]]:
    """Yield a read-only connection, and the configuration it was made of: that of a copy of the catalog, or ``config``.

    Raises:
        LakeMissingError: no catalog there.
        LakeUnavailableError: it does not answer; retry.
    """
    config, remove_copy = readable(config)
    try:
        connection = connect(config, read_only=True)
        try:
            yield connection, config
        finally:
            disconnect(connection)
    finally:
        remove_copy()
