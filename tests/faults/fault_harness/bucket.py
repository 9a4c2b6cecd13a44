"""A bucket on moto's S3 server, a process of its own; the way to it; and what a lake in it holds."""

import os
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa

from fault_harness.process import wait_until
from fault_harness.proxy import Proxy
from schemas.tables import RAW_CALLS
from warehouse.storage.connect import LakeConfig, connect
from warehouse.verify.verify import verify

KEY, SECRET = "canary-s3-key-31c9", "canary-s3-secret-77d0"


@contextmanager
def server(log: Path) -> Iterator[int]:
    """Run an S3 server; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("w") as file:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            wait_until(lambda: _answers(port), 60, "the S3 server answers", log.read_text)
            yield port
        finally:
            process.kill()
            process.wait()


class Line(Proxy):
    """The way to the bucket. Once cut it stays down until ``heal``, for DuckDB tries again by itself."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.passed = 0
        """Bytes of the client that were forwarded."""

    @property
    def cuts(self) -> int:
        return self._cuts

    @cuts.setter
    def cuts(self, count: int) -> None:
        self._cuts, self.refuse = count, count > 0

    def heal(self) -> None:
        self.refuse = self.hole = False

    def _pump(self, pair: Any, source: Any, target: socket.socket, asks: bool) -> None:
        super()._pump(pair, source, _Counted(target, self) if asks else target, asks)


class _Counted:
    def __init__(self, target: socket.socket, line: Line) -> None:
        self._target, self._line = target, line

    def sendall(self, piece: bytes) -> None:
        self._target.sendall(piece)
        self._line.passed += len(piece)


class Bucket:
    """One bucket of one test, and what is in it."""

    def __init__(self, port: int) -> None:
        self.port, self.name = port, f"lake-{uuid.uuid4().hex[:8]}"
        address = f"http://127.0.0.1:{port}"
        self._s3 = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )
        self._s3.create_bucket(Bucket=self.name)

    @property
    def data_path(self) -> str:
        return f"s3://{self.name}/data"

    def config(self, catalog: Path, port: int, **more: str) -> LakeConfig:
        reach = {"s3_endpoint": f"127.0.0.1:{port}", "s3_url_style": "path", "s3_use_ssl": "false"}
        keys = {"s3_access_key_id": KEY, "s3_secret_access_key": SECRET, "s3_region": "us-east-1"}
        return LakeConfig(str(catalog), self.data_path, settings={**reach, **keys, **more})

    def objects(self) -> dict[str, int]:
        """Path -> bytes."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        found = [each for page in pages for each in page.get("Contents", [])]
        return {f"s3://{self.name}/{each['Key']}": each["Size"] for each in found}

    def unfinished(self) -> int:
        """Uploads in parts that are no file yet."""
        return len(self._s3.list_multipart_uploads(Bucket=self.name).get("Uploads", []))

    def get(self, path: str) -> bytes:
        found: bytes = self._s3.get_object(Bucket=self.name, Key=path.removeprefix(f"s3://{self.name}/"))["Body"].read()
        return found

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a Tailrace whose data are in this bucket."""
        return {
            "TAILRACE_LAKE__DATA_PATH": self.data_path,
            "TAILRACE_LAKE__S3_ENDPOINT": f"127.0.0.1:{self.port}",
            "TAILRACE_LAKE__S3_REGION": "us-east-1",
            "TAILRACE_LAKE__S3_URL_STYLE": "path",
            "TAILRACE_LAKE__S3_USE_SSL": "false",
            "TAILRACE_LAKE__S3_ACCESS_KEY_ID": KEY,
            "TAILRACE_LAKE__S3_SECRET_ACCESS_KEY": SECRET,
        }

    def find(self, path: str) -> bytes | None:
        """An object; None where it is not there any more."""
        try:
            found = self._s3.get_object(Bucket=self.name, Key=path.removeprefix(f"s3://{self.name}/"))
        except self._s3.exceptions.NoSuchKey:
            return None
        return bytes(found["Body"].read())

    def put(self, path: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self.name, Key=path.removeprefix(f"s3://{self.name}/"), Body=body)

    def delete(self, path: str) -> None:
        self._s3.delete_object(Bucket=self.name, Key=path.removeprefix(f"s3://{self.name}/"))


def calls(start: int, end: int) -> pa.Table:
    """Rows as decoding makes them, of noise that does not compress away."""
    at = datetime(2026, 11, 18, 10, tzinfo=UTC)
    told = {"v": 1, "ts": at, "app": "bot", "model": "m", "status": "ok", "_epoch": 0, "_partition": 0, "_dup": False}
    told |= {"_kafka_time": at, "_landed_at": at, "day": at.date()}
    rows = [
        {**told, "id": str(uuid.uuid4()), "_offset": o, "output_text": os.urandom(5_000).hex()}
        for o in range(start, end)
    ]
    return pa.Table.from_pylist(rows, schema=RAW_CALLS.schema)


def seen(config: LakeConfig) -> tuple[int, int, int]:
    """What another process reads, each column of each row: rows, distinct positions, where the ledger stands."""
    with connect(config, read_only=True) as reader:
        ((rows, distinct, _),) = reader.execute(
            "SELECT count(*), count(DISTINCT (_partition, _offset)), sum(hash(c)) FROM raw_calls AS c"
        ).fetchall()
        ((upto,),) = reader.execute("SELECT sum(next_offset - start_offset) FROM ledger").fetchall()
    return rows, distinct, int(upto)


def readable(bucket: Bucket, config: LakeConfig, *, orphans: int) -> None:
    """R beside ``seen``: every file in the catalog is there and whole, few others are there."""
    report = verify(config)
    assert report.ok, report.problems
    with closing(sqlite3.connect(f"file:{config.catalog}?mode=ro", uri=True)) as catalog:
        (named,) = catalog.execute("SELECT count(*) FROM ducklake_data_file WHERE end_snapshot IS NULL").fetchone()
    assert named <= len(bucket.objects()) <= named + orphans


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
