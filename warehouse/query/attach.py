"""The lines that open a lake in any DuckDB, read-only: for the command line, Python, pandas and polars. No secret."""

from __future__ import annotations

import re
from dataclasses import replace

import duckdb

from warehouse.errors import PASSWORD
from warehouse.storage.connect import LAKE, OF_SECRET, LakeConfig, attach_statement, needed_extensions, quoted

_WHEELS = {name: f"duckdb-extension-{name.replace('_', '-')}" for name in ("ducklake", "sqlite_scanner", "httpfs")}
_WHEELS["postgres_scanner"] = "duckdb-extension-postgres-scanner"
_INSTALLED = {"sqlite_scanner": "sqlite", "postgres_scanner": "postgres"}
"""Extensions whose name for INSTALL differs from that of their file."""
_SECRETS = {"s3_access_key_id": "<access key id>", "s3_secret_access_key": "<secret access key>"}
_LAST = {
    "python": 'print(lake.sql("FROM cost_daily LIMIT 5"))',
    "pandas": 'costs = lake.sql("FROM cost_daily").df()\nprint(costs)',
    "polars": 'costs = lake.sql("FROM cost_daily").pl()\nprint(costs)',
}
_MORE = {"python": "", "pandas": " pandas", "polars": " polars pyarrow"}


def attach_lines(config: LakeConfig, target: str) -> str:
    """Return what to type or run to open the lake of ``config`` as a reader.

    Args:
        config: where the lake is; keys and passwords in it become placeholders.
        target: duckdb, python, pandas or polars.
    """
    return _for_shell(config) if target == "duckdb" else _for_python(config, target)


def _statements(config: LakeConfig) -> list[str]:
    # before it is quoted: a password with quotes would end at its first quote
    catalog = PASSWORD.sub(lambda found: f"{found[1] or found[3]}<password>", config.catalog)
    attach = attach_statement(replace(config, catalog=catalog), read_only=True)
    return [*_secret(config), attach, f"USE {LAKE}", "SET TimeZone = 'UTC'"]


def _secret(config: LakeConfig) -> list[str]:
    if config.on_disk:
        return []
    given = {name: config.settings.get(name) for name in OF_SECRET if name not in _SECRETS}
    named = {**_SECRETS, **{name: value for name, value in given.items() if value}}
    parts = ", ".join(f"{OF_SECRET[name]} {quoted(value)}" for name, value in named.items())
    return [f"CREATE SECRET bucket (TYPE s3, {parts})"]


def _for_shell(config: LakeConfig) -> str:
    installs = [
        line
        for name in needed_extensions(config)
        for line in (f"INSTALL {_INSTALLED.get(name, name)}", f"LOAD {_INSTALLED.get(name, name)}")
    ]
    lines = "".join(f"{line};\n" for line in (*installs, *_statements(config)))
    return f"-- DuckDB {duckdb.__version__}; INSTALL fetches the extensions once\n{lines}FROM cost_daily LIMIT 5;\n"


def _for_python(config: LakeConfig, target: str) -> str:
    version = duckdb.__version__
    names = needed_extensions(config)
    wheels = " ".join(f"{wheel}=={version}" for wheel in ("duckdb", *(_WHEELS[name] for name in names)))
    run = "\n".join(f"lake.execute({_literal(statement)})" for statement in _statements(config))
    return f"""\
# pip install {wheels} pytz{_MORE[target]}
from importlib.resources import files

import duckdb

lake = duckdb.connect()
for name in {names!r}:
    folder = files(f"duckdb_extension_{{name}}") / "extensions" / f"v{{duckdb.__version__}}"
    lake.execute(f"LOAD '{{folder / name}}.duckdb_extension'")
{run}
{_LAST[target]}
"""


def _literal(text: str) -> str:
    """Return ``text`` as a Python literal, in double quotes where that needs no escapes."""
    return repr(text) if re.search(r'["\\]', text) or not text.isprintable() else f'"{text}"'
