"""Calls as decode hands them to meter, made from a few facts."""

import uuid

import pyarrow as pa
import pytest

from pipelines.decode import METERED

DEFAULTS = {
    "app": "bot",
    "model": "m1",
    "status": "ok",
    "retrieval": False,
    "cost_status": "computed",
    "price_version": "pb-1",
    "skewed": False,
    "_epoch": 0,
    "_partition": 0,
}
EPOCH = 1_700_000_000_000_000


@pytest.fixture
def metered():
    """A function: rows of facts -> a table of METERED; offsets, ids and times count up where not given."""

    def build(*rows):
        full = []
        for i, row in enumerate(rows):
            offset = row.get("_offset", i)
            known = {"id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{row.get('_partition', 0)}/{offset}"))}
            known |= {"_offset": offset, "ts": EPOCH, "_kafka_time": EPOCH + offset}
            full.append({name: (DEFAULTS | known | row).get(name) for name in METERED.names})
        return pa.Table.from_pylist(full, schema=METERED)

    return build
