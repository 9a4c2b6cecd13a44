"""Write the generated pages of docs/reference that have no script of their own; `make docs` runs it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from typer.core import TyperGroup

from schemas.topics import DAY_MS, TOPICS, Topic
from tailrace.batch_jobs import JOBS, BatchJob
from tailrace.cli import app
from tailrace.monitor.metrics import SUPERVISOR, StageCollector
from tailrace.settings.model import Settings

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
_COMMON = {"home", "log_level"}
"""Options that every command has; the head of the page states them."""
_COMMANDS_HEAD = """# Commands

Made by `make docs` from the commands themselves; the option `--help` of each prints the same.

These options work before the name of a command and behind it:

| option | does |
|---|---|
| `--home FOLDER` | folder that holds everything; also `TAILRACE_HOME`. Default: `.tailrace` |
| `--log-level LEVEL` | `debug`, `info`, `warning` or `error`; also `TAILRACE_LOG_LEVEL` |
| `--json` | prints JSON, if the command lists it; another command refuses it |

Exit codes: 0 done, 1 it failed or found something wrong, 2 a person must act (a wrong option, setting or file). `gate`
and `ab` have codes of their own ([gate a release](../how-to/gate.md)).
"""
_TOPICS_HEAD = """# Topics

Made by `make docs` from `schemas/topics.py`. Each name has the prefix `kafka.prefix` in front. `tailrace topics create`
makes them, and `up` and the stages correct settings that differ
([topics made by others](../operate/topics-made-by-others.md)).

| topic | key | value | partitions | cleanup | kept |
|---|---|---|---|---|---|
"""
_JOBS_HEAD = """# Jobs

Made by `make docs` from the jobs themselves. The stage `schedule` runs each when it is due (cron, UTC);
`tailrace job run NAME` runs one by hand ([jobs](../operate/jobs.md)).

| job | does | due | made up within | ended after |
|---|---|---|---|---|
"""
_METRICS_HEAD = """# Metrics

Made by `make docs` from the collector that `up` serves on `/metrics` ([monitoring](../operate/monitoring.md)).

- Counters of calls, cost, tokens and alerts count what was committed to the lake since the home was made, or since its
  `run/land.json` was deleted. They continue after a restart and never decrease. A land that is killed may miss the
  calls of its last half second in them, never in the lake: use SQL for sums, and these for rates and alarms.
- A call that has no cost, or reports no tokens, adds nothing there: a counter that is absent was never reported.
- Labels are bounded. The first 200 pairs of app and model have series of their own; later ones count under `(other)`. A
  histogram or another counter has 100 keys at most. A user is no label.
- `cost_usd` is the cost at landing; a later re-pricing does not change it.
- The stages state further numbers in `tailrace_stage_fact`, by name.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def commands() -> str:
    """Return the page of all commands."""
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="tailrace")
    parts = [_COMMANDS_HEAD]
    for name in sorted(root.list_commands(context)):
        _, command, _ = root.resolve_command(context, [name])
        parts += _section(command, context, f"tailrace {name}", 2)
    return "\n".join(parts)


def topics() -> str:
    """Return the page of all topics."""
    return _TOPICS_HEAD + "\n".join(map(_topic, TOPICS)) + "\n"


def metrics() -> str:
    """Return the page of all metrics."""
    with tempfile.TemporaryDirectory() as home:
        collector = StageCollector(Settings(home=Path(home)), more=lambda: dict.fromkeys(SUPERVISOR, 1))
        found = sorted(collector.collect(), key=lambda family: family.name)
    return _METRICS_HEAD + "\n".join(map(_metric, found)) + "\n"


def jobs() -> str:
    """Return docs/reference/jobs.md."""
    return _JOBS_HEAD + "".join(_job(each) for each in JOBS)


def _job(each: BatchJob) -> str:
    line = each.line
    does = f"{line.does} ([more](../{each.page}))" if each.page else line.does
    cells = (f"`{line.name}`", does, f"`{line.cron}`", _duration(line.grace_s), _duration(line.limit_s))
    return f"| {' | '.join(cells)} |\n"


def _duration(seconds: int) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds % size == 0 and seconds >= (2 * size if unit == "days" else size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


PAGES = {"commands.md": commands, "topics.md": topics, "metrics.md": metrics, "jobs.md": jobs}


def _section(command: Any, parent: Any, title: str, level: int) -> Iterator[str]:
    context = command.context_class(command, info_name=title.split()[-1], parent=parent)
    yield f"{'#' * level} {title}\n"
    yield f"{_help(command.help)}\n"
    if not isinstance(command, TyperGroup) or command.invoke_without_command:
        rows = [row for param in command.params if (row := _param(param, context))]
        usage = " ".join(command.collect_usage_pieces(context)).replace("{", "").replace("}", "")
        yield f"Usage: `{title.removeprefix('tailrace ')} {usage}`\n"
        if rows:
            yield "| argument, option | default | does |\n|---|---|---|"
            yield "\n".join(rows) + "\n"
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            _, found, _ = command.resolve_command(context, [name])
            yield from _section(found, context, f"{title} {name}", level + 1)


def _help(text: str | None) -> str:
    """Return the help as paragraphs; a form feed ends what typer shows of it."""
    paragraphs = (text or "").partition("\f")[0].strip().split("\n\n")
    return _plain("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def _param(param: Any, context: Any) -> str:
    if getattr(param, "hidden", False) or param.name in {*_COMMON, "help"}:
        return ""
    name, _ = param.get_help_record(context)
    default = getattr(param.default, "value", param.default)
    shown = "" if default in (None, False, "", [], ()) or callable(default) else str(default)
    return f"| {_code(name)} | {_code(shown)} | {_plain(param.help or '')} |"


def _topic(topic: Topic) -> str:
    kept = int(topic.config["retention.ms"])
    days = "for ever" if kept < 0 else f"{kept // DAY_MS} day{'s' if kept > DAY_MS else ''}"
    partitions = topic.partitions or "`kafka.partitions`"
    cleanup = topic.config["cleanup.policy"]
    return f"| `{topic.name}` | {topic.key} | {topic.holds} | {partitions} | {cleanup} | {days} |"


def _metric(family: Metric) -> str:
    suffix = "_total" if isinstance(family, CounterMetricFamily) else ""
    kind = "histogram" if isinstance(family, HistogramMetricFamily) else family.type
    labels = ", ".join(f"`{label}`" for label in family._labelnames)  # type: ignore[attr-defined]
    return f"| `{family.name}{suffix}` | {kind} | {labels} | {_plain(family.documentation)} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/reference/{name}")
