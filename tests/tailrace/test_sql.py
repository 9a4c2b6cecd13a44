"""``tailrace sql`` as it is called: what it may use, where its text comes from, and what each format looks like."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from fault_harness.zygote import run_command

from pipelines.land.split_batch import MOST_DAYS
from pipelines.pricing.book import DAY_US, EARLY_US, LATE_US
from schemas.topics import HISTORY_HEADER
from tailrace import wiring
from tailrace.cli.lake import open_lake
from tailrace.cli.render.output import Format
from tailrace.settings.model import Settings
from warehouse.lake import Lake
from warehouse.query.sandbox import split
from warehouse.query.shipped_views import VIEWS

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An empty lake."""
    folder = tmp_path_factory.mktemp("home")
    Lake.open(wiring.lake(Settings(home=folder)), now=lambda: 0).close()
    return folder


@pytest.fixture
def sql(home, tmp_path):
    """Run ``tailrace sql`` on the empty lake, as a user would."""

    def run(*arguments, stdin="", code=0, **more):
        env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
        env |= {"TAILRACE_HOME": str(home), "COLUMNS": "80"} | more
        done = run_command(["sql", *arguments], cwd=tmp_path, env=env, input=stdin)
        assert done.returncode == code, done.stderr
        return SimpleNamespace(out=done.stdout, err=done.stderr)

    return run


def test_without_text_it_lists_the_questions_that_are_shipped(sql):
    listed = [line.split()[0].partition("(")[0] for line in sql().out.splitlines() if line.startswith("  ")]
    assert listed == [question.name for question in VIEWS]
    assert listed


def test_it_may_use_the_memory_of_the_setting(tmp_path):
    settings = Settings(home=tmp_path, lake={"query_memory_limit": "64MiB"})
    Lake.open(wiring.lake(settings), now=lambda: 0).close()
    with open_lake(SimpleNamespace(settings=settings)) as lake:
        # a reader may not ask for settings itself
        assert lake._connection.execute("SELECT current_setting('memory_limit')").fetchall() == [("64.0 MiB",)]


def test_a_pipe_a_file_and_the_argument_give_the_same_and_no_banner(sql, tmp_path):
    (tmp_path / "q.sql").write_text("-- how many\nSELECT count(*) AS n FROM calls;\n")
    given = [
        sql("SELECT count(*) AS n FROM calls", "--format", "csv"),
        sql("--format", "csv", stdin="SELECT count(*) AS n\nFROM calls;\n"),
        sql("-f", "q.sql", "--format", "csv"),
        sql("--file", "-", "--format", "csv", stdin="SELECT count(*) AS n FROM calls"),
    ]
    assert {each.out for each in given} == {"n\r\n0\r\n"}


def test_several_statements_are_answered_in_order(sql):
    assert sql("SELECT 1 AS a; SELECT ';' AS b; ;", "--json").out == '{"a":1}\n{"b":";"}\n'
    assert sql("SELECT 1 AS a; SELECT 2 AS b", "--format", "csv").out == "a\r\n1\r\n\r\nb\r\n2\r\n"


def test_the_first_error_ends_it_and_names_what_may_be_asked(sql):
    failed = sql("SELECT 1 AS a; SELECT nothing; SELECT 3", "--json", code=2)
    assert failed.out == '{"a":1}\n'
    assert failed.err.startswith("tailrace: query failed: Binder Error")
    refused = sql("CREATE TABLE x (y INTEGER)", code=2)
    assert "CREATE" in refused.err
    assert "calls" in refused.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-f", "absent.sql"], "absent.sql: No such file"),
        (["-f", "."], "Is a directory"),
        (["-f", "q.sql", "SELECT 1"], "give one of them"),
        (["-f", "latin.sql"], "not UTF-8"),
        (["/* nothing */"], "no statement"),
        (["-f", "empty.sql"], "no statement"),
        (["SELECT 1; SELECT 2", "--out", "x.csv"], "2 statements for one file"),
        (["SELECT 1", "--format", "parquet"], "--out"),
        (["SELECT 1", "--out", "absent/x.csv"], "cannot write absent/x.csv"),
        (["SELECT 1", "--out", "."], "it is a folder"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_line_with_a_remedy(sql, tmp_path, arguments, problem):
    (tmp_path / "q.sql").write_text("SELECT 1")
    (tmp_path / "empty.sql").write_text("")
    (tmp_path / "latin.sql").write_bytes(b"SELECT '\xe9'")
    failed = sql(*arguments, code=2)
    assert problem in failed.err
    assert "; " in failed.err
    assert "Traceback" not in failed.err


def test_a_file_is_overwritten_only_where_that_is_asked_for_and_survives_an_error(sql, tmp_path):
    out = tmp_path / "answer.csv"
    sql("SELECT 1 AS a", "--out", str(out))
    assert "exists" in sql("SELECT 2 AS a", "--out", str(out), code=2).err
    failing = "SELECT CASE WHEN range < 9000 THEN 1 ELSE error('late') END FROM range(10000)"
    assert "late" in sql(failing, "--out", str(out), "--force", code=2).err
    assert out.read_bytes() == b"a\r\n1\r\n"
    sql("SELECT 2 AS a", "--out", str(out), "--force")
    assert out.read_bytes() == b"a\r\n2\r\n"
    assert [path.name for path in tmp_path.iterdir()] == ["answer.csv"]


def test_the_name_of_the_file_says_the_format_unless_the_format_is_given(sql, tmp_path):
    for name in ("a.json", "a.jsonl", "a.csv", "a.parquet"):
        sql("SELECT 1 AS a, 2 AS a", "--out", name)
    assert (tmp_path / "a.json").read_text() == (tmp_path / "a.jsonl").read_text() == '{"a":1,"a_1":2}\n'
    assert (tmp_path / "a.csv").read_text() == "a,a_1\n1,2\n"
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"a": 1, "a_1": 2}]
    sql("SELECT 1 AS a", "--out", "b.csv", "--format", "json")
    assert (tmp_path / "b.csv").read_text() == '{"a":1}\n'


