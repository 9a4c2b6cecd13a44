"""Answers as text keep their order, their values and the names of their columns."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa
import pytest

from warehouse.errors import QueryFailedError
from warehouse.query.answer import Answer, answer_of
from warehouse.query.readonly import ReadOnlyLake


@pytest.fixture
def reader(config):
    with ReadOnlyLake.open(config, timeout_s=20) as opened:
        yield opened


def lines(answer: Answer) -> list[dict[str, object]]:
    return [json.loads(line) for batch in answer.json() for line in batch.to_pylist()]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT range AS n FROM range(20000) ORDER BY range DESC",
        "SELECT range AS n FROM range(20000) ORDER BY hash(range) LIMIT 5000",
        "WITH x AS (SELECT range AS n FROM range(20000)) FROM x ORDER BY n % 7, n",
    ],
)
def test_rows_come_in_the_order_that_was_asked_for(reader, sql):
    with reader.answer(sql) as answer:
        assert [row["n"] for row in lines(answer)] == [n for (n,) in duckdb.connect().execute(sql).fetchall()]


@pytest.mark.parametrize("sql", ["DESCRIBE calls", "SHOW TABLES", "SUMMARIZE ledger", "EXPLAIN SELECT 1", "VALUES (1)"])
def test_statements_that_are_no_select_are_answers_too(reader, sql):
    with reader.answer(sql) as answer:
        found = [batch.num_columns for batch in answer.cells()]
    assert set(found) <= {len(answer.names)}


def test_names_are_unique_whatever_the_columns_are_called(reader):
    with reader.answer('SELECT 1 AS id, 2 AS ID, 3 AS id_1, 4 AS "a""; --", 5 AS "a""; --"') as answer:
        (row,) = lines(answer)
    assert list(row.values()) == [1, 2, 3, 4, 5]
    assert len({name.lower() for name in answer.names}) == 5
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    assert lines(answer_of(table)) == [{"id": 1, "id_1": 2}]


def test_an_error_in_the_midst_of_the_rows_is_ours_and_the_next_query_runs(reader):
    failing = "SELECT CASE WHEN range < 9000 THEN 1 ELSE error('late') END AS n FROM range(10000)"
    with pytest.raises(QueryFailedError, match="late"), reader.answer(failing) as answer:
        lines(answer)
    assert reader.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_the_limit_of_time_is_that_of_the_whole_answer_without_the_time_of_its_reader(config):
    slow = "SELECT a.range FROM range(300000) a WHERE (SELECT sum(sqrt(b.range + a.range)) FROM range(30000) b) > 0"
    with ReadOnlyLake.open(config, timeout_s=1.5) as reader:
        with pytest.raises(QueryFailedError, match=r"longer than 1\.5 s"), reader.answer(slow) as answer:
            lines(answer)
        with reader.answer("SELECT range AS n FROM range(5000)") as answer:
            assert len(lines(answer)) == 5000


def test_a_text_of_many_rows_is_cut_into_batches(reader):
    with reader.answer("SELECT range AS n FROM range(5000)") as answer:
        sizes = [len(batch) for batch in answer.json()]
    assert sum(sizes) == 5000
    assert max(sizes) <= 2048
