"""Every dependency that is declared is used: imported, or in a table here that says what it is for."""

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
PRODUCT = ("schemas", "warehouse", "pipelines", "jobs", "tailrace", "emitter/tailrace_emitter")
AROUND = ("tests", "bench", "scripts")
_IMPORT = re.compile(r"""^[ \t"']*(?:import|from) ([A-Za-z_][\w.]*)""", re.MULTILINE)
_RUN = re.compile(r"""["']-m["'], ["']([a-z_][\w.]*)""")
DUCKDB = "DuckDB loads it by its folder (warehouse/storage/connect.py)"
NOT_IMPORTED = {
    "cramjam": "Faust imports it to read topics compressed with zstd",
    "duckdb-extension-ducklake": DUCKDB,
    "duckdb-extension-httpfs": DUCKDB,
    "duckdb-extension-postgres-scanner": DUCKDB,
    "duckdb-extension-sqlite-scanner": DUCKDB,
    "duckdb-extensions": "has the versions of the extensions in step with DuckDB's",
    "pytz": "DuckDB imports it to fetch TIMESTAMPTZ",
}
NOT_IMPORTED_BY_TESTS = {
    "build": "`make dist` runs it as a module",
    "fastapi": "LiteLLM imports it and does not ask for it",
    "flask": "moto's server imports it",
    "flask-cors": "moto's server imports it",
    "hatchling": "builds the wheels (pyproject.toml, build-system)",
    "import-linter": "`make check-imports`",
    "mcp": "LiteLLM imports it and does not ask for it",
    "orjson": "LiteLLM imports it and does not ask for it",
    "mypy": "`make check-types`",
    "pip-audit": "`make audit`",
    "pytest-timeout": "the timeout of pytest's settings",
    "ruff": "`make check-lint`",
    "soundfile": "LiteLLM imports it and does not ask for it",
}


def declared(file, *path):
    """Names of the distributions of one list of a pyproject.toml."""
    found = tomllib.loads((REPO / file).read_text())
    for key in path:
        found = found[key]
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in found}


@cache
def imported(*folders):
    """Distributions whose modules are imported in ``folders``, also by programs that tests start from a text, or that
    are run as a module (``-m``)."""
    modules = set()
    for folder in folders:
        for file in (REPO / folder).rglob("*.py"):
            text = file.read_text()
            modules |= set(_IMPORT.findall(text))
            modules |= set(_RUN.findall(text))
    owners = packages_distributions()
    found = {name.lower() for each in modules for part in _names(each) for name in owners.get(part, ())}
    return {re.sub(r"[._-]+", "-", name) for name in found}


def _names(module):
    """The module and the packages above it: namespace packages are owned by several distributions."""
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def test_what_the_application_depends_on_is_imported_or_has_its_reason_here():
    wanted = declared("pyproject.toml", "project", "dependencies") - {"tailrace-emitter"}
    assert wanted - imported(*PRODUCT) == set(NOT_IMPORTED), "import it, give its reason here, or remove it"


def test_what_the_emitter_depends_on_is_imported():
    wanted = declared("emitter/pyproject.toml", "project", "dependencies")
    assert wanted <= imported("emitter/tailrace_emitter")


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="an environment of its own has the packages of development")
def test_what_is_installed_for_development_is_used_by_tests_and_benchmarks():
    wanted = declared("pyproject.toml", "dependency-groups", "dev") - {"pytest"}
    assert wanted - imported(*AROUND, *PRODUCT) == set(NOT_IMPORTED_BY_TESTS), "use it, or remove it"