HARD = """
SELECT 1 AS id, 2 AS id, 0::DECIMAL(18,9) AS zero, 123456789.123456789::DECIMAL(18,9) AS money,
    170141183460469231731687303715884105727::HUGEINT AS huge, 9007199254740993 AS big, 'nan'::DOUBLE AS nan,
    ['inf'::DOUBLE, 1] AS list, 0.1::FLOAT AS single, {'at': TIMESTAMPTZ '2026-11-21 08:00:00+01', 'x': [0.1::FLOAT]}
    AS nested, MAP {'k': 'x,=1+1'} AS map, INTERVAL 26 HOUR AS span, TIMESTAMPTZ '2026-11-21 08:00:00+01' AS ts,
    TIMESTAMP '2026-11-21 08:00:00' AS wall, DATE '2026-11-21' AS day, NULL AS nothing, true AS yes,
    '\\xAA'::BLOB AS raw,
    'NaN, "Infinity"' AS words, row(1, 'a') AS pair, {'a': 1}::JSON AS doc, '=1+1' AS formula, '' AS empty
"""


def test_json_holds_every_value_in_its_place_and_is_json(sql):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    got = sql(HARD, "--format", "jsonl")
    row = json.loads(got.out, parse_constant=refuse, parse_float=Decimal)
    assert row == {
        "id": 1,
        "id_1": 2,
        "zero": Decimal(0),
        "money": Decimal("123456789.123456789"),
        "huge": 170141183460469231731687303715884105727,
        "big": 9007199254740993,
        "nan": None,
        "list": [None, Decimal(1)],
        "single": Decimal("0.1"),
        "nested": {"at": "2026-11-21T07:00:00.000000Z", "x": [Decimal("0.1")]},
        "map": {"k": "x,=1+1"},
        "span": "26:00:00",
        "ts": "2026-11-21T07:00:00.000000Z",
        "wall": "2026-11-21T08:00:00.000000",
        "day": "2026-11-21",
        "nothing": None,
        "yes": True,
        "raw": "\\xAA",
        "words": 'NaN, "Infinity"',
        "pair": [1, "a"],
        "doc": {"a": 1},
        "formula": "=1+1",
        "empty": "",
    }
    assert got.err.count("NaN or infinite") == 1
    assert got.err.startswith("tailrace: values that are NaN or infinite: 2; JSON has no such number")


def test_csv_has_plain_numbers_and_json_in_nested_cells(sql):
    (row,) = csv.DictReader(io.StringIO(sql(HARD, "--format", "csv").out, newline=""))
    assert row == {
        "id": "1",
        "id_1": "2",
        "zero": "0.000000000",
        "money": "123456789.123456789",
        "huge": "170141183460469231731687303715884105727",
        "big": "9007199254740993",
        "nan": "nan",
        "list": "[null,1.0]",
        "single": "0.1",
        "nested": '{"at":"2026-11-21T07:00:00.000000Z","x":[0.1]}',
        "map": '{"k":"x,\'=1+1"}',
        "span": "26:00:00",
        "ts": "2026-11-21T07:00:00.000000Z",
        "wall": "2026-11-21T08:00:00.000000",
        "day": "2026-11-21",
        "nothing": "",
        "yes": "true",
        "raw": "\\xAA",
        "words": 'NaN, "Infinity"',
        "pair": '[1,"a"]',
        "doc": '{"a":1}',
        "formula": "'=1+1",
        "empty": "",
    }


