"""Under which epoch llm.events is counted: the one that the lake's ledger has."""

from __future__ import annotations

from contextlib import closing

import duckdb
import structlog

from schemas.topics import EVENTS
from warehouse import ledger
from warehouse.connect import LakeConfig, connect
from warehouse.errors import LakeMissingError, LakeUnavailableError

log = structlog.get_logger()


def landed_epoch(config: LakeConfig) -> tuple[int, dict[int, int]]:
    """Return the epoch of llm.events in the ledger, and where each partition begins under it.

    (0, {}) where there is no lake yet, or it is just being made.

    Raises:
        LakeUnavailableError: it does not answer; retry. Under a guess, two topics would be counted as one.
    """
    try:
        with closing(connect(config, read_only=True)) as connection:
            return ledger.starts(connection, EVENTS)
    except (LakeMissingError, duckdb.CatalogException) as error:  # no catalog, or one without a ledger
        log.info("epoch_assumed", topic=EVENTS, epoch=0, cause=str(error).splitlines()[0])
        return 0, {}
    except duckdb.Error as error:
        raise LakeUnavailableError(config.name, "read the ledger of", str(error).splitlines()[0]) from error
