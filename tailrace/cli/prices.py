"""``prices``: which books there are, what a model costs by them, publish one, re-price what has landed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from jobs.prices import reprice
from pipelines.clock import now_us
from pipelines.pricing import PriceBooks, default_book
from pipelines.pricing.book import COMPONENTS, UNITS, Rates
from pipelines.pricing.published import announce, published
from schemas.errors import SettingsError
from schemas.topics import PRICES
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.render.printable import printable
from tailrace.records import audit
from tailrace.times import day, moment
from warehouse.adjust import Choice

prices = typer.Typer(no_args_is_help=True, help="Price books, and re-pricing of what has landed.")
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
_MTOK = 1_000_000


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(prices, name="prices")


@prices.command("list")
def _list(context: typer.Context, as_json: AsJson = False) -> None:
    """List the books: which holds from when on. The first is what the settings give until one is published."""
    books = _books(get(context))
    now = books.at(now_us())
    for book in books.books:
        row = {
            "version": book.version,
            "effective_from": _text(book.effective_from),
            "source": str(book.content.get("source", "")),
            "overrides": len(book.content["overrides"]),
            "in_force": book is now,
        }
        if as_json:
            print_json(row)
        else:
            mark = "  in force" if book is now else ""
            facts = (
                f"{row['version']}  from {row['effective_from']}  {row['source']}, {row['overrides']} overrides{mark}"
            )
            typer.echo(printable(facts))


@prices.command("show")
def _show(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="As calls name it, such as gpt-4o.")],
    provider: Annotated[str | None, typer.Option(help="As calls name it; without it any that has the model.")] = None,
    tier: Annotated[str | None, typer.Option(help="Service tier: batch, priority, flex ...")] = None,
    at: Annotated[str | None, typer.Option(help="When: 2h (ago), or a time. Without it: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a call of MODEL costs, in USD per million tokens. Exit 1 where the book has no price."""
    time = moment(at, now_us()) if at else now_us()
    book = _books(get(context)).at(time)
    rates = book.rates((provider, model, None, tier), *book.moment(time))
    if rates is None:
        remedy = "add it to `prices` in tailrace.toml, then `tailrace prices publish`; calls land unpriced until then"
        typer.echo(printable(f"book {book.version} has no price of {model}: {remedy}"), err=True)
        sys.exit(1)
    bands = _per_mtok(rates)
    if as_json:
        facts = {"book": book.version, "at": _text(time), "model": model, "provider": provider, "usd_per_mtok": bands}
        print_json(facts)
        return
    typer.echo(printable(f"{model} by book {book.version} at {_text(time)}, USD per million tokens"))
    for band in bands:
        above = band["above_input_tokens"]
        typer.echo(f"  input over {above} tokens:" if above else "  any input:")
        for name in COMPONENTS:
            typer.echo(f"    {name:15} {band[name]}")


