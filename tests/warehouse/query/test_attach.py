"""The lines that open a lake elsewhere run as they are printed, read what is there, and name no secret."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import duckdb
import pytest

from schemas.records import Move
from warehouse.lake import Lake
from warehouse.query.attach import attach_lines
from warehouse.storage.connect import LakeConfig, load_extensions


@pytest.fixture(scope="module")
def lake(fresh_home, rows, tmp_path_factory):
    """Five calls in a home whose name has a blank, a quote and an umlaut."""
    home = tmp_path_factory.mktemp("attach") / "it's a höme"
    shutil.copytree(fresh_home, home)
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: 1) as opened:
        opened.ensure_partitions("llm.events", "topic-1", {0: 0})
        opened.append({"raw_calls": rows.calls(range(5))}, [Move("llm.events", 0, 0, 5)])
    return config


@pytest.mark.parametrize("target", ["python", "pandas", "polars"])
def test_the_python_lines_run_and_show_the_calls(lake, target, tmp_path):
    script = attach_lines(lake, target)
    compile(script, target, "exec")
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "bot" in ran.stdout
    assert "2026-11-18" in ran.stdout
    assert f"duckdb=={duckdb.__version__}" in script


def test_the_lines_for_the_command_line_are_statements_that_cannot_write(lake):
    lines = attach_lines(lake, "duckdb").splitlines()
    assert lines[0].startswith(f"-- DuckDB {duckdb.__version__}")
    with duckdb.connect() as connection:
        load_extensions(connection, lake)  # in place of INSTALL and LOAD, which need a network
        for line in lines[1:]:
            if not line.startswith(("INSTALL ", "LOAD ")):
                connection.execute(line)
        assert connection.execute("SELECT count(*) FROM calls").fetchall() == [(5,)]
        with pytest.raises(duckdb.Error, match="read-only"):
            connection.execute("DELETE FROM raw_calls")


CANARY = "canary7f3a"
REMOTE = {
    "s3_access_key_id": f"{CANARY}1",
    "s3_secret_access_key": f"{CANARY}2",
    "s3_region": "eu-west-1",
    "s3_endpoint": "minio:9000",
}


@pytest.mark.parametrize("target", ["duckdb", "python", "pandas", "polars"])
@pytest.mark.parametrize(
    "catalog",
    [
        f"postgres:dbname=lake host=db password={CANARY}",
        f"postgres:dbname=lake password = 'a {CANARY}' host=db",
        rf"postgres:dbname=lake password='it\'s {CANARY}' host=db",
        f"postgresql://me:{CANARY}@db/lake",
    ],
    ids=["words", "quoted", "escaped", "uri"],
)
def test_keys_and_passwords_are_placeholders(catalog, target):
    config = LakeConfig(catalog, "s3://bucket/lake", settings=REMOTE)
    text = attach_lines(config, target)
    assert CANARY not in text
    assert CANARY not in config.name
    assert "<password>" in text
    assert "<access key id>" in text
    assert "ENDPOINT 'minio:9000'" in text
    assert "httpfs" in text
    assert "postgres" in text
