"""Removes the texts of rejected golden cases, and versions that are too old, together with their files.

A version of a set has files of its own (``golden_cases`` is partitioned so). Where rows of one change, all of them are
written again and the old files end; an UPDATE would leave those as they are, with a list of deleted rows beside, and
such a file never merges (warehouse/upkeep). Maintain deletes ended files some days later.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

_WITH = """
SELECT DISTINCT version FROM golden_cases
WHERE set_name = $1 AND case_id = ANY($2::VARCHAR[]) AND input_text IS NOT NULL ORDER BY version
"""
_BEFORE = "SELECT DISTINCT case_id FROM golden_cases WHERE set_name = $1 AND version < $2"
# all texts from events; a column that is added to golden_cases may belong here
_STAYING = """
CREATE OR REPLACE TEMP TABLE golden_staying AS
SELECT c.* REPLACE (
    CASE WHEN gone THEN NULL ELSE system_text END AS system_text,
    CASE WHEN gone THEN NULL ELSE messages END AS messages,
    CASE WHEN gone THEN NULL ELSE input_text END AS input_text,
    CASE WHEN gone THEN NULL ELSE output_text END AS output_text,
    CASE WHEN gone THEN NULL ELSE retrieval_docs END AS retrieval_docs,
    CASE WHEN gone THEN NULL ELSE expected END AS expected,
    CASE WHEN gone THEN NULL ELSE variables END AS variables,
    CASE WHEN gone THEN NULL ELSE rubric END AS rubric
)
FROM (SELECT *, case_id = ANY($3::VARCHAR[]) AS gone FROM golden_cases) AS c
WHERE set_name = $1 AND version = $2
"""
_BLANKED = """
UPDATE golden_versions SET blanked = (SELECT count(*) FROM golden_staying WHERE input_text IS NULL)
WHERE set_name = $1 AND version = $2
"""


def versions_with(connection: duckdb.DuckDBPyConnection, set_name: str, cases: Sequence[str]) -> list[int]:
    """Return the versions that have texts of ``cases``, the oldest first."""
    return [version for (version,) in connection.execute(_WITH, [set_name, list(cases)]).fetchall()]


def blank(connection: duckdb.DuckDBPyConnection, set_name: str, version: int, cases: Sequence[str]) -> None:
    """Blank the texts of ``cases`` in one version; in the caller's transaction.

    It keeps the ``content_hash`` of its original cases. ``blanked`` marks that the hash does not match the cases
    any more.
    """
    here = [set_name, version]
    connection.execute(_STAYING, [*here, list(cases)])
    connection.execute("DELETE FROM golden_cases WHERE set_name = $1 AND version = $2", here)
    connection.execute("INSERT INTO golden_cases BY NAME SELECT * EXCLUDE (gone) FROM golden_staying")
    connection.execute(_BLANKED, here)
    connection.execute("DROP TABLE golden_staying")


def cases_before(connection: duckdb.DuckDBPyConnection, set_name: str, oldest: int) -> list[str]:
    """Return the cases of versions before ``oldest``."""
    return [case for (case,) in connection.execute(_BEFORE, [set_name, oldest]).fetchall()]


def drop_older(connection: duckdb.DuckDBPyConnection, set_name: str, oldest: int) -> None:
    """Drop versions before ``oldest``; in the caller's transaction."""
    connection.execute("DELETE FROM golden_cases WHERE set_name = $1 AND version < $2", [set_name, oldest])
    connection.execute("DELETE FROM golden_versions WHERE set_name = $1 AND version < $2", [set_name, oldest])