@prices.command("explain")
def _explain(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="As calls name it, such as bedrock/us.anthropic.claude-sonnet-4-5.")],
    provider: Annotated[
        str | None, typer.Option(help="As calls name it; without it, it is derived from MODEL.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="When: 2h (ago), or a time. Without it: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print how the price of MODEL is found: which list, which entry, by which spelling. Exit 1 where it is not."""
    time = moment(at, now_us()) if at else now_us()
    book = _books(get(context)).at(time)
    deployed = book.deployed(provider, model)
    override = book.override(provider, deployed, *book.moment(time))
    found = book.explain(provider, deployed)
    facts = {
        "book": book.version,
        "at": _text(time),
        "model": model,
        "provider": provider,
        "deployed": deployed if deployed != model else None,
        "override": override,
        "list": found.provider if found else None,
        "entry": found.entry["id"] if found else None,
        "spelling": found.name if found else None,
        "how": found.how if found else None,
    }
    if not as_json and deployed != model:
        typer.echo(printable(f"{model}: the setting azure_deployments names its model, {deployed}"))
        model = deployed
    if as_json:
        print_json(facts)
    elif override is not None:
        typer.echo(printable(f"{model}: the setting prices[{override}] holds, before every list"))
    elif found:
        typer.echo(printable(f"{model}: entry {facts['entry']} of {facts['list']}, found as {found.name}; {found.how}"))
    else:
        typer.echo(printable(f"{model}: no list of book {book.version} has it; calls land unpriced"), err=True)
    if override is None and found is None:
        sys.exit(1)


@prices.command("publish")
def _publish(context: typer.Context, as_json: AsJson = False) -> None:
    """Publish the book that the installed prices and the settings give, where it differs from the last one.

    It holds from two minutes later on, for every stage from the same record.
    """
    here = get(context)
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    book = default_book(here.settings.price_rules)
    if published(kafka)[-1:] and published(kafka)[-1].version == book.version:
        facts: dict[str, Any] = {"version": book.version, "published": False, "effective_from": None}
    else:
        audit.record(kafka, "prices.publish", PRICES, actor=audit.actor(), now=now_us(), version=book.version)
        new = announce(kafka, book, now=now_us())
        facts = {
            "version": book.version,
            "published": new is not None,
            "effective_from": _text(new.effective_from) if new else None,
        }
    if as_json:
        print_json(facts)
    elif facts["published"]:
        typer.echo(f"{book.version} published; it holds from {facts['effective_from']} on")
    else:
        typer.echo(f"{book.version} was published already; nothing to do")


@prices.command("reprice")
def _reprice(
    context: typer.Context,
    since: Annotated[str, typer.Option("--from", help="First day, UTC, such as 2026-11-01.")],
    until: Annotated[str | None, typer.Option("--to", help="Last day; without it: today.")] = None,
    app: Annotated[str | None, typer.Option(help="Only calls of this app.")] = None,
    model: Annotated[str | None, typer.Option(help="Only calls that this model answered; * is anything.")] = None,
    undated: Annotated[
        bool,
        typer.Option(
            "--undated", help="Correct calls also by prices without a date: you know that they held on these days."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Correct the cost of landed calls to the last published price book, as rows of a ledger.

    Calls without a cost get one. Calls that have one are corrected where the price in the book has a start date.
    Nothing that landed is changed; `calls` shows the cost as now known, `cost_landed_usd` as it landed.
    """
    here = get(context)
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    first = day(since)
    last = day(until) if until else datetime.fromtimestamp(now_us() / 1e6, UTC).date()
    if last < first:
        raise SettingsError("--to", f"{last} is before {first}", "name the first day with --from")
    book = [default_book(here.settings.price_rules), *published(kafka)][-1]
    if not dry_run:
        days = f"{first}/{last}"
        facts = {"version": book.version, "days": days, "app": app, "model": model, "undated": undated}
        audit.record(kafka, "prices.reprice", "raw_calls", actor=audit.actor(), now=now_us(), **facts)
    with _progress((last - first) + timedelta(days=1), first) as progress:
        report = reprice(
            wiring.lake(here.settings),
            book,
            Choice(first, last, app=app, model=model),
            now=now_us,
            undated=undated,
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        print_json({**asdict(report), "book": book.version, "dry_run": dry_run})
        return
    verb = "would get" if dry_run else "got"
    typer.echo(
        f"by book {book.version}: {report.looked_at} calls looked at; {report.priced} {verb} a cost, "
        f"{report.corrected} {verb} another one; {report.delta_usd:+} USD in all"
    )


@contextmanager
def _progress(span: timedelta, first: date) -> Iterator[Callable[[date, int], None]]:
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("re-pricing", total=span.days)
        yield lambda day, calls: bar.update(task, completed=(day - first).days, description=f"{day}: {calls:,} calls")


def _books(here: Context) -> PriceBooks:
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    return PriceBooks([default_book(here.settings.price_rules), *published(kafka)])


def _per_mtok(rates: Rates) -> list[dict[str, Any]]:
    bands = []
    for above, band in zip((0, *rates.starts), rates.bands, strict=True):
        usd = {name: _usd(rate * _MTOK) for name, rate in zip(COMPONENTS, band, strict=True)}
        bands.append({"above_input_tokens": above, **usd})
    return bands


def _usd(units: int) -> str:
    return format((Decimal(units) / UNITS).normalize(), "f")


def _text(at: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).isoformat()