def test_parquet_keeps_the_types_and_both_columns_of_one_name(sql, tmp_path):
    sql(HARD, "--out", "hard.parquet")
    read = pq.read_table(tmp_path / "hard.parquet")
    (row,) = read.to_pylist()
    assert (row["id"], row["id_1"], row["money"]) == (1, 2, Decimal("123456789.123456789"))
    assert str(read.schema.field("ts").type).startswith("timestamp[us, tz=")
    assert (row["span"], row["pair"]) == ("26:00:00", '[1,"a"]'), "Parquet has no type for them"


def test_a_join_of_calls_with_itself_keeps_all_columns_apart(sql):
    joined = "SELECT * FROM calls AS a RIGHT JOIN (SELECT 1 AS id, 2 AS id, 'x' AS model) AS b ON a.v = 3"
    row = json.loads(sql(joined, "--json").out)
    assert (row["id"], row["id_1"], row["id_1_1"] if "id_1_1" in row else row["id_2"]) == (None, 1, 2)
    assert (row["model"], row["model_1"]) == (None, "x")


def test_a_wide_answer_is_a_record_a_row_within_the_width_of_the_terminal(sql):
    columns = ", ".join(f"'value {i}' AS column_{i}" for i in range(80))
    lines = sql(f"SELECT {columns}, repeat('long words ', 40) AS text FROM range(2)").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("-[ ") for line in lines) == 2
    assert sum(line.split() == ["column_79", "value", "79"] for line in lines) == 2
    assert sum(line.count("long words") for line in lines) == 80


def test_a_long_text_is_folded_in_its_column_and_short_ones_stay_whole(sql):
    lines = sql("SELECT 'support-bot' AS app, repeat('long words ', 20) AS text").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "support-bot" in "".join(lines)
    assert "".join(lines).count("words") == 20


def test_a_plan_is_drawn(sql):
    drawn = sql("EXPLAIN SELECT 42").out
    assert "PROJECTION" in drawn
    assert "\ufffd" not in drawn


def test_no_rows_are_shown_as_none_with_the_names_of_the_columns(sql):
    assert sql("FROM calls").out.startswith("no rows; the columns are v, id, ts, app")
    assert sql("SELECT app FROM calls", "--format", "csv").out == "app\r\n"
    assert sql("SELECT app FROM calls", "--json").out == ""


def test_a_large_answer_is_streamed(home):
    with open_lake(SimpleNamespace(settings=Settings(home=home, lake={"query_memory_limit": "64MiB"}))) as lake:
        with lake.answer("SELECT range AS n, repeat('x', 200) AS t FROM range(10000000)") as answer:
            first = next(answer.json())
            assert first[0].as_py().startswith('{"n":0,"t":"xxx')
        assert lake.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_every_question_in_the_page_for_analysts_is_answered(home):
    page = (REPO / "docs" / "how-to" / "sql.md").read_text()
    texts = re.findall(r'tailrace sql "([^"]+)"', page) + re.findall(r'^echo "([^"]+)" \| tailrace sql$', page, re.M)
    assert len(texts) == 4
    with open_lake(SimpleNamespace(settings=Settings(home=home))) as lake:
        for statement in (one for text in texts for one in split(text)):
            assert lake.query(statement).num_columns


def test_the_page_for_analysts_names_the_header_and_the_limits_that_hold():
    page = " ".join((REPO / "docs" / "how-to" / "sql.md").read_text().split())
    name, value = HISTORY_HEADER
    assert f"`{name}: {value.decode()}`" in page
    assert f"-H {name}={value.decode()}" in page
    assert f"more than {LATE_US // DAY_US} days before or {EARLY_US // DAY_US} day ahead" in page
    assert f"at most {MOST_DAYS} days" in page
    assert {each.value for each in Format} <= set(re.findall(r"`(\w+)`", page))


def test_the_prompt_takes_statements_of_several_lines_and_goes_on_after_an_error(home, tmp_path):
    ours, theirs = os.openpty()
    env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
    command = [sys.executable, "-m", "tailrace", "sql", "--home", str(home)]
    running = subprocess.Popen(command, cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"SELECT 40 +\n  2 AS answer\nSELECT nothing\nSELECT 'again' AS after; SELECT 7\n\n")
    got = b""
    try:
        while read := os.read(ours, 65536):
            got += read
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert running.wait(60) == 0
    shown = got.decode()
    assert shown.index("42 │") < shown.index("Binder Error") < shown.index("│ again") < shown.index("│ 7 │")
    assert shown.count("Binder Error") == 1
