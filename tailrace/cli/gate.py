"""``gate``: is a candidate worse than its baseline on a golden set; ``gate approve`` records who signed a report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from typer._click.exceptions import ClickException
from typer.core import TyperGroup

from pipelines.clock import now_us
from schemas.errors import TailraceError
from tailrace.cli.context import get, print_json
from tailrace.cli.render.printable import printable, printable_lines

EXITS = {"pass": 0, "regress": 1, "undecided": 2}
EXIT_REFUSED = 3
"""Nothing was judged: bad input, or a side that answers nothing. 2 is taken by undecided."""
_WORST = 5
_DIFF_LINES = 12


class GateGroup(TyperGroup):
    """A group whose refused input ends with 3, as 2 means undecided here."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """Read the options."""
        with _refused():
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _refused():
            return super().invoke(ctx)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except ClickException as error:
        error.exit_code = EXIT_REFUSED
        raise
    except TailraceError as error:
        sys.stdout.flush()
        print(f"tailrace: {printable_lines(str(error))}", file=sys.stderr)
        raise typer.Exit(EXIT_REFUSED) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # a fault of ours is no verdict: 1 would be read as regress
        error.exit_code = EXIT_REFUSED  # type: ignore[attr-defined]
        raise


gate = typer.Typer(
    cls=GateGroup,
    invoke_without_command=True,
    help="Compare a candidate with its baseline on a golden set: pass, regress or undecided.",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(gate, name="gate")


@gate.callback()
def _gate(
    context: typer.Context,
    candidate: Annotated[Path | None, typer.Option(help="YAML file: what is to be released.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="YAML file: what runs today; or the report.json of an earlier gate.")
    ] = None,
    golden: Annotated[
        str | None, typer.Option(help="Version of the golden set, NAME@VERSION, or a file of `golden export`.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option("--gate", help="Thresholds; without it ./gate.yaml where there is one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the reports.")] = Path("gate-report"),
    samples: Annotated[int | None, typer.Option(min=1, max=100, help="Answers a case and side.")] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="Only these scorers; may be repeated.")] = None,
    unreviewed: Annotated[
        bool, typer.Option("--unreviewed", help="Let cases that nobody reviewed count as well.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder of answers; without it one in the home.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ask for every answer anew, keep none.")] = False,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="Leave prompts and answers out of the reports.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier report in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Run each case against both, several samples each, score them, and compare in pairs with intervals.

    Exit codes: 0 pass, 1 regress, 2 undecided, 3 nothing was judged (bad input, or one side does not answer).
    """
    if context.invoked_subcommand:
        return
    from jobs.evals.scorers import SCORERS, choose
    from tailrace.gate import run as shell
    from tailrace.job_runs.judge import NOT_EVENTS, judge_scorers

    here = get(context)
    asked = shell.Asked(candidate, baseline, golden, thresholds, out, samples, unreviewed)
    kept = None if no_cache else cache or here.home.path / "gate" / "answers"
    names = tuple(scorer or ())
    with (
        judge_scorers(here, names, without_kafka=True) as judged,
        _progress(sys.stderr.isatty() and not as_json) as progress,
    ):
        scorers = choose(names, (*SCORERS, *judged))
        report = shell.run(
            asked,
            here.settings,
            scorers=scorers,
            notes=(NOT_EVENTS,) if judged and here.known_bootstrap_servers is None else (),
            cache=kept,
            texts=not no_texts,
            force=force,
            now=now_us,
            progress=progress,
        )
    if as_json or here.as_json:
        print_json(report)
    else:
        _print(report, out)
    raise typer.Exit(EXITS[report["verdict"]])


@gate.command("approve")
def _approve(
    context: typer.Context,
    report: Annotated[Path, typer.Argument(help="The report.json, or its folder.")],
    by: Annotated[str | None, typer.Option(help="Who signs.")] = None,
    note: Annotated[str, typer.Option(help="Why, in words.")] = "",
) -> None:
    """Record who signed a report: a line with its SHA-256 in approvals.jsonl beside it. A changed report is refused."""
    from tailrace.gate import run as shell

    row = shell.approve(report, by=by, note=note, now=now_us())
    if get(context).as_json:
        print_json(row)
    else:
        typer.echo(printable(f"report {row['sha256'][:12]} ({row['verdict']}) approved by {row['by']}"))


@contextmanager
def _progress(visible: bool) -> Iterator[Callable[[int], Callable[[], None]]]:
    """Yield a function that starts a progress bar of a number of steps and returns the function that advances it."""
    with Progress(console=Console(stderr=True), transient=True, disable=not visible) as bar:

        def start(total: int) -> Callable[[], None]:
            task = bar.add_task("answers", total=total)
            return lambda: bar.advance(task)

        yield start


def _print(report: dict[str, Any], out: Path) -> None:
    golden = report["golden"]
    typer.echo(
        printable(
            f"{report['verdict']}: {report['candidate']['name']} against {report['baseline']['name']} on "
            f"{golden['cases']} cases of {golden['name']}, {report['samples']} samples a case"
        )
    )
    for reason in report["reasons"]:
        typer.echo(printable(f"  {reason}"))
    for check in report["checks"]:
        name = f"{check['name']}{' of ' + check['scope'] if check['scope'] else ''}"
        mode = "" if check["mode"] == "must_pass" else f"  ({check['mode'].replace('_', ' ')})"
        typer.echo(printable(f"{check['verdict']:9}  {name}  {check['text']}{mode}"))
        for note in check["notes"]:
            typer.echo(printable(f"           {note}"))
    for text in [*golden["problems"], *report["warnings"]]:
        typer.echo(printable(f"note: {text}"), err=True)
    for row in report["worse"][:_WORST]:
        fell = ", ".join(f"{s['scorer']} {s['baseline']:.2f} to {s['candidate']:.2f}" for s in row["scores"])
        typer.echo(printable(f"worse: {row['case_id']}  {fell}"))
        for line in row["diff"][:_DIFF_LINES]:
            typer.echo(printable(f"    {line}"))
    typer.echo(printable(f"report {report['sha256'][:12]} written to {out}"))
