"""Texts of golden cases that somebody did not want, and versions that are too old: they go, and their files with them.

A version of a set has files of its own (``golden_cases`` is partitioned so). Where rows of one change, all of them are
written again and the old files end; an UPDATE would leave those as they are, with a list of deleted rows beside, and
such a file never merges (warehouse/upkeep). Maintain deletes ended files some days later.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

_TOUCHED = """
SELECT DISTINCT version FROM golden_cases
WHERE set_name = $1 AND (version < $2 OR (case_id = ANY($3::VARCHAR[]) AND input_text IS NOT NULL))
"""
# all that strangers wrote; a column that is added to golden_cases may belong here
_STAYING = """
CREATE OR REPLACE TEMP TABLE golden_staying AS
SELECT c.* REPLACE (
    CASE WHEN gone THEN NULL ELSE system_text END AS system_text,
    CASE WHEN gone THEN NULL ELSE messages END AS messages,
    CASE WHEN gone THEN NULL ELSE input_text END AS input_text,
    CASE WHEN gone THEN NULL ELSE output_text END AS output_text,
    CASE WHEN gone THEN NULL ELSE retrieval_docs END AS retrieval_docs,
    CASE WHEN gone THEN NULL ELSE expected END AS expected,
    CASE WHEN gone THEN NULL ELSE variables END AS variables
)
FROM (SELECT *, case_id = ANY($3::VARCHAR[]) AS gone FROM golden_cases) AS c
WHERE set_name = $1 AND version >= $2 AND version = ANY($4::INTEGER[])
"""
_BLANKED = """
UPDATE golden_versions AS v SET blanked = s.blanked
FROM (SELECT version, count(*) FILTER (input_text IS NULL) AS blanked FROM golden_staying GROUP BY version) AS s
WHERE v.set_name = $1 AND v.version = s.version
"""


def forget(connection: duckdb.DuckDBPyConnection, set_name: str, cases: Sequence[str], *, oldest: int) -> None:
    """Blank the texts of ``cases`` in all versions, drop versions before ``oldest``; in the caller's transaction.

    Versions whose cases were blanked keep their ``content_hash``: it says what they were made as. ``blanked`` says that
    it is no more that of what stands there.
    """
    given = [set_name, oldest, list(cases)]
    versions = [version for (version,) in connection.execute(_TOUCHED, given).fetchall()]
    if versions:
        connection.execute(_STAYING, [*given, versions])
        mine = [set_name, versions]
        connection.execute("DELETE FROM golden_cases WHERE set_name = $1 AND version = ANY($2::INTEGER[])", mine)
        connection.execute("INSERT INTO golden_cases BY NAME SELECT * EXCLUDE (gone) FROM golden_staying")
        connection.execute(_BLANKED, [set_name])
        connection.execute("DROP TABLE golden_staying")
    connection.execute("DELETE FROM golden_versions WHERE set_name = $1 AND version < $2", [set_name, oldest])
