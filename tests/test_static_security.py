"""What must not stand in our code at all: SQL made of strings, formats that run code, templates, shells."""

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
FOLDERS = ("schemas", "warehouse", "pipelines", "jobs", "tailrace", "emitter/tailrace_emitter")
RUNS_SQL = {"execute", "executemany", "query", "sql"}
SQL = re.compile(
    r"\b(SELECT\b.+\bFROM|INSERT INTO|UPDATE\b.+\bSET|DELETE FROM|DROP (TABLE|VIEW)|ATTACH|COPY)\b", re.DOTALL
)

# Where SQL is put together, and of what: names from fixed lists and `quoted` literals, never an event's text.
BUILDS_SQL = {
    "jobs/evals/quality_alerts.py": "what an alert shows: values are quoted, run read-only",
    "jobs/budgets/spend.py": "scopes of SCOPES, with parameters; what an alert shows: values through `literal`",
    "jobs/no_calls/job.py": "what an alert shows: values through `literal`, run read-only",
    "jobs/live_quality/documents.py": "what an alert shows: values through `literal`, run read-only",
    "jobs/live_quality/labels.py": "its own questions, with parameters; what an alert shows: values through `literal`",
    "jobs/novelty/values.py": "columns of KINDS, with parameters",
    "jobs/novelty/compare.py": "columns of KINDS, with parameters; what an alert shows: values through `literal`",
    "jobs/novelty/pairs.py": "what an alert shows: values through `literal`, run read-only",
    "jobs/data_quality/batches.py": "SQL of suites, shipped or of the home, run read-only in the sandbox",
    "jobs/data_quality/failing.py": "what an alert shows: values through `literal`, names quoted, run read-only",
    "jobs/data_quality/suites/events.py": "names of TABLES, run read-only",
    "jobs/data_quality/suites/links.py": "names of TABLES, run read-only",
    "jobs/data_quality/suites/rollups.py": "parts of its own questions, run read-only",
    "jobs/data_quality/suites/golden_cases.py": "parts of its own questions, run read-only",
    "tailrace/cli/ab.py": "parts of its own questions, with parameters",
    "warehouse/evals/sample.py": "parts of its own questions, with parameters",
    "warehouse/upkeep/answers.py": "parts of its own questions, with parameters",
    "pipelines/alerts/evidence.py": "what an alert shows: values through `literal`, run read-only",
    "tailrace/cli/alerts.py": "conditions of its own, with parameters",
    "pipelines/drift/region_sql.py": "what an alert shows: numbers, and values through `literal`",
    "pipelines/decode/columns.py": "columns of the declared structs, over rows in memory",
    "pipelines/land/alerts.py": "words for people: the name of a topic of ours",
    "tailrace/monitor/doctor.py": "words for people: the id that doctor made",
    "pipelines/detect/backtest.py": "columns of the rollups",
    "warehouse/adjust.py": "columns of raw_calls",
    "warehouse/golden/failed_calls.py": "names of its own steps",
    "warehouse/golden/failure_queries.py": "parts of its own questions",
    "warehouse/copy_lake.py": "names of TABLES and their columns, days as dates, numbers of snapshots",
    "warehouse/storage/connect.py": "extensions and settings of this process, quoted",
    "warehouse/storage/landed_positions.py": "names of TABLES",
    "warehouse/lake.py": "names of TABLES",
    "warehouse/ledger.py": "names of TABLES, catalog names of our own",
    "warehouse/migrate.py": "names and comments of TABLES and views",
    "warehouse/verify/invariants.py": "names of TABLES",
    "warehouse/query/readonly.py": "paths of this lake, quoted",
    "warehouse/query/sandbox.py": "a reader's text as a literal, to be parsed and not run",
    "warehouse/unfinished_copy.py": "names of TABLES, numbers of snapshots",
    "warehouse/verify/verify.py": "names of TABLES",
    "warehouse/upkeep/duplicates.py": "names of TABLES and of their columns",
    "warehouse/upkeep/expire.py": "names of TABLES and of the catalog",
    "warehouse/upkeep/merge.py": "names of TABLES, an integer",
    "warehouse/forget/calls.py": "parts of its own questions",
    "warehouse/forget/count.py": "names of TABLES, its own questions",
    "warehouse/forget/erase.py": "names of TABLES, its own questions",
    "warehouse/forget/exemplars.py": "parts of its own questions, with parameters",
    "warehouse/forget/hide.py": "names of columns of ours, its own questions",
    "warehouse/forget/old_calls.py": "names of TABLES, its own questions; app and days are variables of DuckDB",
    "warehouse/forget/rewrite.py": "names of TABLES and of the catalog, an integer",
    "warehouse/forget/rules.py": "parts of its own questions",
    "warehouse/forget/scan.py": "names of the catalog",
    "warehouse/forget/who.py": "parts of its own questions; ids are rows of a registered table",
    "warehouse/upkeep/plan.py": "names of TABLES",
    "warehouse/upkeep/retention.py": "names of TABLES",
}
RUNS_CODE = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "mako", "xmlrpc"}
CALLS_CODE = {"eval", "exec", "compile", "__import__"}


