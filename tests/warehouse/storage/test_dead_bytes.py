"""What the catalog remembers of originals: nothing but zeros."""

import pyarrow as pa

from schemas.arrow import DEAD_BYTES
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.storage.dead_bytes import pad, unpad


def batch(*values):
    place = {"topic": "llm.events", "_epoch": 0, "_partition": 0, "_kafka_time": 0, "day": 0}
    rows = [{**place, "_offset": i, "bytes": v, "key": b"k" if v else None} for i, v in enumerate(values)]
    return pa.Table.from_pylist(rows, DEAD_BYTES)


def test_originals_come_back_whole_and_null_stays_null():
    values = [b"", b"a", None, b"\0" * 300, bytes(range(256)) * 9]
    kept = pad("dead_bytes", batch(*values))
    assert kept.schema.equals(DEAD_BYTES)
    assert [unpad(v) for v in kept["bytes"].to_pylist()] == values
    assert pad("dead", batch(*values)).equals(batch(*values))
    few = batch(*values).select(["topic", "_offset"])
    assert pad("dead_bytes", few).equals(few)


def test_the_catalogs_statistics_hold_no_text_of_an_original(tmp_path):
    values = [b"my card is 4111111111111111", b"zzz canary.person@example.org", b"x" * 1000]
    with Lake.open(LakeConfig(str(tmp_path / "c.sqlite"), str(tmp_path / "data")), now=lambda: 0) as lake:
        for value in values:  # a file each: least and greatest are the value itself
            lake.insert({"dead_bytes": batch(value)})
        assert [unpad(v) for v in lake.query("FROM dead_bytes")["bytes"].to_pylist()] == values
        for table in ("ducklake_file_column_stats", "ducklake_table_column_stats"):
            told = lake.query(f"SELECT min_value, max_value FROM __ducklake_metadata_lake.{table}").to_pylist()
            assert told
            for value in values:
                assert value[:3].hex().upper() not in str(told).upper()
    seen = b"".join(p.read_bytes() for p in tmp_path.rglob("c.sqlite*"))
    for value in values:
        assert value[:12] not in seen
        assert value[:12].hex().upper().encode() not in seen.upper()
