"""The same in a bucket on an S3 server: no object holds who is gone, and old calls of an app go as counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fault_harness.bucket import Bucket, server

from tests.jobs.data_quality.lake import WELL, micros, uid
from tests.warehouse.forget import old_lake, test_forget
from warehouse.forget import drop_old_calls, old_apps, scan
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import Pace
from warehouse.verify.verify import verify


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with server(tmp_path_factory.mktemp("s3") / "log") as port:
        yield port


@pytest.fixture
def bucket(store: int) -> Bucket:
    return Bucket(store)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.faults)])
def config(bucket, store, tmp_path, request) -> LakeConfig:
    found = bucket.config(tmp_path / "catalog.sqlite", store)
    if request.param == "sqlite":
        return found
    server = request.getfixturevalue("postgres")
    reach = server.database(f"forget-{bucket.name}")
    return replace(found, catalog=f"postgres:host=127.0.0.1 port={server.port} {reach}")


def test_no_object_holds_the_id_or_the_texts_when_maintain_has_run(bucket, config):
    texts = [test_forget.BOB, test_forget.PSEUDONYM, test_forget.SECRET, uid(0)]
    with Lake.open(config, now=lambda: micros(WELL)) as lake:
        test_forget.filled(lake)
    with test_forget.opened(config) as lake:
        before = scan(config, texts)
        assert len(before.live) > 4
        assert before.files == len(bucket.objects())
        assert test_forget.erase(lake, test_forget.WHO).done
        found = scan(config, texts)
        assert not found.live
        assert found.ended, "the files of older snapshots wait for maintain"
        test_forget.maintained(lake)
    assert scan(config, texts) == replace(scan(config, texts), live=(), ended=())
    for path in bucket.objects():
        data = bucket.get(path)
        assert not [text for text in texts if text.encode() in data], path
    report = verify(config)
    assert report.ok, report.problems


@pytest.mark.faults
def test_old_calls_of_an_app_go_as_counted(config):
    with Lake.open(config, now=lambda: micros(WELL)) as lake:
        old_lake.filled(lake)
    planned = {one.app: one.rows for one in old_apps(config, old_lake.KEPT, {}, today=old_lake.TODAY)}
    with test_forget.opened(config) as lake:
        done = drop_old_calls(Pace(lake, rest=0.0), old_lake.KEPT, today=old_lake.TODAY, at=WELL)
    assert done == planned == old_lake.GOES
    report = verify(config)
    assert report.ok, report.problems
