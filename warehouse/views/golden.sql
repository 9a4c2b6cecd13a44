-- Golden cases: the newest version of every golden set, made out of calls that failed in production.
SELECT c.*
FROM golden_cases AS c
WHERE (c.set_name, c.version) IN (SELECT (set_name, max(version)) FROM golden_versions GROUP BY set_name)
