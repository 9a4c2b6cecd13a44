"""Great Expectations: the only module that imports it. Batches in, outcomes and Data Docs out.

Batches are pandas frames: Great Expectations reads databases through SQLAlchemy. DuckDB's dialect for it is another
project, which would attach the lake without its locks and its sandbox. The frames hold one hour of the named columns
(``batches``), so their memory is bounded; an expectation that needs all rows or a join gets a measure.

Nothing leaves the machine: analytics are off, there is no cloud context, and the site is a folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.data_quality.batches import Batch
from jobs.data_quality.suite import Check, Outcome, State, Suite, Window

NO_VALUES = {"result_format": "SUMMARY", "partial_unexpected_count": 0}
"""Values of events stay in the lake: no page, no alert shows one of them."""


_CHECK = "tailrace_check"


@dataclass(frozen=True)
class Part:
    """One validation: expectations and their batch."""

    suite: Suite
    name: str
    """Of the suite in Great Expectations: ``calls`` for rows, ``calls.measures`` for measures."""
    checks: tuple[Check, ...]
    batch: Batch
    sql: Mapping[str, str]
    """Check -> SELECT of what fails."""
    scoped: bool
    """Whether a row is a scope and not a row of the table."""


def validate(parts: Sequence[Part], window: Window, *, site: Path) -> tuple[Outcome, ...]:
    """Judge ``parts``, and write Data Docs into ``site``.

    Args:
        parts: at most one a name.
        window: whose rows they are.
        site: an empty folder.
    """
    context, gx = _context(site)
    frames = context.data_sources.add_pandas("lake")
    run = gx.RunIdentifier(run_name=_hour(window), run_time=datetime.fromtimestamp(window.now / 1e6, UTC))
    found: list[Outcome] = []
    for part in parts:
        suite, broken = _suite(gx, part)
        context.suites.add(suite)
        asset = frames.add_dataframe_asset(part.name)
        batch = asset.add_batch_definition_whole_dataframe("hour")
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=part.name, data=batch, suite=suite)
        )
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(name=part.name, validation_definitions=[definition], result_format=_format(part))
        )
        result = checkpoint.run(batch_parameters={"dataframe": part.batch.table.to_pandas()}, run_id=run)
        (validation,) = result.run_results.values()
        found += [*_outcomes(part, validation), *broken]
    context.build_data_docs()
    return tuple(found)


def _context(site: Path) -> tuple[Any, Any]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # a warning of every version of Great Expectations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, at import
        import great_expectations as gx
        from great_expectations.data_context.types import base
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    pages = {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index}
    project = base.DataContextConfig(
        # the default makes a second site in the system's temporary folder, and leaves it there
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"local": pages},
        analytics_enabled=False,
        progress_bars=base.ProgressBarsConfig(globally=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=project)
    return context, gx


def _suite(gx: Any, part: Part) -> tuple[Any, list[Outcome]]:
    """Return the suite, and an error for every expectation that Great Expectations does not accept."""
    suite, broken = gx.ExpectationSuite(name=part.name), []
    for check in part.checks:
        sql = part.sql.get(check.name, "")
        try:
            suite.add_expectation_configuration(
                gx.expectations.expectation_configuration.ExpectationConfiguration(
                    type=check.type,
                    kwargs=dict(check.kwargs),
                    meta={_CHECK: check.name},
                    notes=[check.description, *([f"Failing rows: {sql}"] if sql else [])],
                    severity=check.severity,
                )
            )
        except (ValueError, TypeError, LookupError, gx.exceptions.GreatExpectationsError) as error:
            broken.append(_outcome(part, check, "error", detail=_line(str(error))))
    return suite, broken


def _format(part: Part) -> dict[str, Any]:
    if part.scoped:
        return {"result_format": "COMPLETE", "unexpected_index_column_names": ["scope"]}
    return NO_VALUES


def _outcomes(part: Part, validation: Any) -> list[Outcome]:
    checks = {check.name: check for check in part.checks}
    return [_judged(part, checks[each.expectation_config.meta[_CHECK]], each) for each in validation.results]


def _judged(part: Part, check: Check, result: Any) -> Outcome:
    facts = result.result or {}
    if problem := _problem(result):
        return _outcome(part, check, "error", detail=problem)
    judged = int(facts.get("element_count", part.batch.table.num_rows)) - int(facts.get("missing_count") or 0)
    failing = facts.get("unexpected_count")
    state: State = "passed" if result.success else "failed"
    if judged == 0 and result.success:
        state = "unknown"
    observed = facts.get("observed_value")
    return _outcome(
        part,
        check,
        state,
        failing=None if failing is None else int(failing),
        judged=judged,
        scopes=_scopes(facts) if part.scoped and state == "failed" else (),
        detail="" if observed is None or state != "failed" else f"observed {_line(str(observed))}",
    )


def _outcome(part: Part, check: Check, state: State, **facts: Any) -> Outcome:
    return Outcome(
        part.suite.name,
        check.name,
        check.description,
        check.type,
        check.severity,
        state,
        failing=facts.get("failing"),
        judged=facts.get("judged", 0),
        rows=part.batch.table.num_rows if part.scoped else part.batch.rows,
        observed=None,
        unit=check.unit,
        sampled=not part.scoped and part.batch.table.num_rows < part.batch.rows,
        scopes=facts.get("scopes", ()),
        sql=part.sql.get(check.name, ""),
        detail=facts.get("detail", ""),
    )


def _scopes(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the scopes that fail; the empty one, everything, is left out."""
    rows = facts.get("unexpected_index_list") or ()
    return tuple(dict.fromkeys(str(row["scope"]) for row in rows if isinstance(row, dict) and row.get("scope")))


def _problem(result: Any) -> str:
    """Return why an expectation could not be judged; empty where it was."""
    info = result.exception_info or {}
    found = [info] if "raised_exception" in info else [each for each in info.values() if isinstance(each, dict)]
    return next((_line(str(each.get("exception_message"))) for each in found if each.get("raised_exception")), "")


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _hour(window: Window) -> str:
    return f"{datetime.fromtimestamp(window.since / 1e6, UTC):%Y-%m-%dT%H}"
