"""Under which epoch llm.events is counted: the one that the lake's ledger has."""

from __future__ import annotations

from contextlib import closing

import duckdb
import structlog

from schemas.topics import EVENTS
from warehouse import ledger
from warehouse.errors import LakeMissingError, LakeUnavailableError
from warehouse.storage.connect import LakeConfig, connect

log = structlog.get_logger()


def landed_epoch(config: LakeConfig) -> ledger.Epoch:
    """Return the epoch of llm.events in the ledger; the empty one where there is no lake yet, or it is being made.

    Raises:
        LakeUnavailableError: it does not answer; retry. Under a guess, two topics would be counted as one.
    """
    try:
        with closing(connect(config, read_only=True)) as connection:
            return ledger.current(connection, EVENTS)
    except (LakeMissingError, duckdb.CatalogException) as error:  # no catalog, or one without a ledger
        log.info("epoch_assumed", topic=EVENTS, epoch=0, cause=str(error).splitlines()[0])
        return ledger.Epoch()
    except duckdb.Error as error:
        raise LakeUnavailableError(config.name, "read the ledger of", str(error).splitlines()[0]) from error
