"""``lake``: move it to other storage, back it up, restore it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipelines.clock import now_us
from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli.context import get
from tailrace.files import refused
from tailrace.home.layout import Home
from tailrace.imports import hide_pandas
from tailrace.settings.catalog import checked_catalog
from tailrace.settings.model import Settings
from tailrace.supervisor.ownership import owned_home
from warehouse.copy_lake import Copied, copy_lake
from warehouse.errors import without_password
from warehouse.storage.connect import LakeConfig, connect
from warehouse.storage.locks import LandLock

lake = typer.Typer(no_args_is_help=True, help="Move the lake to other storage, back it up, restore it.")
_CATALOG, _DATA = "catalog.sqlite", "data"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(lake, name="lake")


@lake.command("move")
def _move(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="New folder or s3://bucket/folder of the data.")],
    to: Annotated[str, typer.Option(help="New catalog: postgres://..., or the path of a SQLite file.")],
) -> None:
    """Copy the lake to another catalog and data path, compare every row, and print the settings that use it.

    Stop `tailrace up` before. The old lake is only read. Run again after an interruption, it goes on.
    """
    settings = get(context).settings
    try:
        checked_catalog(to)
    except ValueError as error:
        raise SettingsError("--to", f"{to[:40]!r} is none", str(error)) from None
    source = _readable(wiring.lake(settings))
    target = _placed(settings, to, data)
    if target.catalog == source.catalog:
        raise SettingsError("--to", f"{source.name} is the lake's present catalog", "name another one")
    with owned_home(Home(settings.home)), _stopped(source):
        done = _copy(source, target)
    typer.echo(_summary(done))
    typer.echo("the old lake is unchanged; to use the new one:")
    typer.echo(f"TAILRACE_LAKE__CATALOG={without_password(to)}")
    typer.echo(f"TAILRACE_LAKE__DATA_PATH={data}")


@lake.command("backup")
def _backup(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="New or empty folder; it holds a lake of its own afterwards.")],
) -> None:
    """Copy catalog and data as they are at one moment into a folder, and compare every row. Stages may run."""
    source = _readable(wiring.lake(get(context).settings))
    with refused("write to", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(each for each in folder.iterdir()):
            raise SettingsError("FOLDER", f"{folder} is not empty", "name a new folder for every backup")
    done = _copy(source, LakeConfig(str(folder / _CATALOG), str(folder / _DATA), memory_limit=source.memory_limit))
    typer.echo(f"{_summary(done)}; restore it with `tailrace lake restore {folder}`")


@lake.command("restore")
def _restore(
    context: typer.Context, folder: Annotated[Path, typer.Argument(help="Folder that `lake backup` made.")]
) -> None:
    """Copy a backup into the lake of the settings, which must be empty, and compare every row.

    Stop the stages before. land then goes on from the backup's positions: what Kafka still has lands again.
    """
    settings = get(context).settings
    with refused("read", folder):
        if not (folder / _CATALOG).is_file():
            raise SettingsError("FOLDER", f"{folder} has no {_CATALOG}", "name a folder that `lake backup` made")
    source = _readable(LakeConfig(str(folder / _CATALOG), str(folder / _DATA)))
    with owned_home(Home(settings.home)):
        done = _copy(source, wiring.lake(settings))
    typer.echo(_summary(done))


def _readable(config: LakeConfig) -> LakeConfig:
    """Return ``config`` after it was opened: a lake that is not there is named before anything is written."""
    with closing(connect(config, read_only=True)):
        return config


def _placed(settings: Settings, catalog: str, data: str) -> LakeConfig:
    """Return where the lake is to be; the keys of a bucket are those of the settings."""
    section = settings.lake.model_copy(update={"catalog": catalog, "data_path": data})
    return wiring.lake(settings.model_copy(update={"lake": section}))


@contextmanager
def _stopped(source: LakeConfig) -> Iterator[None]:
    """Keep land away from a lake on SQLite for the length of the block.

    Raises:
        LakeLockedError: it runs.
    """
    if not source.on_sqlite:
        yield
        return
    lock = LandLock(source.catalog)
    try:
        yield
    finally:
        lock.release()


def _copy(source: LakeConfig, target: LakeConfig) -> Copied:
    hide_pandas()
    shown = sys.stderr.isatty()

    def progress(part: str, rows: int) -> None:
        if shown:
            typer.echo(f"{part}: {rows} rows equal", err=True)

    return copy_lake(source, replace(target, memory_limit=source.memory_limit), now=now_us, progress=progress)


def _summary(done: Copied) -> str:
    return f"{done.rows} rows in {done.parts} parts are equal, {done.copied} of them copied now"