def modules():
    for folder in FOLDERS:
        for file in sorted((REPO / folder).rglob("*.py")):
            yield file.relative_to(REPO).as_posix(), ast.parse(file.read_text())


MODULES = list(modules())


def built(node):
    """Whether an expression puts a string together: f-string, + or %, .format, .join."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        literal = all(isinstance(side, ast.Constant) for side in (node.left, node.right))
        return isinstance(node.op, ast.Add | ast.Mod) and not literal
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("format", "join", "replace")
    return False


def text_of(node):
    return "".join(part.value if isinstance(part, ast.Constant) else " x " for part in node.values)


def builders():
    found = {}
    for name, tree in MODULES:
        for node in ast.walk(tree):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNS_SQL
            if (called and node.args and built(node.args[0])) or (
                isinstance(node, ast.JoinedStr) and built(node) and SQL.search(text_of(node))
            ):
                found.setdefault(name, node.lineno)
    return found


def test_sql_is_put_together_only_where_names_come_from_fixed_lists():
    strangers = {name: line for name, line in builders().items() if name not in BUILDS_SQL}
    assert strangers == {}, "use parameters; or say in BUILDS_SQL of what it is made"


def test_the_rule_finds_what_it_is_for():
    for bad in (
        'c.execute(f"SELECT {x}")',
        'c.query("SELECT " + x)',
        'c.sql("SELECT %s" % x)',
        'c.execute("a{}".format(x))',
    ):
        assert built(ast.parse(bad).body[0].value.args[0]), bad
    for good in ('c.execute("SELECT $1", [x])', 'c.execute(f"SELECT 1")', "c.query(_SQL, [x])"):
        assert not built(ast.parse(good).body[0].value.args[0]), good


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_that_runs_data_as_code_is_imported_or_called(folder):
    for name, tree in MODULES:
        if not name.startswith(folder):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not {a.name.partition(".")[0] for a in node.names} & RUNS_CODE, f"{name}:{node.lineno}"
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in RUNS_CODE, f"{name}:{node.lineno}"
            elif isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else ""
                assert called not in CALLS_CODE, f"{name}:{node.lineno}"
                shell = [k for k in node.keywords if k.arg == "shell" and getattr(k.value, "value", True)]
                assert not shell, f"{name}:{node.lineno} runs a shell"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value != "pickle", f"{name}:{node.lineno}"


# names out of tuples in the same file
SETS_ATTRIBUTES = {
    "emitter/tailrace_emitter/instrumentation.py",
    "emitter/tailrace_emitter/adapters/__init__.py",
    "pipelines/decode/redact.py",
    "pipelines/detect/detectors/surge_learning.py",
    "pipelines/detect/detectors/surge_state.py",
    "pipelines/detect/partition_state.py",
    "pipelines/detect/detectors/minute.py",  # of ARRAYS of a detector's own state
    "pipelines/detect/snapshot_v3.py",
    "emitter/tailrace_emitter/adapters/litellm_streams.py",
}


def test_attributes_are_never_set_by_a_name_out_of_data():
    for name, tree in MODULES:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
                fixed = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
                assert fixed or name in SETS_ATTRIBUTES, f"{name}:{node.lineno}"
